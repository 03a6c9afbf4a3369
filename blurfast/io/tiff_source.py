"""TIFF files as a source of pixels: each strip or tile is read and decoded on its own.

tifffile parses the directories and chooses the decoders; the encoded bytes are read here, at their offsets, so that
any number of tasks can run at once. Pages and segments are numbered from 1 in messages.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from blurfast.cpu.catalogue import Kernel
from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io import tiff_tags
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.metadata import Metadata
from blurfast.io.positioned import PositionedFile
from blurfast.io.tiff_tags import ByteLayout, PageLayout
from blurfast.pixels import Pixels, Window

# What tifffile finds odd is checked below and becomes an error or a notice; without any handler at all, Python would
# print the log to stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_NATIVE_ORDER = "<" if sys.byteorder == "little" else ">"
_TASK_BYTES = 1 << 18
_RAW_TASK_BYTES = 1 << 20

# No more decoded bytes than this can come from one encoded byte, so a greater claim is a damaged file, and is found
# before anybody allocates memory for it.
_GREATEST_EXPANSION = {5: 2600, 8: 1100, 32946: 1100, 32773: 65}

# Damaged directories make tifffile fail in many ways, and codecs raise RuntimeError's children.
_DAMAGE = (
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


class TiffSource:
    """The pages of a TIFF file as images, read segment by segment.

    A page whose channels are stored in separate planes counts as one image per channel. Smaller versions of an image
    (pyramid levels, reduced pages) are left out, with a notice.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    notices
        What the file holds that is left out, one sentence each.
    pages
        The layout of every page.
    byte_layout
        Byte order, and whether the file is a BigTIFF.

    Raises
    ------
    UnreadableError
        If the file is missing, damaged, or not a TIFF file.
    UnsupportedError
        If a page has samples, colours or a compression that cannot be filtered.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.notices: list[str] = []
        self.kernels: list[Kernel] = []
        self.pages: list[PageLayout] = []
        self._tags: list[tuple[tiff_tags.Tag, ...]] = []
        self._readers: list[_PageReader] = []
        with contextlib.ExitStack() as undo:
            self._file = PositionedFile(self.path)
            undo.callback(self._file.close)
            if self._file.size == 0:
                raise UnreadableError("the file is empty", path=self.path, remedy="copy it again")
            with _damage_reported(self.path), tifffile.TiffFile(self.path) as tiff:
                self.byte_layout = ByteLayout(tiff.byteorder, tiff.is_bigtiff)
                self._add_pages(tiff)
            undo.pop_all()
        self._planes = [(page, plane) for page, layout in enumerate(self.pages) for plane in range(layout.planes)]
        self._images = [self._readers[page].spec for page, _ in self._planes]

    def _add_pages(self, tiff: tifffile.TiffFile) -> None:
        pages = self._full_size_pages(_chained_pages(tiff, self.path, self._file))
        if not pages:
            raise UnreadableError("holds no image", path=self.path, remedy="check where it comes from")
        _refuse_hidden_images(tiff, len(pages), self.path)
        self.metadata: Metadata = tiff_tags.shared_metadata(pages[0])
        dropped = dict.fromkeys(name for page in pages for name in tiff_tags.dropped_data(page))
        self.notices += [f"{name} are not kept" for name in dropped]
        for page in pages:
            layout = tiff_tags.page_layout(page, self.path)
            self.pages.append(layout)
            self._tags.append(tiff_tags.copied_tags(page, self._file.read))
            self._readers.append(_page_reader(page, layout, self._file, self.byte_layout))

    def _full_size_pages(self, pages: list[tifffile.TiffPage]) -> list[tifffile.TiffPage]:
        if not pages or pages[0].is_reduced:  # some programs mark every page
            return pages
        kept = [page for page in pages if not page.is_reduced]
        if len(kept) < len(pages):
            self.notices.append(f"{len(pages) - len(kept)} smaller versions of the image are not kept")
        return kept

    @property
    def images(self) -> list[ImageSpec]:
        """The images, in the order in which they are read."""
        return self._images

    @property
    def layout_description(self) -> list[dict[str, Any]]:
        """How each page is stored, in plain words and numbers."""
        return [layout.description(self.byte_layout) for layout in self.pages]

    def tags(self, page: int) -> tuple[tiff_tags.Tag, ...]:
        """Return the tags of a page that outlive a filter, in the byte order of the file."""
        return self._tags[page]

    def read_tasks(self, image: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
        """Return tasks that together fill `target` with the pixels of `window`, whole segments of image `image`."""
        page, plane = self._planes[image]
        return self._readers[page].tasks(plane, window, target)

    def close(self) -> None:
        """Release the file. No task runs any more."""
        self._file.close()


class _PageReader(Protocol):
    """What reads the pixels of one page."""

    spec: ImageSpec

    def tasks(self, plane: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
        """Return tasks that fill `target`."""


@dataclass(frozen=True)
class _SegmentTable:
    """Where the segments of a page lie in the file. A size of zero means that the segment is not stored."""

    offsets: NDArray[np.uint64]
    sizes: NDArray[np.uint64]


class _RawRowReader:
    """Reads the rows of strips that are not compressed, right into the target."""

    def __init__(
        self, layout: PageLayout, table: _SegmentTable, fill: float, file: PositionedFile, *, is_swapped: bool
    ) -> None:
        self.spec = _image_spec(layout, Grain(1, layout.width), 0)
        self._rows_per_strip = layout.rows_per_strip
        self._strips = layout.segment_grid[0]
        self._table = table
        self._fill = fill
        self._file = file
        self._is_swapped = is_swapped

    def tasks(self, plane: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
        rows = max(1, _RAW_TASK_BYTES // self.spec.row_bytes)
        return [
            partial(self._read, plane, window.row_start + start, target[start : start + rows])
            for start in range(0, window.rows, rows)
        ]

    def _read(self, plane: int, first_row: int, target: Pixels) -> None:
        filled = 0
        while filled < len(target):
            offset, rows = self._run(plane, first_row + filled, len(target) - filled)
            part = target[filled : filled + rows]
            if offset is None:
                part[...] = self._fill
            else:
                self._file.read_rows(offset, part)
                if self._is_swapped:
                    part.byteswap(inplace=True)
            filled += rows

    def _run(self, plane: int, row: int, most_rows: int) -> tuple[int | None, int]:
        """Return where `row` lies in the file, and how many rows follow it there without a gap."""
        strip, row_in_strip = divmod(row, self._rows_per_strip)
        rows = self._rows_per_strip - row_in_strip
        index = plane * self._strips + strip
        if self._table.sizes[index] == 0:
            return None, min(rows, most_rows)
        offset = int(self._table.offsets[index]) + row_in_strip * self.spec.row_bytes
        while rows < most_rows:
            index += 1
            if not self._table.sizes[index] or int(self._table.offsets[index]) != offset + rows * self.spec.row_bytes:
                break
            rows += self._rows_per_strip
        return offset, min(rows, most_rows)


class _SegmentReader:
    """Reads and decodes strips or tiles, and copies what the window needs of each."""

    def __init__(
        self, page: tifffile.TiffPage, layout: PageLayout, table: _SegmentTable, fill: float, file: PositionedFile
    ) -> None:
        rows, columns = layout.segment
        # Decoders return their result, and some need a second array on the way.
        task_bytes = 2 * layout.segment_bytes + int(table.sizes.max())
        self.spec = _image_spec(layout, Grain(rows, columns), task_bytes)
        self._layout = layout
        self._page_number = page.index + 1
        self._lzw_top_bit = {5: 0x80 if page.fillorder == 1 else 0x01}.get(layout.compression)
        self._table = table
        self._fill = fill
        self._file = file
        page.init_decode()
        self._decode = partial(page.decode, jpegtables=page.jpegtables, jpegheader=page.jpegheader)

    def tasks(self, plane: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
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
        offset, size = int(self._table.offsets[segment]), int(self._table.sizes[segment])
        encoded = self._file.read(offset, size)
        # Without the clear code that starts its table, imagecodecs' LZW decoder can crash the process.
        if (top_bit := self._lzw_top_bit) and (size < 2 or encoded[0] != top_bit or encoded[1] & top_bit):
            raise self._damaged(segment, "does not start as LZW data do")
        try:
            decoded, _, _ = self._decode(encoded, segment)
        except ImportError as error:
            fact = f"page {self._page_number} needs a codec that imagecodecs was built without"
            raise UnsupportedError(fact, path=self._file.path, remedy="save it with another compression") from error
        except _DAMAGE as error:
            raise self._damaged(segment, f"cannot be decoded ({error})") from error
        assert decoded is not None  # which it is only for segments that are not stored
        pixels: Pixels = decoded[0]
        if pixels.dtype != self._layout.dtype:
            raise self._damaged(segment, f"decodes to {pixels.dtype} in a page of {self._layout.dtype}")
        if pixels.shape[0] < covered.rows or pixels.shape[1] < covered.columns:
            raise self._damaged(segment, "has fewer pixels than it should")
        return pixels

    def _damaged(self, segment: int, fact: str) -> UnreadableError:
        where = f"segment {segment + 1} of page {self._page_number}"
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


def _image_spec(layout: PageLayout, grain: Grain, task_bytes: int) -> ImageSpec:
    return ImageSpec(
        layout.height,
        layout.width,
        layout.channels,
        layout.dtype,
        grain,
        task_bytes=task_bytes,
        alpha=_alpha(layout),
    )


def _alpha(layout: PageLayout) -> int | None:
    """Return the channel that holds an opacity which the colours have not been multiplied with."""
    if layout.planar or tiff_tags.UNASSOCIATED_ALPHA not in layout.extra_samples:
        return None
    colours = layout.samples - len(layout.extra_samples)
    return colours + layout.extra_samples.index(tiff_tags.UNASSOCIATED_ALPHA)


def _page_reader(
    page: tifffile.TiffPage, layout: PageLayout, file: PositionedFile, byte_layout: ByteLayout
) -> _PageReader:
    is_raw = layout.compression == 1 and layout.predictor == 1 and layout.tile is None and page.fillorder == 1
    table = _segment_table(page, layout, file)
    fill = page.nodata
    if not is_raw:
        return _SegmentReader(page, layout, table, fill, file)
    is_swapped = byte_layout.order != _NATIVE_ORDER and layout.dtype.itemsize > 1
    return _RawRowReader(layout, table, fill, file, is_swapped=is_swapped)


def _segment_table(page: tifffile.TiffPage, layout: PageLayout, file: PositionedFile) -> _SegmentTable:
    """Return where the segments of a page are, all of them inside the file and none implausibly small."""
    down, across = layout.segment_grid
    needed = layout.planes * down * across
    found = min(len(page.dataoffsets), len(page.databytecounts))
    if found < needed:
        fact = f"page {page.index + 1} has {found} of {needed} segments"
        raise UnreadableError(fact, path=file.path, remedy="copy it again")
    offsets = np.asarray(page.dataoffsets[:needed], dtype=np.uint64)
    sizes = np.asarray(page.databytecounts[:needed], dtype=np.uint64)
    sizes[offsets == 0] = 0
    ends = np.minimum(offsets, file.size) + np.minimum(sizes, file.size)
    beyond = (sizes > 0) & ((offsets > file.size) | (ends > file.size))
    _refuse_segments(beyond, "lies beyond the end of the file", page, file)
    least = _least_encoded_bytes(layout)
    _refuse_segments((sizes > 0) & (sizes < least), "has fewer bytes than its pixels need", page, file)
    return _SegmentTable(offsets, sizes)


def _refuse_segments(bad: NDArray[np.bool_], fact: str, page: tifffile.TiffPage, file: PositionedFile) -> None:
    if bad.any():
        where = f"segment {int(bad.argmax()) + 1} of page {page.index + 1}"
        raise UnreadableError(f"{where} {fact}", path=file.path, remedy="copy the file again")


def _least_encoded_bytes(layout: PageLayout) -> NDArray[np.uint64]:
    """Return, for each segment, the fewest bytes that can hold the pixels inside the image."""
    down, across = layout.segment_grid
    rows, columns = layout.segment
    row_counts = np.minimum(rows, layout.height - rows * np.arange(down, dtype=np.uint64))
    column_counts = np.minimum(columns, layout.width - columns * np.arange(across, dtype=np.uint64))
    pixels = np.outer(row_counts, column_counts).ravel()
    decoded = np.tile(pixels, layout.planes) * np.uint64(layout.channels * layout.dtype.itemsize)
    if layout.compression == 1:
        return decoded
    expansion = _GREATEST_EXPANSION.get(layout.compression)
    return decoded // np.uint64(expansion) if expansion else np.zeros_like(decoded)


def _chained_pages(tiff: tifffile.TiffFile, path: str, file: PositionedFile) -> list[tifffile.TiffPage]:
    """Return all pages; tifffile itself ends the chain in silence where it is damaged."""
    pages: list[tifffile.TiffPage] = []
    seen: set[int] = set()
    for page in _pages_in_order(tiff):
        if page.offset in seen:
            raise UnreadableError(f"page {len(pages) + 1} is an earlier page again", path=path, remedy="copy it again")
        seen.add(page.offset)
        pages.append(page)
    offset_bytes = int(tiff.tiff.offsetsize)
    if any(file.read(tiff.pages.next_page_offset or 0, offset_bytes)):
        raise UnreadableError(f"page {len(pages) + 1} is damaged", path=path, remedy="copy it again")
    return pages


def _pages_in_order(tiff: tifffile.TiffFile) -> Iterator[tifffile.TiffPage]:
    for index in itertools.count():
        try:
            page = tiff.pages[index]
        except IndexError:
            return
        yield page.aspage()


def _refuse_hidden_images(tiff: tifffile.TiffFile, pages: int, path: str) -> None:
    """Refuse files whose further images have no directories of their own, as they would be lost."""
    imagej = tiff.imagej_metadata or {}
    shaped = tiff.shaped_metadata or ()
    if imagej.get("images", 1) > pages or any(series.get("truncated") for series in shaped) or tiff.is_stk:
        fact = "holds images without directories of their own"
        raise UnsupportedError(fact, path=path, remedy="save it as a TIFF file with one page per image")


@contextlib.contextmanager
def _damage_reported(path: str) -> Iterator[None]:
    """Turn what goes wrong while tifffile parses into an error that names the file."""
    try:
        yield
    except _DAMAGE as error:
        fact = f"is not a TIFF file, or a damaged one ({error})"
        raise UnreadableError(fact, path=path, remedy="check where it comes from") from error
