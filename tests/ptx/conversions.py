"""The instruction `cvt`: every pair of types, rounding and saturation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from tests.ptx.floats import SINGLE, flushed, saturated
from tests.ptx.fused import directed
from tests.ptx.operations import Operation
from tests.ptx.scalars import DTYPES, Value

TO_INTEGER: dict[str, Callable[[Value], Value]] = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
TO_FLOAT = ("rn", "rz", "rm", "rp")


def find(modifiers: tuple[str, ...]) -> Operation | None:
    """Return a conversion, None if it is not known."""
    if modifiers == ("rn", "f16x2", "f32"):
        return Operation(_two_halves, (SINGLE, SINGLE), DTYPES["f16x2"])
    if len(modifiers) < 2 or not set(modifiers[-2:]) <= DTYPES.keys() - {"pred", "f16x2", "b8", "b16", "b32", "b64"}:
        return None
    target, source = (DTYPES[name] for name in modifiers[-2:])
    flags = set(modifiers[:-2])
    saturate, flush = "sat" in flags, "ftz" in flags
    rounding = ".".join(flags - {"sat", "ftz"})
    if flush and SINGLE not in (source, target):
        return None
    function = _function(source, target, rounding, saturate=saturate)
    if function is None:
        return None
    return Operation(_flushing(function) if flush else function, (source,), target)


def _function(source: np.dtype, target: np.dtype, rounding: str, *, saturate: bool) -> Callable[[Value], Value] | None:
    """Return the conversion; None where PTX demands another rounding, or none."""
    if target.kind != "f":
        return _function_to_integer(source, target, rounding, saturate=saturate)
    convert: Callable[[Value], Value] | None = None
    if source == target:
        convert = TO_INTEGER.get(rounding) if rounding else np.positive
    elif source.kind == "f" and source.itemsize < target.itemsize:
        convert = None if rounding else partial(_cast, target=target)
    elif rounding == "rn" or (rounding in TO_FLOAT and (source.kind == "f" or source.itemsize < 8)):
        convert = partial(to_float, target=target, rounding=rounding)
    return _saturating(convert) if convert and saturate else convert


def _function_to_integer(
    source: np.dtype, target: np.dtype, rounding: str, *, saturate: bool
) -> Callable[[Value], Value] | None:
    if source.kind == "f":
        return partial(to_integer, target=target, rounding=rounding) if rounding in TO_INTEGER else None
    if rounding:
        return None
    return partial(_clamped if saturate else _cast, target=target)


def to_integer(value: Value, target: np.dtype, rounding: str) -> Value:
    """Return floats as integers, limited to the range of the target's type.

    NaN becomes 0, but where one of the types has 64 bits, the number of which only the highest bit is set.
    """
    limits = np.iinfo(target)
    rounded = TO_INTEGER[rounding](value.astype(np.float64))
    too_high = rounded >= 2.0 ** (limits.bits - (target.kind == "i"))
    too_low = rounded < float(limits.min)
    result = np.where(too_high | too_low | np.isnan(rounded), 0, rounded).astype(target)
    result = np.where(too_high, target.type(limits.max), np.where(too_low, target.type(limits.min), result))
    if max(value.dtype.itemsize, target.itemsize) < 8:
        return result
    highest = target.type(limits.min) if target.kind == "i" else target.type(1 << (limits.bits - 1))
    return np.where(np.isnan(rounded), highest, result)


def to_float(value: Value, target: np.dtype, rounding: str) -> Value:
    """Return numbers as floats of a type that cannot hold them all."""
    if rounding == "rn" and target != np.float16:
        return value.astype(target)
    # Integers that float64 cannot hold are beyond the range of float16.
    exact = value.astype(np.float64)
    return directed(exact, exact.astype(target), rounding)


def _cast(value: Value, target: np.dtype) -> Value:
    return value.astype(target)


def _clamped(value: Value, target: np.dtype) -> Value:
    source_limits, limits = np.iinfo(value.dtype), np.iinfo(target)
    return np.clip(value, max(source_limits.min, limits.min), min(source_limits.max, limits.max)).astype(target)


def _saturating(convert: Callable[[Value], Value]) -> Callable[[Value], Value]:
    return lambda value: saturated(convert(value))


def _flushing(convert: Callable[[Value], Value]) -> Callable[[Value], Value]:
    def function(value: Value) -> Value:
        result = convert(flushed(value) if value.dtype == SINGLE else value)
        return flushed(result) if result.dtype == SINGLE else result

    return function


def _two_halves(high: Value, low: Value) -> Value:
    """Return two float32 numbers as float16, side by side in one word."""
    upper, lower = (value.astype(np.float16).view(np.uint16).astype(np.uint32) for value in (high, low))
    return (upper << np.uint32(16)) | lower
