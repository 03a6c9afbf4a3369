"""The types of what kernels for GPUs compute with, and how LLVM is told of them.

`simt` is made of these, and nothing else in kernels needs them.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.cuda import cgutils, types
from numba.cuda.datamodel.models import PrimitiveModel
from numba.cuda.extending import register_model

LANES = 4
"""Samples of a vector."""

INLINED = {"device": True, "inline": "always"}
"""The options of functions that kernels call."""

INDEX = ir.IntType(32)


class Vector(types.Type):
    """The Numba type of four samples of `float32` or `float64`."""

    def __init__(self, element: types.Float) -> None:
        self.element = element
        super().__init__(name=f"Vector({element}x{LANES})")


class Storage(types.Type):
    """A pixel that exists in memory only: read as a wider number, written by rounding."""


float16 = Storage("float16")
bool8 = Storage("bool8")

_STORAGE = {float16: ir.IntType(16), bool8: ir.IntType(8)}


@register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Vector) -> None:
        super().__init__(manager, numba_type, llvm_type(numba_type))


@register_model(Storage)
class _StorageModel(PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Storage) -> None:
        super().__init__(manager, numba_type, _STORAGE[numba_type])


def element_of(kind: Any) -> Any:
    """Return the type of one sample of a sample or a vector."""
    return kind.element if isinstance(kind, Vector) else kind


def sum_type(sums: Any) -> Any:
    """Return the type of one sample, of whatever tells it."""
    return sums.dtype if isinstance(sums, types.CPointer) else element_of(sums)


def llvm_type(kind: Any) -> Any:
    """Return the type that LLVM knows a sample or a vector by."""
    scalar = ir.FloatType() if element_of(kind) == types.float32 else ir.DoubleType()
    return ir.VectorType(scalar, LANES) if isinstance(kind, Vector) else scalar


def split(builder: Any, kind: Any, value: Any) -> list[Any]:
    """Return the samples of a vector, or a sample four times."""
    if not isinstance(kind, Vector):
        return [value] * LANES
    return [builder.extract_element(value, INDEX(lane)) for lane in range(LANES)]


def joined(builder: Any, samples: list[Any]) -> Any:
    """Return samples as a vector."""
    value = ir.Constant(ir.VectorType(samples[0].type, len(samples)), ir.Undefined)
    for lane, sample in enumerate(samples):
        value = builder.insert_element(value, sample, INDEX(lane))
    return value


def lane_by_lane(builder: Any, kinds: Any, values: Any, function: Any) -> Any:
    """Apply a function of samples to vectors, or to samples where there is no vector among the values."""
    if not any(isinstance(kind, Vector) for kind in kinds):
        return function(*values)
    columns = [split(builder, kind, value) for kind, value in zip(kinds, values, strict=True)]
    return joined(builder, [function(*samples) for samples in zip(*columns, strict=True)])


def call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Call an intrinsic function of LLVM."""
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


def suffix_of(kind: Any) -> str:
    """Return how NVIDIA's intrinsic functions call a type of LLVM's."""
    return "f" if kind == ir.FloatType() else "d"


def as_index(builder: Any, integer: Any) -> Any:
    """Return the lower 32 bits of an integer."""
    return builder.trunc(integer, INDEX) if integer.type.width > INDEX.width else integer


def address_of(builder: Any, pointer: Any, index: Any) -> Any:
    """Return the address of an element."""
    return builder.gep(pointer, [builder.zext(as_index(builder, index), ir.IntType(64))])


def byte_size(pixel: Any) -> int:
    """Return the size of a pixel in memory."""
    if pixel == float16:
        return 2
    return 1 if pixel == bool8 else int(pixel.bitwidth) // 8


def widen(builder: Any, pixel: Any, value: Any, element: Any) -> Any:
    """Convert a pixel to a sample of the sums."""
    target = llvm_type(element)
    if pixel == float16:
        return builder.fpext(builder.bitcast(value, ir.HalfType()), target)
    if isinstance(pixel, types.Float):
        return value if value.type == target else builder.fpext(value, target)
    return (builder.sitofp if pixel != bool8 and pixel.signed else builder.uitofp)(value, target)


def _integer_range(pixel: Any, element: Any) -> tuple[float, float]:
    """Return the smallest and largest `pixel` that `element` represents exactly."""
    if pixel == bool8:
        return 0.0, 1.0
    low, high = float(pixel.minval), float(pixel.maxval)
    mantissa_bits = 24 if element == types.float32 else 53
    magnitude_bits = pixel.bitwidth - pixel.signed
    if magnitude_bits > mantissa_bits:  # float(maxval) has rounded up, out of the integer's range
        high = float(2**magnitude_bits - 2 ** (magnitude_bits - mantissa_bits))
    return low, high


def narrow(builder: Any, pixel: Any, value: Any, element: Any) -> Any:
    """Convert a sample to a pixel: integers are rounded half to even and saturated, a NaN becomes the maximum."""
    if pixel == element:
        return value
    if isinstance(pixel, types.Float):
        return (builder.fptrunc if pixel == types.float32 else builder.fpext)(value, llvm_type(pixel))
    if pixel == float16:
        # By way of float32, as on the CPU.
        single = value if element == types.float32 else builder.fptrunc(value, ir.FloatType())
        return builder.bitcast(builder.fptrunc(single, ir.HalfType()), _STORAGE[float16])
    kind, suffix = value.type, suffix_of(value.type)
    low, high = (ir.Constant(kind, limit) for limit in _integer_range(pixel, element))
    # Minimum and maximum leave out a NaN.
    value = call(builder, f"llvm.nvvm.fmin.{suffix}", kind, value, high)
    value = call(builder, f"llvm.nvvm.fmax.{suffix}", kind, value, low)
    bits = 8 if pixel == bool8 else pixel.bitwidth
    is_wide = bits == 64 or pixel == types.uint32
    wide = ir.IntType(64 if is_wide else 32)
    rounded = call(builder, f"llvm.nvvm.{suffix}2{'ll' if is_wide else 'i'}.rn", wide, value)
    return rounded if bits == wide.width else builder.trunc(rounded, ir.IntType(bits))
