"""Kernels of the direct method: every tap of a 2-D kernel, with no assumption about them.

They read a panel (see `panel_kernels`): padded pixels as sums, channels interleaved. So the taps of a row lie
`channels` elements apart, and every lane of a register is an output of its own.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from numba import njit, types

from blurfast.cpu.separable_kernels import OPTIONS, REGISTERS_PER_LINE, put_back
from blurfast.cpu.simd import (
    broadcast,
    lanes_of,
    load,
    moderate_or_zero,
    multiply_add,
    read,
    store_pixels,
    subtract,
    write,
    zero,
)


@njit(**OPTIONS)
def correlate_pair(
    panel, start, pitch, step, taps, tap_rows, tap_columns, reference, gains, rounded,
    target, target_start, second_target, second_start,
):  # fmt: skip
    """Filter two outputs, one below the other, each four registers wide.

    A register of the panel is loaded once for both, and the eight sums stay in registers. `taps` has a row of zeros
    above and below the kernel's own rows, so that the row which only one of the outputs needs is not a special case.

    As in the separable kernels, the sums are taken of differences from a reference: the panel's element `reference`,
    counted from `start`, which both outputs see.
    """
    lanes = lanes_of(panel)
    at = start + reference
    centre0 = moderate_or_zero(load(panel, at))
    centre1 = moderate_or_zero(load(panel, at + lanes))
    centre2 = moderate_or_zero(load(panel, at + 2 * lanes))
    centre3 = moderate_or_zero(load(panel, at + 3 * lanes))
    first0 = first1 = first2 = first3 = zero(panel)
    second0 = second1 = second2 = second3 = first0
    other_tap, tap = 0, tap_columns
    for line in range(tap_rows + 1):
        at = start + line * pitch
        for _ in range(tap_columns):
            weight, other_weight = broadcast(taps, tap), broadcast(taps, other_tap)
            difference = subtract(load(panel, at), centre0)
            first0 = multiply_add(weight, difference, first0)
            second0 = multiply_add(other_weight, difference, second0)
            difference = subtract(load(panel, at + lanes), centre1)
            first1 = multiply_add(weight, difference, first1)
            second1 = multiply_add(other_weight, difference, second1)
            difference = subtract(load(panel, at + 2 * lanes), centre2)
            first2 = multiply_add(weight, difference, first2)
            second2 = multiply_add(other_weight, difference, second2)
            difference = subtract(load(panel, at + 3 * lanes), centre3)
            first3 = multiply_add(weight, difference, first3)
            second3 = multiply_add(other_weight, difference, second3)
            at += step
            tap += 1
            other_tap += 1
    gain = broadcast(gains, 0)
    store_pixels(target, target_start, put_back(centre0, first0, gain, rounded))
    store_pixels(target, target_start + lanes, put_back(centre1, first1, gain, rounded))
    store_pixels(target, target_start + 2 * lanes, put_back(centre2, first2, gain, rounded))
    store_pixels(target, target_start + 3 * lanes, put_back(centre3, first3, gain, rounded))
    store_pixels(second_target, second_start, put_back(centre0, second0, gain, rounded))
    store_pixels(second_target, second_start + lanes, put_back(centre1, second1, gain, rounded))
    store_pixels(second_target, second_start + 2 * lanes, put_back(centre2, second2, gain, rounded))
    store_pixels(second_target, second_start + 3 * lanes, put_back(centre3, second3, gain, rounded))


def correlate(
    panel, panel_pitch, channels, taps, tap_rows, tap_columns, reference, gains, rounded,
    spare, target, target_pitch, row_count, element_count,
):  # fmt: skip
    """Filter a panel two rows at a time, which both see the element `reference`, and write the tile's pixels.

    Outputs beyond the tile's last row and column go to `spare`, which holds eight registers.
    """
    group = REGISTERS_PER_LINE * lanes_of(panel)
    for element in range(0, element_count, group):
        width = min(group, element_count - element)
        for row in range(0, row_count, 2):
            start, to = row * panel_pitch + element, row * target_pitch + element
            first_target, first_start, second_target, second_start = target, to, target, to + target_pitch
            if width < group:
                first_target, first_start = spare, 0
            if width < group or row + 1 == row_count:
                second_target, second_start = spare, group
            correlate_pair(
                panel, start, panel_pitch, channels, taps, tap_rows, tap_columns, reference, gains, rounded,
                first_target, first_start, second_target, second_start,
            )  # fmt: skip
            if width < group:
                for index in range(width):
                    write(target, to + index, read(spare, index))
                    if row + 1 < row_count:
                        write(target, to + target_pitch + index, read(spare, group + index))


def correlate_carefully(
    panel, panel_pitch, channels, taps, tap_rows, tap_columns, reference, second_reference, gains, rounded,
    spare, target, target_pitch, row_count, element_count,
):  # fmt: skip
    """Filter a panel that holds NaN, infinite or huge pixels: `correlate`, leaving out all taps that are zero.

    A zero times infinity would be NaN, so an infinite pixel must not meet the taps that pad a kernel or shape it. All
    other outputs have the same bytes as from `correlate`, since a zero tap adds nothing there. `reference` is that of
    even rows and `second_reference` that of odd ones, counted from their own start.
    """
    lanes = lanes_of(panel)
    gain = broadcast(gains, 0)
    for row in range(row_count):
        for element in range(0, element_count, lanes):
            start, to = row * panel_pitch + element, row * target_pitch + element
            own_reference = reference if row % 2 == 0 else second_reference
            centre = moderate_or_zero(load(panel, start + own_reference))
            total = zero(panel)
            for line in range(tap_rows):
                for column in range(tap_columns):
                    tap = (line + 1) * tap_columns + column
                    if read(taps, tap) != 0:
                        value = load(panel, start + line * panel_pitch + column * channels)
                        total = multiply_add(broadcast(taps, tap), subtract(value, centre), total)
            if element + lanes <= element_count:
                store_pixels(target, to, put_back(centre, total, gain, rounded))
            else:
                store_pixels(spare, 0, put_back(centre, total, gain, rounded))
                for index in range(element_count - element):
                    write(target, to + index, read(spare, index))


def entry_points(pixel: Any, sums: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return each entry point with the Numba types of its arguments, for one type of pixel and of sums."""
    pixels, lines, size = types.CPointer(pixel), types.CPointer(sums), types.int64
    source = (lines, size, size, lines, size, size)
    target = (lines, size, pixels, pixels, size, size, size)
    return {
        "correlate": (correlate, (*source, size, *target)),
        "correlate_carefully": (correlate_carefully, (*source, size, size, *target)),
    }
