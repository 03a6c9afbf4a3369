"""Kernels that turn filtered samples into those of another type, and count what is lost by that.

The entry point is `convert`. It allocates nothing, raises nothing (so the loop with a variable step is written with
`while`) and holds no lock. Positions and pitches are in samples. LLVM widens the loops for itself, since nothing in
them depends on the sample before.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.extending import intrinsic

from blurfast.cpu.separable_kernels import OPTIONS
from blurfast.cpu.simd import read, write, write_pixel

__all__ = ["OPTIONS", "convert_to_floats", "convert_to_integers", "entry_points"]


@intrinsic
def nearest_integer(typing_context, value):
    """Return the integer nearest to a number, halves going to the even one."""
    suffix = "f32" if value == types.float32 else "f64"

    def generate(context, builder, signature, arguments):
        kind = arguments[0].type
        function_type = ir.FunctionType(kind, [kind])
        function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.rint.{suffix}")
        return builder.call(function, arguments)

    return value(value), generate


@njit(**OPTIONS)
def to_integer(value, smallest, largest, none, target, index):
    """Store a number as an integer, rounded and saturated, NaN as `none`; return whether it was outside, and NaN."""
    nearest = nearest_integer(value)
    is_nan = value != value  # noqa: PLR0124
    write_pixel(target, index, none if is_nan else value)
    return (nearest < smallest) | (nearest > largest), is_nan


@njit(**OPTIONS)
def to_float(value, smallest, largest, none, target, index):
    """Store a number as a narrower float; return whether it has become infinite by that, and False: NaN stays."""
    write_pixel(target, index, value)
    is_finite = value - value == none
    return is_finite & ((value < smallest) | (value > largest)), False


def _converter(store):
    """Return the kernel whose samples `store` stores."""

    def convert(source, source_pitch, target, target_pitch, row_count, sample_count, step, mapping, counts):
        """Convert every `step`-th of `sample_count` samples of each row.

        `mapping` holds an origin, a factor, and a base: ``(sample - origin) * factor + base`` is stored. The smallest
        and the largest number that can be stored follow. To `counts` are added how many samples lay outside of these,
        and how many were NaN.
        """
        origin, factor, base = read(mapping, 0), read(mapping, 1), read(mapping, 2)
        smallest, largest, none = read(mapping, 3), read(mapping, 4), factor - factor
        outside, undefined = 0, 0
        for row in range(row_count):
            start, to = row * source_pitch, row * target_pitch
            if step == 1:
                for index in range(sample_count):
                    value = (read(source, start + index) - origin) * factor + base
                    is_outside, is_nan = store(value, smallest, largest, none, target, to + index)
                    outside += is_outside
                    undefined += is_nan
            else:
                index = 0
                while index < sample_count:
                    value = (read(source, start + index) - origin) * factor + base
                    is_outside, is_nan = store(value, smallest, largest, none, target, to + index)
                    outside += is_outside
                    undefined += is_nan
                    index += step
        write(counts, 0, read(counts, 0) + outside)
        write(counts, 1, read(counts, 1) + undefined)

    return convert


convert_to_integers, convert_to_floats = _converter(to_integer), _converter(to_float)


def entry_points(pixel: Any, sums: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return the entry point with the Numba types of its arguments, for one type of result and of filtered samples."""
    is_integer = isinstance(pixel, types.Integer)
    lines, size = types.CPointer(sums), types.int64
    return {
        "convert": (
            convert_to_integers if is_integer else convert_to_floats,
            (lines, size, types.CPointer(pixel), size, size, size, size, lines, types.CPointer(types.int64)),
        )
    }
