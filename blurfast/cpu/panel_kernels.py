"""Kernels that carry a tile into scratch memory and out of it, for the methods that work on a whole padded tile.

A *panel* holds the padded pixels of one tile as sums, row by row, channels interleaved. Nothing that reads it needs
to know about edges, dtypes or opacity.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from numba import njit, types

from blurfast.cpu.separable_kernels import OPTIONS, multiply_by_alpha, pack_line
from blurfast.cpu.simd import (
    add,
    lanes_of,
    load,
    mark_extreme,
    read,
    read_pixel,
    store,
    store_pixels,
    write,
    write_pixel,
    write_zero,
    zero,
)


@njit(**OPTIONS)
def fill_outside(panel, start, length, outside):
    """Set a run of a panel to the value that lies outside the image."""
    for index in range(start, start + length):
        write(panel, index, read(outside, 0))


@njit(**OPTIONS)
def survey_row(panel, start, element_count, found):
    """Mark in `found` the lanes where a row holds NaN, infinity, or what may overflow; whole registers are read."""
    element = element_count
    while element % lanes_of(panel) != 0:
        write_zero(panel, start + element)
        element += 1
    for offset in range(0, element, lanes_of(panel)):
        found = mark_extreme(load(panel, start + offset), found)
    return found


def pack(
    pixels, pixel_pitch, row_map, row_count, runs, run_count, singles, single_count, column_count, channels, alpha,
    outside, panel, panel_pitch, is_surveyed, marks,
):  # fmt: skip
    """Gather, convert and, with an `alpha` of at least 0, weight the padded pixels of a tile.

    `row_map` names the source row of each row. The columns come in `runs` (position, source column and length of
    each) along which both rise one by one, and as `singles` (position and source column). A source of -1 stands for
    `outside[0]`.

    If `is_surveyed` is 1, each row is surveyed while it is in the cache. `marks`, which has the lanes of a register, is
    left zero if all are finite and far from overflow.
    """
    found = zero(panel)
    for row in range(row_count):
        source_row, start = read(row_map, row), row * panel_pitch
        if source_row < 0:
            fill_outside(panel, start, column_count * channels, outside)
        else:
            source = source_row * pixel_pitch
            for run in range(run_count):
                to, first = start + read(runs, 3 * run) * channels, source + read(runs, 3 * run + 1) * channels
                length = read(runs, 3 * run + 2) * channels
                pack_line(pixels, first, length, panel, to, length)
            for single in range(single_count):
                to, column = start + read(singles, 2 * single) * channels, read(singles, 2 * single + 1)
                if column >= 0:
                    for channel in range(channels):
                        value = read_pixel(pixels, source + column * channels + channel, panel)
                        write(panel, to + channel, value)
            if alpha >= 0:
                multiply_by_alpha(panel, start, column_count * channels, channels, alpha)
            for single in range(single_count):
                if read(singles, 2 * single + 1) < 0:
                    fill_outside(panel, start + read(singles, 2 * single) * channels, channels, outside)
        if is_surveyed != 0:
            found = survey_row(panel, start, column_count * channels, found)
    store(marks, 0, found)


@njit(**OPTIONS)
def finish_row(sums, sum_start, tile_size, tile_count, target, target_start, element_count):
    """Add up the tiles along one row, and round to pixels."""
    lanes = lanes_of(sums)
    element = 0
    while element + lanes <= element_count:
        total = load(sums, sum_start + element)
        for tile in range(1, tile_count):
            total = add(total, load(sums, sum_start + tile * tile_size + element))
        store_pixels(target, target_start + element, total)
        element += lanes
    while element < element_count:
        value = read(sums, sum_start + element)
        for tile in range(1, tile_count):
            value += read(sums, sum_start + tile * tile_size + element)
        write_pixel(target, target_start + element, value)
        element += 1


@njit(**OPTIONS)
def finish_weighted_row(sums, sum_start, tile_size, tile_count, target, target_start, pixel_count, channels, alpha):
    """Add up the tiles along one row, divide colours by the sum of their weights, and round to pixels."""
    for pixel in range(pixel_count):
        first = sum_start + pixel * channels
        weight = read(sums, first + alpha)
        for tile in range(1, tile_count):
            weight += read(sums, first + alpha + tile * tile_size)
        for channel in range(channels):
            value = read(sums, first + channel)
            for tile in range(1, tile_count):
                value += read(sums, first + channel + tile * tile_size)
            if channel != alpha:
                value = value / weight if weight > 0 else value - value
            write_pixel(target, target_start + pixel * channels + channel, value)


def finish(sums, sum_pitch, tile_size, tile_count, channels, alpha, target, target_pitch, row_count, pixel_count):
    """Add up `tile_count` tiles that lie `tile_size` apart, and write the pixels.

    With an `alpha` of at least 0, the weighting that `pack` has done is undone. Where nothing is opaque there is no
    colour, and the colours become zero.
    """
    for row in range(row_count):
        start, to = row * sum_pitch, row * target_pitch
        if alpha < 0:
            finish_row(sums, start, tile_size, tile_count, target, to, pixel_count * channels)
        else:
            finish_weighted_row(sums, start, tile_size, tile_count, target, to, pixel_count, channels, alpha)


def entry_points(pixel: Any, sums: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return each entry point with the Numba types of its arguments, for one type of pixel and of sums."""
    pixels, lines, maps, size = types.CPointer(pixel), types.CPointer(sums), types.CPointer(types.int64), types.int64
    return {
        "pack": (
            pack,
            (pixels, size, maps, size, maps, size, maps, size, size, size, size, lines, lines, size, size, lines),
        ),
        "finish": (finish, (lines, size, size, size, size, size, pixels, size, size, size)),
    }
