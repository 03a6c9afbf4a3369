"""Kernels compiled for GPUs: kept in the user's cache directory, so that Numba runs once per kernel and kind of GPU.

The compiler runs in child processes; see `blurfast.kernel_cache`. It takes seconds to start, needs no GPU, and would
take 200 MB of the memory of this process.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from blurfast import kernel_cache
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import DeviceError
from blurfast.kernel_cache import Entry, KernelCache

Capability = tuple[int, int]
"""Major and minor number of a compute capability: which instructions a GPU has."""

REMEDY = "pip install 'blurfast[cuda13]' (or blurfast[cuda12] where the driver is for CUDA 12)"
"""How to get a compiler."""

# The parts of the compiler that come as packages; what they are called depends on the version of CUDA.
_COMPILERS = (
    "numba",
    "numba-cuda",
    "nvidia-nvvm",
    "nvidia-cuda-nvcc-cu12",
    "nvidia-nvjitlink",
    "nvidia-nvjitlink-cu12",
)
# A compiler starts in the time in which it compiles about as many kernels.
_KERNELS_PER_CHILD = 3


class Program(NamedTuple):
    """A kernel that a driver can load.

    Parameters
    ----------
    entry
        The name of the kernel in the code.
    parameter_bytes
        The size of each parameter.
    ptx
        The code as text, of which a driver makes machine code for its device.
    cubin
        Machine code; empty where there is no compiler yet for the device.
    registers
        How many each thread needs.
    spill_bytes
        What a thread stores elsewhere for lack of registers; none of the kernels should.
    shared_bytes
        What the threads of a block share, besides what a launch adds.
    local_bytes
        Memory of each thread, for what it spills and for arrays that do not fit into registers.
    """

    entry: str
    parameter_bytes: tuple[int, ...]
    ptx: str
    cubin: bytes
    registers: int
    spill_bytes: int
    shared_bytes: int
    local_bytes: int

    def to_entry(self) -> Entry:
        """Return what the cache is to keep."""
        facts = self._asdict()
        return Entry(facts, facts.pop("cubin"))

    @classmethod
    def from_entry(cls, entry: Entry) -> Program:
        """Return the program of which `entry` was made."""
        facts = {**entry.facts, "parameter_bytes": tuple(entry.facts["parameter_bytes"])}
        return cls(**facts, cubin=entry.code)


_obtained: dict[tuple[Capability, Kernel], Program] = {}
_lock = kernel_cache.lock_across_forks()


def obtain(kernels: Iterable[Kernel], capability: Capability) -> list[Program]:
    """Return the kernels' programs for a kind of GPU, compiling those that no earlier run has compiled.

    It pays to ask for all that a run needs at once: they are compiled side by side.

    Raises
    ------
    DeviceError
        If there is something to compile, and the compiler is not installed.
    """
    kernels = list(kernels)
    with _lock:
        missing = [kernel for kernel in kernels if (capability, kernel) not in _obtained]
        if missing:
            require_compiler()
            programs = cache(capability).obtain(missing)
            _obtained.update({(capability, kernel): program for kernel, program in programs.items()})
    return [_obtained[capability, kernel] for kernel in kernels]


def cache(capability: Capability, directory: Path | None = None) -> KernelCache[Kernel, Program]:
    """Return the cache of programs for a kind of GPU, in the user's directory or another one."""
    version = ".".join(map(str, capability))
    return KernelCache(
        directory=directory or kernel_cache.cache_directory() / "cuda",
        fingerprint=_fingerprint(capability),
        compiled_type=Program,
        compiler=("blurfast.cuda.compiler", version),
        compile_here=lambda kernel: _compile_here(kernel, capability),
        machine=f"GPUs of compute capability {version}",
        kernels_per_child=_KERNELS_PER_CHILD,
    )


def require_compiler() -> None:
    """Raise a `DeviceError` if the compiler is not installed."""
    if importlib.util.find_spec("numba_cuda") is None:
        raise DeviceError("kernels for GPUs cannot be compiled, since numba-cuda is not installed", remedy=REMEDY)


def _compile_here(kernel: Kernel, capability: Capability) -> Program:
    from blurfast.cuda import compiler

    return compiler.compile_kernel(kernel, capability)


@functools.cache
def _fingerprint(capability: Capability) -> str:
    directory = Path(__file__).parent
    sources = [*directory.glob("*_kernels.py"), *directory.glob("simt*.py"), directory / "compiler.py"]
    return kernel_cache.fingerprint(sources, _COMPILERS, f"compute capability {capability}")
