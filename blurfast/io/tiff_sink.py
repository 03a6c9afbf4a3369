"""TIFF files as a sink of pixels: strips or tiles are encoded in tasks and written as they come.

The container is written here and not by tifffile's `TiffWriter`, which pulls pixels where the engine pushes them, and
can neither copy tags bit by bit nor write a single strip piece by piece. All directories follow the last segment, so
the pages of an uncompressed file stay contiguous, as readers of ImageJ's stacks expect. The codecs are those of
tifffile.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import imagecodecs
import numpy as np

from blurfast.cpu.catalogue import Kernel
from blurfast.errors import UnsupportedError, UnwritableError
from blurfast.io import tiff_tags
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.metadata import Metadata
from blurfast.io.output import AtomicFile
from blurfast.io.tiff_source import TiffSource, slices
from blurfast.io.tiff_tags import ByteLayout, PageLayout, Tag
from blurfast.pixels import Pixels, Window

_NATIVE_ORDER = "<" if sys.byteorder == "little" else ">"
_STRIP_BYTES = 1 << 18
_GREATEST_STRIP_BYTES = 1 << 22
_TASK_BYTES = 1 << 18

# Offsets of a classic file end at 4 GiB. Compression can make noise larger, LZW up to one and a half times.
_CLASSIC_BYTES = 3_900_000_000
_CLASSIC_BYTES_COMPRESSED = 2_700_000_000
_CLASSIC_LIMIT = 2**32

_JPEG_QUALITY = 95
_CHROMA_SUBSAMPLINGS = frozenset({(1, 1), (2, 1), (2, 2)})
_DEFAULT_METADATA = Metadata()
_REMEDY = "choose another one with --compression, such as deflate"


class _Codec(NamedTuple):
    """What a compression can do.

    `tag` is its number in a file. `levels` are its first and last one, None where it has none. `dtypes` and
    `channels` are empty where it takes any. `greatest_side` is that of a segment.
    """

    tag: int
    encode: Callable[..., bytes | bytearray]
    levels: tuple[int, int] | None = None
    has_predictor: bool = False
    is_image: bool = False
    dtypes: frozenset[str] = frozenset()
    channels: frozenset[int] = frozenset()
    greatest_side: int = 2**31


def _stored(pixels: Pixels, _level: int | None) -> bytes:
    return pixels.tobytes()


def _packbits(pixels: Pixels, _level: int | None) -> bytes | bytearray:
    return imagecodecs.packbits_encode(pixels, axis=-2)  # no run may cross the end of a row


def _lzw(pixels: Pixels, _level: int | None) -> bytes | bytearray:
    return imagecodecs.lzw_encode(pixels.tobytes())


def _webp(pixels: Pixels, level: int | None) -> bytes | bytearray:
    return imagecodecs.webp_encode(pixels, level, lossless=level is None)


def _jpeg2000(pixels: Pixels, level: int | None) -> bytes | bytearray:
    return imagecodecs.jpeg2k_encode(pixels, level, codecformat="J2K", reversible=level is None)


def _jpegxl(pixels: Pixels, level: int | None) -> bytes | bytearray:
    return imagecodecs.jpegxl_encode(pixels, level, lossless=level is None)


def _jpeg(pixels: Pixels, level: int | None, **colours: Any) -> bytes | bytearray:
    return imagecodecs.jpeg_encode(pixels, level or _JPEG_QUALITY, **colours)


_BYTE = frozenset({"uint8"})
_BYTE_AND_WORD = frozenset({"uint8", "uint16"})
_CODECS = {
    "none": _Codec(1, _stored),
    "lzw": _Codec(5, _lzw, has_predictor=True),
    "deflate": _Codec(8, imagecodecs.deflate_encode, (0, 12), has_predictor=True),
    "zstd": _Codec(50000, imagecodecs.zstd_encode, (1, 22), has_predictor=True),
    "lzma": _Codec(34925, imagecodecs.lzma_encode, (0, 9), has_predictor=True),
    "packbits": _Codec(32773, _packbits),
    "jpeg": _Codec(7, _jpeg, (1, 100), False, True, _BYTE, frozenset({1, 3, 4}), 65500),
    "webp": _Codec(50001, _webp, (1, 100), False, True, _BYTE, frozenset({3, 4}), 16383),
    "jpeg2000": _Codec(34712, _jpeg2000, (1, 1000), False, True, _BYTE_AND_WORD),
    "jpegxl": _Codec(50002, _jpegxl, (1, 100), False, True, _BYTE_AND_WORD),
}
COMPRESSIONS = tuple(_CODECS)
"""The names that the `compression` of a `TiffSink` starts with."""

_CODEC_OF_TAG = {codec.tag: name for name, codec in _CODECS.items()} | {
    6: "jpeg",
    33007: "jpeg",
    34892: "jpeg",
    32946: "deflate",
    50013: "deflate",
    33003: "jpeg2000",
    33004: "jpeg2000",
    33005: "jpeg2000",
    34926: "zstd",
    34927: "webp",
    52546: "jpegxl",
}


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
        If `compression` is unknown, or `images` does not fit to `like`.
    UnsupportedError
        If the compression cannot hold the images.
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
        overwrite: bool = False,
    ) -> None:
        self.path = os.fspath(path)
        self.notices: list[str] = []
        self.kernels: list[Kernel] = []
        requested = None if compression is None else parse_compression(compression)
        layouts = [_default_layout(image) for image in images] if like is None else _layouts_like(like, images)
        self._pages = [self._page(layout, requested) for layout in layouts]
        self._planes = [(page, plane) for page in self._pages for plane in range(page.layout.planes)]
        self._images = [page.spec for page, _ in self._planes]
        self.byte_layout = _byte_layout(self._pages, like)
        self._copied_tags = self._tags_to_copy(like, metadata)
        self._position = 0
        self._output = AtomicFile(path, overwrite=overwrite)
        try:
            self._write(self.byte_layout.header(0))
        except UnwritableError:
            self.abort()
            raise

    def _page(self, layout: PageLayout, requested: tuple[str, int | None] | None) -> _Page:
        name = _CODEC_OF_TAG.get(layout.compression)
        if name is None and requested is None:
            fact = f"compression {layout.compression} of the input cannot be written"
            raise UnsupportedError(fact, path=self.path, remedy=_REMEDY)
        if requested is None:
            self._note_loss(str(name))
        codec_name, level = requested or (str(name), None)
        codec = _CODECS[codec_name]
        _refuse_misfit(codec_name, codec, layout, self.path)
        layout = _layout_for(codec, layout, keeps_codec=codec_name == name)
        if max(layout.segment) > codec.greatest_side:
            fact = f"{codec_name} cannot hold more than {codec.greatest_side} columns"
            raise UnsupportedError(fact, path=self.path, remedy=_REMEDY)
        return _Page(layout, codec, level)

    def _note_loss(self, codec: str) -> None:
        notice = None
        if codec == "jpeg":
            notice = f"jpeg is lossy: encoded once more, with quality {_JPEG_QUALITY}"
        elif _CODECS[codec].is_image:
            notice = f"{codec} is written without loss, which can make a larger file"
        if notice and notice not in self.notices:
            self.notices.append(notice)

    def _tags_to_copy(self, like: TiffSource | None, metadata: Metadata) -> list[tuple[Tag, ...]]:
        if like is not None:
            return [like.tags(page) for page in range(len(self._pages))]
        lost = tiff_tags.text_without_tag(metadata) + (["Exif"] if metadata.exif else [])
        if lost:
            self.notices.append(f"metadata that TIFF has no tag for are not kept: {', '.join(lost)}")
        return [tiff_tags.metadata_tags(metadata, self.byte_layout)] * len(self._pages)

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
        if not self.byte_layout.big and self._position + len(data) > _CLASSIC_LIMIT:
            fact = "the output grows beyond the 4 GiB of a classic TIFF file"
            raise UnwritableError(fact, path=self.path, remedy="choose another compression with --compression")
        with self._output.translated_errors():
            self._output.file.write(data)
        self._position += len(data)

    def abort(self) -> None:
        """Leave nothing behind. Harmless after `commit`."""
        self._output.abort()


@dataclass(eq=False)
class _Page:
    """One page of the output: its layout, its codec, and where its segments went."""

    layout: PageLayout
    codec: _Codec
    level: int | None

    def __post_init__(self) -> None:
        down, across = self.layout.segment_grid
        self.offsets = [0] * (self.layout.planes * down * across)
        self.sizes = [0] * len(self.offsets)
        self._encode = self._encoder()

    @property
    def spec(self) -> ImageSpec:
        """One of the images that the page is stored as."""
        layout = self.layout
        # The padded or differenced copy of a segment, and its encoded bytes.
        task_bytes = 2 * layout.segment_bytes + max(_TASK_BYTES, 2 * layout.segment_bytes)
        return ImageSpec(
            layout.height, layout.width, layout.channels, layout.dtype, Grain(*layout.segment), task_bytes=task_bytes
        )

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
        if order != _NATIVE_ORDER:
            pixels = pixels.byteswap()
        return self._encode(pixels, self.level)

    def _encoder(self) -> Callable[..., bytes | bytearray]:
        if self.codec.tag != _CODECS["jpeg"].tag or self.layout.channels == 1:
            return self.codec.encode
        if self.layout.channels == 4:
            return partial(self.codec.encode, colorspace="CMYK", outcolorspace="CMYK")
        if self.is_ycbcr:
            stored_colours = "YCBCR" if self.layout.photometric == tiff_tags.YCBCR else "RGB"
            subsampling = self.layout.chroma_subsampling
            return partial(self.codec.encode, colorspace=stored_colours, outcolorspace="YCBCR", subsampling=subsampling)
        return partial(self.codec.encode, colorspace="RGB", outcolorspace="RGB")

    def tags(self, byte_layout: ByteLayout, copied: Sequence[Tag]) -> list[Tag]:
        """Return the directory of the page, once all its segments are written."""
        kept = [tag for tag in copied if self.is_ycbcr or tag.code not in tiff_tags.YCBCR_TAGS]
        tags = {tag.code: tag for tag in (*tiff_tags.layout_tags(self.layout, byte_layout), *kept)}
        segment_tags = tiff_tags.segment_tags(self.layout, self.offsets, self.sizes, byte_layout)
        return [*tags.values(), *segment_tags]


def _padded(pixels: Pixels, tile: tuple[int, int]) -> Pixels:
    """Return a whole tile. Repeated edges compress better than zeros, and leave no rings where JPEG cuts them off."""
    rows, columns = pixels.shape[:2]
    if (rows, columns) == tile:
        return pixels
    return np.pad(pixels, ((0, tile[0] - rows), (0, tile[1] - columns), (0, 0)), mode="edge")


def parse_compression(compression: str) -> tuple[str, int | None]:
    """Return the name and the level that a compression such as ``"deflate:9"`` asks for."""
    name, colon, text = compression.lower().partition(":")
    if name not in _CODECS:
        raise ValueError(f"compression {name!r} is unknown; choose one of {', '.join(COMPRESSIONS)}")
    if not colon:
        return name, None
    levels = _CODECS[name].levels
    if levels is None:
        raise ValueError(f"compression {name!r} has no levels")
    first, last = levels
    if not (text.isascii() and text.isdigit() and first <= int(text) <= last):
        raise ValueError(f"the level of {name!r} must be a number from {first} to {last}, not {text!r}")
    return name, int(text)


def _refuse_misfit(name: str, codec: _Codec, layout: PageLayout, path: str) -> None:
    if codec.dtypes and layout.dtype.name not in codec.dtypes:
        raise UnsupportedError(f"{name} cannot hold {layout.dtype} samples", path=path, remedy=_REMEDY)
    is_jpeg_alpha = name == "jpeg" and layout.channels == 4 and layout.photometric != tiff_tags.SEPARATED
    if is_jpeg_alpha or (codec.channels and layout.channels not in codec.channels):
        fact = f"{name} cannot hold these {layout.channels} channels"
        raise UnsupportedError(fact, path=path, remedy=_REMEDY)


def _layout_for(codec: _Codec, layout: PageLayout, *, keeps_codec: bool) -> PageLayout:
    """Return the layout of the output: that of the input, as far as the codec allows."""
    tile = layout.tile
    if tile is not None and (tile[0] % 16 or tile[1] % 16):  # some programs break this rule, but many readers need it
        tile = None
    return replace(
        layout,
        compression=codec.tag,
        tile=tile,
        rows_per_strip=0 if tile else _rows_per_strip(codec, layout),
        predictor=_predictor(codec, layout, keeps_codec=keeps_codec),
        chroma_subsampling=_chroma_subsampling(codec, layout, keeps_codec=keeps_codec),
    )


def _rows_per_strip(codec: _Codec, layout: PageLayout) -> int:
    row_bytes = layout.width * layout.channels * layout.dtype.itemsize
    rows = layout.rows_per_strip
    if rows == 0 or rows * row_bytes > _GREATEST_STRIP_BYTES:
        rows = _strip_rows(row_bytes)
    if codec.is_image:
        rows = -(-rows // 16) * 16  # whole blocks of subsampled JPEG
    return min(rows, layout.height)


def _strip_rows(row_bytes: int) -> int:
    """Return the rows of a strip of moderate size: a power of two, so that bands can be whole strips and tiles."""
    return 1 << (max(1, _STRIP_BYTES // row_bytes).bit_length() - 1)


def _predictor(codec: _Codec, layout: PageLayout, *, keeps_codec: bool) -> int:
    if not codec.has_predictor:
        return 1
    if not keeps_codec:  # nobody chose for this codec, and blurred images gain much
        return 3 if layout.dtype.kind == "f" else 2
    if layout.predictor == 3 and layout.dtype.kind != "f":
        return 2
    return layout.predictor


def _chroma_subsampling(codec: _Codec, layout: PageLayout, *, keeps_codec: bool) -> tuple[int, int] | None:
    """Return how the output subsamples its chroma, None where it is not stored as YCbCr."""
    if codec.tag != _CODECS["jpeg"].tag or layout.channels != 3:
        return (1, 1) if layout.photometric == tiff_tags.YCBCR else None
    if keeps_codec and layout.chroma_subsampling is None:
        return None
    if layout.photometric not in (tiff_tags.RGB, tiff_tags.YCBCR):
        return None
    return layout.chroma_subsampling if layout.chroma_subsampling in _CHROMA_SUBSAMPLINGS else (2, 2)


def _layouts_like(like: TiffSource, images: Sequence[ImageSpec]) -> list[PageLayout]:
    """Return the layouts of the pages of `like`, with the dtypes of `images`."""
    layouts = []
    remaining = iter(images)
    if len(images) != len(like.images):
        raise ValueError(f"{len(images)} images cannot take over the layout of {len(like.images)}")
    for layout in like.pages:
        planes = [next(remaining) for _ in range(layout.planes)]
        expected = (layout.height, layout.width, layout.channels)
        if any((plane.height, plane.width, plane.channels) != expected for plane in planes):
            raise ValueError("the images differ in shape from those whose layout they take over")
        layouts.append(replace(layout, dtype=planes[0].dtype))
    return layouts


def _default_layout(image: ImageSpec) -> PageLayout:
    colours = 3 if image.channels in (3, 4) else 1
    is_alpha = image.channels in (2, 4)
    return PageLayout(
        height=image.height,
        width=image.width,
        samples=image.channels,
        dtype=image.dtype,
        planar=False,
        tile=None,
        rows_per_strip=min(_strip_rows(image.row_bytes), image.height),
        photometric=tiff_tags.RGB if colours == 3 else tiff_tags.MINISBLACK,
        extra_samples=(tiff_tags.UNASSOCIATED_ALPHA if is_alpha else 0,) * (image.channels - colours),
    )


def _byte_layout(pages: Sequence[_Page], like: TiffSource | None) -> ByteLayout:
    pixel_bytes = sum(page.layout.pixel_bytes for page in pages)
    is_compressed = any(page.codec.tag != 1 for page in pages)
    is_big = pixel_bytes > (_CLASSIC_BYTES_COMPRESSED if is_compressed else _CLASSIC_BYTES)
    if like is None:
        return ByteLayout(_NATIVE_ORDER, is_big)
    return ByteLayout(like.byte_layout.order, is_big or like.byte_layout.big)
