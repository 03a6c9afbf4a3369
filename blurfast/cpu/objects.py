"""Compiled kernels: kept as object files in the user's cache directory and run through llvmlite, without Numba.

Importing Numba takes 0.3 s and 100 MB, and loading from its own cache as long again; a kernel's object file has
10 KB and is ready in a few milliseconds. So Numba runs once per kernel and machine, in a child process.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding as llvm

from blurfast import kernel_cache
from blurfast.cpu import machine
from blurfast.cpu.catalogue import Kernel
from blurfast.kernel_cache import Entry, KernelCache


class CompiledKernel(NamedTuple):
    """A kernel's machine code, the symbol to call in it, and the number of its (64-bit) arguments."""

    symbol: str
    argument_count: int
    code: bytes

    def to_entry(self) -> Entry:
        """Return what the cache is to keep."""
        return Entry({"symbol": self.symbol, "arguments": self.argument_count}, self.code)

    @classmethod
    def from_entry(cls, entry: Entry) -> CompiledKernel:
        """Return the compiled kernel of which `entry` was made."""
        return cls(entry.facts["symbol"], entry.facts["arguments"], entry.code)


KernelFunction = Callable[..., None]

_loaded: dict[Kernel, KernelFunction] = {}
# A child must not inherit a lock of LLVM's that another thread holds; all use of LLVM is under this one.
_lock = kernel_cache.lock_across_forks()


def load(kernels: Iterable[Kernel]) -> list[KernelFunction]:
    """Return the kernels as functions that release the GIL, compiling those that no earlier run has compiled.

    It pays to ask for all that a run needs at once: they are compiled side by side.

    Arguments are integers: sizes, and the addresses of arrays that the caller keeps alive.
    """
    kernels = list(kernels)
    with _lock:
        missing = [kernel for kernel in kernels if kernel not in _loaded]
        if missing:
            for kernel, compiled in cache().obtain(missing).items():
                _loaded[kernel] = _link(compiled)
    return [_loaded[kernel] for kernel in kernels]


def cache_directory() -> Path:
    """Return the directory that holds the compiled kernels."""
    return kernel_cache.cache_directory()


def cache(directory: Path | None = None) -> KernelCache[Kernel, CompiledKernel]:
    """Return the cache of kernels for this processor, in the user's directory or another one."""
    return KernelCache(
        directory=directory or cache_directory(),
        fingerprint=_fingerprint(),
        compiled_type=CompiledKernel,
        compiler=("blurfast.cpu.compiler",),
        compile_here=_compile_here,
        machine="this processor",
    )


def is_cached(kernel: Kernel) -> bool:
    """Return whether the cache holds a usable entry for `kernel`."""
    return cache().read(kernel) is not None


def _compile_here(kernel: Kernel) -> CompiledKernel:
    from blurfast.cpu import compiler

    return compiler.compile_kernel(kernel)


@functools.cache
def _engine() -> llvm.ExecutionEngine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target_machine = llvm.Target.from_default_triple().create_target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine)


def _link(compiled: CompiledKernel) -> KernelFunction:
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(compiled.code))
    engine.finalize_object()
    address = engine.get_function_address(compiled.symbol)
    # A 64-bit integer and a pointer travel in the same registers, so one prototype serves both.
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * compiled.argument_count)(address)


@functools.cache
def _fingerprint() -> str:
    directory = Path(__file__).parent
    sources = [*directory.glob("*_kernels.py"), directory / "simd.py", directory / "compiler.py"]
    processor = f"{machine.cpu_name()} {machine.cpu_features()} {machine.vector_bits()}"
    return kernel_cache.fingerprint(sources, ("numba", "llvmlite"), processor)
