"""A loop that does nothing but arithmetic: what `blurfast bench` measures the processor's peak with."""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from numba import types

from blurfast.cpu.separable_kernels import OPTIONS
from blurfast.cpu.simd import add, broadcast, lanes_of, load, multiply_add, store

__all__ = ["OPTIONS", "entry_points", "multiply_and_add"]


def multiply_and_add(factors, sums, rounds):
    """Multiply and add `rounds` times in each of twelve accumulators, all operands in registers.

    Twelve sums don't wait for each other: that is more than latency times throughput of today's processors, and fewer
    than their registers. `factors` has a factor below one and an addend, so that the sums neither overflow nor become
    denormal. `sums` has four registers to begin with, and takes the results in the first two.
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


def entry_points(pixel: Any, sums: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return each entry point with the Numba types of its arguments, for one type of sums."""
    numbers = types.CPointer(sums)
    return {"multiply_and_add": (multiply_and_add, (numbers, numbers, types.int64))}
