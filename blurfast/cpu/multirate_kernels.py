"""The one kernel that the multirate filter has beside those of the separable filter."""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from numba import njit, types

from blurfast.cpu.separable_kernels import OPTIONS, REGISTERS_PER_LINE, filter_pair, following
from blurfast.cpu.simd import lanes_of, load, read, store_pixels, write_pixel


@njit(**OPTIONS)
def store_row(sums, start, length, pixels, pixel_start):
    """Round a run of sums to pixels."""
    lanes = lanes_of(sums)
    index = 0
    while index + lanes <= length:
        store_pixels(pixels, pixel_start + index, load(sums, start + index))
        index += lanes
    while index < length:
        write_pixel(pixels, pixel_start + index, read(sums, start + index))
        index += 1


def interpolate(
    lines, line_pitch, element_count,
    taps, tap_count, up, down, phase, reference, gains, rounded,
    filtered, target, target_pitch, row_count,
):  # fmt: skip
    """Filter lines that are rows of sums already, and write the results as rows of pixels.

    A vertical pass that comes last. `lines` may be read up to a multiple of four registers beyond `element_count`.
    """
    lanes = lanes_of(lines)
    group = REGISTERS_PER_LINE * lanes
    column = 0
    while column < element_count:
        width = min(group, element_count - column)
        line, line_phase = 0, phase
        for row in range(0, row_count, 2):
            filter_pair(
                lines, column, line_pitch, group, line, line_phase,
                taps, tap_count, up, down, reference, gains, rounded,
                filtered, 0, group,
            )  # fmt: skip
            store_row(filtered, 0, width, target, row * target_pitch + column)
            if row + 1 < row_count:
                store_row(filtered, group, width, target, (row + 1) * target_pitch + column)
            line, line_phase = following(*following(line, line_phase, up, down), up, down)
        column += group


def entry_points(pixel: Any, sums: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return each entry point with the Numba types of its arguments, for one type of pixel and of sums."""
    pixels, lines, size = types.CPointer(pixel), types.CPointer(sums), types.int64
    fir = (lines, size, size, size, size, size, lines, size)
    return {"interpolate": (interpolate, (lines, size, size, *fir, lines, pixels, size, size))}
