"""What reads the pixels of a TIFF page: whole strips or tiles are decoded here, rows in `tiff_rows`.

tifffile chooses the decoders; the encoded bytes are read here, at their offsets, so that any number of tasks can run at
once.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import partial
from typing import Protocol

import imagecodecs
import numpy as np
import tifffile

from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.codestreams import declared_samples
from blurfast.io.positioned import PositionedFile
from blurfast.io.tiff_codecs import decoding_bytes
from blurfast.io.tiff_layout import (
    DEFLATE_COMPRESSIONS,
    FAX_COMPRESSIONS,
    LZW_COMPRESSION,
    NO_COMPRESSION,
    PageLayout,
)
from blurfast.io.tiff_lzw import is_safe
from blurfast.io.tiff_rows import InflatingRowReader, RawRowReader, RowFormat
from blurfast.io.tiff_segments import SegmentTable, segment_table
from blurfast.io.tiff_tags import GDAL_NODATA, NATIVE_ORDER
from blurfast.pixels import Pixels, Window

_TASK_BYTES = 1 << 18
# Larger strips are inflated row by row, if they are deflated: in one thread, but in little memory.
_GREATEST_STRIP_BYTES = 1 << 22
# How much larger than its segment an image within the image may be, beside a factor of two.
_PADDING_SAMPLES = 1 << 16

# Damaged directories make tifffile fail in many ways, and codecs raise RuntimeError's children.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What tifffile and codecs raise on files that are not as they should be."""


class PageReader(Protocol):
    """What reads the pixels of one page."""

    spec: ImageSpec

    def tasks(self, plane: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
        """Return tasks that fill `target`."""


def page_reader(page: tifffile.TiffPage, layout: PageLayout, file: PositionedFile, order: str) -> PageReader:
    """Return the reader for a page of a file with the given byte order.

    Raises
    ------
    UnreadableError
        If the page's segments are not in the file.
    """
    table = segment_table(page, layout, file)
    fill = _fill(page, layout)
    if layout.tile is None and page.fillorder == 1:
        row_format = RowFormat(layout, order)
        if layout.compression == NO_COMPRESSION:
            return RawRowReader(layout, table, fill, file, row_format)
        if layout.compression in DEFLATE_COMPRESSIONS and layout.segment_bytes > _GREATEST_STRIP_BYTES:
            return InflatingRowReader(layout, table, fill, file, row_format, page.index)
    return SegmentReader(page, layout, table, fill, file)


def _fill(page: tifffile.TiffPage, layout: PageLayout) -> Pixels:
    """Return the pixel that stands for those that are not stored: GDAL's value for no data, or zero."""
    if layout.stored is None or layout.stored.table is None:
        return np.array([page.nodata], layout.dtype)
    # tifffile takes any text for true where samples are bilevel.
    value = int(str(page.tags.valueof(GDAL_NODATA)).strip() == "1") if layout.bits == 1 else int(page.nodata)
    table = layout.stored.table
    return np.asarray(table[value if 0 <= value < len(table) else 0])


def _task_bytes(page: tifffile.TiffPage, layout: PageLayout) -> int:
    """Return the memory of the arrays of one segment, and of its decoder."""
    is_decoded = layout.compression != NO_COMPRESSION
    has_other_order = page.parent.byteorder != NATIVE_ORDER and layout.dtype.itemsize > 1
    of_samples = 0 if layout.stored is None else 2  # as they are stored, and as pixels
    arrays = is_decoded + (layout.predictor == 3 or has_other_order) + of_samples
    return arrays * layout.segment_bytes + decoding_bytes(layout.compression, layout.segment_bytes)


class SegmentReader:
    """Reads and decodes strips or tiles, and copies what the window needs of each."""

    def __init__(
        self, page: tifffile.TiffPage, layout: PageLayout, table: SegmentTable, fill: Pixels, file: PositionedFile
    ) -> None:
        rows, columns = layout.segment
        task_bytes = _task_bytes(page, layout) + int(table.sizes.max())
        self.spec = layout.image_spec(Grain(rows, columns), task_bytes)
        self._layout = layout
        self._page_number = page.index
        self._has_lowest_bits_first = page.fillorder == 2
        # Some encoders pad segments, or leave out an alpha channel that is opaque.
        self._most_samples = _PADDING_SAMPLES + 2 * rows * columns * max(layout.channels, 3)
        self._table = table
        self._fill = fill
        self._file = file
        page.init_decode()
        self._decode = partial(page.decode, jpegtables=page.jpegtables, jpegheader=page.jpegheader)

    def tasks(self, plane: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
        """Return tasks that each decode a segment, or several small ones."""
        rows, columns = self._layout.segment
        down, across = self._layout.segment_grid
        segments = [
            (plane * down + row) * across + column
            for row in range(window.row_start // rows, math.ceil(window.row_stop / rows))
            for column in range(window.column_start // columns, math.ceil(window.column_stop / columns))
        ]
        group = max(1, _TASK_BYTES // self._layout.segment_bytes)
        return [
            partial(self._read, segments[start : start + group], window, target)
            for start in range(0, len(segments), group)
        ]

    def _read(self, segments: list[int], window: Window, target: Pixels) -> None:
        for segment in segments:
            covered = self._window_of(segment)
            shared = _intersection(covered, window)
            part = target[slices(shared, window)]
            if self._table.sizes[segment] == 0:
                part[...] = self._fill
            else:
                part[...] = self._decoded(segment, covered)[slices(shared, covered)]

    def _window_of(self, segment: int) -> Window:
        rows, columns = self._layout.segment
        down, across = self._layout.segment_grid
        row = segment // across % down * rows
        column = segment % across * columns
        return Window(row, min(row + rows, self._layout.height), column, min(column + columns, self._layout.width))

    def _decoded(self, segment: int, covered: Window) -> Pixels:
        """Return the pixels of a segment, which may include padding beyond the edge of the image."""
        samples = self._samples(segment)
        stored = self._layout.stored
        expected = self._layout.dtype if stored is None else stored.dtype
        if samples.dtype != expected:
            raise self._damaged(segment, f"decodes to {samples.dtype} in a page of {expected}")
        if samples.shape[0] < covered.rows or samples.shape[1] < covered.columns:
            raise self._damaged(segment, "has fewer pixels than it should")
        return samples if stored is None else stored.pixels(samples)

    def _samples(self, segment: int) -> Pixels:
        """Return a segment as it is decoded."""
        offset, size = int(self._table.offsets[segment]), int(self._table.sizes[segment])
        encoded = self._file.read(offset, size)
        self._refuse_dangerous(segment, encoded)
        try:
            decoded, _, _ = self._decode(encoded, segment)
        except ImportError as error:
            fact = f"page {self._page_number} needs a codec that imagecodecs was built without"
            raise UnsupportedError(fact, path=self._file.path, remedy="save it with another compression") from error
        except DAMAGE as error:
            raise self._damaged(segment, "cannot be decoded") from error
        assert decoded is not None  # which it is only for segments that are not stored
        samples: Pixels = decoded[0]
        return samples.astype(bool) if self._layout.compression in FAX_COMPRESSIONS else samples

    def _refuse_dangerous(self, segment: int, encoded: bytearray) -> None:
        """Refuse what would crash a decoder, or have it fill the memory."""
        if self._layout.compression == LZW_COMPRESSION:
            self._refuse_dangerous_lzw(segment, encoded)
        declared = declared_samples(self._layout.compression, encoded)
        if declared is not None and declared > self._most_samples:
            raise self._damaged(segment, f"declares {declared} samples, more than there can be")

    def _refuse_dangerous_lzw(self, segment: int, encoded: bytearray) -> None:
        data = np.frombuffer(encoded, np.uint8)
        if self._has_lowest_bits_first:
            data = imagecodecs.bitorder_decode(data)
        elif len(data) > 1 and data[0] == 0 and data[1] & 1:
            fact = f"page {self._page_number} has LZW compression as it was before TIFF 5.0"
            raise UnsupportedError(fact, path=self._file.path, remedy="convert it with 'tiffcp -c zip', or to PNG")
        if not is_safe(data):
            raise self._damaged(segment, "holds no valid LZW data")

    def _damaged(self, segment: int, fact: str) -> UnreadableError:
        where = f"segment {segment} of page {self._page_number}"
        return UnreadableError(f"{where} {fact}", path=self._file.path, remedy="copy the file again")


def _intersection(first: Window, second: Window) -> Window:
    return Window(
        max(first.row_start, second.row_start),
        min(first.row_stop, second.row_stop),
        max(first.column_start, second.column_start),
        min(first.column_stop, second.column_stop),
    )


def slices(part: Window, whole: Window) -> tuple[slice, slice]:
    """Return the index of `part` in an array that holds `whole`."""
    return (
        slice(part.row_start - whole.row_start, part.row_stop - whole.row_start),
        slice(part.column_start - whole.column_start, part.column_stop - whole.column_start),
    )
