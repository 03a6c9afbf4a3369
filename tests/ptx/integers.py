"""Integer arithmetic, which wraps around."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tests.ptx.operations import Operation, UndefinedResultError, uniform
from tests.ptx.scalars import SIGNED, UNSIGNED, Value


def find(opcode: str, flags: Sequence[str], dtype: np.dtype) -> Operation | None:
    """Return an integer operation, None if it is not known."""
    variant = ".".join(flags)
    if dtype.kind == "b":
        return None
    if opcode in ("mul", "mad") and dtype.itemsize > 1:
        return _product(opcode, variant, dtype)
    arity, function = _FUNCTIONS.get(opcode, (0, None))
    if function is None or variant or (opcode in ("abs", "neg") and dtype.kind != "i"):
        return None
    return uniform(function, arity, dtype)


def _product(opcode: str, variant: str, dtype: np.dtype) -> Operation | None:
    result = dtype
    if variant == "wide" and dtype.itemsize < 8:
        result = (SIGNED if dtype.kind == "i" else UNSIGNED)[2 * dtype.itemsize]

    def wide(a: Value, b: Value) -> Value:
        return a.astype(result) * b.astype(result)

    multiply: Callable[..., Value] | None = {"lo": np.multiply, "hi": high_product}.get(variant)
    if result != dtype:
        multiply = wide
    if multiply is None:
        return None
    if opcode == "mul":
        return Operation(multiply, (dtype, dtype), result)
    return Operation(lambda a, b, c: multiply(a, b) + c, (dtype, dtype, result), result)


def high_product(a: Value, b: Value) -> Value:
    """Return the upper half of the exact product."""
    if a.dtype.itemsize < 8:
        wide = np.int64 if a.dtype.kind == "i" else np.uint64
        return ((a.astype(wide) * b.astype(wide)) >> wide(8 * a.dtype.itemsize)).astype(a.dtype)
    high = _high_unsigned(a.view(np.uint64), b.view(np.uint64))
    if a.dtype.kind == "u":
        return high
    correction = np.where(a < 0, b, 0) + np.where(b < 0, a, 0)
    return high.view(np.int64) - correction


def _high_unsigned(a: Value, b: Value) -> Value:
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a_low, a_high, b_low, b_high = a & mask, a >> half, b & mask, b >> half
    middle = a_high * b_low + (a_low * b_low >> half)
    other = a_low * b_high + (middle & mask)
    return a_high * b_high + (middle >> half) + (other >> half)


def quotient(a: Value, b: Value) -> Value:
    """Return the quotient, rounded towards zero."""
    return (a - remainder(a, b)) // b


def remainder(a: Value, b: Value) -> Value:
    """Return what is left of `a`, with its sign."""
    zero = np.broadcast_to(b == 0, np.broadcast_shapes(a.shape, b.shape))
    if zero.any():
        raise UndefinedResultError("integer division by zero", zero)
    return np.fmod(a, b)


_FUNCTIONS: dict[str, tuple[int, Callable[..., Value]]] = {
    "add": (2, np.add),
    "sub": (2, np.subtract),
    "div": (2, quotient),
    "rem": (2, remainder),
    "min": (2, np.minimum),
    "max": (2, np.maximum),
    "abs": (1, np.abs),
    "neg": (1, np.negative),
}
