"""What kernels for GPUs are written in: loads that convert, stores that round, and four samples at a time.

Kernels see memory as typed pointers (`numba.types.CPointer`) and offsets in elements. An offset may be of any integer
type, since Numba makes 64 bits of most sums and products; it is never negative, and only its lower 32 bits count.

A `Vector` is four samples that lie side by side in memory, whatever their type: four float32 are one access of 16
bytes, the widest there is, and a warp then reads and writes whole lines of the cache. Vectors are loaded from, and
stored to, offsets that are multiples of four; rows begin at such offsets.

All are intrinsics, which LLVM sees as a few instructions each. Kernels share longer pieces as functions that are marked
by `cuda.jit` with the options `INLINED`. (Functions that are not inlined would be compiled for the device that the
driver names, and there may be none.)

Functions that compute take samples as well as vectors, and a sample where all four of a vector are to be the same.
Those that need to know the type of the sums take anything that tells it: a sample, a vector, or a pointer to samples.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic

from blurfast.cuda.simt_values import (
    INDEX,
    LANES,
    Vector,
    address_of,
    as_index,
    bool8,
    byte_size,
    call,
    element_of,
    float16,
    joined,
    lane_by_lane,
    llvm_type,
    narrow,
    split,
    suffix_of,
    sum_type,
    widen,
)

_SHARED = 3  # the number of the address space
_SHARED_ALIGNMENT = 16


# ------------------------------------------------------------------------------------------------------ memory


@intrinsic
def read(typing_context, pointer, index):
    """Return one element as it is stored."""

    def generate(context, builder, signature, arguments):
        return builder.load(address_of(builder, *arguments))

    return pointer.dtype(pointer, index), generate


@intrinsic
def write(typing_context, pointer, index, value):
    """Store one element as it is."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], address_of(builder, *arguments[:2]))
        return context.get_dummy_value()

    return types.void(pointer, index, pointer.dtype), generate


@intrinsic
def read_pixel(typing_context, pixels, index, sums):
    """Return one pixel converted to the type of the sums."""
    pixel, element = pixels.dtype, sum_type(sums)

    def generate(context, builder, signature, arguments):
        return widen(builder, pixel, builder.load(address_of(builder, *arguments[:2])), element)

    return element(pixels, index, sums), generate


@intrinsic
def write_pixel(typing_context, pixels, index, value):
    """Store one sample as a pixel, rounded and saturated."""
    pixel = pixels.dtype

    def generate(context, builder, signature, arguments):
        builder.store(narrow(builder, pixel, arguments[2], value), address_of(builder, *arguments[:2]))
        return context.get_dummy_value()

    return types.void(pixels, index, value), generate


@intrinsic
def load_pixels(typing_context, pixels, index, sums):
    """Load four pixels, converted to the type of the sums; `index` is a multiple of four."""
    pixel, element = pixels.dtype, sum_type(sums)

    def generate(context, builder, signature, arguments):
        return _load_vector(builder, pixel, address_of(builder, *arguments[:2]), element)

    return Vector(element)(pixels, index, sums), generate


@intrinsic
def load_some(typing_context, pixels, index, count, sums):
    """Load the first `count` pixels of four, at least one, with zeros for those that are missing."""
    pixel, element = pixels.dtype, sum_type(sums)

    def generate(context, builder, signature, arguments):
        address = address_of(builder, *arguments[:2])
        return _load_some(builder, pixel, address, arguments[2], element)

    return Vector(element)(pixels, index, count, sums), generate


@intrinsic
def place(typing_context, position_map, position):
    """Return where a padded position lies in the source, -1 for outside; a map at address 0 leaves all in place."""

    def generate(context, builder, signature, arguments):
        return _place(builder, *arguments)

    return types.int32(position_map, position), generate


@intrinsic
def store_pixels(typing_context, pixels, index, vector):
    """Store a vector as four pixels, rounded and saturated; `index` is a multiple of four."""
    pixel = pixels.dtype

    def generate(context, builder, signature, arguments):
        address = address_of(builder, *arguments[:2])
        samples = [narrow(builder, pixel, sample, vector.element) for sample in split(builder, vector, arguments[2])]
        _store_four(builder, address, samples, pixel)
        return context.get_dummy_value()

    return types.void(pixels, index, vector), generate


@intrinsic
def store_some(typing_context, pixels, index, count, vector):
    """Store the first `count` samples of a vector, at least one, as pixels."""
    pixel = pixels.dtype

    def generate(context, builder, signature, arguments):
        address = address_of(builder, *arguments[:2])
        samples = [narrow(builder, pixel, sample, vector.element) for sample in split(builder, vector, arguments[3])]
        with builder.if_else(_has_more_than(builder, arguments[2], LANES - 1)) as (whole, part):
            with whole:
                _store_four(builder, address, samples, pixel)
            with part:
                builder.store(samples[0], address)
                for lane in range(1, LANES - 1):
                    with builder.if_then(_has_more_than(builder, arguments[2], lane)):
                        builder.store(samples[lane], builder.gep(address, [INDEX(lane)]))
        return context.get_dummy_value()

    return types.void(pixels, index, count, vector), generate


def _load_vector(builder: Any, pixel: Any, address: Any, element: Any) -> Any:
    stored = load_four(builder, address, pixel)
    return joined(builder, [widen(builder, pixel, sample, element) for sample in stored])


def _load_some(builder: Any, pixel: Any, address: Any, count: Any, element: Any) -> Any:
    kind = llvm_type(element)
    nothing = joined(builder, [ir.Constant(kind, 0.0)] * LANES)
    result = cgutils.alloca_once_value(builder, nothing)
    with builder.if_else(_has_more_than(builder, count, LANES - 1)) as (whole, part):
        with whole:
            builder.store(_load_vector(builder, pixel, address, element), result)
        with part:
            for lane in range(LANES - 1):
                with builder.if_then(_has_more_than(builder, count, lane)):
                    value = builder.load(builder.gep(address, [INDEX(lane)]))
                    sample = widen(builder, pixel, value, element)
                    builder.store(builder.insert_element(builder.load(result), sample, INDEX(lane)), result)
    return builder.load(result)


def _has_more_than(builder: Any, count: Any, lanes: int) -> Any:
    return builder.icmp_unsigned(">", count, ir.Constant(count.type, lanes))


def _place(builder: Any, position_map: Any, position: Any) -> Any:
    """Look a position up in a map."""
    result = cgutils.alloca_once_value(builder, as_index(builder, position))
    with builder.if_then(builder.icmp_unsigned("!=", position_map, ir.Constant(position_map.type, None))):
        builder.store(builder.load(address_of(builder, position_map, position)), result)
    return builder.load(result)


def load_four(builder: Any, address: Any, pixel: Any) -> list[Any]:
    """Return four pixels as they are stored."""
    stored = address.type.pointee
    kind = ir.VectorType(stored, LANES)
    if pixel != float16:
        value = builder.load(builder.bitcast(address, kind.as_pointer()), align=_alignment(pixel))
        return [builder.extract_element(value, INDEX(lane)) for lane in range(LANES)]
    # LLVM makes two accesses of four 16-bit floats.
    whole = ir.IntType(LANES * stored.width)
    value = builder.load(builder.bitcast(address, whole.as_pointer()), align=_alignment(pixel))
    return [builder.trunc(builder.lshr(value, whole(lane * stored.width)), stored) for lane in range(LANES)]


def _store_four(builder: Any, address: Any, pixels: list[Any], pixel: Any) -> None:
    """Store four pixels that have been rounded."""
    value = joined(builder, pixels)
    builder.store(value, builder.bitcast(address, value.type.as_pointer()), align=_alignment(pixel))


def _alignment(pixel: Any) -> int:
    """Return what addresses of four pixels are multiples of; accesses are of 16 bytes at most."""
    return min(LANES * byte_size(pixel), 16)


@intrinsic
def shared_memory(typing_context, sums):
    """Return the memory that the threads of a block share, as elements of the type that `sums` points to.

    The launch says how much it is. All calls in one kernel return the same memory.
    """

    def generate(context, builder, signature, arguments):
        name = "blurfast_shared"
        memory = builder.module.globals.get(name)
        if memory is None:
            memory = ir.GlobalVariable(builder.module, ir.ArrayType(ir.IntType(8), 0), name, _SHARED)
            memory.linkage = "external"
            memory.align = _SHARED_ALIGNMENT
        return builder.addrspacecast(memory, arguments[0].type, "generic")

    return sums(sums), generate


# -------------------------------------------------------------------------------------------------- arithmetic


def fused_multiply_add(builder: Any, left: Any, right: Any, addend: Any) -> Any:
    """Return ``left * right + addend``, rounded once; the operands are samples."""
    suffix = "f32" if left.type == ir.FloatType() else "f64"
    return call(builder, f"llvm.fma.{suffix}", left.type, left, right, addend)


def _nearest(builder: Any, sample: Any) -> Any:
    """Return the integer nearest to a sample, halves going to the even one."""
    return call(builder, f"llvm.nvvm.round.{suffix_of(sample.type)}", sample.type, sample)


@intrinsic
def zero(typing_context, sums):
    """Return a sample that is zero."""
    element = sum_type(sums)

    def generate(context, builder, signature, arguments):
        return ir.Constant(llvm_type(element), 0.0)

    return element(sums), generate


@intrinsic
def vector_of(typing_context, first, second, third, fourth):
    """Return a vector of four samples."""

    def generate(context, builder, signature, arguments):
        return joined(builder, list(arguments))

    return Vector(first)(first, first, first, first), generate


@intrinsic
def samples_of(typing_context, vector):
    """Return the four samples of a vector as a tuple."""

    def generate(context, builder, signature, arguments):
        samples = split(builder, vector, arguments[0])
        return context.make_tuple(builder, signature.return_type, samples)

    return types.UniTuple(vector.element, LANES)(vector), generate


@intrinsic
def add(typing_context, left, right):
    """Return ``left + right``."""

    def generate(context, builder, signature, arguments):
        return lane_by_lane(builder, (left, right), arguments, builder.fadd)

    return _widest(left, right)(left, right), generate


@intrinsic
def subtract(typing_context, left, right):
    """Return ``left - right``."""

    def generate(context, builder, signature, arguments):
        return lane_by_lane(builder, (left, right), arguments, builder.fsub)

    return _widest(left, right)(left, right), generate


@intrinsic
def multiply_add(typing_context, left, right, addend):
    """Return ``left * right + addend``, rounded once."""

    def generate(context, builder, signature, arguments):
        function = functools.partial(fused_multiply_add, builder)
        return lane_by_lane(builder, (left, right, addend), arguments, function)

    return _widest(left, right, addend)(left, right, addend), generate


@intrinsic
def moderate_or_zero(typing_context, value):
    """Return `value`, or zero where it is NaN, infinite, or so large that differences may overflow."""
    largest = 2.0**126 if element_of(value) == types.float32 else 2.0**1022

    def generate(context, builder, signature, arguments):
        def checked(sample: Any) -> Any:
            magnitude = call(builder, f"llvm.nvvm.fabs.{suffix_of(sample.type)}", sample.type, sample)
            moderate = builder.fcmp_ordered("<", magnitude, ir.Constant(sample.type, largest))
            return builder.select(moderate, sample, ir.Constant(sample.type, 0.0))

        return lane_by_lane(builder, (value,), arguments, checked)

    return value(value), generate


@intrinsic
def put_back(typing_context, reference, total, gain, pixels):
    """Return ``gain * reference + total`` as it is to be stored in `pixels`.

    A float32 near 40000 has a resolution of 1/256, too coarse to round a 16-bit pixel right. So where the pixels are
    integers, the sum is rounded while it is still relative to an even integer, which leaves all its digits to the
    fraction.
    """
    is_integer = pixels.dtype == bool8 or isinstance(pixels.dtype, types.Integer)

    def generate(context, builder, signature, arguments):
        def rounded(reference: Any, total: Any, gain: Any) -> Any:
            value = builder.fmul(gain, reference)
            half = builder.fmul(value, ir.Constant(value.type, 0.5))
            base = builder.fmul(_nearest(builder, half), ir.Constant(value.type, 2.0))
            return builder.fadd(base, _nearest(builder, builder.fadd(builder.fsub(value, base), total)))

        def exact(reference: Any, total: Any, gain: Any) -> Any:
            return fused_multiply_add(builder, gain, reference, total)

        kinds = reference, total, gain
        return lane_by_lane(builder, kinds, arguments[:3], rounded if is_integer else exact)

    return _widest(reference, total)(reference, total, gain, pixels), generate


def _widest(*kinds: Any) -> Any:
    """Return the type of a result: a vector if one of the operands is."""
    return next((kind for kind in kinds if isinstance(kind, Vector)), kinds[0])


# ----------------------------------------------------------------------------------------------------- windows


@intrinsic
def moved_on(typing_context, window, value):
    """Return a tuple without its first value, and with a new one at its end; or with a tuple of new ones."""
    added = value.count if isinstance(value, types.UniTuple) else 1

    def generate(context, builder, signature, arguments):
        values = values_of(builder, window, arguments[0])[added:]
        values += values_of(builder, value, arguments[1]) if value != window.dtype else [arguments[1]]
        return context.make_tuple(builder, window, values)

    return window(window, value), generate


@intrinsic
def accumulate(typing_context, totals, taps, first_tap, window, values, references):
    """Add the shares of one tap or four to sums of differences, while a window moves on to each of so many values.

    Parameters
    ----------
    totals, references
        The sums, and what each is relative to.
    taps, first_tap
        There is one tap for each value. The first of four is a multiple of four.
    window
        All but the last value of each sum's next tap: one less than there are sums.
    values
        What comes behind the window.
    """
    element = taps.dtype
    kinds = element, totals.dtype, totals.dtype, totals.dtype

    def generate(context, builder, signature, arguments):
        def share(tap: Any, value: Any, reference: Any, total: Any) -> Any:
            return fused_multiply_add(builder, tap, builder.fsub(value, reference), total)

        totals_so_far, taps, first_tap, seen, new, centres = arguments
        sums = values_of(builder, totals, totals_so_far)
        line = values_of(builder, window, seen) + values_of(builder, values, new)
        centres = values_of(builder, references, centres)
        address = address_of(builder, taps, first_tap)
        weights = load_four(builder, address, element) if values.count == LANES else [builder.load(address)]
        for number, weight in enumerate(weights):
            sums = [
                lane_by_lane(builder, kinds, (weight, value, centre, total), share)
                for value, centre, total in zip(line[number:], centres, sums, strict=False)
            ]
        return context.make_tuple(builder, totals, sums)

    return totals(totals, taps, first_tap, window, values, references), generate


def values_of(builder: Any, kind: Any, value: Any) -> list[Any]:
    """Return the values of a tuple."""
    return [builder.extract_value(value, position) for position in range(kind.count)]


# ------------------------------------------------------------------------------------------ conditions and counters


@intrinsic
def is_null(typing_context, pointer):
    """Return whether a pointer is zero."""

    def generate(context, builder, signature, arguments):
        return builder.icmp_unsigned("==", arguments[0], ir.Constant(arguments[0].type, None))

    return types.boolean(pointer), generate


@intrinsic
def is_moderate(typing_context, value, most):
    """Return whether the magnitude of a sample is below `most`; a NaN's is not."""

    def generate(context, builder, signature, arguments):
        magnitude = call(builder, f"llvm.nvvm.fabs.{suffix_of(arguments[0].type)}", arguments[0].type, arguments[0])
        return builder.fcmp_ordered("<", magnitude, arguments[1])

    return types.boolean(value, value), generate


@intrinsic
def increment(typing_context, counter):
    """Add one to the integer that `counter` points to; any number of threads may do so at the same time."""

    def generate(context, builder, signature, arguments):
        builder.atomic_rmw("add", arguments[0], ir.Constant(arguments[0].type.pointee, 1), "monotonic")
        return context.get_dummy_value()

    return types.void(counter), generate


# ------------------------------------------------------------------------------------------------ complex numbers


@intrinsic
def load_complex(typing_context, sums, index):
    """Load the complex number that is number `index`; return its real and its imaginary part."""
    element = sums.dtype

    def generate(context, builder, signature, arguments):
        pair = builder.load(_complex_address(builder, *arguments), align=2 * byte_size(element))
        parts = [builder.extract_element(pair, INDEX(part)) for part in range(2)]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(element, 2)(sums, index), generate


@intrinsic
def store_complex(typing_context, sums, index, real, imaginary):
    """Store a complex number as number `index`."""
    element = sums.dtype

    def generate(context, builder, signature, arguments):
        pair = joined(builder, list(arguments[2:]))
        builder.store(pair, _complex_address(builder, *arguments[:2]), align=2 * byte_size(element))
        return context.get_dummy_value()

    return types.void(sums, index, element, element), generate


def _complex_address(builder: Any, pointer: Any, index: Any) -> Any:
    pair = ir.VectorType(pointer.type.pointee, 2)
    return address_of(builder, builder.bitcast(pointer, pair.as_pointer()), index)
