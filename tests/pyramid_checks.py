"""What the smaller versions of images have to be, and how they are read from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

ERRORS = {"float16": 1e-3, "float32": 1e-7, "float64": 1e-15}
"""How much the rounding of means, relative to the largest pixel, may come to: nothing for integers."""


def noise(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> NDArray[Any]:
    """Return random pixels over most of a dtype's range."""
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return generator.normal(0, 100, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return generator.integers(max(limits.min, -(1 << 40)), min(limits.max, 1 << 40), shape, dtype, endpoint=True)


def halved(image: NDArray[Any], alpha: int | None = None) -> NDArray[Any]:
    """Return the means of all blocks of 2 x 2 pixels, as far as there are; `image` is (rows, columns, channels)."""
    rows, columns, channels = image.shape
    exact = np.full((rows + rows % 2, columns + columns % 2, channels), np.nan)
    exact[:rows, :columns] = image
    blocks = exact.reshape(len(exact) // 2, 2, -1, 2, channels)
    opacity = np.ones_like(blocks[..., :1]) if alpha is None else np.nan_to_num(blocks[..., alpha : alpha + 1])
    weights = np.repeat(opacity, channels, axis=-1)
    if alpha is not None:
        weights[..., alpha] = 1
    is_valid = ~np.isnan(blocks)
    total = (np.where(is_valid, blocks, 0) * weights).sum(axis=(1, 3))
    weight = (is_valid * weights).sum(axis=(1, 3))
    without_weight = np.where(is_valid.any(axis=(1, 3)), 0, np.nan)
    mean = np.where(weight > 0, total / np.where(weight > 0, weight, 1), without_weight)
    return mean.astype(image.dtype) if image.dtype.kind == "f" else np.rint(mean).astype(image.dtype)


def assert_halves(image: NDArray[Any], smaller: NDArray[Any], times: int = 1, alpha: int | None = None) -> None:
    """Assert that one image is the other one, halved so often."""
    expected = image if image.ndim == 3 else image[..., np.newaxis]
    for _ in range(times):
        expected = halved(expected, alpha)
    result = smaller if smaller.ndim == 3 else smaller[..., np.newaxis]
    assert result.dtype == expected.dtype
    error = ERRORS.get(str(expected.dtype), 0)
    np.testing.assert_allclose(result, expected, rtol=error, atol=error * np.abs(image.astype(float)).max())


def sub_pages(path: Path, page: int = 0) -> list[tifffile.TiffPage]:
    """Return the pages in the SubIFDs of a page."""
    with tifffile.TiffFile(path) as tiff:
        return list(tiff.pages[page].aspage().pages or [])


def read_levels(path: Path, page: int = 0) -> list[NDArray[Any]]:
    """Return a page and the images in its SubIFDs."""
    with tifffile.TiffFile(path) as tiff:
        image = tiff.pages[page].aspage()
        return [level.asarray() for level in (image, *(image.pages or ()))]


def read_chain(path: Path) -> list[NDArray[Any]]:
    """Return the images of all pages."""
    with tifffile.TiffFile(path) as tiff:
        return [page.asarray() for page in tiff.pages]
