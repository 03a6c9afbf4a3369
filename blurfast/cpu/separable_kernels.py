"""Kernels of the separable filter: each pass is one FIR filter across a stack of lines.

A *line* is a run of samples that lie side by side in memory. The filter runs across the lines, so every lane of
a register is an independent filter, and nothing inside a loop depends on where the image ends. For the vertical
pass the lines are rows. Its result is stored transposed, so for the horizontal pass the lines are columns, and
the same code serves both. Where the taps are few, `along_rows` filters the rows as they are instead.

The entry points work on one tile. They allocate nothing, raise nothing (so loops with a variable step are written
with `while`: `range` would check it) and hold no lock. Sizes are in elements; a *position* is a padded pixel column,
an *element* one channel of a pixel.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from numba import njit, types

from blurfast.cpu.simd import (
    add,
    broadcast,
    copy_pixels,
    divide_or_zero,
    lanes_of,
    load,
    load_pixels,
    moderate_or_zero,
    multiply_add,
    nearest_even_integer,
    nearest_integer,
    pixels_per_line,
    prefetch,
    read,
    read_pixel,
    store,
    store_pixels,
    subtract,
    transpose_block,
    write,
    write_zero,
    zero,
)

# Inlined by force, since a call that is left would hand on an error status, and with it Numba's runtime.
OPTIONS = {"nogil": True, "boundscheck": False, "error_model": "numpy", "forceinline": True}

REGISTERS_PER_LINE = 4


@njit(**OPTIONS)
def put_back(centre, total, gain, rounded):
    """Return `gain * centre + total`; as an integer, rounded half to even, where `rounded` is set.

    A float32 near 40000 has a resolution of 1/256, too coarse to round a 16-bit pixel right. So the sum is rounded
    while it is still relative to an even integer, which leaves all its digits to the fraction.
    """
    if rounded == 0:
        return multiply_add(gain, centre, total)
    value = multiply_add(gain, centre, subtract(centre, centre))
    base = nearest_even_integer(value)
    return add(base, nearest_integer(add(subtract(value, base), total)))


@njit(**OPTIONS)
def correlate_pair(
    lines, start, step, taps, first_tap, second_tap, tap_count, shift, reference, gains, rounded,
    target, target_start, target_step,
):  # fmt: skip
    """Filter two outputs whose lines overlap, four registers wide.

    The first one's lines begin at `start` and its taps at `first_tap`, the second one's lines `shift` lines later
    and its taps at `second_tap`. A line that both need is loaded once, and the eight sums stay in registers.

    The sums are taken of *differences* from the reference line (in the middle of the taps), whose value is put back
    at the end. Where the image is flat all differences are zero and the result is exact, whatever the rounding of the
    taps; elsewhere the rounding errors scale with the local contrast, not with the brightness. (An infinite
    reference would turn every infinity into NaN; zero serves as well.)
    """
    lanes = lanes_of(lines)
    at = start + reference * step
    centre0 = moderate_or_zero(load(lines, at))
    centre1 = moderate_or_zero(load(lines, at + lanes))
    centre2 = moderate_or_zero(load(lines, at + 2 * lanes))
    centre3 = moderate_or_zero(load(lines, at + 3 * lanes))
    first0 = first1 = first2 = first3 = zero(lines)
    second0 = second1 = second2 = second3 = first0
    at = start
    for line in range(shift):
        tap = broadcast(taps, first_tap + line)
        first0 = multiply_add(tap, subtract(load(lines, at), centre0), first0)
        first1 = multiply_add(tap, subtract(load(lines, at + lanes), centre1), first1)
        first2 = multiply_add(tap, subtract(load(lines, at + 2 * lanes), centre2), first2)
        first3 = multiply_add(tap, subtract(load(lines, at + 3 * lanes), centre3), first3)
        at += step
    for line in range(shift, tap_count):
        tap, other = broadcast(taps, first_tap + line), broadcast(taps, second_tap + line - shift)
        difference = subtract(load(lines, at), centre0)
        first0 = multiply_add(tap, difference, first0)
        second0 = multiply_add(other, difference, second0)
        difference = subtract(load(lines, at + lanes), centre1)
        first1 = multiply_add(tap, difference, first1)
        second1 = multiply_add(other, difference, second1)
        difference = subtract(load(lines, at + 2 * lanes), centre2)
        first2 = multiply_add(tap, difference, first2)
        second2 = multiply_add(other, difference, second2)
        difference = subtract(load(lines, at + 3 * lanes), centre3)
        first3 = multiply_add(tap, difference, first3)
        second3 = multiply_add(other, difference, second3)
        at += step
    for line in range(tap_count, tap_count + shift):
        other = broadcast(taps, second_tap + line - shift)
        second0 = multiply_add(other, subtract(load(lines, at), centre0), second0)
        second1 = multiply_add(other, subtract(load(lines, at + lanes), centre1), second1)
        second2 = multiply_add(other, subtract(load(lines, at + 2 * lanes), centre2), second2)
        second3 = multiply_add(other, subtract(load(lines, at + 3 * lanes), centre3), second3)
        at += step
    gain = broadcast(gains, 0)
    store(target, target_start, put_back(centre0, first0, gain, rounded))
    store(target, target_start + lanes, put_back(centre1, first1, gain, rounded))
    store(target, target_start + 2 * lanes, put_back(centre2, first2, gain, rounded))
    store(target, target_start + 3 * lanes, put_back(centre3, first3, gain, rounded))
    at = target_start + target_step
    store(target, at, put_back(centre0, second0, gain, rounded))
    store(target, at + lanes, put_back(centre1, second1, gain, rounded))
    store(target, at + 2 * lanes, put_back(centre2, second2, gain, rounded))
    store(target, at + 3 * lanes, put_back(centre3, second3, gain, rounded))


@njit(**OPTIONS)
def copy_line(lines, start, length, target, target_start):
    """Copy a line whose length is a multiple of the register's."""
    for index in range(0, length, lanes_of(lines)):
        store(target, target_start + index, load(lines, start + index))


@njit(**OPTIONS)
def following(line, phase, up, down):
    """Return the first line and the phase of the output after the one that has these."""
    if phase + 1 == up:
        return line + down, 0
    return line, phase + 1


@njit(**OPTIONS)
def filter_pair(
    lines, start, step, length, first_line, first_phase, taps, tap_count, up, down, reference, gains, rounded,
    target, target_start, target_step,
):  # fmt: skip
    """Filter two consecutive outputs of any length; a single tap is the identity, and exact.

    Output ``i`` is the sum over the lines from ``i // up * down`` on, with the taps of phase ``i % up``. So `down`
    keeps every so many-th output of a filter, `up` interpolates, and with both one it is an ordinary filter. That
    line and that phase are given for the first output; `following` finds those of the next without a division, which
    would take as long as several taps.
    """
    second_line, second_phase = following(first_line, first_phase, up, down)
    start += first_line * step
    shift = second_line - first_line
    if tap_count == 1:
        copy_line(lines, start, length, target, target_start)
        copy_line(lines, start + shift * step, length, target, target_start + target_step)
        return
    first_tap, second_tap = first_phase * tap_count, second_phase * tap_count
    for offset in range(0, length, REGISTERS_PER_LINE * lanes_of(lines)):
        correlate_pair(
            lines, start + offset, step, taps, first_tap, second_tap, tap_count, shift, reference, gains, rounded,
            target, target_start + offset, target_step,
        )  # fmt: skip


@njit(**OPTIONS)
def pack_line(pixels, start, length, target, target_start, target_length):
    """Convert a run of pixels, and fill the line up to its full length with zeros."""
    lanes = lanes_of(target)
    index = 0
    while index + lanes <= length:
        store(target, target_start + index, load_pixels(pixels, start + index, target))
        index += lanes
    while index < length:
        write(target, target_start + index, read_pixel(pixels, start + index, target))
        index += 1
    while index < target_length:
        write_zero(target, target_start + index)
        index += 1


@njit(**OPTIONS)
def multiply_by_alpha(line, start, length, channels, alpha):
    """Weight the colours of a packed row by their pixels' opacity, channel `alpha`."""
    pixel = start
    while pixel < start + length:
        opacity = read(line, pixel + alpha)
        for channel in range(channels):
            if channel != alpha:
                write(line, pixel + channel, read(line, pixel + channel) * opacity)
        pixel += channels


@njit(**OPTIONS)
def divide_by_alpha(lines, line_pitch, pixel_count, line_length, channels, alpha):
    """Undo the weighting in filtered columns, whose channel `alpha` now holds the sum of the weights.

    Where nothing is opaque there is no colour, and the colours become zero.
    """
    for pixel in range(pixel_count):
        weights = (pixel * channels + alpha) * line_pitch
        for channel in range(channels):
            if channel != alpha:
                colours = (pixel * channels + channel) * line_pitch
                for index in range(0, line_length, lanes_of(lines)):
                    colour = divide_or_zero(load(lines, colours + index), load(lines, weights + index))
                    store(lines, colours + index, colour)


@njit(**OPTIONS)
def fill_line(value, index, target, target_start, length):
    """Set a line to `value[index]`."""
    register = broadcast(value, index)
    for offset in range(0, length, lanes_of(target)):
        store(target, target_start + offset, register)


@njit(**OPTIONS)
def prefetch_rows(pixels, pixel_pitch, row_map, first_row, last_row, start, length):
    """Ask for a piece of some rows that are packed next, so that they arrive while this panel is filtered."""
    for row in range(first_row, last_row):
        source_row = read(row_map, row)
        if source_row >= 0:
            for index in range(0, length, pixels_per_line(pixels)):
                prefetch(pixels, source_row * pixel_pitch + start + index)


@njit(**OPTIONS)
def transpose_group(rows, row_count, column_count, columns, start, pitch):
    """Store rows as columns, block by block; the last block may exceed both counts."""
    lanes = lanes_of(rows)
    for column in range(0, column_count, lanes):
        for row in range(0, row_count, lanes):
            transpose_block(rows, row * pitch + column, pitch, columns, start + column * pitch + row, pitch, rows)


def vertical(
    pixels, pixel_pitch, row_map, padded_count, first_element, element_count, channels, alpha, outside,
    taps, tap_count, up, down, phase, reference, gains, rounded, row_count,
    panel, filtered, panel_width, panel_pitch,
    lines, line_pitch, first_line, transposed,
):  # fmt: skip
    """Filter a run of elements down the image to `row_count` (even) rows.

    The results are stored as rows or, if `transposed`, as columns; element ``i`` of the run belongs to position
    ``first_line + i`` of `lines`.

    `row_map` names the source row of each of the `padded_count` rows that are needed, -1 standing for a row of
    `outside[0]`. The first result is the output `phase` of them: see `filter_pair`. Panels narrow enough for the
    cache are packed: converted, gathered by `row_map`, and at a pitch that spreads the rows over all cache sets. With
    an `alpha` of at least 0, the other channels are weighted by it.
    """
    lanes = lanes_of(panel)
    group = REGISTERS_PER_LINE * lanes
    rows_ahead = (2 * padded_count + row_count - 1) // row_count
    offset = 0
    while offset < element_count:
        width = min(panel_width, element_count - offset)
        full_width = (width + group - 1) // group * group
        for row in range(padded_count):
            source_row = read(row_map, row)
            if source_row < 0:
                fill_line(outside, 0, panel, row * panel_pitch, full_width)
            else:
                start = source_row * pixel_pitch + first_element + offset
                pack_line(pixels, start, width, panel, row * panel_pitch, full_width)
                if alpha >= 0:
                    multiply_by_alpha(panel, row * panel_pitch, width, channels, alpha)
        next_start = first_element + offset + panel_width
        for column in range(0, full_width, group):
            # Not positive in the last panel, which has no next one.
            next_length = min(group, element_count - offset - panel_width - column)
            position = first_line + offset + column
            target, target_start = lines, position
            if transposed:
                target, target_start = filtered, 0
            first_ahead, line, line_phase = 0, 0, phase
            for row in range(0, row_count, 2):
                last_ahead = min(first_ahead + rows_ahead, padded_count)
                prefetch_rows(pixels, pixel_pitch, row_map, first_ahead, last_ahead, next_start + column, next_length)
                first_ahead = last_ahead
                filter_pair(
                    panel, column, panel_pitch, group, line, line_phase,
                    taps, tap_count, up, down, reference, gains, rounded,
                    target, target_start + row * line_pitch, line_pitch,
                )  # fmt: skip
                line, line_phase = following(*following(line, line_phase, up, down), up, down)
            if transposed:
                columns = min(group, width - column)
                transpose_group(filtered, row_count, columns, lines, position * line_pitch, line_pitch)
        offset += panel_width


@njit(**OPTIONS)
def extend(columns, line_length, copies, copy_count, outside, column_pitch, channels):
    """Fill in positions outside the image: copies of others, or the value that lies outside.

    `copies` has the positions, and after them the position that each repeats, -1 standing for the value.
    """
    for copy in range(copy_count):
        position, origin = read(copies, copy), read(copies, copy_count + copy)
        for channel in range(channels):
            start = (position * channels + channel) * column_pitch
            if origin < 0:
                fill_line(outside, 0, columns, start, line_length)
            else:
                copy_line(columns, (origin * channels + channel) * column_pitch, line_length, columns, start)


@njit(**OPTIONS)
def store_chunk(lines, line_pitch, row_count, element_count, rows, row_pitch, target, target_start, target_pitch):
    """Transpose a chunk of columns back and write its rows.

    The rows are put together in `rows` first, so that every cache line of the image is written once and whole. In an
    image whose pitch is a power of two they all fall into one set of the cache, and would push each other out.
    """
    lanes = lanes_of(lines)
    for element in range(0, element_count, lanes):
        for row in range(0, row_count, lanes):
            transpose_block(
                lines, element * line_pitch + row, line_pitch, rows, row * row_pitch + element, row_pitch, lines
            )
    for row in range(row_count):
        start, to = row * row_pitch, target_start + row * target_pitch
        element = 0
        while element + lanes <= element_count:
            copy_pixels(rows, start + element, target, to + element, lines)
            element += lanes
        while element < element_count:
            write(target, to + element, read(rows, start + element))
            element += 1


def horizontal(
    columns, column_pitch, copies, copy_count, channels, alpha, outside,
    taps, tap_count, up, down, phase, reference, gains, rounded,
    chunk, chunk_pixels, rows, row_pitch,
    target, target_pitch, row_count, pixel_count,
):  # fmt: skip
    """Filter the columns that `vertical` left along the rows, and write the tile's pixels.

    `copies` tells how the columns outside the image come about: see `extend`. The results are transposed back chunk
    by chunk, while they are in the cache.
    """
    lanes = lanes_of(columns)
    group = REGISTERS_PER_LINE * lanes
    line_length = (row_count + group - 1) // group * group
    extend(columns, line_length, copies, copy_count, outside, column_pitch, channels)
    step = channels * column_pitch
    first_pixel, line = 0, 0
    while first_pixel < pixel_count:
        count = min(chunk_pixels, pixel_count - first_pixel)
        for pixel in range(0, count, 2):
            for channel in range(channels):
                filter_pair(
                    columns, channel * column_pitch, step, line_length, line, phase,
                    taps, tap_count, up, down, reference, gains, rounded,
                    chunk, (pixel * channels + channel) * column_pitch, step,
                )  # fmt: skip
            line, phase = following(*following(line, phase, up, down), up, down)
        if alpha >= 0:
            divide_by_alpha(chunk, column_pitch, count, line_length, channels, alpha)
        store_chunk(
            chunk, column_pitch, row_count, count * channels, rows, row_pitch,
            target, first_pixel * channels, target_pitch,
        )  # fmt: skip
        first_pixel += chunk_pixels


@njit(**OPTIONS)
def correlate_run(row, start, step, taps, tap_count, reference, gains, rounded, target, target_start):
    """Filter four registers of a row along itself, each tap by loads that are shifted by it.

    As in `correlate_pair`, sums are of differences; here every output's reference is its own centre.
    """
    lanes = lanes_of(row)
    at = start + reference * step
    centre0 = moderate_or_zero(load(row, at))
    centre1 = moderate_or_zero(load(row, at + lanes))
    centre2 = moderate_or_zero(load(row, at + 2 * lanes))
    centre3 = moderate_or_zero(load(row, at + 3 * lanes))
    total0 = total1 = total2 = total3 = zero(row)
    at = start
    for tap_index in range(tap_count):
        tap = broadcast(taps, tap_index)
        total0 = multiply_add(tap, subtract(load(row, at), centre0), total0)
        total1 = multiply_add(tap, subtract(load(row, at + lanes), centre1), total1)
        total2 = multiply_add(tap, subtract(load(row, at + 2 * lanes), centre2), total2)
        total3 = multiply_add(tap, subtract(load(row, at + 3 * lanes), centre3), total3)
        at += step
    gain = broadcast(gains, 0)
    store_pixels(target, target_start, put_back(centre0, total0, gain, rounded))
    store_pixels(target, target_start + lanes, put_back(centre1, total1, gain, rounded))
    store_pixels(target, target_start + 2 * lanes, put_back(centre2, total2, gain, rounded))
    store_pixels(target, target_start + 3 * lanes, put_back(centre3, total3, gain, rounded))


@njit(**OPTIONS)
def extend_row(row, start, copies, copy_count, outside, channels):
    """Fill in the positions of a row that lie outside the image: see `extend`."""
    for copy in range(copy_count):
        position, origin = read(copies, copy), read(copies, copy_count + copy)
        for channel in range(channels):
            value = read(outside, 0)
            if origin >= 0:
                value = read(row, start + origin * channels + channel)
            write(row, start + position * channels + channel, value)


def along_rows(
    rows, row_pitch, copies, copy_count, channels, outside,
    taps, tap_count, reference, gains, rounded,
    tail, target, target_pitch, row_count, element_count,
):  # fmt: skip
    """Filter the rows that `vertical` left, and write the tile's pixels: `horizontal`, for few taps.

    Every tap costs a load, but nothing is transposed. The last pixels of a row pass through `tail`, which holds four
    registers.
    """
    group = REGISTERS_PER_LINE * lanes_of(rows)
    for row in range(row_count):
        start, to = row * row_pitch, row * target_pitch
        extend_row(rows, start, copies, copy_count, outside, channels)
        element = 0
        while element + group <= element_count:
            correlate_run(
                rows, start + element, channels, taps, tap_count, reference, gains, rounded, target, to + element
            )
            element += group
        if element < element_count:
            correlate_run(rows, start + element, channels, taps, tap_count, reference, gains, rounded, tail, 0)
            for index in range(element_count - element):
                write(target, to + element + index, read(tail, index))


def entry_points(pixel: Any, sums: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return each entry point with the Numba types of its arguments, for one type of pixel and of sums."""
    pixels, lines, rows, size = types.CPointer(pixel), types.CPointer(sums), types.CPointer(types.int64), types.int64
    fir = (lines, size, size, size, size, size, lines, size)
    source = (pixels, size, rows, size, size, size, size, size, lines)
    columns = (lines, size, rows, size, size, size, lines)
    target = (pixels, size, size, size)
    return {
        "vertical": (vertical, (*source, *fir, size, lines, lines, size, size, lines, size, size, size)),
        "horizontal": (horizontal, (*columns, *fir, lines, size, pixels, size, *target)),
        "along_rows": (
            along_rows,
            (lines, size, rows, size, size, lines, lines, size, size, lines, size, pixels, *target),
        ),
    }
