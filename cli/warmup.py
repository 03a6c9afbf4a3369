"""The command that compiles all kernels ahead of their first use."""

from __future__ import annotations

import itertools
import logging
import time
from operator import attrgetter

import click

from blurfast_cli import options
from blurfast_cli.console import Console
from blurfast_cli.progress import ProgressBar


@click.command(cls=options.Command, params=[options.QUIET, options.DEBUG], examples=("warmup",))
def warmup() -> None:
    """Compile all kernels now, not at their first use.

    Kernels are compiled once for each processor and kept in the user's cache directory, or where BLURFAST_CACHE_DIR
    says. This takes about a minute.
    """
    from blurfast.cpu import objects
    from blurfast.cpu.catalogue import all_kernels

    console, started = Console.current(), time.perf_counter()
    kernels = all_kernels()
    missing = [kernel for kernel in kernels if not objects.is_cached(kernel)]
    logging.getLogger("blurfast").setLevel(logging.WARNING)  # the bar tells about the compiler already
    with ProgressBar("compiling", "kernels", visible=console.shows_progress) as bar:
        done = 0
        # One compiler is started for each type of pixels.
        for _, group in itertools.groupby(missing, attrgetter("pixel")):
            members = list(group)
            bar(done, len(missing))
            objects.load(members)
            done += len(members)
    ready = f"{len(kernels)} kernels ready in {objects.cache_directory()}"
    console.message(f"{ready}, {len(missing)} of them compiled in {time.perf_counter() - started:.1f} s")
