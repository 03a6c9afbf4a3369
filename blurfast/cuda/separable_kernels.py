"""Kernels that filter along one direction: down the columns, or along the rows.

`vertical` and `horizontal` are ordinary filters, with many results of a thread in registers. `resample_vertical` and
`resample_horizontal` do all that a `Resampler` can, with four results per thread.

A thread keeps as many values as it has results in a *window*, which moves on by one from tap to tap: a value is loaded
once for all of them. All sums are of differences from a reference, as on the CPU; here each result has its own.

The vertical kernels read the source's rows through a map, and compute all its columns. The horizontal kernels read its
columns through a map. A map at address 0 leaves all in place.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from numba import cuda
from numba.cuda import types, uint32

from blurfast.cuda.simt import (
    accumulate,
    add,
    load_pixels,
    load_some,
    moderate_or_zero,
    moved_on,
    multiply_add,
    place,
    put_back,
    read,
    read_pixel,
    shared_memory,
    store_some,
    subtract,
    vector_of,
    write,
    write_pixel,
    zero,
)
from blurfast.cuda.simt_values import INLINED, LANES

ROWS_PER_THREAD = 8
"""Results of a thread of `vertical`, each of four samples."""

RESULTS_PER_THREAD = 9
"""Results of a thread of `horizontal`, in one row and channel.

The threads of a warp read samples that lie so many pixels apart. It is odd, so that these are in different banks.
"""

ROWS_PER_BLOCK = 4
"""Rows of a block of `horizontal`, which share the work of finding columns."""

RESAMPLED_ROWS = 4
"""Results of a thread of `resample_horizontal`, for the same reason."""

WARP = 32

# So many values are loaded at a time. In between, the window's values only change their names, and are not copied.
TAPS_AT_A_TIME = 4


@cuda.jit(**INLINED)
def block_of(sample_count, block_samples):
    """Return the row and the column of the block. They are numbered one row after the other: only x has no limit."""
    block = uint32(cuda.blockIdx.x)
    across = uint32(uint32(sample_count + block_samples - 1) // uint32(block_samples))
    return uint32(block // across), uint32(block % across)


@cuda.jit(**INLINED)
def load_row(pixels, pitch, row_map, row, sample, count, outside):
    """Load the first `count` of four samples of a padded row."""
    value = vector_of(outside, outside, outside, outside)
    source_row = place(row_map, row)
    if source_row >= 0:
        value = load_some(pixels, source_row * pitch + sample, count, outside)
    return value


def vertical(
    pixels, pixel_pitch, row_map, outside,
    taps, tap_count, reference, gain,
    target, target_pitch, row_count, sample_count,
):  # fmt: skip
    """Filter down the columns; each thread takes four samples of eight rows.

    The threads of a warp lie side by side; those of a block lie below each other as well, where they find each
    other's rows in the cache.
    """
    row_block, column_block = block_of(sample_count, cuda.blockDim.x * LANES)
    sample = uint32((column_block * cuda.blockDim.x + cuda.threadIdx.x) * LANES)
    first_row = uint32((row_block * cuda.blockDim.y + cuda.threadIdx.y) * ROWS_PER_THREAD)
    if sample >= sample_count or first_row >= row_count:
        return
    count = uint32(sample_count - sample)
    last_row = uint32(row_count + tap_count - 2)
    value = vector_of(zero(taps), zero(taps), zero(taps), zero(taps))
    totals = references = (value, value, value, value, value, value, value, value)
    window, values = totals[1:], totals[:TAPS_AT_A_TIME]
    for offset in range(ROWS_PER_THREAD):
        row = min(uint32(first_row + reference + offset), last_row)
        value = load_row(pixels, pixel_pitch, row_map, row, sample, count, outside)
        references = moved_on(references, moderate_or_zero(value))
    row = first_row
    for _ in range(ROWS_PER_THREAD - 1):
        value = load_row(pixels, pixel_pitch, row_map, min(row, last_row), sample, count, outside)
        window = moved_on(window, value)
        row = uint32(row + 1)
    whole = uint32(tap_count // TAPS_AT_A_TIME * TAPS_AT_A_TIME)
    for tap in range(0, whole, TAPS_AT_A_TIME):
        for _ in range(TAPS_AT_A_TIME):
            value = load_row(pixels, pixel_pitch, row_map, min(row, last_row), sample, count, outside)
            values = moved_on(values, value)
            row = uint32(row + 1)
        totals = accumulate(totals, taps, tap, window, values, references)
        window = moved_on(window, values)
    for tap in range(whole, tap_count):
        value = load_row(pixels, pixel_pitch, row_map, min(row, last_row), sample, count, outside)
        totals = accumulate(totals, taps, tap, window, (value,), references)
        window = moved_on(window, value)
        row = uint32(row + 1)
    for offset in range(ROWS_PER_THREAD):
        row = uint32(first_row + offset)
        if row < row_count:
            result = put_back(references[offset], totals[offset], gain, target)
            store_some(target, row * target_pitch + sample, count, result)


@cuda.jit(**INLINED)
def copy_taps(taps, tap_count, shared):
    """Copy taps to the beginning of shared memory."""
    tap = uint32(cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x)
    while tap < tap_count:
        write(shared, tap, read(taps, tap))
        tap = uint32(tap + cuda.blockDim.x * cuda.blockDim.y)


@cuda.jit(**INLINED)
def fetch_rows(
    pixels, pixel_pitch, column_map, outside, channels, first_row, row_count,
    first_sample, length, padded_count, shared, segments, segment_pitch,
):  # fmt: skip
    """Copy a segment of each of a block's rows to shared memory; what is behind the padded samples is `outside`."""
    position = uint32(cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x)
    while position < length:
        sample = uint32(first_sample + position)
        channel = uint32(sample % channels)
        column = -1
        if sample < padded_count:
            column = place(column_map, sample // channels)
        for offset in range(ROWS_PER_BLOCK):
            row = uint32(first_row + offset)
            if row < row_count:
                value = outside
                if column >= 0:
                    value = read_pixel(pixels, row * pixel_pitch + column * channels + channel, outside)
                write(shared, segments + offset * segment_pitch + position, value)
        position = uint32(position + cuda.blockDim.x * cuda.blockDim.y)


def horizontal(
    pixels, pixel_pitch, column_map, outside, channels, side_by_side,
    taps, tap_count, reference, gain,
    target, target_pitch, row_count, sample_count, segment_pitch,
):  # fmt: skip
    """Filter along the rows; each row of threads takes as many samples as it has results.

    The taps are put into shared memory, and then the padded samples of four rows, `segment_pitch` apart. The results
    go back there, so that they can be stored four at a time.

    `side_by_side` channels (a power of two) are taken by neighbouring threads, and others by other warps. So if
    `channels` is `side_by_side` times an odd number, the samples that a warp reads at a time are in different banks.
    """
    shared = shared_memory(taps)
    block_samples = uint32(cuda.blockDim.x * RESULTS_PER_THREAD)
    row_block, column_block = block_of(sample_count, block_samples)
    first_row = uint32(row_block * ROWS_PER_BLOCK)
    first_sample = uint32(column_block * block_samples)
    segments = uint32((tap_count + LANES - 1) // LANES * LANES)
    padding = uint32((tap_count - 1) * channels)
    copy_taps(taps, tap_count, shared)
    fetch_rows(
        pixels, pixel_pitch, column_map, outside, channels, first_row, row_count,
        first_sample, uint32(block_samples + padding), uint32(sample_count + padding), shared, segments, segment_pitch,
    )  # fmt: skip
    cuda.syncthreads()

    thread = uint32(cuda.threadIdx.x)
    lane, warp = uint32(thread % WARP), uint32(thread // WARP)
    sets = uint32(channels // side_by_side)
    channel = uint32(uint32(warp % sets) * side_by_side + lane % side_by_side)
    run = uint32(uint32(warp // sets) * (WARP // side_by_side) + lane // side_by_side)
    row = uint32(first_row + cuda.threadIdx.y)
    segment = uint32(segments + cuda.threadIdx.y * segment_pitch)
    start = uint32(segment + run * RESULTS_PER_THREAD * channels + channel)
    value = zero(taps)
    totals = references = (value, value, value, value, value, value, value, value, value)
    window, values = totals[1:], totals[:TAPS_AT_A_TIME]
    if row < row_count:
        for offset in range(RESULTS_PER_THREAD):
            value = read(shared, start + (reference + offset) * channels)
            references = moved_on(references, moderate_or_zero(value))
        ahead = start
        for _ in range(RESULTS_PER_THREAD - 1):
            window = moved_on(window, read(shared, ahead))
            ahead = uint32(ahead + channels)
        whole = uint32(tap_count // TAPS_AT_A_TIME * TAPS_AT_A_TIME)
        for tap in range(0, whole, TAPS_AT_A_TIME):
            for _ in range(TAPS_AT_A_TIME):
                values = moved_on(values, read(shared, ahead))
                ahead = uint32(ahead + channels)
            totals = accumulate(totals, shared, tap, window, values, references)
            window = moved_on(window, values)
        for tap in range(whole, tap_count):
            value = read(shared, ahead)
            totals = accumulate(totals, shared, tap, window, (value,), references)
            window = moved_on(window, value)
            ahead = uint32(ahead + channels)
    cuda.syncthreads()

    if row < row_count:
        for offset in range(RESULTS_PER_THREAD):
            write(shared, start + offset * channels, put_back(references[offset], totals[offset], gain, target))
    cuda.syncthreads()
    if row < row_count:
        stop = min(uint32(sample_count - first_sample), block_samples)
        position = uint32(thread * LANES)
        while position < stop:
            result = load_pixels(shared, segment + position, taps)
            store_some(target, row * target_pitch + first_sample + position, uint32(stop - position), result)
            position = uint32(position + cuda.blockDim.x * LANES)


def resample_vertical(
    pixels, pixel_pitch, row_map, outside,
    taps, tap_count, up, down, phase, reference, gain,
    target, target_pitch, row_count, sample_count,
):  # fmt: skip
    """Filter down the columns as a `Resampler` does; each thread takes four samples of one row.

    The first row is the output `phase` of the padded rows.
    """
    row_block, column_block = block_of(sample_count, cuda.blockDim.x * LANES)
    sample = uint32((column_block * cuda.blockDim.x + cuda.threadIdx.x) * LANES)
    row = uint32(row_block * cuda.blockDim.y + cuda.threadIdx.y)
    if sample >= sample_count or row >= row_count:
        return
    count = uint32(sample_count - sample)
    output = uint32(phase + row)
    first_row = uint32(output // up * down)
    first_tap = uint32(output % up * tap_count)
    value = load_row(pixels, pixel_pitch, row_map, uint32(first_row + reference), sample, count, outside)
    centre = moderate_or_zero(value)
    total = vector_of(zero(taps), zero(taps), zero(taps), zero(taps))
    for tap in range(tap_count):
        value = load_row(pixels, pixel_pitch, row_map, uint32(first_row + tap), sample, count, outside)
        total = multiply_add(read(taps, first_tap + tap), subtract(value, centre), total)
    store_some(target, row * target_pitch + sample, count, put_back(centre, total, gain, target))


def resample_horizontal(
    pixels, pixel_pitch, column_map, outside, channels,
    taps, tap_count, up, down, phase, reference, gain,
    target, target_pitch, row_count, sample_count,
):  # fmt: skip
    """Filter along the rows as a `Resampler` does; each thread takes one sample of four rows.

    The first column is the output `phase` of the padded columns.
    """
    row_block, column_block = block_of(sample_count, cuda.blockDim.x)
    sample = uint32(column_block * cuda.blockDim.x + cuda.threadIdx.x)
    first_row = uint32((row_block * cuda.blockDim.y + cuda.threadIdx.y) * RESAMPLED_ROWS)
    if sample >= sample_count or first_row >= row_count:
        return
    channel = uint32(sample % channels)
    output = uint32(phase + sample // channels)
    first_column = uint32(output // up * down)
    first_tap = uint32(output % up * tap_count)
    value = zero(taps)
    totals = references = (value, value, value, value)
    column = place(column_map, first_column + reference)
    for offset in range(RESAMPLED_ROWS):
        row = min(uint32(first_row + offset), uint32(row_count - 1))
        value = outside
        if column >= 0:
            value = read_pixel(pixels, row * pixel_pitch + column * channels + channel, taps)
        references = moved_on(references, moderate_or_zero(value))
    for tap in range(tap_count):
        column = place(column_map, first_column + tap)
        for offset in range(RESAMPLED_ROWS):
            row = min(uint32(first_row + offset), uint32(row_count - 1))
            value = outside
            if column >= 0:
                value = read_pixel(pixels, row * pixel_pitch + column * channels + channel, taps)
            total = multiply_add(read(taps, first_tap + tap), subtract(value, references[offset]), totals[0])
            totals = moved_on(totals, total)
    for offset in range(RESAMPLED_ROWS):
        row = uint32(first_row + offset)
        if row < row_count:
            result = put_back(references[offset], totals[offset], gain, target)
            write_pixel(target, row * target_pitch + sample, result)


def add_up(
    planes, pitch, plane_size, plane_count,
    target, target_pitch, row_count, sample_count,
):  # fmt: skip
    """Add up planes of results, and store them as pixels; each thread takes four samples of one row."""
    row_block, column_block = block_of(sample_count, cuda.blockDim.x * LANES)
    sample = uint32((column_block * cuda.blockDim.x + cuda.threadIdx.x) * LANES)
    row = uint32(row_block * cuda.blockDim.y + cuda.threadIdx.y)
    if sample >= sample_count or row >= row_count:
        return
    count = uint32(sample_count - sample)
    start = uint32(row * pitch + sample)
    total = load_some(planes, start, count, planes)
    for plane in range(1, plane_count):
        total = add(total, load_some(planes, start + plane * plane_size, count, planes))
    store_some(target, row * target_pitch + sample, count, total)


def entry_points(pixel: Any, target: Any, sums: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return each entry point with the Numba types of its arguments."""
    size, lines = types.uint32, types.CPointer(sums)
    source = types.CPointer(pixel), size, types.CPointer(types.int32), sums
    fir = lines, size, size, sums
    resampling = lines, size, size, size, size, size, sums
    result = types.CPointer(target), size, size, size
    return {
        "vertical": (vertical, (*source, *fir, *result)),
        "horizontal": (horizontal, (*source, size, size, *fir, *result, size)),
        "resample_vertical": (resample_vertical, (*source, *resampling, *result)),
        "add_up": (add_up, (lines, size, size, size, *result)),
        "resample_horizontal": (resample_horizontal, (*source, size, *resampling, *result)),
    }
