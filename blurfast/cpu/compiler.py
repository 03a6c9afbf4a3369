"""Compile kernels with Numba into object files that run without it.

This module and the ones it compiles are the only ones that import Numba. `objects` calls it in a child process
(``python -m blurfast.cpu.compiler``), so that a program that only filters images never pays for the compiler's
start-up time and memory.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from numba import cfunc, types

from blurfast.cpu import objects, simd
from blurfast.cpu.catalogue import Kernel

_PIXELS: dict[str, Any] = {"float16": simd.float16, "bool": simd.bool8}


def _numba_type(name: str) -> Any:
    return _PIXELS.get(name) or getattr(types, name)


def compile_kernel(kernel: Kernel) -> objects.CompiledKernel:
    """Compile one kernel for this machine."""
    module = importlib.import_module(f"blurfast.cpu.{kernel.module}_kernels")
    function, arguments = module.entry_points(_numba_type(kernel.pixel), _numba_type(kernel.sums))[kernel.function]
    compiled = cfunc(types.void(*arguments), **module.OPTIONS)(function)
    code: bytes = compiled._library._get_compiled_object()
    return objects.CompiledKernel(compiled.native_name, len(arguments), code)


def main(arguments: list[str]) -> None:
    """Compile the kernels named on the command line into the directory given first."""
    directory, *names = arguments
    cache = objects.cache(Path(directory))
    for kernel in map(Kernel.parse, names):
        cache.write(kernel, compile_kernel(kernel))


if __name__ == "__main__":
    main(sys.argv[1:])
