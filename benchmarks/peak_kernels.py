"""Compiled loops that do nothing but arithmetic: the peak of the processor, and blurfast's FIR loops on their own."""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from numba import cfunc, types

from blurfast.cpu.separable_kernels import OPTIONS, REGISTERS_PER_LINE, correlate_run, filter_pair
from blurfast.cpu.simd import VECTOR_BITS, add, broadcast, lanes_of, load, multiply_add, store

ACCUMULATORS = 12
"""Sums that don't wait for each other: more than latency times throughput of today's processors, fewer than
their registers."""

LANES = VECTOR_BITS // 32
"""float32 numbers in a register."""


def do_nothing():
    """Return at once; the time is that of a call. It may be called with any arguments, none of which it looks at."""


def multiply_and_add(factors, sums, rounds):
    """Multiply and add `rounds` times in each accumulator, all operands in registers.

    `factors` has a factor below one and an addend, so that the sums neither overflow nor become denormal.
    """
    lanes = lanes_of(sums)
    factor, addend = broadcast(factors, 0), broadcast(factors, 1)
    sum0 = load(sums, 0)
    sum1, sum2, sum3 = load(sums, lanes), load(sums, 2 * lanes), load(sums, 3 * lanes)
    sum4, sum5, sum6, sum7 = add(sum0, sum1), add(sum0, sum2), add(sum0, sum3), add(sum1, sum2)
    sum8, sum9, sum10, sum11 = add(sum1, sum3), add(sum2, sum3), add(sum0, sum0), add(sum1, sum1)
    for _ in range(rounds):
        sum0 = multiply_add(sum0, factor, addend)
        sum1 = multiply_add(sum1, factor, addend)
        sum2 = multiply_add(sum2, factor, addend)
        sum3 = multiply_add(sum3, factor, addend)
        sum4 = multiply_add(sum4, factor, addend)
        sum5 = multiply_add(sum5, factor, addend)
        sum6 = multiply_add(sum6, factor, addend)
        sum7 = multiply_add(sum7, factor, addend)
        sum8 = multiply_add(sum8, factor, addend)
        sum9 = multiply_add(sum9, factor, addend)
        sum10 = multiply_add(sum10, factor, addend)
        sum11 = multiply_add(sum11, factor, addend)
    store(sums, 0, add(add(add(sum0, sum1), add(sum2, sum3)), add(add(sum4, sum5), add(sum6, sum7))))
    store(sums, lanes, add(add(sum8, sum9), add(sum10, sum11)))


def across_lines(
    lines, line_pitch, width, taps, tap_count, reference, gains, target, target_pitch, line_count, repeats
):
    """Filter across lines that are packed already, as `vertical` does with rows and `horizontal` with columns."""
    for _ in range(repeats):
        for offset in range(0, width, REGISTERS_PER_LINE * lanes_of(lines)):
            for line in range(0, line_count, 2):
                filter_pair(
                    lines, offset, line_pitch, REGISTERS_PER_LINE * lanes_of(lines), line,
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
    multiply_and_add: (_sums, _sums, _size),
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
