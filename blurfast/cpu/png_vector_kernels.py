"""Small vectors of bytes, which the kernels of PNG are written in.

`Bytes` are bytes as they lie in memory, `Words` the same in 16 bits each, for predictors that need them.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.extending import intrinsic, register_model

ROWS = 4
"""Rows in the vectors of `load_rows`: of four bytes each, as words, they fill a register of 256 bits."""

_BYTE = ir.IntType(8)
_WORD = ir.IntType(16)


class Bytes(types.Type):
    """The Numba type of a few bytes that are worked on together."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name=f"Bytes({count})")


@register_model(Bytes)
class _BytesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Bytes) -> None:
        super().__init__(manager, numba_type, ir.VectorType(_BYTE, numba_type.count))


class Words(types.Type):
    """The Numba type of a few bytes, each in a word of 16 bits."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name=f"Words({count})")


@register_model(Words)
class _WordsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Words) -> None:
        super().__init__(manager, numba_type, ir.VectorType(_WORD, numba_type.count))


@intrinsic(prefer_literal=True)
def zeros(typing_context, count):
    """Return `count` (a literal) zero bytes."""
    result = Bytes(count.literal_value)

    def generate(context, builder, signature, arguments):
        return ir.Constant(ir.VectorType(_BYTE, result.count), None)

    return result(count), generate


@intrinsic
def count_of(typing_context, value):
    """Return the number of bytes in `value`, as a compile-time constant."""

    def generate(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(64), value.count)

    return types.int64(value), generate


@intrinsic
def load_bytes(typing_context, pointer, index, like):
    """Load as many bytes as `like` has; no alignment is assumed."""

    def generate(context, builder, signature, arguments):
        address = builder.gep(arguments[0], [arguments[1]])
        loaded = builder.load(builder.bitcast(address, arguments[2].type.as_pointer()))
        loaded.align = 1
        return loaded

    return like(pointer, types.int64, like), generate


@intrinsic
def store_bytes(typing_context, pointer, index, value):
    """Store all bytes of `value`."""

    def generate(context, builder, signature, arguments):
        address = builder.gep(arguments[0], [arguments[1]])
        builder.store(arguments[2], builder.bitcast(address, arguments[2].type.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(pointer, types.int64, value), generate


@intrinsic
def plus(typing_context, left, right):
    """Return `left + right`, modulo 256."""

    def generate(context, builder, signature, arguments):
        return builder.add(*arguments)

    return left(left, right), generate


@intrinsic
def minus(typing_context, left, right):
    """Return `left - right`, modulo 256."""

    def generate(context, builder, signature, arguments):
        return builder.sub(*arguments)

    return left(left, right), generate


@intrinsic
def widen(typing_context, value):
    """Return bytes as words."""
    result = Words(value.count)

    def generate(context, builder, signature, arguments):
        return builder.zext(arguments[0], ir.VectorType(_WORD, value.count))

    return result(value), generate


@intrinsic
def narrow(typing_context, value):
    """Return words, which hold bytes, as bytes."""
    result = Bytes(value.count)

    def generate(context, builder, signature, arguments):
        return builder.trunc(arguments[0], ir.VectorType(_BYTE, value.count))

    return result(value), generate


@intrinsic
def plus_wide(typing_context, left, right):
    """Return `left + right`, modulo 256, as words.

    Added as bytes, of which the upper ones stay zero: all else would be narrowed and widened between two pixels. A
    single word is best left to the scalar registers.
    """

    def generate(context, builder, signature, arguments):
        words = arguments[0].type
        if left.count == 1:
            return builder.and_(builder.add(*arguments), _splat(words, 255))
        halves = ir.VectorType(_BYTE, 2 * left.count)
        return builder.bitcast(builder.add(*(builder.bitcast(value, halves) for value in arguments)), words)

    return left(left, right), generate


@intrinsic
def average(typing_context, left, above):
    """Return the mean of both, which are words, rounded down."""

    def generate(context, builder, signature, arguments):
        return builder.lshr(builder.add(*arguments), _splat(arguments[0].type, 1))

    return left(left, above), generate


@intrinsic
def paeth(typing_context, left, above, above_left):
    """Return that one of three words which is nearest to `left + above - above_left`; the first of equals.

    What needs `left` is computed as late as possible, and in as few steps in turn.
    """

    def generate(context, builder, signature, arguments):
        before, over, corner = arguments
        # With the estimate e = left + above - corner: e - left, e - above, and e - corner, which is their sum.
        from_left = builder.sub(over, corner)
        from_above = builder.sub(before, corner)
        to_left = _magnitude(builder, from_left)
        to_above = _magnitude(builder, from_above)
        to_corner = _magnitude(builder, builder.add(from_left, from_above))
        nearest = builder.select(builder.icmp_signed("<=", to_above, to_corner), over, corner)
        is_left = builder.icmp_signed("<=", to_left, _smaller(builder, to_above, to_corner))
        return builder.select(is_left, before, nearest)

    return left(left, above, above_left), generate


@intrinsic
def sum_of_magnitudes(typing_context, value):
    """Return the sum of the bytes' absolute values, taken as signed."""

    def generate(context, builder, signature, arguments):
        wide = builder.zext(_magnitude(builder, arguments[0]), ir.VectorType(_WORD, value.count))
        total = _call_llvm(builder, "vector.reduce.add", _WORD, [wide])
        return builder.zext(total, ir.IntType(64))

    return types.int64(value), generate


@intrinsic
def load_rows(typing_context, pointer, index, pitch, like):
    """Load bytes from `ROWS` rows, `pitch` bytes apart, as words side by side: as many from each as `like` has."""
    result = Words(ROWS * like.count)

    def generate(context, builder, signature, arguments):
        base, index, pitch, _ = arguments
        joined = ir.Constant(ir.VectorType(ir.IntType(8 * like.count), ROWS), ir.Undefined)
        for row in range(ROWS):
            loaded = builder.load(_row_address(builder, base, index, pitch, row, like.count))
            loaded.align = 1
            joined = builder.insert_element(joined, loaded, ir.Constant(ir.IntType(32), row))
        values = builder.bitcast(joined, ir.VectorType(_BYTE, result.count))
        return builder.zext(values, ir.VectorType(_WORD, result.count))

    return result(pointer, types.int64, types.int64, like), generate


@intrinsic
def store_rows(typing_context, pointer, index, pitch, value):
    """Store what `load_rows` would load."""
    count = value.count // ROWS

    def generate(context, builder, signature, arguments):
        base, index, pitch, value = arguments
        values = builder.trunc(value, ir.VectorType(_BYTE, ROWS * count))
        joined = builder.bitcast(values, ir.VectorType(ir.IntType(8 * count), ROWS))
        for row in range(ROWS):
            part = builder.extract_element(joined, ir.Constant(ir.IntType(32), row))
            builder.store(part, _row_address(builder, base, index, pitch, row, count)).align = 1
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64, value), generate


@intrinsic
def move_down(typing_context, top, rows):
    """Return `rows`, each moved to the place of the next one; `top` becomes the first."""

    def generate(context, builder, signature, arguments):
        count = top.count
        order = [*range(ROWS * count, ROWS * count + count), *range((ROWS - 1) * count)]
        first = builder.zext(arguments[0], ir.VectorType(_WORD, count))
        padding = [*range(count), *[0] * ((ROWS - 1) * count)]
        padded = builder.shuffle_vector(first, first, _lanes(padding))
        return builder.shuffle_vector(arguments[1], padded, _lanes(order))

    return rows(top, rows), generate


def _row_address(builder: Any, base: Any, index: Any, pitch: Any, row: int, count: int) -> Any:
    offset = builder.add(index, builder.mul(pitch, ir.Constant(ir.IntType(64), row)))
    return builder.bitcast(builder.gep(base, [offset]), ir.IntType(8 * count).as_pointer())


def _lanes(numbers: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), numbers)


def _splat(vector_type: Any, number: int) -> Any:
    return ir.Constant(vector_type, [number] * vector_type.count)


def _magnitude(builder: Any, value: Any) -> Any:
    """Return the absolute value; that of -128 as a byte is 128 when read as unsigned."""
    return _call_llvm(builder, "abs", value.type, [value, ir.Constant(ir.IntType(1), 0)])


def _smaller(builder: Any, left: Any, right: Any) -> Any:
    return _call_llvm(builder, "smin", left.type, [left, right])


def _call_llvm(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call an LLVM intrinsic that is overloaded by the type of its first argument, a vector of integers."""
    kind = arguments[0].type
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    name = f"llvm.{name}.v{kind.count}i{kind.element.width}"
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)
