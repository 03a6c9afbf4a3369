"""The command that compiles all kernels ahead of their first use."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, NamedTuple

import click

from blurfast.errors import UnsupportedError
from blurfast.kernel_cache import KernelCache
from blurfast_cli import options
from blurfast_cli.console import Console
from blurfast_cli.progress import ProgressBar

_BACKEND = options.Option(
    "--backend",
    group=options.Group.RESOURCES,
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Compile for the processor, or for the GPUs that are there.",
)


class _Machine(NamedTuple):
    """What kernels are compiled for: a processor, or a kind of GPU."""

    cache: KernelCache[Any, Any]
    kernels: list[Any]

    def missing(self) -> Iterator[list[Any]]:
        """Yield the kernels that have to be compiled, those for one type of pixels together."""
        missing = (kernel for kernel in self.kernels if self.cache.read(kernel) is None)
        for _, group in itertools.groupby(missing, attrgetter("pixel")):
            yield list(group)


@click.command(
    cls=options.Command,
    params=[_BACKEND, options.QUIET, options.DEBUG],
    examples=("warmup", "warmup --backend cuda"),
)
def warmup(backend: str) -> None:
    """Compile all kernels now, not at their first use.

    Kernels are compiled once for each processor and each kind of GPU, and kept in the user's cache directory, or where
    BLURFAST_CACHE_DIR says. This takes about a minute for a processor, and several for a GPU.
    """
    console, started = Console.current(), time.perf_counter()
    machines = [_processor()] if backend == "cpu" else _gpus()
    batches = [(machine.cache, kernels) for machine in machines for kernels in machine.missing()]
    missing = sum(len(kernels) for _, kernels in batches)
    logging.getLogger("blurfast").setLevel(logging.WARNING)  # the bar tells about the compiler already
    with ProgressBar("compiling", "kernels", visible=console.shows_progress) as bar:
        done = 0
        for cache, kernels in batches:
            bar(done, missing)
            cache.obtain(kernels)
            done += len(kernels)
    count = sum(len(machine.kernels) for machine in machines)
    ready = f"{count} kernels ready in {machines[0].cache.directory}"
    console.message(f"{ready}, {missing} of them compiled in {time.perf_counter() - started:.1f} s")


def _processor() -> _Machine:
    from blurfast.cpu import objects
    from blurfast.cpu.catalogue import all_kernels

    return _Machine(objects.cache(), list(all_kernels()))


def _gpus() -> list[_Machine]:
    """Return the kinds of GPUs that are there; raise an error where there is none, or no compiler for them."""
    from blurfast.cuda import probe, programs
    from blurfast.cuda.catalogue import all_kernels

    found = probe.survey()
    if not found.devices:
        raise UnsupportedError(found.fact, remedy=found.remedy)
    programs.require_compiler()
    capabilities = sorted({device.capability for device in found.devices})
    return [_Machine(programs.cache(capability), list(all_kernels())) for capability in capabilities]
