"""Rows and columns in one pass, for one channel and few taps: every pixel is read about once and written once.

A block of threads owns a strip of the image, four columns per thread, and goes down it a few rows at a time. The rows
are put into shared memory, where each thread finds what lies beside its own columns, and filters them along. What has
been filtered along stays in its registers, as a window of rows that moves down the strip, and is filtered down.

There is one kernel for each of `RADII`, since registers need names. It takes all filters that reach no farther: what
one does not reach is not read, so that a NaN there does no harm.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import cuda
from numba.cuda import types, uint32
from numba.cuda.extending import intrinsic

from blurfast.cuda.simt import (
    fused_multiply_add,
    load_four,
    load_pixels,
    moderate_or_zero,
    moved_on,
    multiply_add,
    place,
    put_back,
    read,
    read_pixel,
    shared_memory,
    store_pixels,
    store_some,
    values_of,
    vector_of,
    write,
    zero,
)
from blurfast.cuda.simt_values import INLINED, LANES, address_of, joined, split

RADII = {"float32": (4, 8, 12, 16), "float64": (4, 8)}
"""By the sums; with larger ones, a thread would run out of registers.

They are multiples of four, so that a thread's own columns begin at one when the image is all there is.
"""

ROWS_AT_A_TIME = 2
"""Rows that a thread filters side by side, so that taps, barriers and moves of the window count for all of them."""

MOST_THREADS = 128
"""Threads of a block. At least there are 32, as many as a row has samples beside the threads' own."""


def taps_length(radius: int) -> int:
    """Return the elements that one direction's taps take.

    First come those before the middle, from the nearest to the farthest; in the same way those behind it; and the
    middle one.
    """
    return 2 * radius + LANES


# ------------------------------------------------------------------------------------------- how LLVM is told


def _sums(
    builder: Any,
    element: Any,
    radius: int,
    taps: Any,
    reaches: list[Any],
    references: list[list[Any]],
    samples_at: Callable[[int, int], list[Any]],
) -> list[list[Any]]:
    """Return sums of differences from the references: a list of four for each row.

    Parameters
    ----------
    taps
        Address of the direction's taps.
    reaches
        How far the taps reach before the middle, and behind it.
    samples_at
        Returns the four samples of a row that lie so far from the middle.
    """

    def add(tap: Any, offset: int) -> None:
        for row, row_totals in enumerate(totals):
            for lane, sample in enumerate(samples_at(row, offset)):
                difference = builder.fsub(sample, references[row][lane])
                row_totals[lane] = fused_multiply_add(builder, tap, difference, row_totals[lane])

    nothing = ir.Constant(references[0][0].type, 0.0)
    totals = [[nothing] * LANES for _ in references]
    add(builder.load(builder.gep(taps, [_index(2 * radius)])), 0)
    for side, (reach, sign) in enumerate(zip(reaches, (-1, 1), strict=True)):
        end = builder.append_basic_block("end")
        ways = []
        group: list[Any] = []
        for distance in range(1, radius + 1):
            ways.append((builder.block, [list(row) for row in totals]))
            reached = builder.append_basic_block("reached")
            is_reached = builder.icmp_unsigned(">=", reach, ir.Constant(reach.type, distance))
            builder.cbranch(is_reached, reached, end)
            builder.position_at_end(reached)
            if distance % LANES == 1:
                group = load_four(builder, builder.gep(taps, [_index(side * radius + distance - 1)]), element)
            add(group[(distance - 1) % LANES], sign * distance)
        ways.append((builder.block, totals))
        builder.branch(end)
        builder.position_at_end(end)
        totals = [[_merged(builder, ways, row, lane) for lane in range(LANES)] for row in range(len(totals))]
    return totals


def _index(number: int) -> Any:
    return ir.IntType(32)(number)


def _merged(builder: Any, ways: list[Any], row: int, lane: int) -> Any:
    """Return a total, by whichever way the threads came."""
    total = builder.phi(ways[0][1][row][lane].type)
    for block, totals in ways:
        total.add_incoming(totals[row][lane], block)
    return total


def _line(builder: Any, element: Any, address: Any, own: list[Any]) -> Callable[[int], list[Any]]:
    """Return a function that returns four samples of a row in shared memory, so far from a thread's own four.

    They are loaded four at a time, when the first of them is asked for. The farther ones on a side may only be asked
    for after the nearer ones.
    """
    groups = {0: own}

    def samples_at(offset: int) -> list[Any]:
        for group in (offset // LANES, (offset + LANES - 1) // LANES):
            if group not in groups:
                groups[group] = load_four(builder, builder.gep(address, [_index(group * LANES)]), element)
        positions = range(offset, offset + LANES)
        return [groups[position // LANES][position % LANES] for position in positions]

    return samples_at


def _vectors(context: Any, builder: Any, kind: Any, rows: list[list[Any]]) -> Any:
    """Return rows of four samples as a tuple of vectors."""
    return context.make_tuple(builder, kind, [joined(builder, row) for row in rows])


def _rows(builder: Any, kind: Any, value: Any) -> list[list[Any]]:
    """Return a tuple of vectors as rows of four samples."""
    return [split(builder, kind.dtype, vector) for vector in values_of(builder, kind, value)]


def _make_filters(radius: int) -> tuple[Any, Any, Any]:
    """Return intrinsics that filter along, that filter down, and that return a window to begin with."""

    @intrinsic
    def sums_along(typing_context, shared, taps, before, behind, start, pitch, values, references):
        """Return sums along rows in shared memory, `pitch` apart, whose own values begin at `start`."""

        def generate(context, builder, signature, arguments):
            memory, first_tap, *reaches, at, distance, own, centres = arguments
            lines = []
            for row in _rows(builder, values, own):
                lines.append(_line(builder, shared.dtype, address_of(builder, memory, at), row))
                at = builder.add(at, distance)
            totals = _sums(
                builder,
                shared.dtype,
                radius,
                address_of(builder, memory, first_tap),
                reaches,
                _rows(builder, references, centres),
                lambda row, offset: lines[row](offset),
            )
            return _vectors(context, builder, references, totals)

        return references(shared, taps, before, behind, start, start, values, references), generate

    @intrinsic
    def sums_down(typing_context, shared, taps, before, behind, window, values, references):
        """Return sums down the rows of a window and those that come behind it."""

        def generate(context, builder, signature, arguments):
            memory, first_tap, *reaches, seen, new, centres = arguments
            rows = _rows(builder, window, seen) + _rows(builder, values, new)
            totals = _sums(
                builder,
                shared.dtype,
                radius,
                address_of(builder, memory, first_tap),
                reaches,
                _rows(builder, references, centres),
                lambda row, offset: rows[radius + row + offset],
            )
            return _vectors(context, builder, references, totals)

        return references(shared, taps, before, behind, window, values, references), generate

    @intrinsic
    def empty_window(typing_context, value):
        """Return a window of rows that are all alike."""

        def generate(context, builder, signature, arguments):
            return context.make_tuple(builder, signature.return_type, [arguments[0]] * (2 * radius))

        return types.UniTuple(value, 2 * radius)(value), generate

    return sums_along, sums_down, empty_window


# ---------------------------------------------------------------------------------------------------- the kernels


@cuda.jit(**INLINED)
def place_within(position_map, position, count):
    """Return where one of `count` padded rows or columns lies; those behind them count as outside."""
    found = -1
    if position < count:
        found = place(position_map, position)
    return found


@cuda.jit(**INLINED)
def places_within(column_map, position, count):
    """Return where four padded columns lie."""
    return (
        place_within(column_map, position, count),
        place_within(column_map, position + 1, count),
        place_within(column_map, position + 2, count),
        place_within(column_map, position + 3, count),
    )


@cuda.jit(**INLINED)
def can_be_loaded_at_once(columns):
    """Return whether four columns lie side by side, the first one at a multiple of four."""
    return (
        columns[0] >= 0
        and columns[0] % LANES == 0
        and columns[1] == columns[0] + 1
        and columns[2] == columns[0] + 2
        and columns[3] == columns[0] + 3
    )


@cuda.jit(**INLINED)
def prepare(taps, tap_count, shared, row_map, first_row, padded_rows, row_places, places_start, place_count):
    """Put the taps, and where the rows of a strip lie, into shared memory."""
    tap = uint32(cuda.threadIdx.x)
    while tap < tap_count:
        write(shared, tap, read(taps, tap))
        tap = uint32(tap + cuda.blockDim.x)
    row = uint32(cuda.threadIdx.x)
    while row < place_count:
        write(row_places, places_start + row, place_within(row_map, first_row + row, padded_rows))
        row = uint32(row + cuda.blockDim.x)


@cuda.jit(**INLINED)
def source_sample(pixels, start, column, outside):
    """Return the sample of a column, which may lie outside, of a row that begins at `start`."""
    value = outside
    if column >= 0:
        value = read_pixel(pixels, start + column, outside)
    return value


@cuda.jit(**INLINED)
def source_samples(pixels, start, columns, at_once, outside):
    """Return the samples of four columns, of a row that begins at `start`."""
    if at_once:
        value = load_pixels(pixels, start + columns[0], outside)
    else:
        value = vector_of(
            source_sample(pixels, start, columns[0], outside),
            source_sample(pixels, start, columns[1], outside),
            source_sample(pixels, start, columns[2], outside),
            source_sample(pixels, start, columns[3], outside),
        )
    return value


def _make_fused(radius: int) -> Any:
    """Return the kernel for filters that reach up to `radius`."""
    sums_along, sums_down, empty_window = _make_filters(radius)
    direction_length = taps_length(radius)

    def fused(
        pixels, pixel_pitch, row_map, column_map, outside,
        taps, left, right, along_gain, above, below, down_gain,
        target, target_pitch, row_count, column_count, strip_rows, places_start,
    ):  # fmt: skip
        """Filter a strip of `strip_rows` rows along and down.

        The padding is `radius` wide on all sides. The taps reach `left` and `right`, then `above` and `below`; those
        of the first direction come first. Shared memory has room for them, for twice the rows that are filtered side
        by side, and, from element `places_start` on, for where the padded rows of the strip lie.
        """
        shared, row_places = shared_memory(taps), shared_memory(row_map)
        thread, threads = uint32(cuda.threadIdx.x), uint32(cuda.blockDim.x)
        first_row = uint32(cuda.blockIdx.y * strip_rows)
        last_row = min(uint32(first_row + strip_rows), row_count)
        place_count = uint32(last_row - first_row + 2 * radius + ROWS_AT_A_TIME - 1)
        prepare(
            taps, 2 * direction_length, shared,
            row_map, first_row, uint32(row_count + 2 * radius), row_places, places_start, place_count,
        )  # fmt: skip
        cuda.syncthreads()

        # A thread's own columns, and one of those beside the block's; all in padded positions.
        block_column = uint32(cuda.blockIdx.x * threads * LANES)
        column = uint32(block_column + thread * LANES)
        padded_columns = uint32(column_count + 2 * radius)
        columns = places_within(column_map, column + radius, padded_columns)
        at_once = can_be_loaded_at_once(columns)
        beside = thread
        if thread >= radius:
            beside = uint32(thread + threads * LANES)
        beside_column = -1
        if thread < 2 * radius:
            beside_column = place_within(column_map, block_column + beside, padded_columns)

        line_length = uint32(threads * LANES + 2 * radius)
        row = first_row
        buffer = uint32(2 * direction_length)
        other_buffer = uint32(buffer + ROWS_AT_A_TIME * line_length)
        value = vector_of(zero(taps), zero(taps), zero(taps), zero(taps))
        window = empty_window(value)
        values = references = filtered = window[:ROWS_AT_A_TIME]
        while row < last_row + 2 * radius:
            for offset in range(ROWS_AT_A_TIME):
                source_row = read(row_places, places_start + row - first_row + offset)
                value = vector_of(outside, outside, outside, outside)
                sample = outside
                if source_row >= 0:
                    start = uint32(source_row * pixel_pitch)
                    value = source_samples(pixels, start, columns, at_once, outside)
                    sample = source_sample(pixels, start, beside_column, outside)
                values = moved_on(values, value)
                line = uint32(buffer + offset * line_length)
                store_pixels(shared, line + radius + thread * LANES, value)
                if thread < 2 * radius:
                    write(shared, line + beside, sample)
            cuda.syncthreads()
            for offset in range(ROWS_AT_A_TIME):
                references = moved_on(references, moderate_or_zero(values[offset]))
            start = uint32(buffer + radius + thread * LANES)
            totals = sums_along(shared, 0, left, right, start, line_length, values, references)
            for offset in range(ROWS_AT_A_TIME):
                filtered = moved_on(filtered, multiply_add(along_gain, references[offset], totals[offset]))
            if row >= first_row + 2 * radius and column < column_count:
                for offset in range(ROWS_AT_A_TIME):
                    references = moved_on(references, moderate_or_zero(window[radius + offset]))
                totals = sums_down(shared, direction_length, above, below, window, filtered, references)
                for offset in range(ROWS_AT_A_TIME):
                    target_row = uint32(row + offset - 2 * radius)
                    if target_row < last_row:
                        result = put_back(references[offset], totals[offset], down_gain, target)
                        store_some(target, target_row * target_pitch + column, column_count - column, result)
            window = moved_on(window, filtered)
            row = uint32(row + ROWS_AT_A_TIME)
            # Some threads may still read the one while others write the other.
            buffer, other_buffer = other_buffer, buffer

    return fused


def entry_points(pixel: Any, target: Any, sums: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return each entry point with the Numba types of its arguments."""
    size, places = types.uint32, types.CPointer(types.int32)
    source = types.CPointer(pixel), size, places, places, sums
    fir = size, size, sums
    result = types.CPointer(target), size, size, size, size, size
    arguments = (*source, types.CPointer(sums), *fir, *fir, *result)
    return {f"fused{radius}": (_make_fused(radius), arguments) for radius in RADII[sums.name]}
