"""A SIMD vector type for Numba, and the handful of instructions that the kernels are written in.

Numba's own vectoriser has to prove that a loop may be widened and often cannot; a value of the type `Vector`
is a hardware register from the start, so a kernel that keeps eight sums in eight variables keeps them in eight
registers. The type sits on LLVM's portable vectors: one source compiles to AVX, SSE or NEON.

Kernels see memory as typed pointers (`numba.types.CPointer`) and offsets in elements. Pointers carry no
reference count and no bounds, so a compiled kernel needs nothing of Numba's runtime and can be kept as a bare
object file.

Registers are 512 bits wide where the machine has AVX-512 and 256 bits elsewhere (`machine.vector_bits`); LLVM
splits them where the hardware is narrower still.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.extending import intrinsic, register_model

from blurfast.cpu import machine

VECTOR_BITS = machine.vector_bits()
CACHE_LINE_BYTES = 64

_INDEX = ir.IntType(32)


class Vector(types.Type):
    """The Numba type of one register of `float32` or `float64` lanes."""

    def __init__(self, element: types.Float) -> None:
        self.element = element
        self.lanes = VECTOR_BITS // element.bitwidth
        super().__init__(name=f"Vector({element}x{self.lanes})")


class Storage(types.Type):
    """A pixel that exists in memory only: read as a wider number, written by rounding."""


float16 = Storage("float16")
bool8 = Storage("bool8")

_STORAGE = {float16: ir.HalfType(), bool8: ir.IntType(8)}


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Vector) -> None:
        super().__init__(manager, numba_type, _llvm_vector(numba_type.element))


@register_model(Storage)
class _StorageModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Storage) -> None:
        super().__init__(manager, numba_type, _STORAGE[numba_type])


def _llvm_scalar(element: Any) -> Any:
    return ir.FloatType() if element == types.float32 else ir.DoubleType()


def _llvm_vector(element: Any) -> Any:
    return ir.VectorType(_llvm_scalar(element), VECTOR_BITS // element.bitwidth)


def _integer_range(pixel: Any, sum_element: Any) -> tuple[float, float]:
    """Return the smallest and largest `pixel` that `sum_element` represents exactly."""
    if pixel == bool8:
        return 0.0, 1.0
    low, high = float(pixel.minval), float(pixel.maxval)
    mantissa_bits = 24 if sum_element == types.float32 else 53
    magnitude_bits = pixel.bitwidth - pixel.signed
    if magnitude_bits > mantissa_bits:  # float(maxval) has rounded up, out of the integer's range
        high = float(2**magnitude_bits - 2 ** (magnitude_bits - mantissa_bits))
    return low, high


def _widen(builder: Any, pixel: Any, value: Any, target: Any, lanes: int | None) -> Any:
    """Convert a loaded pixel, or a vector of them, to the LLVM floating-point type `target`."""

    def shaped(scalar: Any) -> Any:
        return ir.VectorType(scalar, lanes) if lanes else scalar

    if isinstance(pixel, types.Float) or pixel == float16:
        return value if value.type == target else builder.fpext(value, target)
    signed = pixel != bool8 and pixel.signed
    if value.type == shaped(ir.IntType(64)):
        return builder.sitofp(value, target)
    # Widened to a signed 32-bit (or 64-bit) integer first: every instruction set converts that one.
    bits = 64 if pixel == types.uint32 else 32
    if value.type != shaped(ir.IntType(bits)):
        value = (builder.sext if signed else builder.zext)(value, shaped(ir.IntType(bits)))
    return builder.sitofp(value, target)


def _narrow(builder: Any, pixel: Any, value: Any, sum_element: Any, lanes: int | None) -> Any:
    """Convert sums to pixels: integers are rounded half to even and saturated, a NaN becomes the maximum."""

    def shaped(scalar: Any) -> Any:
        return ir.VectorType(scalar, lanes) if lanes else scalar

    def constant(number: float) -> Any:
        return ir.Constant(value.type, [number] * lanes if lanes else number)

    if isinstance(pixel, types.Float):
        if pixel == sum_element:
            return value
        return (builder.fptrunc if pixel == types.float32 else builder.fpext)(value, shaped(_llvm_scalar(pixel)))
    if pixel == float16:
        # By way of float32: from float64, LLVM would call a function that no library of the process has.
        single = shaped(ir.FloatType())
        narrowed = value if value.type == single else builder.fptrunc(value, single)
        return builder.fptrunc(narrowed, shaped(ir.HalfType()))
    low, high = _integer_range(pixel, sum_element)
    # In this order, since both comparisons are false for a NaN.
    value = builder.select(builder.fcmp_ordered("<", value, constant(high)), value, constant(high))
    value = builder.select(builder.fcmp_ordered(">", value, constant(low)), value, constant(low))
    value = _call_llvm(builder, "rint", [value])
    bits = 8 if pixel == bool8 else pixel.bitwidth
    wide = 64 if bits == 64 or pixel == types.uint32 else 32
    value = builder.fptosi(value, shaped(ir.IntType(wide)))
    return value if bits == wide else builder.trunc(value, shaped(ir.IntType(bits)))


def _call_llvm(builder: Any, name: str, arguments: list[Any]) -> Any:
    """Call the LLVM intrinsic `name`, whose arguments and result are all of one type."""
    kind = arguments[0].type
    scalar = "f32" if _element_of(kind) == ir.FloatType() else "f64"
    suffix = f"v{kind.count}{scalar}" if isinstance(kind, ir.VectorType) else scalar
    function_type = ir.FunctionType(kind, [kind] * len(arguments))
    function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.{name}.{suffix}")
    return builder.call(function, arguments)


def _element_of(kind: Any) -> Any:
    return kind.element if isinstance(kind, ir.VectorType) else kind


def _load_vector(builder: Any, pointer: Any, pixel: Any, index: Any, element: Any) -> Any:
    lanes = VECTOR_BITS // element.bitwidth
    address = builder.gep(pointer, [index])
    stored = ir.VectorType(address.type.pointee, lanes)
    value = builder.load(builder.bitcast(address, stored.as_pointer()), align=_byte_size(pixel))
    return _widen(builder, pixel, value, _llvm_vector(element), lanes)


def _store_vector(builder: Any, pointer: Any, pixel: Any, index: Any, value: Any, element: Any) -> None:
    lanes = VECTOR_BITS // element.bitwidth
    value = _narrow(builder, pixel, value, element, lanes)
    address = builder.gep(pointer, [index])
    builder.store(value, builder.bitcast(address, value.type.as_pointer()), align=_byte_size(pixel))


def _byte_size(pixel: Any) -> int:
    if pixel == float16:
        return 2
    return 1 if pixel == bool8 else int(pixel.bitwidth) // 8


def _splat(builder: Any, scalar: Any, vector_type: Any) -> Any:
    undefined = ir.Constant(vector_type, ir.Undefined)
    single = builder.insert_element(undefined, scalar, ir.Constant(_INDEX, 0))
    mask = ir.Constant(ir.VectorType(_INDEX, vector_type.count), [0] * vector_type.count)
    return builder.shuffle_vector(single, undefined, mask)


@intrinsic
def lanes_of(typing_context, sums):
    """Return the lanes of one register of the element that `sums` points to, as a compile-time constant."""
    lanes = VECTOR_BITS // sums.dtype.bitwidth

    def generate(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(64), lanes)

    return types.int64(sums), generate


@intrinsic
def read(typing_context, pointer, index):
    """Return one element as it is stored."""

    def generate(context, builder, signature, arguments):
        return builder.load(builder.gep(arguments[0], [arguments[1]]))

    return pointer.dtype(pointer, types.int64), generate


@intrinsic
def write(typing_context, pointer, index, value):
    """Store one element as it is."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], builder.gep(arguments[0], [arguments[1]]))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, pointer.dtype), generate


@intrinsic
def write_zero(typing_context, sums, index):
    """Store a zero."""

    def generate(context, builder, signature, arguments):
        builder.store(ir.Constant(_llvm_scalar(sums.dtype), 0.0), builder.gep(arguments[0], [arguments[1]]))
        return context.get_dummy_value()

    return types.void(sums, types.int64), generate


@intrinsic
def read_pixel(typing_context, pixels, index, sums):
    """Return one pixel converted to the element that `sums` points to."""
    pixel, element = pixels.dtype, sums.dtype

    def generate(context, builder, signature, arguments):
        value = builder.load(builder.gep(arguments[0], [arguments[1]]))
        return _widen(builder, pixel, value, _llvm_scalar(element), None)

    return element(pixels, types.int64, sums), generate


@intrinsic
def write_pixel(typing_context, pixels, index, value):
    """Store one sum as a pixel, rounded and saturated."""
    pixel = pixels.dtype

    def generate(context, builder, signature, arguments):
        narrow = _narrow(builder, pixel, arguments[2], value, None)
        builder.store(narrow, builder.gep(arguments[0], [arguments[1]]))
        return context.get_dummy_value()

    return types.void(pixels, types.int64, value), generate


@intrinsic
def load(typing_context, sums, index):
    """Load one register from `sums` at `index`; no alignment is assumed."""
    element = sums.dtype

    def generate(context, builder, signature, arguments):
        return _load_vector(builder, arguments[0], element, arguments[1], element)

    return Vector(element)(sums, types.int64), generate


@intrinsic
def store(typing_context, sums, index, vector):
    """Store one register to `sums` at `index`."""
    element = sums.dtype

    def generate(context, builder, signature, arguments):
        _store_vector(builder, arguments[0], element, arguments[1], arguments[2], element)
        return context.get_dummy_value()

    return types.void(sums, types.int64, vector), generate


@intrinsic
def store_pixels(typing_context, pixels, index, vector):
    """Store one register as pixels, rounded and saturated."""
    pixel = pixels.dtype

    def generate(context, builder, signature, arguments):
        _store_vector(builder, arguments[0], pixel, arguments[1], arguments[2], vector.element)
        return context.get_dummy_value()

    return types.void(pixels, types.int64, vector), generate


@intrinsic
def load_pixels(typing_context, pixels, index, sums):
    """Load as many pixels as a register of `sums` has lanes, converted to its element."""
    pixel, element = pixels.dtype, sums.dtype

    def generate(context, builder, signature, arguments):
        return _load_vector(builder, arguments[0], pixel, arguments[1], element)

    return Vector(element)(pixels, types.int64, sums), generate


@intrinsic
def copy_pixels(typing_context, source, source_index, target, target_index, sums):
    """Copy as many pixels as a register of `sums` has lanes, as they are stored."""
    lanes = VECTOR_BITS // sums.dtype.bitwidth
    alignment = _byte_size(source.dtype)

    def generate(context, builder, signature, arguments):
        from_, from_index, to, to_index, _ = arguments
        kind = ir.VectorType(from_.type.pointee, lanes).as_pointer()
        value = builder.load(builder.bitcast(builder.gep(from_, [from_index]), kind), align=alignment)
        builder.store(value, builder.bitcast(builder.gep(to, [to_index]), kind), align=alignment)
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64, sums), generate


@intrinsic
def prefetch(typing_context, pixels, index):
    """Ask for the cache line of a pixel that will be read soon."""

    def generate(context, builder, signature, arguments):
        byte_pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [byte_pointer, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        address = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), byte_pointer)
        for_reading, keep_in_all_caches, data = number(0), number(3), number(1)
        builder.call(function, [address, for_reading, keep_in_all_caches, data])
        return context.get_dummy_value()

    return types.void(pixels, types.int64), generate


@intrinsic
def pixels_per_line(typing_context, pixels):
    """Return the pixels in a cache line, as a compile-time constant."""
    count = CACHE_LINE_BYTES // _byte_size(pixels.dtype)

    def generate(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(64), count)

    return types.int64(pixels), generate


@intrinsic
def broadcast(typing_context, sums, index):
    """Load one element into all lanes."""
    element = sums.dtype

    def generate(context, builder, signature, arguments):
        scalar = builder.load(builder.gep(arguments[0], [arguments[1]]))
        return _splat(builder, scalar, _llvm_vector(element))

    return Vector(element)(sums, types.int64), generate


@intrinsic
def zero(typing_context, sums):
    """Return a register of zeros of the element that `sums` points to."""
    element = sums.dtype

    def generate(context, builder, signature, arguments):
        return ir.Constant(_llvm_vector(element), None)

    return Vector(element)(sums), generate


@intrinsic
def subtract(typing_context, left, right):
    """Return `left - right`, lane by lane."""

    def generate(context, builder, signature, arguments):
        return builder.fsub(arguments[0], arguments[1])

    return left(left, right), generate


@intrinsic
def multiply_add(typing_context, left, right, addend):
    """Return `left * right + addend`, fused where the machine can.

    `llvm.fmuladd`, unlike `llvm.fma`, becomes two instructions rather than a library call where it cannot.
    """

    def generate(context, builder, signature, arguments):
        return _call_llvm(builder, "fmuladd", arguments)

    return left(left, right, addend), generate


@intrinsic
def nearest_integer(typing_context, vector):
    """Return the integer nearest to each lane, halves going to the even one."""

    def generate(context, builder, signature, arguments):
        return _call_llvm(builder, "rint", arguments)

    return vector(vector), generate


@intrinsic
def nearest_even_integer(typing_context, vector):
    """Return an even integer at most one away from each lane."""

    def generate(context, builder, signature, arguments):
        kind = arguments[0].type
        half = builder.fmul(arguments[0], ir.Constant(kind, [0.5] * kind.count))
        return builder.fmul(_call_llvm(builder, "rint", [half]), ir.Constant(kind, [2.0] * kind.count))

    return vector(vector), generate


@intrinsic
def add(typing_context, left, right):
    """Return `left + right`, lane by lane."""

    def generate(context, builder, signature, arguments):
        return builder.fadd(arguments[0], arguments[1])

    return left(left, right), generate


@intrinsic
def divide_or_zero(typing_context, left, right):
    """Return `left / right` in the lanes where `right` is above zero, and zero elsewhere."""

    def generate(context, builder, signature, arguments):
        none = ir.Constant(arguments[0].type, None)
        positive = builder.fcmp_ordered(">", arguments[1], none)
        return builder.select(positive, builder.fdiv(*arguments), none)

    return left(left, right), generate


@intrinsic
def moderate_or_zero(typing_context, vector):
    """Return `vector` with zeros in the lanes that are NaN, infinite, or so large that differences may overflow."""
    largest = 2.0**126 if vector.element == types.float32 else 2.0**1022

    def generate(context, builder, signature, arguments):
        value = arguments[0]
        limit = ir.Constant(value.type, [largest] * value.type.count)
        moderate = builder.fcmp_ordered("<", _call_llvm(builder, "fabs", [value]), limit)
        return builder.select(moderate, value, ir.Constant(value.type, None))

    return vector(vector), generate


@intrinsic
def mark_extreme(typing_context, vector, marks):
    """Return `marks`, with one added in the lanes where `vector` is NaN, infinite, or about to overflow."""
    largest = 2.0**126 if vector.element == types.float32 else 2.0**1022

    def generate(context, builder, signature, arguments):
        value, so_far = arguments
        limit = ir.Constant(value.type, [largest] * value.type.count)
        one = ir.Constant(value.type, [1.0] * value.type.count)
        moderate = builder.fcmp_ordered("<", _call_llvm(builder, "fabs", [value]), limit)
        return builder.select(moderate, so_far, builder.fadd(so_far, one))

    return vector(vector, marks), generate


def _transpose(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose a square of registers by log2(lanes) rounds of pairwise interleaving."""
    lanes = len(rows)
    low = [lane // 2 + (lane % 2) * lanes for lane in range(lanes)]
    high = [index + lanes // 2 for index in low]
    masks = [ir.Constant(ir.VectorType(_INDEX, lanes), mask) for mask in (low, high)]
    half = lanes // 2
    for _ in range(lanes.bit_length() - 1):
        rows = [builder.shuffle_vector(rows[i], rows[i + half], mask) for i in range(half) for mask in masks]
    return rows


@intrinsic
def transpose_block(typing_context, source, source_index, source_pitch, target, target_index, target_pitch, sums):
    """Copy a square block of as many rows and columns as a register has lanes, transposed.

    The pixels of `source` are converted to the element of `sums` and stored, rounded if need be, as `target`'s.
    """
    element = sums.dtype
    lanes = VECTOR_BITS // element.bitwidth

    def generate(context, builder, signature, arguments):
        from_, from_index, from_pitch, to, to_index, to_pitch, _ = arguments
        rows = []
        for _row in range(lanes):
            rows.append(_load_vector(builder, from_, source.dtype, from_index, element))
            from_index = builder.add(from_index, from_pitch)
        for column in _transpose(builder, rows):
            _store_vector(builder, to, target.dtype, to_index, column, element)
            to_index = builder.add(to_index, to_pitch)
        return context.get_dummy_value()

    integer = types.int64
    return types.void(source, integer, integer, target, integer, integer, sums), generate
