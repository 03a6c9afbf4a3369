"""Compiled loops: blurfast's FIR loops on their own, and what a call costs."""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from numba import cfunc, types

from blurfast.cpu.separable_kernels import OPTIONS, REGISTERS_PER_LINE, correlate_run, filter_pair
from blurfast.cpu.simd import lanes_of


def do_nothing():
    """Return at once; the time is that of a call. It may be called with any arguments, none of which it looks at."""


def across_lines(
    lines, line_pitch, width, taps, tap_count, reference, gains, target, target_pitch, line_count, repeats
):
    """Filter across lines that are packed already, as `vertical` does with rows and `horizontal` with columns."""
    for _ in range(repeats):
        for offset in range(0, width, REGISTERS_PER_LINE * lanes_of(lines)):
            for line in range(0, line_count, 2):
                filter_pair(
                    lines, offset, line_pitch, REGISTERS_PER_LINE * lanes_of(lines), line, 0,
                    taps, tap_count, 1, 1, reference, gains, 0,
                    target, line * target_pitch + offset, target_pitch,
                )  # fmt: skip


def along_lines(lines, line_pitch, width, taps, tap_count, reference, gains, target, target_pitch, line_count, repeats):
    """Filter lines along themselves, as `along_rows` does."""
    for _ in range(repeats):
        for line in range(line_count):
            for offset in range(0, width, REGISTERS_PER_LINE * lanes_of(lines)):
                correlate_run(
                    lines, line * line_pitch + offset, 1, taps, tap_count, reference, gains, 0,
                    target, line * target_pitch + offset,
                )  # fmt: skip


_sums, _size = types.CPointer(types.float32), types.int64
_fir_loop = (_sums, _size, _size, _sums, _size, _size, _sums, _sums, _size, _size, _size)
_ARGUMENTS: dict[Any, tuple[Any, ...]] = {
    do_nothing: (),
    across_lines: _fir_loop,
    along_lines: _fir_loop,
}


@functools.cache
def _machine_code(function: Callable[..., None]) -> Any:
    """Compile one of the loops as blurfast compiles kernels, for float32; kept, since its address is used."""
    return cfunc(types.void(*_ARGUMENTS[function]), **OPTIONS)(function)


def compiled(function: Callable[..., None], argument_count: int | None = None) -> Callable[..., None]:
    """Return one of the loops above as a function that releases the GIL.

    Parameters
    ----------
    function
        What to compile. Its arguments become integers: sizes, and the addresses of arrays that the caller keeps alive.
    argument_count
        Arguments of a call, if not as many as `function` has.
    """
    count = len(_ARGUMENTS[function]) if argument_count is None else argument_count
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * count)(_machine_code(function).address)
