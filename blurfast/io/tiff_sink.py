"""TIFF files as a sink of pixels: strips or tiles are encoded in tasks and written as they come.

The container is written here and not by tifffile's `TiffWriter`, which pulls pixels where the engine pushes them, and
can neither copy tags bit by bit nor write a single strip piece by piece. All directories follow the last segment, so
the pages of an uncompressed file stay contiguous, as readers of ImageJ's stacks expect. The codecs are those of
tifffile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

import imagecodecs
import numpy as np
from tifffile import PHOTOMETRIC

from blurfast.cpu.catalogue import Kernel
from blurfast.errors import UnwritableError
from blurfast.io import tiff_tags
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.metadata import Metadata
from blurfast.io.output import AtomicFile
from blurfast.io.tiff_codecs import CODECS, JPEG_QUALITY, parse_compression
from blurfast.io.tiff_layout import PageLayout, layout_tags, segment_tags
from blurfast.io.tiff_metadata import page_tags
from blurfast.io.tiff_options import TiffOptions, parse_bigtiff, parse_predictor, parse_tile
from blurfast.io.tiff_output import (
    CLASSIC_LIMIT,
    NATIVE_ORDER,
    OutputPage,
    default_layout,
    layouts_like,
    output_byte_layout,
    output_page,
)
from blurfast.io.tiff_readers import slices
from blurfast.io.tiff_source import TiffSource
from blurfast.io.tiff_tags import ByteLayout, Tag
from blurfast.pixels import Pixels, Window

_TASK_BYTES = 1 << 18
_DEFAULT_METADATA = Metadata()


EncodedSegments = list[tuple[int, bytes | bytearray]]
"""What an encode task returns: the numbers of segments within their page, each with its bytes."""


class TiffSink:
    """A TIFF file that is written segment by segment, and appears when it is complete.

    Parameters
    ----------
    path
        The output.
    images
        What will be written. With `like`, as many images of the same shape as that source has.
    like
        The file whose layout and tags the output takes over: strips or tiles, planes, byte order, compression.
        Strips too large to be written piece by piece become smaller.
    metadata
        What to say about the images if there is no `like`.
    compression
        One of `COMPRESSIONS`, with a level after a colon if it has levels: ``"deflate:9"``. Default: that of `like`,
        or none.
    predictor
        What is encoded: ``"none"``, the pixels; ``"horizontal"``, their differences; ``"float"``, the differences of
        the bytes of floating-point pixels. Default: as in `like`, or the one that suits another compression.
    tile
        Rows and columns of a tile, multiples of 16, as two numbers or as text such as ``"256x256"``; or ``"strips"``.
        Default: as in `like`, or strips.
    bigtiff
        ``"yes"``, ``"no"``, or ``"auto"``: where the output may need it, and where `like` is one.
    overwrite
        Whether a file that is there already may be replaced.

    Attributes
    ----------
    notices
        What the user may not expect of the output, one sentence each.
    byte_layout
        Byte order, and whether the output is a BigTIFF.

    Raises
    ------
    ValueError
        If `compression`, `predictor`, `tile` or `bigtiff` is unknown, or `images` does not fit to `like`.
    UnsupportedError
        If the compression cannot hold the images, or not with this predictor, or a classic file not all of them.
    OutputExistsError, UnwritableError
        If the output cannot be created.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        images: Sequence[ImageSpec],
        *,
        like: TiffSource | None = None,
        metadata: Metadata = _DEFAULT_METADATA,
        compression: str | None = None,
        predictor: str | None = None,
        tile: str | tuple[int, int] | None = None,
        bigtiff: str | bool | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = os.fspath(path)
        self.notices: list[str] = []
        self.kernels: list[Kernel] = []
        options = TiffOptions(
            None if compression is None else parse_compression(compression),
            None if predictor is None else parse_predictor(predictor),
            None if tile is None else parse_tile(tile),
            None if bigtiff is None else parse_bigtiff(bigtiff),
        )
        outputs = _output_pages(images, like, options, self.path)
        self._note_compressions(outputs, options)
        self._pages = [_Page(output) for output in outputs]
        self._planes = [(page, plane) for page in self._pages for plane in range(page.layout.planes)]
        self._images = [page.spec for page, _ in self._planes]
        self.byte_layout = output_byte_layout(outputs, options, like, self.path)
        self._copied_tags, notices = page_tags(like, metadata, len(self._pages), self.byte_layout)
        self.notices += notices
        self._position = 0
        self._output = AtomicFile(path, overwrite=overwrite)
        try:
            self._write(self.byte_layout.header(0))
        except UnwritableError:
            self.abort()
            raise

    def _note_compressions(self, outputs: Sequence[OutputPage], options: TiffOptions) -> None:
        notices = []
        for output in outputs:
            if output.stand_in_for is not None:
                notices.append(f"{output.stand_in_for} cannot hold the result: {output.codec} compression is used")
            elif options.compression is None and output.codec == "jpeg":
                notices.append(f"jpeg is lossy: encoded once more, with quality {JPEG_QUALITY}")
            elif options.compression is None and CODECS[output.codec].is_image:
                notices.append(f"{output.codec} is written without loss, which can make a larger file")
        self.notices += dict.fromkeys(notices)

    @property
    def images(self) -> list[ImageSpec]:
        """The images to be written, in order."""
        return self._images

    def encode_tasks(self, image: int, window: Window, pixels: Pixels) -> list[Callable[[], EncodedSegments]]:
        """Return tasks that each encode a segment of `window`, or several small ones, in raster order."""
        page, plane = self._planes[image]
        segments = page.segments(plane, window)
        group = max(1, _TASK_BYTES // page.layout.segment_bytes)
        return [
            partial(page.encoded, segments[start : start + group], window, pixels, self.byte_layout.order)
            for start in range(0, len(segments), group)
        ]

    def append(self, image: int, segment: EncodedSegments) -> None:
        """Write what the next encode task returned. Called in order, from one thread at a time."""
        page, _ = self._planes[image]
        for index, data in segment:
            page.offsets[index] = self._position
            page.sizes[index] = len(data)
            self._write(data)

    def commit(self) -> None:
        """All segments are there: write the directories, and let the file appear under its name."""
        if any(0 in page.offsets for page in self._pages):
            raise RuntimeError("segments are missing")
        self._write(bytes(self._position % 2))
        tags = [
            page.tags(self.byte_layout, copied) for page, copied in zip(self._pages, self._copied_tags, strict=True)
        ]
        first_directory = self._position
        self._write(self.byte_layout.directories(tags, first_directory))
        with self._output.translated_errors():
            self._output.file.seek(0)
            self._output.file.write(self.byte_layout.header(first_directory))
        self._output.commit()

    def _write(self, data: bytes | bytearray) -> None:
        if not self.byte_layout.big and self._position + len(data) > CLASSIC_LIMIT:
            fact = "the output grows beyond the 4 GiB of a classic TIFF file"
            raise UnwritableError(fact, path=self.path, remedy="use --bigtiff yes")
        with self._output.translated_errors():
            self._output.file.write(data)
        self._position += len(data)

    def abort(self) -> None:
        """Leave nothing behind. Harmless after `commit`."""
        self._output.abort()


class _Page:
    """One page of the output: its layout, its codec, and where its segments went."""

    def __init__(self, output: OutputPage) -> None:
        self.layout: PageLayout = output.layout
        self.codec = CODECS[output.codec]
        self.level = output.level
        down, across = self.layout.segment_grid
        self.offsets = [0] * (self.layout.planes * down * across)
        self.sizes = [0] * len(self.offsets)
        self._encode = self._encoder()

    @property
    def spec(self) -> ImageSpec:
        """One of the images that the page is stored as."""
        segment_bytes = self.layout.segment_bytes
        # The padded or differenced copy of a segment, and its encoded bytes.
        task_bytes = 2 * segment_bytes + max(_TASK_BYTES, 2 * segment_bytes)
        return self.layout.image_spec(Grain(*self.layout.segment), task_bytes)

    @property
    def is_ycbcr(self) -> bool:
        """Whether the colours are stored as YCbCr."""
        return self.layout.chroma_subsampling is not None

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

    def encoded(
        self, segments: Sequence[tuple[int, Window]], window: Window, pixels: Pixels, order: str
    ) -> EncodedSegments:
        """Return segments as the bytes to be written; `pixels` are those of `window`."""
        return [(index, self._encoded(pixels[slices(part, window)], order)) for index, part in segments]

    def _encoded(self, pixels: Pixels, order: str) -> bytes | bytearray:
        pixels = np.ascontiguousarray(pixels if self.layout.tile is None else _padded(pixels, self.layout.tile))
        if self.codec.is_image:
            return self._encode(pixels, self.level)
        if self.layout.predictor == 3:
            return self._encode(imagecodecs.floatpred_encode(pixels, axis=-2), self.level)  # has no byte order
        if self.layout.predictor == 2:
            pixels = imagecodecs.delta_encode(pixels.view(f"u{pixels.itemsize}"), axis=-2)
        if order != NATIVE_ORDER:
            pixels = pixels.byteswap()
        return self._encode(pixels, self.level)

    def _encoder(self) -> Callable[..., bytes | bytearray]:
        if self.codec.tag != CODECS["jpeg"].tag or self.layout.channels == 1:
            return self.codec.encode
        if self.layout.channels == 4:
            return partial(self.codec.encode, colorspace="CMYK", outcolorspace="CMYK")
        if self.is_ycbcr:
            stored_colours = "YCBCR" if self.layout.photometric == PHOTOMETRIC.YCBCR else "RGB"
            subsampling = self.layout.chroma_subsampling
            return partial(self.codec.encode, colorspace=stored_colours, outcolorspace="YCBCR", subsampling=subsampling)
        return partial(self.codec.encode, colorspace="RGB", outcolorspace="RGB")

    def tags(self, byte_layout: ByteLayout, copied: Sequence[Tag]) -> list[Tag]:
        """Return the directory of the page, once all its segments are written."""
        kept = [tag for tag in copied if self.is_ycbcr or tag.code not in tiff_tags.YCBCR_TAGS]
        tags = {tag.code: tag for tag in (*layout_tags(self.layout, byte_layout), *kept)}
        return [*tags.values(), *segment_tags(self.layout, self.offsets, self.sizes, byte_layout)]


def _padded(pixels: Pixels, tile: tuple[int, int]) -> Pixels:
    """Return a whole tile. Repeated edges compress better than zeros, and leave no rings where JPEG cuts them off."""
    rows, columns = pixels.shape[:2]
    if (rows, columns) == tile:
        return pixels
    return np.pad(pixels, ((0, tile[0] - rows), (0, tile[1] - columns), (0, 0)), mode="edge")


def _output_pages(
    images: Sequence[ImageSpec], like: TiffSource | None, options: TiffOptions, path: str
) -> list[OutputPage]:
    if like is None:
        return [output_page(default_layout(image), options, number, path) for number, image in enumerate(images)]
    layouts = zip(layouts_like(like, images), like.page_numbers, strict=True)
    return [output_page(layout, options, number, path) for layout, number in layouts]
