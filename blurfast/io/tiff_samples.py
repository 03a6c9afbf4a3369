"""Samples that are not the pixels to be filtered yet: too few bits to calculate with, or indices of a palette.

Samples of 1 to 7 bits are spread over the range of uint8, so that the result looks like the input and has room for
the shades between its few levels; libvips does so, too. Samples of 9 to 31 bits are measurements more often than
pictures: they keep their values, as in GDAL, in the next wider type. Indices become the colours they stand for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, TiffPage

from blurfast.errors import UnreadableError
from blurfast.io.tiff_tags import COLOR_MAP
from blurfast.pixels import Pixels

_MOST_SPREAD_BITS = 7


@dataclass(frozen=True, eq=False)
class StoredSamples:
    """How the samples in a file differ from the pixels that they stand for.

    Parameters
    ----------
    bits
        Of each sample. Rows start at whole bytes.
    photometric
        The meaning of the samples, as the tag numbers it.
    dtype
        What samples are unpacked to.
    table
        What each value of a sample stands for: one number, or for palettes a row with one for each colour. None where
        values stand for themselves.
    """

    bits: int
    photometric: int
    dtype: np.dtype[Any]
    table: NDArray[Any] | None = None

    @property
    def is_palette(self) -> bool:
        """Whether samples are indices, one for each pixel."""
        return self.photometric == PHOTOMETRIC.PALETTE

    @property
    def pixel_dtype(self) -> np.dtype[Any]:
        """The type of the pixels' channels."""
        return self.dtype if self.table is None else self.table.dtype

    @property
    def description(self) -> str:
        """What the samples are, in plain words."""
        return f"{self.bits}-bit {'palette indices' if self.is_palette else 'samples'}"

    @property
    def notice(self) -> str:
        """What becomes of the samples, in plain words."""
        if self.is_palette:
            return f"palette colours are written as RGB, in {self.pixel_dtype}"
        if self.table is None:
            return f"{self.bits}-bit samples are written as {self.pixel_dtype}, with the same values"
        values = "as 0 and 255" if self.bits == 1 else "spread from 0 to 255"
        black = ", with 0 for black" if self.photometric == PHOTOMETRIC.MINISWHITE else ""
        return f"{self.bits}-bit samples are written as {self.pixel_dtype}, {values}{black}"

    def pixels(self, samples: NDArray[Any]) -> Pixels:
        """Return the pixels that samples stand for, both shaped (rows, columns, channels)."""
        if self.table is None:
            return samples
        indices = samples.view(np.uint8) if samples.dtype.kind == "b" else samples
        return self.table.take(indices[..., 0] if self.is_palette else indices, axis=0)


def stored_samples(page: TiffPage, path: str) -> StoredSamples | None:
    """Return how the samples of a page differ from the pixels that they stand for, None if they do not.

    Raises
    ------
    UnreadableError
        If the page has no palette that fits its samples.
    """
    bits, photometric, dtype = int(page.bitspersample), int(page.photometric), np.dtype(page.dtype)
    if photometric == PHOTOMETRIC.PALETTE:
        return StoredSamples(bits, photometric, dtype, _colours(page, path))
    if bits <= _MOST_SPREAD_BITS:
        first, last = (255, 0) if photometric == PHOTOMETRIC.MINISWHITE else (0, 255)
        levels = np.rint(np.linspace(first, last, 1 << bits)).astype(np.uint8)
        return StoredSamples(bits, photometric, dtype, levels)
    return None if bits == 8 * dtype.itemsize else StoredSamples(bits, photometric, dtype)


def _colours(page: TiffPage, path: str) -> NDArray[Any]:
    """Return the colours of a palette, a row each: in uint8 where nothing is lost by it, else in uint16."""
    numbers = np.asarray(page.tags.valueof(COLOR_MAP, ())).ravel()
    needed = 3 << int(page.bitspersample)
    if numbers.size != needed:
        fact = f"page {page.index} has a palette of {numbers.size} numbers, where {needed} are needed"
        raise UnreadableError(fact, path=path, remedy="copy it again")
    colours = np.ascontiguousarray(numbers.astype(np.uint16).reshape(3, -1).T)
    high, low = colours >> 8, colours & 255
    if (low == high).all() or not low.any():
        return high.astype(np.uint8)
    return colours if high.any() else colours.astype(np.uint8)  # some old programs write 8-bit colours
