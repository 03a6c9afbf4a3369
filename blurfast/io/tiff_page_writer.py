"""How one page of a TIFF output is encoded: its segments, its smaller versions, its directory."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import lcm
from typing import NamedTuple

import imagecodecs
import numpy as np
from tifffile import PHOTOMETRIC

from blurfast.cpu.catalogue import Kernel
from blurfast.cpu.halving import halving_kernel
from blurfast.io import tiff_tags
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.pyramid import PyramidBuilder
from blurfast.io.tiff_codecs import CODECS, Encoded
from blurfast.io.tiff_layout import NO_COMPRESSION, PageLayout, layout_tags, segment_tags
from blurfast.io.tiff_levels import REDUCED, SUB_DIRECTORIES, SUBFILE_TYPE
from blurfast.io.tiff_output import OutputPage, level_page
from blurfast.io.tiff_readers import slices
from blurfast.io.tiff_tags import GDAL_NODATA, IFD, LONG, NATIVE_ORDER, ByteLayout, Tag
from blurfast.pixels import Pixels, Window

_TASK_BYTES = 1 << 18
# What a level takes over of its image's tags, beside those of the layout.
_LEVEL_TAGS = tiff_tags.YCBCR_TAGS | {GDAL_NODATA}


class EncodedSegment(NamedTuple):
    """A segment ready to be written: its page, its number there, and its bytes."""

    page: PageWriter
    number: int
    data: Encoded


class PageWriter:
    """What encodes the segments of one page, and keeps in mind where they are.

    Parameters
    ----------
    output
        How the page is stored.
    order
        ``"<"`` or ``">"``: the byte order of the file.

    Attributes
    ----------
    offsets, sizes
        Where the segments are in the file: 0 for those that are not there yet.
    levels
        The writers of the page's smaller versions, by how often it is halved for them.
    levels_come_last
        Whether their directories follow those of all pages.
    """

    def __init__(self, output: OutputPage, order: str) -> None:
        self.layout: PageLayout = output.layout
        self._order = order
        self._codec = CODECS[output.codec]
        self._compression_level = output.level
        down, across = self.layout.segment_grid
        self.offsets = [0] * (self.layout.planes * down * across)
        self.sizes = [0] * len(self.offsets)
        self._encode = self._encoder()
        self.levels = {times: PageWriter(level_page(output, times), order) for times in output.levels.exponents}
        self._levels_are_chained = output.levels.are_chained
        self._levels_are_marked = output.levels.are_marked
        self._thumbnail = output.thumbnail
        self.levels_come_last = output.levels.come_last

    @property
    def is_ycbcr(self) -> bool:
        """Whether the colours are stored as YCbCr."""
        return self.layout.chroma_subsampling is not None

    @property
    def is_complete(self) -> bool:
        """Whether all segments of the page and its levels have been encoded."""
        return 0 not in self.sizes and all(level.is_complete for level in self.levels.values())

    @property
    def encoded_bytes(self) -> int:
        """The memory of what an encode task returns: of nothing, where segments are written from where they lie."""
        return 0 if self._is_stored_in_place else max(_TASK_BYTES, self.layout.segment_bytes)

    @property
    def segments_per_task(self) -> int | None:
        """How many segments are encoded in one task; None for all that there are, since nothing is to be done."""
        return None if self._is_stored_in_place else max(1, _TASK_BYTES // self.layout.segment_bytes)

    @property
    def task_bytes(self) -> int:
        """The memory of a segment's copies, of which two exist at a time, and of its encoder."""
        layout = self.layout
        copies = (layout.tile is not None) + (layout.predictor != 1) + self._is_swapped
        is_returned = layout.compression == NO_COMPRESSION  # the last copy
        scratch = self._codec.encoding(self._compression_level).bytes_for(layout.segment_bytes)
        return (min(copies, 2) - (is_returned and copies > 0)) * layout.segment_bytes + scratch

    @property
    def _is_stored_in_place(self) -> bool:
        layout = self.layout
        is_plain = layout.compression == NO_COMPRESSION and layout.predictor == 1 and not self._is_swapped
        return is_plain and layout.tile is None

    @property
    def _is_swapped(self) -> bool:
        return self._order != NATIVE_ORDER and self.layout.dtype.itemsize > 1

    @property
    def chained_directories(self) -> int:
        """The directories that the page adds to the chain."""
        return 1 + len(self.levels) * self._levels_are_chained

    @property
    def first_directories(self) -> int:
        """Those among them that come before the levels: that of the page, and of a thumbnail."""
        return 1 + (self._thumbnail is not None)

    def segments(self, plane: int, window: Window) -> list[tuple[int, Window]]:
        """Return the numbers of the segments of a window and what they cover of the image, in raster order."""
        rows, columns = self.layout.segment
        down, across = self.layout.segment_grid
        return [
            (
                (plane * down + row // rows) * across + column // columns,
                Window(row, min(row + rows, window.row_stop), column, min(column + columns, window.column_stop)),
            )
            for row in range(window.row_start, window.row_stop, rows)
            for column in range(window.column_start, window.column_stop, columns)
        ]

    def encoded(self, segments: Sequence[tuple[int, Window]], window: Window, pixels: Pixels) -> list[EncodedSegment]:
        """Return segments as the bytes to be written; `pixels` are those of `window`."""
        return [EncodedSegment(self, index, self._encoded(pixels[slices(part, window)])) for index, part in segments]

    def encoded_tile(self, plane: int, window: Window, pixels: Pixels) -> list[EncodedSegment]:
        """Return the segment that covers a window."""
        return self.encoded(self.segments(plane, window), window, pixels)

    def _encoded(self, pixels: Pixels) -> Encoded:
        pixels = np.ascontiguousarray(pixels if self.layout.tile is None else _padded(pixels, self.layout.tile))
        if self._codec.is_image:
            return self._encode(pixels, self._compression_level)
        if self.layout.predictor == 3:
            return self._encode(imagecodecs.floatpred_encode(pixels, axis=-2), self._compression_level)  # has no order
        if self.layout.predictor == 2:
            pixels = imagecodecs.delta_encode(pixels.view(f"u{pixels.itemsize}"), axis=-2)
        if self._order != NATIVE_ORDER:
            pixels = pixels.byteswap()
        return self._encode(pixels, self._compression_level)

    def _encoder(self) -> Callable[..., Encoded]:
        if self._codec.tag != CODECS["jpeg"].tag or self.layout.channels == 1:
            return self._codec.encode
        if self.layout.channels == 4:
            return partial(self._codec.encode, colorspace="CMYK", outcolorspace="CMYK")
        if self.is_ycbcr:
            stored_colours = "YCBCR" if self.layout.photometric == PHOTOMETRIC.YCBCR else "RGB"
            colours = {"colorspace": stored_colours, "outcolorspace": "YCBCR"}
            return partial(self._codec.encode, **colours, subsampling=self.layout.chroma_subsampling)
        return partial(self._codec.encode, colorspace="RGB", outcolorspace="RGB")

    def directories(self, byte_layout: ByteLayout, copied: Sequence[Tag]) -> list[list[Tag]]:
        """Return the directory of the page, and those that follow it, once all segments are written."""
        of_levels = [tag for tag in copied if tag.code in _LEVEL_TAGS]
        if self._levels_are_marked:
            of_levels.append(byte_layout.integers(SUBFILE_TYPE, LONG, [REDUCED]))
        levels = [level.tags(byte_layout, of_levels) for level in self._levels_in_order]
        if self._levels_are_chained or not levels:
            return [self.tags(byte_layout, copied), *levels]
        pointer = Tag(SUB_DIRECTORIES, IFD, len(levels), b"", tuple(map(tuple, levels)))
        return [self.tags(byte_layout, [*copied, pointer])]

    @property
    def _levels_in_order(self) -> list[PageWriter]:
        """The levels in the order of their directories: a thumbnail comes first."""
        return [self.levels[times] for times in sorted(self.levels, key=lambda times: times != self._thumbnail)]

    def tags(self, byte_layout: ByteLayout, further: Sequence[Tag]) -> list[Tag]:
        """Return the tags of the layout and of the segments, and `further` ones."""
        kept = [tag for tag in further if self.is_ycbcr or tag.code not in tiff_tags.YCBCR_TAGS]
        tags = {tag.code: tag for tag in (*layout_tags(self.layout, byte_layout), *kept)}
        return [*tags.values(), *segment_tags(self.layout, self.offsets, self.sizes, byte_layout)]


def directory_numbers(pages: Sequence[PageWriter]) -> list[int]:
    """Return the place of each page in the chain of directories, in which smaller versions may follow it."""
    between = [page.first_directories if page.levels_come_last else page.chained_directories for page in pages[:-1]]
    return list(itertools.accumulate(between, initial=0))


def chain_of_directories(
    pages: Sequence[PageWriter], copied: Sequence[Sequence[Tag]], byte_layout: ByteLayout
) -> list[list[Tag]]:
    """Return the directories of all pages and their levels, once all segments are written; see `PageLevels`."""
    ranked = [
        (max(0, number - page.first_directories + 1) if page.levels_come_last else 0, directory)
        for page, further in zip(pages, copied, strict=True)
        for number, directory in enumerate(page.directories(byte_layout, further))
    ]
    return [directory for _, directory in sorted(ranked, key=operator.itemgetter(0))]


class ImageWriter:
    """What encodes one image: a page, or one of its planes, and its smaller versions.

    Parameters
    ----------
    page, plane
        Where the image goes.
    alpha
        The channel that colours are weighted by in the smaller versions; None for none.
    """

    def __init__(self, page: PageWriter, plane: int, alpha: int | None) -> None:
        self._page, self._plane = page, plane
        self._pyramid: PyramidBuilder[EncodedSegment] | None = None
        if page.levels:
            layout = page.layout
            shape = layout.height, layout.width, layout.channels
            encoders = {times: partial(level.encoded_tile, plane) for times, level in page.levels.items()}
            tile = next(iter(page.levels.values())).layout.segment
            self._pyramid = PyramidBuilder(shape, layout.dtype, alpha, tile, encoders)

    @property
    def spec(self) -> ImageSpec:
        """The image, and the memory that it takes to write it."""
        layout = self._page.layout
        rows, columns = layout.segment
        if self._pyramid is None:
            spec = layout.image_spec(Grain(rows, columns), self._page.task_bytes)
            return replace(spec, encoded_bytes=self._page.encoded_bytes)
        levels = self._page.levels.values()
        # A task for a level holds the pixels of a tile, too, and may complete tiles of two levels, rarely of more.
        task_bytes = [level.layout.segment_bytes + level.task_bytes for level in levels]
        encoded_bytes = [2 * level.encoded_bytes for level in levels]
        spec = layout.image_spec(Grain(lcm(2, rows), columns), max(self._page.task_bytes, *task_bytes))
        return replace(
            spec,  # of even height, since pixels are averaged in pairs of rows
            encoded_bytes=max(self._page.encoded_bytes, *encoded_bytes),
            held_bytes=self._pyramid.held_bytes,
        )

    @property
    def kernels(self) -> list[Kernel]:
        """What the tasks run."""
        return [] if self._pyramid is None else [halving_kernel(self._page.layout.dtype)]

    def encode_tasks(self, window: Window, pixels: Pixels) -> list[Callable[[], list[EncodedSegment]]]:
        """Return tasks that each encode a segment of `window`, or several small ones, and tasks for the levels."""
        segments = self._page.segments(self._plane, window)
        group = self._page.segments_per_task or len(segments)
        tasks: list[Callable[[], list[EncodedSegment]]] = [
            partial(self._page.encoded, segments[start : start + group], window, pixels)
            for start in range(0, len(segments), group)
        ]
        return tasks if self._pyramid is None else tasks + self._pyramid.tasks(window, pixels)


def _padded(pixels: Pixels, tile: tuple[int, int]) -> Pixels:
    """Return a whole tile. Repeated edges compress better than zeros, and leave no rings where JPEG cuts them off."""
    rows, columns = pixels.shape[:2]
    if (rows, columns) == tile:
        return pixels
    return np.pad(pixels, ((0, tile[0] - rows), (0, tile[1] - columns), (0, 0)), mode="edge")
