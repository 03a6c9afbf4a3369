"""Predicates: comparisons, tests and selections."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tests.ptx.floats import SINGLE, SMALLEST_NORMAL, flushed
from tests.ptx.operations import Operation
from tests.ptx.scalars import DTYPES, Value

PREDICATE = DTYPES["pred"]

Comparison = Callable[[Value, Value], Value]


def find(opcode: str, flags: Sequence[str], dtype: np.dtype) -> Operation | None:
    """Return a comparison, test or selection, None if it is not known."""
    if dtype == np.float16:
        return None
    if opcode == "selp":
        return Operation(_select, (dtype, dtype, PREDICATE), dtype) if not flags else None
    if opcode == "testp":
        test = _TESTS.get(".".join(flags)) if dtype.kind == "f" else None
        return Operation(test, (dtype,), PREDICATE) if test else None
    return _set_predicate(list(flags), dtype)


def _set_predicate(flags: list[str], dtype: np.dtype) -> Operation | None:
    flush = "ftz" in flags and dtype == SINGLE
    if flush:
        flags.remove("ftz")
    compare = (_FLOAT_COMPARISONS if dtype.kind == "f" else _INTEGER_COMPARISONS).get(flags[0] if flags else "")
    if compare is None:
        return None
    if flush:
        compare = _flushing(compare)
    if len(flags) == 1:
        return Operation(compare, (dtype, dtype), PREDICATE)
    combine = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}.get(".".join(flags[1:]))
    if combine is None:
        return None
    return Operation(lambda a, b, c: combine(compare(a, b), c), (dtype, dtype, PREDICATE), PREDICATE)


def _flushing(compare: Comparison) -> Comparison:
    return lambda a, b: compare(flushed(a), flushed(b))


def _select(a: Value, b: Value, condition: Value) -> Value:
    return np.where(condition, a, b)


def _ordered(a: Value, b: Value) -> Value:
    return ~(np.isnan(a) | np.isnan(b))


def _is_subnormal(value: Value) -> Value:
    return (value != 0) & (np.abs(value) < _smallest_normal(value))


def _smallest_normal(value: Value) -> np.floating:
    return SMALLEST_NORMAL if value.dtype == SINGLE else np.finfo(np.float64).smallest_normal


_INTEGER_COMPARISONS: dict[str, Comparison] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}

_FLOAT_COMPARISONS: dict[str, Comparison] = {
    "eq": np.equal,
    "ne": lambda a, b: (a != b) & _ordered(a, b),
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "equ": lambda a, b: (a == b) | ~_ordered(a, b),
    "neu": np.not_equal,
    "ltu": lambda a, b: ~(a >= b),
    "leu": lambda a, b: ~(a > b),
    "gtu": lambda a, b: ~(a <= b),
    "geu": lambda a, b: ~(a < b),
    "num": _ordered,
    "nan": lambda a, b: ~_ordered(a, b),
}
"""Only those with a u, and nan, hold where an operand is NaN."""

_TESTS: dict[str, Callable[[Value], Value]] = {
    "finite": np.isfinite,
    "infinite": np.isinf,
    "number": lambda value: ~np.isnan(value),
    "notanumber": np.isnan,
    "normal": lambda value: np.isfinite(value) & (np.abs(value) >= _smallest_normal(value)),
    "subnormal": _is_subnormal,
}
