"""Where the strips or tiles of a TIFF page lie in the file, checked before anything is allocated for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from blurfast.errors import UnreadableError
from blurfast.io.positioned import PositionedFile
from blurfast.io.tiff_layout import FAX_COMPRESSIONS, NO_COMPRESSION, PageLayout

# No more decoded bytes than this can come from one encoded byte, so a greater claim is a damaged file.
_GREATEST_EXPANSION = {5: 2600, 8: 1100, 32946: 1100, 50013: 1100, 32773: 65}

_BYTE_COUNT_TAGS = (279, 325, 514)


@dataclass(frozen=True)
class SegmentTable:
    """Where the segments of a page lie in the file. A size of zero means that the segment is not stored."""

    offsets: NDArray[np.uint64]
    sizes: NDArray[np.uint64]


def segment_table(page: TiffPage, layout: PageLayout, file: PositionedFile) -> SegmentTable:
    """Return where the segments of a page are, all of them inside the file and none implausibly small.

    Raises
    ------
    UnreadableError
        If there are too few segments, or one that lies beyond the end of the file or cannot hold its pixels.
    """
    down, across = layout.segment_grid
    needed = layout.planes * down * across
    found = min(len(page.dataoffsets), len(page.databytecounts))
    if found < needed:
        fact = f"page {page.index} has {found} of {needed} segments"
        raise UnreadableError(fact, path=file.path, remedy="copy it again")
    offsets = np.asarray(page.dataoffsets[:needed], dtype=np.uint64)
    least = _least_sizes(layout)
    is_size_omitted = layout.compression == NO_COMPRESSION and not any(code in page.tags for code in _BYTE_COUNT_TAGS)
    sizes = least.copy() if is_size_omitted else np.asarray(page.databytecounts[:needed], dtype=np.uint64)
    sizes[offsets == 0] = 0
    ends = np.minimum(offsets, file.size) + np.minimum(sizes, file.size)
    beyond = (sizes > 0) & ((offsets > file.size) | (ends > file.size))
    _refuse_segments(beyond, "lies beyond the end of the file", page, file)
    _refuse_segments((sizes > 0) & (sizes < least), "has fewer bytes than its pixels need", page, file)
    return SegmentTable(offsets, sizes)


def _refuse_segments(bad: NDArray[np.bool_], fact: str, page: TiffPage, file: PositionedFile) -> None:
    if bad.any():
        where = f"segment {int(bad.argmax())} of page {page.index}"
        raise UnreadableError(f"{where} {fact}", path=file.path, remedy="copy the file again")


def _least_sizes(layout: PageLayout) -> NDArray[np.uint64]:
    """Return, for each segment, the fewest bytes that can hold the pixels inside the image."""
    down, across = layout.segment_grid
    rows, columns = layout.segment
    row_counts = np.minimum(rows, layout.height - rows * np.arange(down, dtype=np.uint64))
    if layout.compression in FAX_COMPRESSIONS:  # a row takes a bit at least
        return np.tile(np.repeat(_bytes_of(row_counts), across), layout.planes)
    column_counts = np.minimum(columns, layout.width - columns * np.arange(across, dtype=np.uint64))
    row_bits = column_counts * np.uint64(layout.stored_channels * layout.bits)
    decoded = np.tile(np.outer(row_counts, _bytes_of(row_bits)).ravel(), layout.planes)
    if layout.compression == NO_COMPRESSION:
        return decoded
    expansion = _GREATEST_EXPANSION.get(layout.compression)
    return decoded // np.uint64(expansion) if expansion else np.zeros_like(decoded)


def _bytes_of(bit_counts: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (bit_counts + np.uint64(7)) // np.uint64(8)
