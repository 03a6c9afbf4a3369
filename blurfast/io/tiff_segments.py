"""Where the strips or tiles of a TIFF page lie in the file, checked before anything is allocated for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.positioned import PositionedFile
from blurfast.io.tiff_layout import FAX_COMPRESSIONS, NO_COMPRESSION, PageLayout

# No more decoded bytes than this can come from one encoded byte, so a greater claim is a damaged file.
_GREATEST_EXPANSION = {5: 2600, 8: 1100, 32946: 1100, 50013: 1100, 32773: 65}

_BYTE_COUNT_TAGS = (279, 325, 514)

_OLD_JPEG = 6
_JPEG_START_TAG, _JPEG_LENGTH_TAG = 513, 514
_JPEG_START = b"\xff\xd8"


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
    UnsupportedError
        If segments are JPEG data whose tables are elsewhere, in the way that TIFF 6.0 has them.
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
    if layout.compression == NO_COMPRESSION and layout.tile is None:
        sizes = np.minimum(sizes, least)  # some programs claim more, but it is not read
    if layout.compression == _OLD_JPEG and needed == 1:
        _include_headers(offsets, sizes, page, file)
    ends = np.minimum(offsets, file.size) + np.minimum(sizes, file.size)
    beyond = (sizes > 0) & ((offsets > file.size) | (ends > file.size))
    _refuse_segments(beyond, "lies beyond the end of the file", page, file)
    _refuse_segments((sizes > 0) & (sizes < least), "has fewer bytes than its pixels need", page, file)
    if layout.compression == _OLD_JPEG:
        _refuse_without_headers(offsets[sizes > 0], page, file)
    return SegmentTable(offsets, sizes)


def _refuse_segments(bad: NDArray[np.bool_], fact: str, page: TiffPage, file: PositionedFile) -> None:
    if bad.any():
        where = f"segment {int(bad.argmax())} of page {page.index}"
        raise UnreadableError(f"{where} {fact}", path=file.path, remedy="copy the file again")


def _include_headers(
    offsets: NDArray[np.uint64], sizes: NDArray[np.uint64], page: TiffPage, file: PositionedFile
) -> None:
    """Let the only segment be all of the JPEG data: in old files, it may be but what follows their headers."""
    start, length = (_number(page, tag) for tag in (_JPEG_START_TAG, _JPEG_LENGTH_TAG))
    offset, end = int(offsets[0]), int(offsets[0] + sizes[0])
    if 0 < start < offset <= file.size - 2 and _is_jpeg(start, file) and not _is_jpeg(offset, file):
        offsets[0], sizes[0] = start, max(end, start + length) - start


def _number(page: TiffPage, tag: int) -> int:
    """Return the value of a tag that holds one number, 0 without it."""
    values = np.ravel(page.tags.valueof(tag, 0))
    return int(values[0]) if len(values) == 1 and values.dtype.kind in "iu" else 0


def _refuse_without_headers(offsets: NDArray[np.uint64], page: TiffPage, file: PositionedFile) -> None:
    if not all(_is_jpeg(int(offset), file) for offset in offsets):
        fact = f"page {page.index} has JPEG compression of the old kind, with its tables apart from its pixels"
        raise UnsupportedError(fact, path=file.path, remedy="convert it with 'tiffcp -c zip', or to PNG")


def _is_jpeg(offset: int, file: PositionedFile) -> bool:
    return file.read(offset, len(_JPEG_START)) == _JPEG_START


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
