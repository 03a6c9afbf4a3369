"""Kernels of PNG's scanline filters, which store each byte as its difference from a prediction.

The prediction is made of the byte one pixel to the left, the byte above, and the one above to the left. Both
directions work on small vectors of bytes (the type `Bytes`), with the same predictors. Undoing a filter has to know
the pixel on the left first, so its vectors are single pixels, which stay in a register from one to the next;
applying one has the whole row at hand, so its vectors are as long as a register.

The entry points, `unfilter` and `filter_rows`, allocate nothing, raise nothing and hold no lock. Positions and
pitches are in bytes.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.extending import intrinsic, register_model

from blurfast.cpu.simd import read, write

# Inlined by force, since a call that is left would hand on an error status, and with it Numba's runtime.
OPTIONS = {"nogil": True, "boundscheck": False, "error_model": "numpy", "forceinline": True}

NONE, SUB, UP, AVERAGE, PAETH = range(5)
FILTER_TYPES = 5

LONG = 32
"""Bytes in a long vector: widened to 16 bits, as the predictors need it, they fill the largest registers."""

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
def average(typing_context, left, above):
    """Return the mean of both, rounded down."""

    def generate(context, builder, signature, arguments):
        wide = ir.VectorType(_WORD, left.count)
        total = builder.add(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        return builder.trunc(builder.lshr(total, _splat(wide, 1)), arguments[0].type)

    return left(left, above), generate


@intrinsic
def paeth(typing_context, left, above, above_left):
    """Return that one of the three which is nearest to `left + above - above_left`; the first of equals."""

    def generate(context, builder, signature, arguments):
        wide = ir.VectorType(_WORD, left.count)
        before, over, corner = (builder.zext(argument, wide) for argument in arguments)
        # With the estimate e = left + above - corner: e - left, e - above, and e - corner, which is their sum.
        from_left = builder.sub(over, corner)
        from_above = builder.sub(before, corner)
        to_left = _magnitude(builder, from_left)
        to_above = _magnitude(builder, from_above)
        to_corner = _magnitude(builder, builder.add(from_left, from_above))
        smallest = _smaller(builder, to_left, _smaller(builder, to_above, to_corner))
        nearest = builder.select(builder.icmp_signed("==", smallest, to_above), arguments[1], arguments[2])
        return builder.select(builder.icmp_signed("==", smallest, to_left), arguments[0], nearest)

    return left(left, above, above_left), generate


@intrinsic
def sum_of_magnitudes(typing_context, value):
    """Return the sum of the bytes' absolute values, taken as signed."""

    def generate(context, builder, signature, arguments):
        wide = builder.zext(_magnitude(builder, arguments[0]), ir.VectorType(_WORD, value.count))
        total = _call_llvm(builder, "vector.reduce.add", _WORD, [wide])
        return builder.zext(total, ir.IntType(64))

    return types.int64(value), generate


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


@njit(**OPTIONS)
def copy_bytes(source, start, length, target, target_start):
    """Copy a run of bytes."""
    long = zeros(LONG)
    index = 0
    while index + LONG <= length:
        store_bytes(target, target_start + index, load_bytes(source, start + index, long))
        index += LONG
    while index < length:
        write(target, target_start + index, read(source, start + index))
        index += 1


@njit(**OPTIONS)
def add_above(source, start, length, above, above_start, target, target_start):
    """Undo `UP`."""
    long, single = zeros(LONG), zeros(1)
    index = 0
    while index + LONG <= length:
        over = load_bytes(above, above_start + index, long)
        store_bytes(target, target_start + index, plus(load_bytes(source, start + index, long), over))
        index += LONG
    while index < length:
        over = load_bytes(above, above_start + index, single)
        store_bytes(target, target_start + index, plus(load_bytes(source, start + index, single), over))
        index += 1


@njit(**OPTIONS)
def undo_row(filter_type, no_pixel, source, start, length, above, above_start, target, target_start):
    """Undo one of the filters that look to the left, pixel by pixel; `no_pixel` stands left of the first one."""
    step = count_of(no_pixel)
    left = no_pixel
    index = 0
    if filter_type == SUB:
        while index < length:
            left = plus(load_bytes(source, start + index, no_pixel), left)
            store_bytes(target, target_start + index, left)
            index += step
    elif filter_type == AVERAGE:
        while index < length:
            prediction = average(left, load_bytes(above, above_start + index, no_pixel))
            left = plus(load_bytes(source, start + index, no_pixel), prediction)
            store_bytes(target, target_start + index, left)
            index += step
    else:
        above_left = no_pixel
        while index < length:
            over = load_bytes(above, above_start + index, no_pixel)
            left = plus(load_bytes(source, start + index, no_pixel), paeth(left, over, above_left))
            above_left = over
            store_bytes(target, target_start + index, left)
            index += step


def unfilter(scanlines, row_count, row_bytes, pixel_bytes, previous, target, target_pitch, bad_row):
    """Undo the filters of `row_count` scanlines, each a byte that names its filter and `row_bytes` of data.

    `previous` is the row above the first one. `bad_row[0]` becomes the first row whose filter does not exist, or -1.
    """
    above, above_start = previous, 0
    write(bad_row, 0, -1)
    for row in range(row_count):
        start = row * (row_bytes + 1) + 1
        to = row * target_pitch
        filter_type = read(scanlines, start - 1)
        if filter_type >= FILTER_TYPES:
            write(bad_row, 0, row)
            return
        if filter_type == NONE:
            copy_bytes(scanlines, start, row_bytes, target, to)
        elif filter_type == UP:
            add_above(scanlines, start, row_bytes, above, above_start, target, to)
        elif pixel_bytes == 1:
            undo_row(filter_type, zeros(1), scanlines, start, row_bytes, above, above_start, target, to)
        elif pixel_bytes == 2:
            undo_row(filter_type, zeros(2), scanlines, start, row_bytes, above, above_start, target, to)
        elif pixel_bytes == 3:
            undo_row(filter_type, zeros(3), scanlines, start, row_bytes, above, above_start, target, to)
        elif pixel_bytes == 4:
            undo_row(filter_type, zeros(4), scanlines, start, row_bytes, above, above_start, target, to)
        elif pixel_bytes == 6:
            undo_row(filter_type, zeros(6), scanlines, start, row_bytes, above, above_start, target, to)
        else:
            undo_row(filter_type, zeros(8), scanlines, start, row_bytes, above, above_start, target, to)
        above, above_start = target, to


@njit(**OPTIONS)
def residual(filter_type, value, left, above, above_left):
    """Return what is left of some bytes once their prediction is taken away."""
    if filter_type == SUB:
        return minus(value, left)
    if filter_type == UP:
        return minus(value, above)
    if filter_type == AVERAGE:
        return minus(value, average(left, above))
    if filter_type == PAETH:
        return minus(value, paeth(left, above, above_left))
    return value


@njit(**OPTIONS)
def apply_filter(filter_type, source, start, length, pixel_bytes, above, above_start, target, target_start):
    """Filter one row; the first pixel has none on its left."""
    long, single = zeros(LONG), zeros(1)
    index = 0
    while index < min(pixel_bytes, length):
        value, over = load_bytes(source, start + index, single), load_bytes(above, above_start + index, single)
        store_bytes(target, target_start + index, residual(filter_type, value, single, over, single))
        index += 1
    while index + LONG <= length:
        value, over = load_bytes(source, start + index, long), load_bytes(above, above_start + index, long)
        left = load_bytes(source, start + index - pixel_bytes, long)
        above_left = load_bytes(above, above_start + index - pixel_bytes, long)
        store_bytes(target, target_start + index, residual(filter_type, value, left, over, above_left))
        index += LONG
    while index < length:
        value, over = load_bytes(source, start + index, single), load_bytes(above, above_start + index, single)
        left = load_bytes(source, start + index - pixel_bytes, single)
        above_left = load_bytes(above, above_start + index - pixel_bytes, single)
        store_bytes(target, target_start + index, residual(filter_type, value, left, over, above_left))
        index += 1


@njit(**OPTIONS)
def residual_sizes(like, source, at, pixel_bytes, above, above_at):
    """Return the sums of magnitudes that the five filters leave of as many bytes as `like` has."""
    value, over = load_bytes(source, at, like), load_bytes(above, above_at, like)
    left, above_left = load_bytes(source, at - pixel_bytes, like), load_bytes(above, above_at - pixel_bytes, like)
    return (
        sum_of_magnitudes(value),
        sum_of_magnitudes(residual(SUB, value, left, over, above_left)),
        sum_of_magnitudes(residual(UP, value, left, over, above_left)),
        sum_of_magnitudes(residual(AVERAGE, value, left, over, above_left)),
        sum_of_magnitudes(residual(PAETH, value, left, over, above_left)),
    )


@njit(**OPTIONS)
def best_filter(source, start, length, pixel_bytes, above, above_start):
    """Return the filter whose residuals have the smallest sum of magnitudes, the usual guess at what deflates best.

    The first pixel, which has none on its left, does not take part.
    """
    long, single = zeros(LONG), zeros(1)
    none = sub = up = mean = nearest = 0
    index = pixel_bytes
    while index < length:
        if index + LONG <= length:
            sizes = residual_sizes(long, source, start + index, pixel_bytes, above, above_start + index)
            index += LONG
        else:
            sizes = residual_sizes(single, source, start + index, pixel_bytes, above, above_start + index)
            index += 1
        none += sizes[0]
        sub += sizes[1]
        up += sizes[2]
        mean += sizes[3]
        nearest += sizes[4]
    smallest = min(min(min(none, sub), min(up, mean)), nearest)
    if smallest == none:
        return NONE
    if smallest == sub:
        return SUB
    if smallest == up:
        return UP
    if smallest == mean:
        return AVERAGE
    return PAETH


def filter_rows(source, source_pitch, row_count, row_bytes, pixel_bytes, previous, filter_type, scanlines):
    """Filter rows into scanlines, by the filter of the given type or, where that is negative, the best one per row.

    `previous` is the row above the first one.
    """
    above, above_start = previous, 0
    for row in range(row_count):
        start = row * source_pitch
        to = row * (row_bytes + 1) + 1
        chosen = filter_type
        if filter_type < 0:
            chosen = best_filter(source, start, row_bytes, pixel_bytes, above, above_start)
        write(scanlines, to - 1, types.uint8(chosen))
        if chosen == NONE:
            copy_bytes(source, start, row_bytes, scanlines, to)
        elif chosen == SUB:
            apply_filter(SUB, source, start, row_bytes, pixel_bytes, above, above_start, scanlines, to)
        elif chosen == UP:
            apply_filter(UP, source, start, row_bytes, pixel_bytes, above, above_start, scanlines, to)
        elif chosen == AVERAGE:
            apply_filter(AVERAGE, source, start, row_bytes, pixel_bytes, above, above_start, scanlines, to)
        else:
            apply_filter(PAETH, source, start, row_bytes, pixel_bytes, above, above_start, scanlines, to)
        above, above_start = source, start


def entry_points(pixel: Any, sums: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return each entry point with the Numba types of its arguments; there are only bytes, whatever is asked for."""
    pixels, row_number, size = types.CPointer(types.uint8), types.CPointer(types.int64), types.int64
    return {
        "unfilter": (unfilter, (pixels, size, size, size, pixels, pixels, size, row_number)),
        "filter_rows": (filter_rows, (pixels, size, size, size, size, pixels, size, pixels)),
    }
