"""What the processor is, as the compiler sees it. Imports llvmlite, which costs 30 ms, and nothing of Numba."""

from __future__ import annotations

import functools

import llvmlite.binding as llvm


@functools.cache
def cpu_name() -> str:
    """Return LLVM's name of this processor, such as ``znver3``."""
    return str(llvm.get_host_cpu_name())


@functools.cache
def cpu_features() -> str:
    """Return the instruction-set extensions that this processor and operating system offer, as LLVM spells them."""
    return str(llvm.get_host_cpu_features().flatten())


@functools.cache
def vector_bits() -> int:
    """Return the width of the registers that the kernels are compiled for: 512 with AVX-512, else 256."""
    return 512 if "+avx512f" in cpu_features().split(",") else 256
