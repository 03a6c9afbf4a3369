"""Floating-point arithmetic: IEEE 754 with one rounding, subnormals flushed where the instruction says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from tests.ptx.fused import Singles, fma_float32, fma_float64, sum_as_float32, to_float32
from tests.ptx.operations import Operation, uniform
from tests.ptx.scalars import Value

SINGLE = np.dtype(np.float32)
DOUBLE = np.dtype(np.float64)
SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal


def find(opcode: str, flags: Sequence[str], dtype: np.dtype) -> Operation | None:
    """Return a floating-point operation, None if it is not known."""
    flush, saturate = "ftz" in flags, "sat" in flags
    variant = ".".join(flag for flag in flags if flag not in ("ftz", "sat"))
    arity, variants = {SINGLE: _SINGLE, DOUBLE: _DOUBLE}.get(dtype, {}).get(opcode, (0, {}))
    function = variants.get(variant)
    if function is None or (dtype == DOUBLE and (flush or saturate)):
        return None
    if saturate:
        if opcode not in ("add", "sub", "mul", "fma"):
            return None
        function = _followed_by(saturated, function)
    return uniform(_flushing(function) if flush else function, arity, dtype)


def flushed(value: Singles) -> Singles:
    """Return the numbers with zeros of the same sign instead of the subnormal ones."""
    return np.where(np.abs(value) < SMALLEST_NORMAL, value * np.float32(0), value)


def saturated(value: Value) -> Value:
    """Return the numbers limited to 0 to 1; NaN becomes 0."""
    zero, one = value.dtype.type(0), value.dtype.type(1)
    return np.where(value > 0, np.minimum(value, one), zero)


def _flushing(function: Callable[..., Singles]) -> Callable[..., Singles]:
    return lambda *operands: flushed(function(*map(flushed, operands)))


def _followed_by(last: Callable[[Value], Value], first: Callable[..., Value]) -> Callable[..., Value]:
    return lambda *operands: last(first(*operands))


def minimum(a: Value, b: Value) -> Value:
    """Return the smaller number; a NaN loses against a number, and -0 is smaller than +0."""
    return np.where(a == b, np.where(np.signbit(a), a, b), np.fmin(a, b))


def maximum(a: Value, b: Value) -> Value:
    """Return the larger number; a NaN loses against a number, and +0 is larger than -0."""
    return np.where(a == b, np.where(np.signbit(a), b, a), np.fmax(a, b))


def _minimum_or_nan(a: Value, b: Value) -> Value:
    return np.where(np.isnan(a) | np.isnan(b), a + b, minimum(a, b))


def _maximum_or_nan(a: Value, b: Value) -> Value:
    return np.where(np.isnan(a) | np.isnan(b), a + b, maximum(a, b))


def _with_sign_of_first(sign: Value, magnitude: Value) -> Value:
    return np.copysign(magnitude, sign)


def _add(a: Singles, b: Singles, rounding: str) -> Singles:
    return sum_as_float32(a.astype(np.float64), b.astype(np.float64), rounding)


def _subtract(a: Singles, b: Singles, rounding: str) -> Singles:
    return _add(a, -b, rounding)


def _multiply(a: Singles, b: Singles, rounding: str) -> Singles:
    return to_float32(a.astype(np.float64) * b.astype(np.float64), rounding)


def _in_doubles(function: Callable[[Value], Value]) -> Callable[[Singles], Singles]:
    return lambda value: function(value.astype(np.float64)).astype(np.float32)


Variants = dict[str, Callable[..., Value]]


def _directed(function: Callable[..., Value]) -> Variants:
    return {rounding: partial(function, rounding=rounding) for rounding in ("rz", "rm", "rp")}


_COMMON: dict[str, tuple[int, Variants]] = {
    "neg": (1, {"": np.negative}),
    "abs": (1, {"": np.abs}),
    "min": (2, {"": minimum, "NaN": _minimum_or_nan}),
    "max": (2, {"": maximum, "NaN": _maximum_or_nan}),
    "copysign": (2, {"": _with_sign_of_first}),
}

_DOUBLE: dict[str, tuple[int, Variants]] = {
    **_COMMON,
    "add": (2, {"": np.add, "rn": np.add}),
    "sub": (2, {"": np.subtract, "rn": np.subtract}),
    "mul": (2, {"": np.multiply, "rn": np.multiply}),
    "fma": (3, {"rn": fma_float64}),
    "div": (2, {"rn": np.divide}),
    "rcp": (1, {"rn": np.reciprocal}),
    "sqrt": (1, {"rn": np.sqrt}),
}

_SINGLE: dict[str, tuple[int, Variants]] = {
    **_COMMON,
    "add": (2, {"": np.add, "rn": np.add, **_directed(_add)}),
    "sub": (2, {"": np.subtract, "rn": np.subtract, **_directed(_subtract)}),
    "mul": (2, {"": np.multiply, "rn": np.multiply, **_directed(_multiply)}),
    "fma": (3, {"rn": fma_float32, **_directed(fma_float32)}),
    "div": (2, {"rn": np.divide, "full": np.divide, "approx": np.divide}),
    "rcp": (1, {"rn": np.reciprocal, "approx": np.reciprocal}),
    "sqrt": (1, {"rn": np.sqrt, "approx": np.sqrt}),
    "rsqrt": (1, {"approx": _in_doubles(lambda value: 1 / np.sqrt(value))}),
    "ex2": (1, {"approx": _in_doubles(np.exp2)}),
    "lg2": (1, {"approx": _in_doubles(np.log2)}),
}
