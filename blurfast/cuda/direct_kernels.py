"""The kernel of the direct method: every tap of a 2-D kernel, with no assumption about them.

A thread has 16 results: four below each other, in four columns that lie a warp apart. So the threads of a warp always
read consecutive samples, whatever the channels, and each sample that a thread reads serves four results. The taps of a
row lie `channels` samples apart.

A block stages its padded tile in shared memory. Where the taps are many it does so in parts, each with the samples
that a *chunk* of the taps reaches; so the memory does not depend on the kernel. `direct.DirectGeometry` says how
large chunks are.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from numba import cuda
from numba.cuda import int32, types, uint32

from blurfast.cuda.panel_kernels import read_source, source_row, source_sample
from blurfast.cuda.separable_kernels import WARP, block_of
from blurfast.cuda.simt import (
    is_null,
    moderate_or_zero,
    moved_on,
    multiply_add,
    put_back,
    read,
    samples_of,
    shared_memory,
    subtract,
    vector_of,
    write,
    write_pixel,
    zero,
)
from blurfast.cuda.simt_values import INLINED

RESULTS = 4
"""Rows, and columns, of the results of a thread."""

BLOCK_SAMPLES = RESULTS * WARP
"""Samples in a row of a block's results."""


@cuda.jit(**INLINED)
def find_references(
    pixels, pitch, row_map, column_map, row_count, sample_count, channels, outside, first_row, first_sample,
):  # fmt: skip
    """Return what the sums of a thread's results are relative to; the first is at `first_row` and `first_sample`."""
    samples = (int32(0), int32(0), int32(0), int32(0))
    for column in range(RESULTS):
        sample = source_sample(column_map, sample_count, channels, first_sample + column * WARP)
        samples = moved_on(samples, sample)
    nothing = vector_of(outside, outside, outside, outside)
    references = (nothing, nothing, nothing, nothing)
    for offset in range(RESULTS):
        row = source_row(row_map, row_count, first_row + offset)
        values = (outside, outside, outside, outside)
        for column in range(RESULTS):
            values = moved_on(values, read_source(pixels, pitch, row, samples[column], outside))
        references = moved_on(references, moderate_or_zero(vector_of(values[0], values[1], values[2], values[3])))
    return references


@cuda.jit(**INLINED)
def load_row(tile, start):
    """Load what one tap of a thread's results in one row meets."""
    return vector_of(
        read(tile, start),
        read(tile, start + WARP),
        read(tile, start + 2 * WARP),
        read(tile, start + 3 * WARP),
    )


@cuda.jit(**INLINED)
def next_tap(window, totals, references, tile, start, tap):
    """Move the window down by a row, and add a tap's share; a zero must not meet infinities, and costs nothing."""
    window = moved_on(window, load_row(tile, start))
    if tap != zero(tap):
        totals = (
            multiply_add(tap, subtract(window[0], references[0]), totals[0]),
            multiply_add(tap, subtract(window[1], references[1]), totals[1]),
            multiply_add(tap, subtract(window[2], references[2]), totals[2]),
            multiply_add(tap, subtract(window[3], references[3]), totals[3]),
        )
    return window, totals


@cuda.jit(**INLINED)
def stage_tile(
    tile, tile_start, height, pitch,
    pixels, pixel_pitch, row_map, column_map, row_count, sample_count, channels, outside, first_row, first_sample,
):  # fmt: skip
    """Copy padded samples to shared memory: `height` rows of `pitch`, from a row and a sample on.

    Beyond the padded pixels the last ones are repeated, for results that nobody wants and for taps that are zero.
    """
    offset = uint32(cuda.threadIdx.x)
    while offset < pitch:
        sample = source_sample(column_map, sample_count, channels, first_sample + offset)
        row = uint32(cuda.threadIdx.y)
        while row < height:
            source = source_row(row_map, row_count, first_row + row)
            value = read_source(pixels, pixel_pitch, source, sample, outside)
            write(tile, tile_start + row * pitch + offset, value)
            row = uint32(row + cuda.blockDim.y)
        offset = uint32(offset + WARP)


@cuda.jit(**INLINED)
def stage_taps(shared, taps, start, count):
    """Copy the taps of a chunk to the beginning of the shared memory."""
    tap = uint32(cuda.threadIdx.y * WARP + cuda.threadIdx.x)
    while tap < count:
        write(shared, tap, read(taps, start + tap))
        tap = uint32(tap + cuda.blockDim.y * WARP)


@cuda.jit(**INLINED)
def add_chunk(shared, start, pitch, channels, chunk_rows, chunk_columns, totals, references):
    """Add the shares of the taps of a chunk, column by column; the thread's part of the tile begins at `start`."""
    tap = uint32(0)
    for column in range(chunk_columns):
        at = uint32(start + column * channels)
        first = load_row(shared, at)
        window = (first, first, load_row(shared, at + pitch), load_row(shared, at + 2 * pitch))
        at = uint32(at + 3 * pitch)
        end = uint32(tap + chunk_rows)
        while tap < end:
            # Four times, after which all of the window is new: no sample moves from register to register.
            window, totals = next_tap(window, totals, references, shared, at, read(shared, tap))
            window, totals = next_tap(window, totals, references, shared, at + pitch, read(shared, tap + 1))
            window, totals = next_tap(window, totals, references, shared, at + 2 * pitch, read(shared, tap + 2))
            window, totals = next_tap(window, totals, references, shared, at + 3 * pitch, read(shared, tap + 3))
            at = uint32(at + RESULTS * pitch)
            tap = uint32(tap + RESULTS)
    return totals


def correlate(
    condition, pixels, pixel_pitch, row_map, column_map, row_count, sample_count, channels, outside,
    taps, chunk_rows, chunk_columns, chunks_down, chunks_across, reference_row, reference_sample, gain,
    target, target_pitch, target_rows, target_samples,
):  # fmt: skip
    """Filter a padded tile, unless `condition` points to a zero.

    The taps of each chunk lie together, column by column; those beyond the kernel's own are zeros.
    """
    if not is_null(condition) and read(condition, 0) == 0:
        return
    shared = shared_memory(taps)
    tap_count = uint32(chunk_rows * chunk_columns)
    pitch = uint32(BLOCK_SAMPLES + (chunk_columns - 1) * channels)
    height = uint32(cuda.blockDim.y * RESULTS + chunk_rows - 1)
    row_block, column_block = block_of(target_samples, BLOCK_SAMPLES)
    block_row, block_sample = uint32(row_block * cuda.blockDim.y * RESULTS), uint32(column_block * BLOCK_SAMPLES)
    row, sample = uint32(cuda.threadIdx.y * RESULTS), uint32(cuda.threadIdx.x)
    start = uint32(tap_count + row * pitch + sample)
    row, sample = uint32(block_row + row), uint32(block_sample + sample)
    references = find_references(
        pixels, pixel_pitch, row_map, column_map, row_count, sample_count, channels, outside,
        row + reference_row, sample + reference_sample,
    )  # fmt: skip
    nothing = vector_of(zero(taps), zero(taps), zero(taps), zero(taps))
    totals = (nothing, nothing, nothing, nothing)
    for down in range(chunks_down):
        for across in range(chunks_across):
            cuda.syncthreads()
            stage_tile(
                shared, tap_count, height, pitch, pixels, pixel_pitch, row_map, column_map, row_count, sample_count,
                channels, outside, block_row + down * chunk_rows, block_sample + across * chunk_columns * channels,
            )  # fmt: skip
            stage_taps(shared, taps, uint32((down * chunks_across + across) * tap_count), tap_count)
            cuda.syncthreads()
            totals = add_chunk(shared, start, pitch, channels, chunk_rows, chunk_columns, totals, references)
    for offset in range(RESULTS):
        if row + offset < target_rows:
            results = samples_of(put_back(references[offset], totals[offset], gain, target))
            for column in range(RESULTS):
                at = uint32(sample + column * WARP)
                if at < target_samples:
                    write_pixel(target, uint32(row + offset) * target_pitch + at, results[column])


def entry_points(pixel: Any, target: Any, sums: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return each entry point with the Numba types of its arguments."""
    pixels, targets, lines = types.CPointer(pixel), types.CPointer(target), types.CPointer(sums)
    size, places, condition = types.uint32, types.CPointer(types.int32), types.CPointer(types.uint32)
    source = pixels, size, places, places, size, size, size, sums
    kernel = lines, size, size, size, size, size, size, sums
    return {"correlate": (correlate, (condition, *source, *kernel, targets, size, size, size))}
