"""The oracle: filters by their definition, in float64, with nothing of blurfast and nothing of scipy.

Slow and obvious on purpose. Each edge mode is a rule for one position; each weight is one evaluated formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SIGMAS = 8.0
"""Where the Gaussian is cut unless told: the tails that are left out have 1e-15 of its mass."""


def source_index(position: int, length: int, mode: str) -> int | None:
    """Return the pixel of a line that stands at `position`, or None where mode ``constant`` puts its value."""
    while not 0 <= position < length:
        before = position < 0
        match mode:
            case "constant":
                return None
            case "nearest":
                position = 0 if before else length - 1
            case "wrap":
                position += length if before else -length
            case "reflect":
                position = (-1 if before else 2 * length - 1) - position
            case "mirror":
                position = (0 if before else 2 * (length - 1)) - position if length > 1 else 0
            case _:
                raise ValueError(mode)
    return position


def weights(sigma: float, order: int = 0, truncate: float = SIGMAS) -> Floats:
    """Return the weights of a correlation: sampled, normalised at order 0, differentiated by hand."""
    if sigma == 0:
        return np.ones(1)
    radius = int(truncate * sigma + 0.5)
    offsets = range(-radius, radius + 1)
    total = math.fsum(math.exp(-(x**2) / (2 * sigma**2)) for x in offsets)
    # A convolution takes the kernel at minus the offset.
    return np.array([_derivative(-x, sigma, order) * math.exp(-(x**2) / (2 * sigma**2)) / total for x in offsets])


def _derivative(x: float, sigma: float, order: int) -> float:
    """Return what differentiating a Gaussian `order` times multiplies it by."""
    variance = sigma**2
    return (
        1.0,
        -x / variance,
        (x**2 - variance) / variance**2,
        -(x**3 - 3 * x * variance) / variance**3,
    )[order]


def extend(image: Floats, rows: int, columns: int, mode: str, cval: float = 0.0) -> Floats:
    """Return a 2-D image with so many rows added on either side, and so many columns."""
    extended = np.full((image.shape[0] + 2 * rows, image.shape[1] + 2 * columns), float(cval))
    row_sources = [source_index(row - rows, image.shape[0], mode) for row in range(extended.shape[0])]
    column_sources = [source_index(column - columns, image.shape[1], mode) for column in range(extended.shape[1])]
    kept_columns = [index for index, source in enumerate(column_sources) if source is not None]
    sources = [source for source in column_sources if source is not None]
    for row, source in enumerate(row_sources):
        if source is not None:
            extended[row, kept_columns] = image[source, sources]
    return extended


def correlate(image: Floats, vertical: Floats, horizontal: Floats, mode: str, cval: float = 0.0) -> Floats:
    """Correlate with a column of weights, then with a row of them. The image is extended once, before both."""
    height, width = image.shape
    extended = extend(image, vertical.size // 2, horizontal.size // 2, mode, cval)
    columns_done = np.zeros((height, extended.shape[1]))
    for offset, weight in enumerate(vertical):
        columns_done += weight * extended[offset : offset + height]
    done = np.zeros((height, width))
    for offset, weight in enumerate(horizontal):
        done += weight * columns_done[:, offset : offset + width]
    return done


def correlate_kernel(
    image: Floats, kernel: Floats, mode: str, cval: float = 0.0, origin: Sequence[int] = (0, 0)
) -> Floats:
    """Correlate with a 2-D kernel, whose element ``size // 2 + origin`` multiplies the output's own position.

    Elements that are zero are left out, so that NaN and infinities stay within the others' reach.
    """
    height, width = image.shape
    top, left = (size // 2 + shift for size, shift in zip(kernel.shape, origin, strict=True))
    rows, columns = max(top, kernel.shape[0] - 1 - top), max(left, kernel.shape[1] - 1 - left)
    extended = extend(image, rows, columns, mode, cval)
    done = np.zeros((height, width))
    for row, column in zip(*np.nonzero(kernel), strict=True):
        first_row, first_column = rows - top + row, columns - left + column
        part = extended[first_row : first_row + height, first_column : first_column + width]
        done += kernel[row, column] * part
    return done


def convolve_kernel(
    image: Floats, kernel: Floats, mode: str, cval: float = 0.0, origin: Sequence[int] = (0, 0)
) -> Floats:
    """Convolve with a 2-D kernel: its mirror image stays on the same pixel, also if its size is even."""
    mirrored = [-shift - (1 if size % 2 == 0 else 0) for size, shift in zip(kernel.shape, origin, strict=True)]
    return correlate_kernel(image, kernel[::-1, ::-1], mode, cval, mirrored)


def gaussian(
    image: NDArray[Any],
    sigma: float | Sequence[float],
    *,
    order: int | Sequence[int] = 0,
    mode: str = "reflect",
    cval: float = 0.0,
    truncate: float = SIGMAS,
) -> Floats:
    """Filter a 2-D image in float64; the result is neither rounded nor saturated."""
    vertical, horizontal = (
        weights(one_sigma, one_order, truncate)
        for one_sigma, one_order in zip(_pair(sigma), map(int, _pair(order)), strict=True)
    )
    return correlate(image.astype(np.float64), vertical, horizontal, mode, cval)


def _pair(value: Any) -> tuple[float, float]:
    first, second = value if isinstance(value, Sequence) else (value, value)
    return first, second


def as_pixels(exact: Floats, dtype: Any) -> NDArray[Any]:
    """Return float64 results as pixels: integers rounded half to even and saturated, floats to the nearest."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return exact.astype(dtype)
    if dtype.kind == "b":
        return exact > 0.5
    limits = np.iinfo(dtype)
    rounded = np.array([[min(max(round(value), limits.min), limits.max) for value in line] for line in exact.tolist()])
    return rounded.astype(dtype).reshape(exact.shape)
