"""Logic, shifts, and what takes numbers apart into bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from tests.ptx.operations import Operation, uniform
from tests.ptx.scalars import UNSIGNED, Value

AMOUNT = np.dtype(np.uint32)
"""Of shifts, and positions and lengths of bit fields."""


def find(opcode: str, flags: Sequence[str], dtype: np.dtype) -> Operation | None:
    """Return a bitwise operation, None if it is not known."""
    variant = ".".join(flags)
    if opcode == "shf" and dtype.itemsize == 4 and variant in _FUNNELS:
        return Operation(_FUNNELS[variant], (dtype, dtype, AMOUNT), dtype)
    if flags:
        return None
    if opcode in _LOGIC:
        arity, function = _LOGIC[opcode]
        return uniform(function, arity, dtype)
    if dtype.kind == "b" or opcode not in _FIELDS:
        return None
    function, operands, result, sizes = _FIELDS[opcode]
    if dtype.itemsize not in sizes:
        return None
    return Operation(function, tuple(operand or dtype for operand in operands), result or dtype)


def shift_left(value: Value, amount: Value) -> Value:
    """Return the value shifted; amounts of the width and more leave nothing."""
    width = 8 * value.itemsize
    shifted = value << np.minimum(amount, width - 1).astype(value.dtype)
    return np.where(amount < width, shifted, value.dtype.type(0))


def shift_right(value: Value, amount: Value) -> Value:
    """Return the value shifted; amounts of the width and more leave only copies of the sign."""
    width = 8 * value.itemsize
    shifted = value >> np.minimum(amount, width - 1).astype(value.dtype)
    return shifted if value.dtype.kind == "i" else np.where(amount < width, shifted, value.dtype.type(0))


def extract_field(value: Value, position: Value, length: Value) -> Value:
    """Return `length` bits from `position` on, with copies of their sign above them."""
    width = 8 * value.itemsize
    above = width - np.minimum(length & 0xFF, width)
    return shift_right(shift_left(shift_right(value, position & 0xFF), above), above)


def insert_field(field: Value, value: Value, position: Value, length: Value) -> Value:
    """Return the value with the lowest `length` bits of `field` at `position`."""
    position = position & 0xFF
    mask = shift_left(~shift_left(~np.zeros_like(value), length & 0xFF), position)
    return (value & ~mask) | (shift_left(field, position) & mask)


def permute_bytes(low: Value, high: Value, selectors: Value) -> Value:
    """Return four of the eight bytes of two words; a selector's fourth bit asks for copies of the byte's sign."""
    both = low.astype(np.uint64) | (high.astype(np.uint64) << np.uint64(32))
    result = np.zeros(np.broadcast_shapes(both.shape, selectors.shape), np.uint32)
    for place in range(4):
        selector = (selectors >> np.uint32(4 * place)).astype(np.uint64)
        byte = ((both >> ((selector & np.uint64(7)) * np.uint64(8))) & np.uint64(0xFF)).astype(np.uint32)
        sign = np.where(byte & np.uint32(0x80), np.uint32(0xFF), np.uint32(0))
        result |= np.where(selector & np.uint64(8), sign, byte) << np.uint32(8 * place)
    return result


def any_logic(a: Value, b: Value, c: Value, table: Value) -> Value:
    """Return that function of three bits whose value for the bits (a, b, c) is bit ``4 a + 2 b + c`` of `table`."""
    result = np.zeros_like(a & b & c)
    for row in range(8):
        if int(table[0]) >> row & 1:
            result |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
    return result


def funnel_shift(low: Value, high: Value, amount: Value, *, left: bool, wrap: bool) -> Value:
    """Return the upper or lower word of two words that are shifted together."""
    both = low.astype(np.uint64) | (high.astype(np.uint64) << np.uint64(32))
    limited = amount & 31 if wrap else np.minimum(amount, 32)
    if left:
        return (both << limited.astype(np.uint64) >> np.uint64(32)).astype(np.uint32)
    return (both >> limited.astype(np.uint64)).astype(np.uint32)


def leading_zeros(value: Value) -> Value:
    """Return the number of zeros above the highest one."""
    if value.itemsize == 8:
        high = value >> np.uint64(32)
        length = np.where(high > 0, 32 + _bit_length(high), _bit_length(value & np.uint64(0xFFFFFFFF)))
    else:
        length = _bit_length(value)
    return (8 * value.itemsize - length).astype(np.uint32)


def _bit_length(value: Value) -> Value:
    return np.frexp(value.astype(np.float64))[1]  # exact: no more than 32 bits


def reversed_bits(value: Value) -> Value:
    """Return the bits in the opposite order."""
    rows = np.ascontiguousarray(value).view(np.uint8).reshape(-1, value.itemsize)
    bits = np.unpackbits(rows, axis=1, bitorder="little")[:, ::-1]
    return np.packbits(bits, axis=1, bitorder="little").view(UNSIGNED[value.itemsize]).reshape(-1)


def _count_ones(value: Value) -> Value:
    return np.bitwise_count(value).astype(np.uint32)


_LOGIC: dict[str, tuple[int, Callable[..., Value]]] = {
    "and": (2, np.bitwise_and),
    "or": (2, np.bitwise_or),
    "xor": (2, np.bitwise_xor),
    "not": (1, np.invert),
}

_FIELDS: dict[str, tuple[Callable[..., Value], tuple[np.dtype | None, ...], np.dtype | None, tuple[int, ...]]] = {
    "shl": (shift_left, (None, AMOUNT), None, (2, 4, 8)),
    "shr": (shift_right, (None, AMOUNT), None, (2, 4, 8)),
    "bfe": (extract_field, (None, AMOUNT, AMOUNT), None, (4, 8)),
    "bfi": (insert_field, (None, None, AMOUNT, AMOUNT), None, (4, 8)),
    "prmt": (permute_bytes, (None, None, None), None, (4,)),
    "lop3": (any_logic, (None, None, None, AMOUNT), None, (4,)),
    "popc": (_count_ones, (None,), AMOUNT, (4, 8)),
    "clz": (leading_zeros, (None,), AMOUNT, (4, 8)),
    "brev": (reversed_bits, (None,), None, (4, 8)),
}
"""Function, dtypes of the operands and of the result (None: the instruction's type), and sizes of that type."""

_FUNNELS = {
    f"{direction}.{limit}": partial(funnel_shift, left=direction == "l", wrap=limit == "wrap")
    for direction in "lr"
    for limit in ("wrap", "clamp")
}
