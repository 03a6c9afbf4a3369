"""Compiles small kernels for tests. Where Numba-CUDA is not installed, modules that import this one are skipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.ptx.parser import parse
from tests.ptx.syntax import Entry

# Numba itself has a `numba.cuda` too, deprecated and of another dialect, so that name would not tell.
pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from numba import cuda, float32, types, uint32

__all__ = ["compile_entry", "cuda", "float32", "types", "uint32"]

TURING = (7, 5)
"""The oldest architecture that the compiler still knows."""

BLACKWELL = (10, 0)
"""The oldest one for which it uses its newer code generator, with another dialect."""


def compile_entry(
    function: Callable[..., Any], *argument_types: Any, capability: tuple[int, int] = TURING, fastmath: bool = False
) -> Entry:
    """Return a Python function as a kernel.

    Only scalars and `types.CPointer` become plain parameters, one for each argument.
    """
    text, _ = cuda.compile_ptx(function, types.void(*argument_types), cc=capability, fastmath=fastmath)
    (entry,) = parse(text).entries.values()
    return entry
