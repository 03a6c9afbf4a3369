"""Kernels that make an image half as large: each pixel becomes the mean of four.

Where an image has an odd number of rows or columns, the last ones stand for the missing ones too, so that the pixels
along that edge are means of two, or one.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from math import isnan
from typing import Any

from numba import njit, types

from blurfast.cpu.separable_kernels import OPTIONS
from blurfast.cpu.simd import read_pixel, write_pixel

__all__ = ["OPTIONS", "entry_points", "halve"]


@njit(**OPTIONS)
def add_valid(total, count, value):
    """Return a sum and the number of its terms, with one more unless that is NaN."""
    if isnan(value):
        return total, count
    return total + value, count + 1


@njit(**OPTIONS)
def mean(first, second, third, fourth):
    """Return the mean of those that are not NaN; NaN if all are."""
    total = (first + second) + (third + fourth)
    if not isnan(total):
        return total * 0.25
    total, count = 0.0, 0
    total, count = add_valid(total, count, first)
    total, count = add_valid(total, count, second)
    total, count = add_valid(total, count, third)
    total, count = add_valid(total, count, fourth)
    return total / count


@njit(**OPTIONS)
def halve_row(source, top, bottom, column_count, channels, channel, target, target_start, sums):
    """Average one channel of two rows, and of each two columns."""
    column = 0
    while column + 1 < column_count:
        left = column * channels + channel
        right = left + channels
        value = mean(
            read_pixel(source, top + left, sums), read_pixel(source, top + right, sums),
            read_pixel(source, bottom + left, sums), read_pixel(source, bottom + right, sums),
        )  # fmt: skip
        write_pixel(target, target_start + column // 2 * channels + channel, value)
        column += 2
    if column < column_count:
        last = column * channels + channel
        above, below = read_pixel(source, top + last, sums), read_pixel(source, bottom + last, sums)
        write_pixel(target, target_start + column // 2 * channels + channel, mean(above, above, below, below))


@njit(**OPTIONS)
def add_weighted(total, weights, source, index, opacity, sums):
    """Return a sum of weighted colours and that of the weights, with one more unless that is NaN."""
    value = read_pixel(source, index, sums) * opacity
    if isnan(value):
        return total, weights
    return total + value, weights + opacity


@njit(**OPTIONS)
def halve_weighted_pixel(source, pixel0, pixel1, pixel2, pixel3, channels, alpha, target, to, sums):
    """Average four pixels, their colours weighted by their opacity. Without any, the colours become zero."""
    opacity0, opacity1 = read_pixel(source, pixel0 + alpha, sums), read_pixel(source, pixel1 + alpha, sums)
    opacity2, opacity3 = read_pixel(source, pixel2 + alpha, sums), read_pixel(source, pixel3 + alpha, sums)
    for channel in range(channels):
        if channel == alpha:
            value = mean(opacity0, opacity1, opacity2, opacity3)
        else:
            total, weights = 0.0, 0.0
            total, weights = add_weighted(total, weights, source, pixel0 + channel, opacity0, sums)
            total, weights = add_weighted(total, weights, source, pixel1 + channel, opacity1, sums)
            total, weights = add_weighted(total, weights, source, pixel2 + channel, opacity2, sums)
            total, weights = add_weighted(total, weights, source, pixel3 + channel, opacity3, sums)
            value = total / weights if weights > 0 else 0.0
        write_pixel(target, to + channel, value)


def halve(
    source, source_pitch, row_count, column_count, channels, alpha, target, target_pitch, sums
):  # fmt: skip
    """Average blocks of 2 x 2 pixels, with an `alpha` of at least 0 weighted by that channel.

    `row_count` and `column_count` are those of `source`; nothing is read of `sums` but its type.
    """
    for target_row in range((row_count + 1) // 2):
        top, to = 2 * target_row * source_pitch, target_row * target_pitch
        bottom = top + source_pitch if 2 * target_row + 1 < row_count else top
        if alpha >= 0:
            for column in range((column_count + 1) // 2):
                left = 2 * column * channels
                right = left + channels if 2 * column + 1 < column_count else left
                halve_weighted_pixel(
                    source, top + left, top + right, bottom + left, bottom + right, channels, alpha, target,
                    to + column * channels, sums,
                )  # fmt: skip
        elif channels == 1:  # with neighbours at a known distance, the loop is vectorised
            halve_row(source, top, bottom, column_count, 1, 0, target, to, sums)
        else:
            for channel in range(channels):
                halve_row(source, top, bottom, column_count, channels, channel, target, to, sums)


def entry_points(pixel: Any, sums: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return each entry point with the Numba types of its arguments, for one type of pixel and of sums."""
    pixels, size = types.CPointer(pixel), types.int64
    return {"halve": (halve, (pixels, size, size, size, size, size, pixels, size, types.CPointer(sums)))}
