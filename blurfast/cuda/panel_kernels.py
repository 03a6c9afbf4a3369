"""Kernels that carry a tile into scratch memory and out of it, for methods that work on a whole padded tile.

A *panel* holds the padded pixels of one tile as sums, one plane per channel, since a transform takes channels apart.
`weight` and `unweight` are for images whose colours are weighted by their opacity; those keep their channels
interleaved, as they are.

Threads of a warp take consecutive samples of the image, whose channels are interleaved, so that they read and write
whole sectors of memory whatever the channels.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from numba import cuda
from numba.cuda import int32, types, uint32

from blurfast.cuda.separable_kernels import block_of
from blurfast.cuda.simt import (
    increment,
    is_moderate,
    load_complex,
    moderate_or_zero,
    multiply_add,
    place,
    put_back,
    read,
    read_pixel,
    shared_memory,
    store_complex,
    subtract,
    write,
    write_pixel,
    zero,
)
from blurfast.cuda.simt_values import INLINED

ROWS_PER_THREAD = 4

SAMPLES_PER_SIDE = 16
"""Rows, and columns, of the pixels that `find_references` looks at."""


@cuda.jit(**INLINED)
def source_row(row_map, row_count, row):
    """Return the row of the source that a padded one is, or -1 for outside; beyond the last one, that one's."""
    return place(row_map, min(uint32(row), uint32(row_count - 1)))


@cuda.jit(**INLINED)
def source_sample(column_map, sample_count, channels, sample):
    """Return the sample of a source row that a padded one is, or -1 for outside; beyond the last one, that one's."""
    sample = min(uint32(sample), uint32(sample_count - 1))
    pixel = uint32(sample // channels)
    column = place(column_map, pixel)
    return int32(column * channels + (sample - pixel * channels)) if column >= 0 else int32(-1)


@cuda.jit(**INLINED)
def read_source(pixels, pitch, row, sample, outside):
    """Read a sample of the source, or `outside` if its row or its sample is -1."""
    if row < 0 or sample < 0:
        return outside
    return read_pixel(pixels, uint32(row) * pitch + sample, outside)


def find_references(
    pixels, pixel_pitch, row_map, column_map, row_count, sample_count, channels, outside, references,
):  # fmt: skip
    """Write the median of some pixels of each channel: a value that is typical, and the very value where it is flat.

    Each block takes one channel, and each of its threads one pixel. A pixel is the median if half of all come before
    it, in the order of their values, and of their threads where those are equal; so exactly one is.
    """
    values = shared_memory(references)
    channel, own = uint32(cuda.blockIdx.x), uint32(cuda.threadIdx.x)
    count = SAMPLES_PER_SIDE * SAMPLES_PER_SIDE
    row = uint32((own // SAMPLES_PER_SIDE * 2 + 1) * row_count // (2 * SAMPLES_PER_SIDE))
    column = uint32((own % SAMPLES_PER_SIDE * 2 + 1) * (sample_count // channels) // (2 * SAMPLES_PER_SIDE))
    sample = source_sample(column_map, sample_count, channels, column * channels + channel)
    value = read_source(pixels, pixel_pitch, source_row(row_map, row_count, row), sample, outside)
    value = moderate_or_zero(value)
    write(values, own, value)
    cuda.syncthreads()
    before = uint32(0)
    for other in range(count):
        another = read(values, other)
        if another < value or (another == value and other < own):
            before = uint32(before + 1)
    if before == count // 2:
        write(references, channel, value)


def pack(
    pixels, pixel_pitch, row_map, column_map, row_count, sample_count, channels, outside,
    references, most, extreme_count, panel, panel_rows, panel_pitch,
):  # fmt: skip
    """Fill a panel with what pixels differ from their channel's reference by, and with zeros beyond them.

    Pixels that are NaN, or not below `most` in magnitude, are added to `extreme_count`.
    """
    row_block, column_block = block_of(panel_pitch * channels, cuda.blockDim.x)
    sample = uint32(column_block * cuda.blockDim.x + cuda.threadIdx.x)
    if sample >= panel_pitch * channels:
        return
    column = uint32(sample // channels)
    channel = uint32(sample - column * channels)
    source = source_sample(column_map, sample_count, channels, sample)
    reference = read(references, channel)
    for offset in range(ROWS_PER_THREAD):
        row = uint32(row_block * ROWS_PER_THREAD + offset)
        if row < panel_rows:
            difference = zero(panel)
            if row < row_count and sample < sample_count:
                value = read_source(pixels, pixel_pitch, place(row_map, row), source, outside)
                difference = subtract(value, reference)
                if not is_moderate(value, most):
                    increment(extreme_count)
            write(panel, (channel * panel_rows + row) * panel_pitch + column, difference)


def multiply(panel, spectrum, element_count, planes):
    """Multiply each plane's spectrum, of `element_count` complex numbers, by one spectrum."""
    element = uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if element >= element_count:
        return
    real, imaginary = load_complex(spectrum, element)
    for plane in range(planes):
        at = plane * element_count + element
        panel_real, panel_imaginary = load_complex(panel, at)
        store_complex(
            panel,
            at,
            multiply_add(panel_real, real, -panel_imaginary * imaginary),
            multiply_add(panel_real, imaginary, panel_imaginary * real),
        )


def finish(
    panel, panel_rows, panel_pitch, references, gain,
    target, target_pitch, channels, row_count, sample_count,
):  # fmt: skip
    """Add `gain` times their channel's reference to the first samples of a panel, and write pixels."""
    row_block, column_block = block_of(sample_count, cuda.blockDim.x)
    sample = uint32(column_block * cuda.blockDim.x + cuda.threadIdx.x)
    if sample >= sample_count:
        return
    column = uint32(sample // channels)
    channel = uint32(sample - column * channels)
    reference = read(references, channel)
    for offset in range(ROWS_PER_THREAD):
        row = uint32(row_block * ROWS_PER_THREAD + offset)
        if row < row_count:
            total = read(panel, (channel * panel_rows + row) * panel_pitch + column)
            write_pixel(target, row * target_pitch + sample, put_back(reference, total, gain, target))


def weight(pixels, pixel_pitch, channels, alpha, target, target_pitch, row_count, sample_count):
    """Multiply colours by the opacity of their pixel, which channel `alpha` is and stays."""
    row_block, column_block = block_of(sample_count, cuda.blockDim.x)
    sample = uint32(column_block * cuda.blockDim.x + cuda.threadIdx.x)
    if sample >= sample_count:
        return
    channel = uint32(sample % channels)
    for offset in range(ROWS_PER_THREAD):
        row = uint32(row_block * ROWS_PER_THREAD + offset)
        if row < row_count:
            start = uint32(row * pixel_pitch + sample)
            value = read_pixel(pixels, start, target)
            if channel != alpha:
                value = value * read_pixel(pixels, start - channel + alpha, target)
            write(target, row * target_pitch + sample, value)


def unweight(sums, sum_pitch, channels, alpha, target, target_pitch, row_count, sample_count):
    """Divide colours by the opacity of their pixel, and write pixels; where nothing is opaque, colours are zero."""
    row_block, column_block = block_of(sample_count, cuda.blockDim.x)
    sample = uint32(column_block * cuda.blockDim.x + cuda.threadIdx.x)
    if sample >= sample_count:
        return
    channel = uint32(sample % channels)
    for offset in range(ROWS_PER_THREAD):
        row = uint32(row_block * ROWS_PER_THREAD + offset)
        if row < row_count:
            start = uint32(row * sum_pitch + sample)
            value = read(sums, start)
            if channel != alpha:
                opacity = read(sums, start - channel + alpha)
                value = value / opacity if opacity > zero(sums) else value - value
            write_pixel(target, row * target_pitch + sample, value)


def entry_points(pixel: Any, target: Any, sums: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return each entry point with the Numba types of its arguments."""
    pixels, targets, lines = types.CPointer(pixel), types.CPointer(target), types.CPointer(sums)
    size, places, counter = types.uint32, types.CPointer(types.int32), types.CPointer(types.uint32)
    source = pixels, size, places, places, size, size, size, sums
    return {
        "find_references": (find_references, (*source, lines)),
        "pack": (pack, (*source, lines, sums, counter, lines, size, size)),
        "multiply": (multiply, (lines, lines, size, size)),
        "finish": (finish, (lines, size, size, lines, sums, targets, size, size, size, size)),
        "weight": (weight, (pixels, size, size, size, lines, size, size, size)),
        "unweight": (unweight, (lines, size, size, size, targets, size, size, size)),
    }
