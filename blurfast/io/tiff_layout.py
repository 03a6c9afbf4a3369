"""How the pixels of a TIFF page are laid out in a file, as its directory says it, and which pages can be filtered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import tifffile
from tifffile import PHOTOMETRIC, TiffPage

from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.tiff_options import PREDICTOR_NUMBERS
from blurfast.io.tiff_samples import StoredSamples, stored_samples
from blurfast.io.tiff_tags import LONG, RATIONAL, SHORT, ByteLayout, Tag

UNASSOCIATED_ALPHA = 2
NO_COMPRESSION = 1
LZW_COMPRESSION = 5
DEFLATE_COMPRESSIONS = frozenset({8, 32946, 50013})
FAX_COMPRESSIONS = frozenset({2, 3, 4})
JPEG_COMPRESSIONS = frozenset({6, 7, 33007, 34892})
_APERIO_YCBCR = 33003  # JPEG 2000 of YCbCr, whatever the tag for colours says
_UNSAFE_COMPRESSIONS = frozenset({22610, 34934})

_DTYPES = frozenset(np.dtype(code).name for code in "bhiqBHIefd")
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}
_OBVIOUS_COLOURS: frozenset[int] = frozenset(
    {PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB, PHOTOMETRIC.MASK, PHOTOMETRIC.LINEAR_RAW}
)
# What the values in the tables of `StoredSamples` mean.
_LOOKED_UP: dict[int, int] = {
    PHOTOMETRIC.MASK: PHOTOMETRIC.MINISBLACK,
    PHOTOMETRIC.MINISWHITE: PHOTOMETRIC.MINISBLACK,
    PHOTOMETRIC.PALETTE: PHOTOMETRIC.RGB,
}


@dataclass(frozen=True)
class PageLayout:
    """How the pixels of one page lie in a TIFF file.

    Parameters
    ----------
    height, width, samples
        Size in pixels, and channels of a pixel.
    dtype
        Of the channels, in native byte order.
    planar
        Whether each channel has segments of its own.
    tile
        Rows and columns of a tile, None where the page is made of strips.
    rows_per_strip
        Rows of a strip, 0 where the page is made of tiles.
    compression, predictor
        As the tags number them.
    photometric
        The meaning of the *decoded* pixels: JPEG's YCbCr is RGB here, because decoders convert it.
    extra_samples
        The meaning of the channels beyond the colours.
    chroma_subsampling
        Of pixels stored as YCbCr, horizontally and vertically; None for all others.
    stored
        How the samples in the file differ from these pixels; None where they are the same.
    """

    height: int
    width: int
    samples: int
    dtype: np.dtype[Any]
    planar: bool
    tile: tuple[int, int] | None
    rows_per_strip: int
    compression: int = NO_COMPRESSION
    predictor: int = 1
    photometric: int = PHOTOMETRIC.MINISBLACK
    extra_samples: tuple[int, ...] = ()
    chroma_subsampling: tuple[int, int] | None = None
    stored: StoredSamples | None = None

    @property
    def stored_photometric(self) -> int:
        """The meaning of the samples as they are stored."""
        if self.stored is not None:
            return self.stored.photometric
        return self.photometric if self.chroma_subsampling is None else PHOTOMETRIC.YCBCR

    @property
    def planes(self) -> int:
        """The number of images that the page is stored as."""
        return self.samples if self.planar else 1

    @property
    def channels(self) -> int:
        """The interleaved channels of each of these images."""
        return 1 if self.planar else self.samples

    @property
    def stored_channels(self) -> int:
        """The interleaved samples that are stored for each pixel of one of these images."""
        return 1 if self.stored is not None and self.stored.is_palette else self.channels

    @property
    def bits(self) -> int:
        """The bits of a stored sample."""
        return 8 * self.dtype.itemsize if self.stored is None else self.stored.bits

    @property
    def stored_row_bytes(self) -> int:
        """The size in the file of a row of one image, before compression."""
        return -(-self.width * self.stored_channels * self.bits // 8)

    @property
    def row_bytes(self) -> int:
        """The size of a row of pixels of one image."""
        return self.width * self.channels * self.dtype.itemsize

    @property
    def segment(self) -> tuple[int, int]:
        """Rows and columns of a whole tile or strip."""
        return self.tile or (self.rows_per_strip, self.width)

    @property
    def segment_grid(self) -> tuple[int, int]:
        """The number of segments of one plane, down and across."""
        rows, columns = self.segment
        return math.ceil(self.height / rows), math.ceil(self.width / columns)

    @property
    def segment_bytes(self) -> int:
        """The size of the pixels of a whole segment."""
        return math.prod(self.segment) * self.channels * self.dtype.itemsize

    @property
    def pixel_bytes(self) -> int:
        """The size of all pixels."""
        return self.height * self.width * self.samples * self.dtype.itemsize

    @property
    def colour_model(self) -> str | None:
        """What the channels are where they are neither shades of grey nor RGB."""
        if self.photometric == PHOTOMETRIC.MINISWHITE:
            return "shades of grey with 0 for white"
        return None if self.photometric in _OBVIOUS_COLOURS else f"{_photometric_name(self.photometric)} colours"

    @property
    def alpha(self) -> int | None:
        """The channel that holds an opacity which the colours have not been multiplied with."""
        if UNASSOCIATED_ALPHA not in self.extra_samples:
            return None
        colours = self.samples - len(self.extra_samples)
        return colours + self.extra_samples.index(UNASSOCIATED_ALPHA)

    def image_spec(self, grain: Grain, task_bytes: int, *, sequential: bool = False) -> ImageSpec:
        """Return one of the images that the page is stored as, read or written by parts of the size of `grain`."""
        return ImageSpec(
            self.height,
            self.width,
            self.channels,
            self.dtype,
            grain,
            sequential=sequential,
            task_bytes=task_bytes,
            alpha=None if self.planar else self.alpha,
        )

    def description(self, byte_layout: ByteLayout) -> dict[str, Any]:
        """Return the layout in plain words and numbers."""
        return {
            "format": "TIFF",
            "shape": [self.height, self.width, self.samples],
            "dtype": self.dtype.name,
            "stored": None if self.stored is None else self.stored.description,
            "photometric": _name(PHOTOMETRIC, self.stored_photometric),
            "compression": _name(tifffile.COMPRESSION, self.compression),
            "predictor": self.predictor,
            "tile": self.tile,
            "rows_per_strip": self.rows_per_strip or None,
            "planar": self.planar,
            "byte_order": "little" if byte_layout.order == "<" else "big",
            "bigtiff": byte_layout.big,
        }


def layout_tags(layout: PageLayout, byte_layout: ByteLayout) -> list[Tag]:
    """Return the tags that say how the pixels of a page are stored, but for its segments."""
    integers = byte_layout.integers
    tags = [
        integers(256, LONG, [layout.width]),
        integers(257, LONG, [layout.height]),
        integers(258, SHORT, [8 * layout.dtype.itemsize] * layout.samples),
        integers(259, SHORT, [layout.compression]),
        integers(262, SHORT, [layout.stored_photometric]),
        integers(277, SHORT, [layout.samples]),
        integers(284, SHORT, [2 if layout.planar else 1]),
        integers(339, SHORT, [_SAMPLE_FORMATS[layout.dtype.kind]] * layout.samples),
    ]
    if layout.predictor != 1:
        tags.append(integers(317, SHORT, [layout.predictor]))
    if layout.extra_samples:
        tags.append(integers(338, SHORT, layout.extra_samples))
    if layout.chroma_subsampling is not None:
        tags.append(integers(530, SHORT, layout.chroma_subsampling))
        # Without the next one, readers assume that the chroma channels are not centred.
        tags.append(integers(532, RATIONAL, [0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1]))
    return tags


def segment_tags(
    layout: PageLayout, offsets: Sequence[int], sizes: Sequence[int], byte_layout: ByteLayout
) -> list[Tag]:
    """Return the tags that say where the segments of a page are."""
    integers, offset_type = byte_layout.integers, byte_layout.offset_type
    if layout.tile is None:
        return [
            integers(273, offset_type, offsets),
            integers(278, LONG, [layout.rows_per_strip]),
            integers(279, offset_type, sizes),
        ]
    rows, columns = layout.tile
    return [
        integers(322, LONG, [columns]),
        integers(323, LONG, [rows]),
        integers(324, offset_type, offsets),
        integers(325, offset_type, sizes),
    ]


def page_layout(page: TiffPage, path: str) -> PageLayout:
    """Return the layout of a page whose pixels can be filtered.

    Raises
    ------
    UnsupportedError
        If they cannot.
    UnreadableError
        If the directory contradicts itself.
    """
    if min(page.imagelength, page.imagewidth, page.samplesperpixel, *(page.tile or (page.rowsperstrip,))) < 1:
        raise UnreadableError(f"page {page.index} has no pixels", path=path, remedy="copy it again")
    obstacle = _obstacle(page)
    if obstacle:
        fact, remedy = obstacle
        raise UnsupportedError(f"page {page.index} {fact}", path=path, remedy=remedy)
    stored = stored_samples(page, path)
    is_palette = stored is not None and stored.is_palette
    is_planar = page.planarconfig == 2 and page.samplesperpixel > 1
    return PageLayout(
        height=int(page.imagelength),
        width=int(page.imagewidth),
        samples=3 if is_palette else int(page.samplesperpixel),
        dtype=np.dtype(page.dtype) if stored is None else stored.pixel_dtype,
        planar=is_planar,
        tile=(int(page.tilelength), int(page.tilewidth)) if page.is_tiled else None,
        rows_per_strip=0 if page.is_tiled else int(page.rowsperstrip),
        compression=int(page.compression),
        predictor=int(page.predictor),
        photometric=_pixel_photometric(page, stored, is_planar=is_planar),
        extra_samples=tuple(int(meaning) for meaning in page.extrasamples),
        chroma_subsampling=_chroma_subsampling(page),
        stored=stored,
    )


def _pixel_photometric(page: TiffPage, stored: StoredSamples | None, *, is_planar: bool) -> int:
    """Return the meaning of the pixels that the page is decoded to."""
    if page.compression == _APERIO_YCBCR:
        return PHOTOMETRIC.YCBCR
    photometric = int(page.photometric)
    if photometric == PHOTOMETRIC.YCBCR and page.compression in JPEG_COMPRESSIONS and not is_planar:
        return PHOTOMETRIC.RGB
    if stored is not None and stored.table is not None:
        return _LOOKED_UP.get(photometric, photometric)
    return photometric


def _chroma_subsampling(page: TiffPage) -> tuple[int, int] | None:
    if page.compression == _APERIO_YCBCR:
        return (1, 1)
    return (page.subsampling or (2, 2)) if page.photometric == PHOTOMETRIC.YCBCR else None


def _obstacle(page: TiffPage) -> tuple[str, str] | None:
    """Return why a page cannot be filtered, and what to do; None if it can."""
    checks = (_obstacle_of_samples, _obstacle_of_colours, _obstacle_of_compression, _obstacle_of_predictor)
    return next(filter(None, (check(page) for check in checks)), None)


def _obstacle_of_samples(page: TiffPage) -> tuple[str, str] | None:
    if page.is_volumetric or page.imagedepth > 1 or page.tiledepth > 1:
        return "is a volume", "save each slice as a page"
    bits: int | tuple[int, ...] = page.bitspersample  # tifffile's annotation leaves out samples of different sizes
    if isinstance(bits, tuple):
        sizes = ", ".join(map(str, bits))
        return f"has samples of different sizes ({sizes} bits)", "convert it to 8 bits in all channels"
    if _is_packed(page) or (page.dtype is not None and page.dtype.name in _DTYPES and bits == page.dtype.itemsize * 8):
        return None
    kind = {3: "floating-point", 5: "complex", 6: "complex"}.get(page.sampleformat, "integer")
    return f"has {bits}-bit {kind} samples", "convert it to 8 or 16-bit integers or 32-bit floats"


def _is_packed(page: TiffPage) -> bool:
    """Return whether samples have fewer bits than any type of numbers."""
    return page.dtype is not None and page.dtype.kind in "bu" and page.bitspersample < 8 * page.dtype.itemsize


def _obstacle_of_colours(page: TiffPage) -> tuple[str, str] | None:
    if page.photometric == PHOTOMETRIC.PALETTE and page.samplesperpixel > 1:
        return "has a palette and further channels", "convert it to RGB"
    if page.photometric == PHOTOMETRIC.PALETTE and (page.bitspersample > 16 or np.dtype(page.dtype).kind not in "bu"):
        return f"has a palette for {page.dtype} samples", "convert it to RGB"
    if page.photometric == PHOTOMETRIC.CFA:
        return "holds a mosaic of raw colours", "develop it to RGB"
    if page.photometric == PHOTOMETRIC.CIELAB and page.sampleformat == 1:
        return "has L*a*b* colours, whose signed parts cannot be averaged as stored", "convert it to RGB"
    if page.is_subsampled and (page.compression not in JPEG_COMPRESSIONS or page.planarconfig == 2):
        return "has subsampled colours without JPEG compression", "convert it to RGB"
    return None


def _obstacle_of_compression(page: TiffPage) -> tuple[str, str] | None:
    if page.compression not in tifffile.TIFF.DECOMPRESSORS:
        name = _name(tifffile.COMPRESSION, page.compression)
        return f"has an unknown compression ({name})", "save it with deflate or zstd compression"
    if page.compression in _UNSAFE_COMPRESSIONS:
        return "has JPEG XR compression, whose decoder crashes on damaged files", "save it with another compression"
    if page.compression in FAX_COMPRESSIONS and (page.bitspersample != 1 or page.samplesperpixel > 1):
        return "has a compression for bilevel images, but more bits", "save it with deflate or zstd compression"
    return None


def _obstacle_of_predictor(page: TiffPage) -> tuple[str, str] | None:
    if page.predictor == 1 or page.compression in tifffile.TIFF.IMAGE_COMPRESSIONS:
        return None
    if page.predictor not in PREDICTOR_NUMBERS.values():
        return f"has an unknown predictor ({page.predictor})", "save it with another predictor"
    if _is_packed(page):
        return f"has a predictor for {page.bitspersample}-bit samples", "save it without predictor"
    if page.predictor == PREDICTOR_NUMBERS["float"] and np.dtype(page.dtype).kind != "f":
        return f"has a predictor for floating-point samples, but {page.dtype}", "save it with another predictor"
    return None


def _photometric_name(number: int) -> str:
    """Return the colours' usual name."""
    names: dict[int, str] = {PHOTOMETRIC.SEPARATED: "CMYK", PHOTOMETRIC.YCBCR: "YCbCr"}
    return names.get(number) or _name(PHOTOMETRIC, number)


def _name(numbers: type[IntEnum], number: int) -> str:
    return numbers(number).name.lower().removeprefix("adobe_") if number in set(numbers) else str(number)
