"""Sums and products that are rounded once, in each of IEEE 754's directions.

A float32 result is made of a float64 one that was rounded *to odd*: where it is inexact, to that of its two neighbours
whose last bit is 1. Such a number lies on the middle between two float32 numbers, or beyond it, only if the exact one
does, so rounding it again is right in every direction. (Boldo and Melquiond, "Emulation of a FMA and correctly rounded
sums: proved algorithms using rounding to odd", IEEE Transactions on Computers 57, 2008.)
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]

DISCARDED = np.uint64(2**29 - 1)
"""The bits of a float64 that a float32 in the normal range has no room for."""
MIDDLE = np.uint64(2**28)
SMALLEST_NORMAL = float(np.finfo(np.float32).smallest_normal)
SPLITTER = 2.0**27 + 1


def fma_float32(a: Singles, b: Singles, c: Singles, rounding: str = "rn") -> Singles:
    """Return ``a * b + c``, rounded once: to nearest even (rn), to zero (rz), down (rm) or up (rp)."""
    product = a.astype(np.float64) * b.astype(np.float64)  # exact
    return sum_as_float32(product, c.astype(np.float64), rounding)


def sum_as_float32(a: Doubles, b: Doubles, rounding: str = "rn") -> Singles:
    """Return the exact sum of two numbers, rounded once."""
    total = a + b
    if rounding == "rn" and not _may_be_rounded_twice(total):
        return total.astype(np.float32)
    return to_float32(_odd(a, b, total), rounding)


def to_float32(value: Doubles, rounding: str) -> Singles:
    """Return float64 numbers as float32."""
    return directed(value, value.astype(np.float32), rounding)


def directed(exact: Doubles, nearest: NDArray[np.floating], rounding: str) -> NDArray[np.floating]:
    """Return that neighbour of `exact` which `rounding` demands; `nearest` is the nearest one."""
    if rounding == "rn":
        return nearest
    zero, infinity = nearest.dtype.type(0), nearest.dtype.type(np.inf)
    target = {"rz": zero, "rm": -infinity, "rp": infinity}[rounding]
    back = nearest.astype(np.float64)
    wrong = {"rz": np.abs(back) > np.abs(exact), "rm": back > exact, "rp": back < exact}[rounding]
    return np.where(wrong, np.nextafter(nearest, target), nearest)


def fma_float64(a: Doubles, b: Doubles, c: Doubles) -> Doubles:
    """Return ``a * b + c``, rounded once to nearest even."""
    a, b, c = np.broadcast_arrays(a, b, c)
    product, product_error = _exact_product(a, b)
    low, low_error = _exact_sum(c, product_error)
    high, high_error = _exact_sum(product, low)
    result = high + _odd(low_error, high_error, low_error + high_error)
    result = np.where((a == 0) | (b == 0), a * b + c, result)
    magnitude = np.abs(product)
    safe = (np.abs(a) < 2.0**500) & (np.abs(b) < 2.0**500) & (np.abs(c) < 2.0**1000) & (magnitude > 2.0**-900)
    for position in np.flatnonzero(~(safe | (a == 0) | (b == 0))):
        result[position] = _fma_by_fractions(float(a[position]), float(b[position]), float(c[position]))
    return result


def _may_be_rounded_twice(total: Doubles) -> bool:
    """Whether rounding any of these rounded sums again might differ from rounding the exact ones."""
    magnitude = np.abs(total)
    return bool(
        ((total.view(np.uint64) & DISCARDED) == MIDDLE).any()
        or ((magnitude < SMALLEST_NORMAL) & (magnitude != 0)).any()
    )


def _odd(a: Doubles, b: Doubles, total: Doubles) -> Doubles:
    """Return ``a + b`` rounded to odd, where `total` is the same rounded to nearest."""
    error = _sum_error(a, b, total)
    bits = total.view(np.int64)
    even_but_inexact = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    step = np.where((error > 0) == (total > 0), 1, -1)  # in memory, larger magnitudes are larger integers
    return np.where(even_but_inexact, bits + step, bits).view(np.float64)


def _sum_error(a: Doubles, b: Doubles, total: Doubles) -> Doubles:
    """Return what rounding took away from ``a + b`` (Knuth's two-sum)."""
    share_of_b = total - a
    return (a - (total - share_of_b)) + (b - share_of_b)


def _exact_sum(a: Doubles, b: Doubles) -> tuple[Doubles, Doubles]:
    total = a + b
    return total, _sum_error(a, b, total)


def _exact_product(a: Doubles, b: Doubles) -> tuple[Doubles, Doubles]:
    """Return the rounded product and its error (Dekker's product, Veltkamp's halves)."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _halves(value: Doubles) -> tuple[Doubles, Doubles]:
    scaled = SPLITTER * value
    high = scaled - (scaled - value)
    return high, value - high


def _fma_by_fractions(a: float, b: float, c: float) -> float:
    """Return ``a * b + c`` where the fast way could overflow, underflow or meet infinities."""
    if not all(np.isfinite((a, b, c))):
        return c if np.isfinite(a) and np.isfinite(b) else float(np.float64(a) * np.float64(b) + np.float64(c))
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        return float(exact)
    except OverflowError:
        return float("inf") if exact > 0 else float("-inf")
