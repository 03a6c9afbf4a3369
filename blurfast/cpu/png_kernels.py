"""Kernels of PNG's scanline filters, which store each byte as its difference from a prediction.

The prediction is made of the byte one pixel to the left, the byte above, and the one above to the left. Both
directions work on small vectors of bytes, with the same predictors. Applying a filter has the whole row at hand, so
its vectors are as long as a register. Undoing one has to know the pixel on the left first, so its vectors are single
pixels; how long that takes is told by the steps from one pixel to the next. `PAETH` takes the most, and is the
commonest filter in photographs. So runs of rows with it are undone together, each row one pixel behind the row above.

The entry points, `unfilter` and `filter_rows`, allocate nothing, raise nothing and hold no lock. Positions and
pitches are in bytes.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from numba import njit, types

from blurfast.cpu.png_vector_kernels import (
    ROWS,
    average,
    count_of,
    load_bytes,
    load_rows,
    minus,
    move_down,
    narrow,
    paeth,
    plus,
    plus_wide,
    store_bytes,
    store_rows,
    sum_of_magnitudes,
    widen,
    zeros,
)
from blurfast.cpu.simd import read, write

# Inlined by force, since a call that is left would hand on an error status, and with it Numba's runtime.
OPTIONS = {"nogil": True, "boundscheck": False, "error_model": "numpy", "forceinline": True}

NONE, SUB, UP, AVERAGE, PAETH = range(5)
FILTER_TYPES = 5

FEWEST_PIXELS = 2 * ROWS
"""Pixels in a row from which on it pays to undo `ROWS` rows together."""

LONG = 32
"""Bytes in a long vector: widened to 16 bits, as the predictors need it, they fill the largest registers."""


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
    index = 0
    if filter_type == SUB:
        left = no_pixel
        while index < length:
            left = plus(load_bytes(source, start + index, no_pixel), left)
            store_bytes(target, target_start + index, left)
            index += step
    elif filter_type == AVERAGE:
        left = widen(no_pixel)
        while index < length:
            prediction = average(left, widen(load_bytes(above, above_start + index, no_pixel)))
            left = plus_wide(widen(load_bytes(source, start + index, no_pixel)), prediction)
            store_bytes(target, target_start + index, narrow(left))
            index += step
    else:
        undo_paeth(no_pixel, source, start, 0, length, above, above_start, target, target_start)


@njit(**OPTIONS)
def undo_paeth(no_pixel, source, start, first, stop, above, above_start, target, target_start):
    """Undo `PAETH` in the bytes from `first` to `stop` of a row."""
    step = count_of(no_pixel)
    left = above_left = widen(no_pixel)
    if first > 0:
        left = widen(load_bytes(target, target_start + first - step, no_pixel))
        above_left = widen(load_bytes(above, above_start + first - step, no_pixel))
    index = first
    while index < stop:
        over = widen(load_bytes(above, above_start + index, no_pixel))
        prediction = paeth(left, over, above_left)
        left = plus_wide(widen(load_bytes(source, start + index, no_pixel)), prediction)
        above_left = over
        store_bytes(target, target_start + index, narrow(left))
        index += step


@njit(**OPTIONS)
def undo_paeth_rows(
    no_pixel, lane, source, start, pitch, length, above, above_start, target, target_start, target_pitch
):
    """Undo `PAETH` in `ROWS` rows, of at least as many pixels.

    At any time, each row is one pixel behind the row above, whose last pixel is thus what it needs to know. `lane` has
    as many bytes as are loaded and stored for a pixel: at least its own ones. Those behind them belong to the next
    pixel, which is stored later. Where they would lie beyond the end of the row, the rows are finished one by one.
    """
    step = count_of(no_pixel)
    slant, target_slant = pitch - step, target_pitch - step
    index = ROWS * step
    undo_paeth(no_pixel, source, start, 0, index, above, above_start, target, target_start)
    for row in range(1, ROWS):
        at, to = start + row * pitch, target_start + row * target_pitch
        undo_paeth(no_pixel, source, at, 0, index - row * step, target, to - target_pitch, target, to)
    left = load_rows(target, target_start + index - step, target_slant, lane)
    before_left = load_rows(target, target_start + index - 2 * step, target_slant, lane)
    above_left = move_down(load_bytes(above, above_start + index - step, lane), before_left)
    while index + count_of(lane) <= length:
        over = move_down(load_bytes(above, above_start + index, lane), left)
        prediction = paeth(left, over, above_left)
        left = plus_wide(load_rows(source, start + index, slant, lane), prediction)
        above_left = over
        store_rows(target, target_start + index, target_slant, left)
        index += step
    undo_paeth(no_pixel, source, start, index, length, above, above_start, target, target_start)
    for row in range(1, ROWS):
        at, to = start + row * pitch, target_start + row * target_pitch
        undo_paeth(no_pixel, source, at, index - row * step, length, target, to - target_pitch, target, to)


@njit(**OPTIONS)
def are_paeth(scanlines, pitch, row, row_count):
    """Return whether `ROWS` rows from `row` on are filtered by `PAETH`."""
    if row + ROWS > row_count:
        return False
    last = row + ROWS
    while row < last and read(scanlines, row * pitch) == PAETH:
        row += 1
    return row == last


def unfilter(scanlines, row_count, row_bytes, pixel_bytes, previous, target, target_pitch, bad_row):
    """Undo the filters of `row_count` scanlines, each a byte that names its filter and `row_bytes` of data.

    `previous` is the row above the first one. `bad_row[0]` becomes the first row whose filter does not exist, or -1.
    """
    above, above_start = previous, 0
    write(bad_row, 0, -1)
    pitch = row_bytes + 1
    row = 0
    while row < row_count:
        start, to = row * pitch + 1, row * target_pitch
        filter_type = read(scanlines, start - 1)
        if filter_type >= FILTER_TYPES:
            write(bad_row, 0, row)
            return
        undone = 1
        if row_bytes >= FEWEST_PIXELS * pixel_bytes and are_paeth(scanlines, pitch, row, row_count):
            undone = ROWS
            undo_block(scanlines, start, pitch, row_bytes, pixel_bytes, above, above_start, target, to, target_pitch)
        elif filter_type == NONE:
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
        row += undone
        above, above_start = target, (row - 1) * target_pitch


@njit(**OPTIONS)
def undo_block(scanlines, start, pitch, row_bytes, pixel_bytes, above, above_start, target, to, target_pitch):
    """Undo `PAETH` in `ROWS` rows, for any size of a pixel."""
    rows = scanlines, start, pitch, row_bytes, above, above_start, target, to, target_pitch
    if pixel_bytes == 1:
        undo_paeth_rows(zeros(1), zeros(4), *rows)
    elif pixel_bytes == 2:
        undo_paeth_rows(zeros(2), zeros(4), *rows)
    elif pixel_bytes == 3:
        undo_paeth_rows(zeros(3), zeros(4), *rows)
    elif pixel_bytes == 4:
        undo_paeth_rows(zeros(4), zeros(4), *rows)
    elif pixel_bytes == 6:
        undo_paeth_rows(zeros(6), zeros(8), *rows)
    else:
        undo_paeth_rows(zeros(8), zeros(8), *rows)


@njit(**OPTIONS)
def residual(filter_type, value, left, above, above_left):
    """Return what is left of some bytes once their prediction is taken away."""
    if filter_type == SUB:
        return minus(value, left)
    if filter_type == UP:
        return minus(value, above)
    if filter_type == AVERAGE:
        return minus(value, narrow(average(widen(left), widen(above))))
    if filter_type == PAETH:
        return minus(value, narrow(paeth(widen(left), widen(above), widen(above_left))))
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
