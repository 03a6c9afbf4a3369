"""The smaller versions of images that TIFF files hold, which make pyramids of them.

They are recognised by their sizes: each side is that of the image, halved once or several times. So they can be made
anew from the filtered image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from tifffile import TiffPage

from blurfast.io.positioned import PositionedFile
from blurfast.io.tiff_directories import DirectoryReader
from blurfast.io.tiff_tags import LONG, SHORT, ByteLayout

SUBFILE_TYPE, SUB_DIRECTORIES = 254, 330
REDUCED = 1
"""The value of `SUBFILE_TYPE` that stands for a smaller version."""

SMALLEST_SIDE = 256
"""A pyramid ends at the first level that has no longer side."""

_COG_MARK, _COG_LAYOUT = b"GDAL_STRUCTURAL_METADATA_SIZE=", b"LAYOUT=IFDS_BEFORE_DATA"
_MOST_MARK_BYTES = 512
_MOST_SUB_DIRECTORIES = 64
_WIDTH, _HEIGHT, _SAMPLES = 256, 257, 277
_SIZE_TAGS = frozenset({SUBFILE_TYPE, _WIDTH, _HEIGHT, _SAMPLES})


class PageLevels(NamedTuple):
    """The smaller versions of a page.

    Parameters
    ----------
    exponents
        How often the image is halved for each of them, in rising order.
    are_chained
        Whether their directories follow that of the image, as GDAL and the makers of most slides have it, or are
        SubIFDs, as in OME-TIFF.
    come_last
        Whether their directories follow those of all images instead, as in slides.
    are_marked
        Whether they say of themselves that they are smaller versions. Those of Aperio do not, and are told by that.
    has_thumbnail
        Whether a thumbnail follows the image.
    """

    exponents: tuple[int, ...] = ()
    are_chained: bool = False
    come_last: bool = False
    are_marked: bool = True
    has_thumbnail: bool = False


def halved(length: int, times: int) -> int:
    """Return a side after it was halved so often, rounded up each time.

    Examples
    --------
    >>> halved(9, 1), halved(9, 2), halved(9, 20)
    (5, 3, 1)
    """
    return -(-length // (1 << times))


def full_pyramid(height: int, width: int) -> tuple[int, ...]:
    """Return the exponents of the levels down to one that fits into a tile of moderate size.

    Examples
    --------
    >>> full_pyramid(1000, 300), full_pyramid(256, 10)
    ((1, 2), ())
    """
    return tuple(range(1, math.ceil(math.log2(max(height, width) / SMALLEST_SIDE)) + 1))


def thumbnail_exponent(exponents: Iterable[int], width: int, columns: int) -> int:
    """Return how often an image is halved to get a thumbnail, beyond all other levels, that has so few columns.

    Examples
    --------
    >>> thumbnail_exponent((2, 4), 100000, 256), thumbnail_exponent((2, 4), 1000, 256)
    (9, 5)
    """
    first = max(exponents) + 1
    return next(times for times in itertools.count(first) if halved(width, times) <= columns)


def possible_exponents(exponents: Iterable[int], height: int, width: int) -> tuple[int, ...]:
    """Return those exponents that make an image smaller: a part of one may be too small for all.

    Examples
    --------
    >>> possible_exponents((1, 2, 3), 3, 1)
    (1, 2)
    """
    return tuple(times for times in exponents if halved(max(height, width), times - 1) > 1)


def exponent_of(shape: tuple[int, int], smaller: tuple[int, int]) -> int | None:
    """Return how often an image was halved to get a smaller one, None if it is no such image.

    Some programs round sides down, and some up.

    Examples
    --------
    >>> exponent_of((1001, 600), (250, 150)), exponent_of((1001, 600), (251, 150)), exponent_of((1001, 600), (200, 120))
    (2, 2, None)
    """
    side, smaller_side = max(zip(shape, smaller, strict=True))
    exponent = round(math.log2(side / smaller_side)) if 0 < smaller_side < side else 0
    fits = all(abs(halved(full, exponent) - part) <= 1 for full, part in zip(shape, smaller, strict=True))
    return exponent if exponent and fits else None


def sub_directory_exponents(page: TiffPage, file: PositionedFile, byte_layout: ByteLayout) -> list[int | None]:
    """Return how often the page was halved for each of its SubIFDs, None for those that are something else."""
    reader = DirectoryReader(file.read, file.size, byte_layout)
    offsets = (page.subifds or ())[:_MOST_SUB_DIRECTORIES]
    return [_sub_directory_exponent(page, _numbers(reader, offset, byte_layout)) for offset in offsets]


def _sub_directory_exponent(page: TiffPage, numbers: dict[int, int]) -> int | None:
    if numbers.get(_SAMPLES, 1) != page.samplesperpixel or not numbers.get(SUBFILE_TYPE, REDUCED) & REDUCED:
        return None
    smaller = numbers.get(_HEIGHT, 0), numbers.get(_WIDTH, 0)
    return exponent_of((page.imagelength, page.imagewidth), smaller)


def _numbers(reader: DirectoryReader, offset: int, byte_layout: ByteLayout) -> dict[int, int]:
    """Return the kind and the size of a directory's image, as far as its tags tell them."""
    dtypes = {SHORT: f"{byte_layout.order}u2", LONG: f"{byte_layout.order}u4"}
    entries, _ = reader.entries(offset) or ([], 0)
    single = [
        entry for entry in entries if entry.code in _SIZE_TAGS and entry.value_type in dtypes and entry.value_count == 1
    ]
    tags = [tag for entry in single if (tag := reader.tag(entry)) is not None]
    return {tag.code: int(np.frombuffer(tag.value, dtypes[tag.value_type])[0]) for tag in tags}


def is_cog(file: PositionedFile, byte_layout: ByteLayout) -> bool:
    """Return whether a file says of itself that it is laid out as a cloud-optimised GeoTIFF."""
    start = len(byte_layout.header(0))
    text = bytes(file.read(start, min(file.size - start, _MOST_MARK_BYTES)))
    return text.startswith(_COG_MARK) and _COG_LAYOUT in text
