"""What the directory of a TIFF page says: the layout of its pixels, and the tags that outlive a filter.

Tags are kept as the bytes of the file, not as values, so that a copy differs in no bit. This needs a copy in the byte
order of the original.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import tifffile
from tifffile import TiffPage

from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.metadata import Metadata

MINISWHITE, MINISBLACK, RGB, PALETTE, SEPARATED, YCBCR, CIELAB, CFA = 0, 1, 2, 3, 5, 6, 8, 32803
UNASSOCIATED_ALPHA = 2
ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 2, 3, 4, 5, 7, 16

JPEG_COMPRESSIONS = frozenset({6, 7, 33007, 34892})
_DTYPES = frozenset(np.dtype(code).name for code in "bhiqBHIefd")
_PREDICTORS = frozenset({1, 2, 3})

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8}
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}
_INTEGER_FORMATS = {SHORT: "H", LONG: "I", LONG8: "Q", RATIONAL: "I"}

_LAYOUT_TAGS = {256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339, 530}
_POINTER_TAGS = {330, 34665, 34853, 40965}
_CODEC_TAGS = {266, 292, 293, 347, *range(512, 522), 50674}
_STALE_TAGS = {
    280,  # MinSampleValue and its kin describe the pixels before the filter
    281,
    340,
    341,
    288,  # FreeOffsets and FreeByteCounts describe holes of the old file
    289,
    320,  # ColorMap
    34412,  # CZ_LSMINFO holds offsets into the old file
    37724,  # Photoshop's layers hold unfiltered pixels
}
_NOT_COPIED = frozenset(_LAYOUT_TAGS | _POINTER_TAGS | _CODEC_TAGS | _STALE_TAGS)
_NDPI_TAGS = range(65420, 65536)
YCBCR_TAGS = frozenset({529, 531, 532})

_DROPPED_WITH_NOTICE = {
    330: "smaller versions of the image (SubIFDs)",
    34665: "Exif data",
    34853: "GPS data",
    37724: "Photoshop layers",
}
_TEXT_TAGS = {"Description": 270, "Software": 305, "Author": 315, "Copyright": 33432, "Title": 269}
_METRES_PER_UNIT = {2: 0.0254, 3: 0.01}


class Tag(NamedTuple):
    """One tag of a directory, its value as bytes in the byte order of the file."""

    code: int
    value_type: int
    value_count: int
    value: bytes


@dataclass(frozen=True)
class PageLayout:
    """How the pixels of one page lie in a TIFF file.

    Parameters
    ----------
    height, width, samples
        Size in pixels, and samples per pixel.
    dtype
        Of the samples, in native byte order.
    planar
        Whether each channel has segments of its own.
    tile
        Rows and columns of a tile, None where the page is made of strips.
    rows_per_strip
        Rows of a strip, 0 where the page is made of tiles.
    compression, predictor
        As the tags number them.
    photometric
        The meaning of the *decoded* samples: JPEG's YCbCr is RGB here, because decoders convert it.
    extra_samples
        The meaning of the samples beyond the colours.
    chroma_subsampling
        Of pixels stored as YCbCr, horizontally and vertically; None for all others.
    """

    height: int
    width: int
    samples: int
    dtype: np.dtype[Any]
    planar: bool
    tile: tuple[int, int] | None
    rows_per_strip: int
    compression: int = 1
    predictor: int = 1
    photometric: int = MINISBLACK
    extra_samples: tuple[int, ...] = ()
    chroma_subsampling: tuple[int, int] | None = None

    @property
    def stored_photometric(self) -> int:
        """The meaning of the samples as they are stored."""
        return self.photometric if self.chroma_subsampling is None else YCBCR

    @property
    def planes(self) -> int:
        """The number of images that the page is stored as."""
        return self.samples if self.planar else 1

    @property
    def channels(self) -> int:
        """The interleaved channels of each of these images."""
        return 1 if self.planar else self.samples

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
        """The size of a whole decoded segment."""
        return math.prod(self.segment) * self.channels * self.dtype.itemsize

    @property
    def pixel_bytes(self) -> int:
        """The size of all decoded pixels."""
        return self.height * self.width * self.samples * self.dtype.itemsize

    def description(self, byte_layout: ByteLayout) -> dict[str, Any]:
        """Return the layout in plain words and numbers."""
        return {
            "format": "TIFF",
            "shape": [self.height, self.width, self.samples],
            "dtype": self.dtype.name,
            "photometric": _name(tifffile.PHOTOMETRIC, self.stored_photometric),
            "compression": _name(tifffile.COMPRESSION, self.compression),
            "predictor": self.predictor,
            "tile": self.tile,
            "rows_per_strip": self.rows_per_strip or None,
            "planar": self.planar,
            "byte_order": "little" if byte_layout.order == "<" else "big",
            "bigtiff": byte_layout.big,
        }


@dataclass(frozen=True)
class ByteLayout:
    """The two properties that fix how a TIFF file writes numbers.

    Parameters
    ----------
    order
        ``"<"`` or ``">"``, as `struct` writes little and big endian.
    big
        Whether offsets have 64 bits (BigTIFF).
    """

    order: str
    big: bool

    @property
    def offset_type(self) -> int:
        """The type of tags that hold offsets."""
        return LONG8 if self.big else LONG

    def header(self, first_directory: int) -> bytes:
        """Return the first bytes of the file."""
        mark = b"II" if self.order == "<" else b"MM"
        if self.big:
            return mark + struct.pack(f"{self.order}HHHQ", 43, 8, 0, first_directory)
        return mark + struct.pack(f"{self.order}HI", 42, first_directory)

    def integers(self, code: int, tag_type: int, values: Iterable[int]) -> Tag:
        """Return a tag that holds integers. Those of a rational alternate between numerator and denominator."""
        packed = np.asarray(list(values), dtype=f"{self.order}{_INTEGER_FORMATS[tag_type]}").tobytes()
        return Tag(code, tag_type, len(packed) // _TYPE_BYTES[tag_type], packed)

    def directories(self, pages: Sequence[Sequence[Tag]], position: int) -> bytes:
        """Return the chained directories of all pages, for an even `position` in the file."""
        chain = bytearray()
        for number, tags in enumerate(pages, start=1):
            start = position + len(chain)
            chain += self._directory(sorted(tags), start, is_last=number == len(pages))
        return bytes(chain)

    def _directory(self, tags: Sequence[Tag], start: int, *, is_last: bool) -> bytes:
        offset_format, count_format = ("Q", "Q") if self.big else ("I", "H")
        offset_bytes = struct.calcsize(f"={offset_format}")
        entries = bytearray(struct.pack(f"{self.order}{count_format}", len(tags)))
        values = bytearray()
        values_start = start + len(entries) + len(tags) * (4 + 2 * offset_bytes) + offset_bytes
        for tag in tags:
            entries += struct.pack(f"{self.order}HH{offset_format}", tag.code, tag.value_type, tag.value_count)
            if len(tag.value) <= offset_bytes:
                entries += tag.value.ljust(offset_bytes, b"\0")
            else:
                values += bytes((values_start + len(values)) % 2)  # values start on word boundaries
                entries += struct.pack(f"{self.order}{offset_format}", values_start + len(values))
                values += tag.value
        values += bytes((values_start + len(values)) % 2)
        following = 0 if is_last else values_start + len(values)
        entries += struct.pack(f"{self.order}{offset_format}", following)
        return bytes(entries + values)


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
        raise UnreadableError(f"page {page.index + 1} has no pixels", path=path, remedy="copy it again")
    obstacle = _obstacle(page)
    if obstacle:
        fact, remedy = obstacle
        raise UnsupportedError(f"page {page.index + 1} {fact}", path=path, remedy=remedy)
    is_planar = page.planarconfig == 2 and page.samplesperpixel > 1
    is_ycbcr_jpeg = page.photometric == YCBCR and page.compression in JPEG_COMPRESSIONS and not is_planar
    return PageLayout(
        height=int(page.imagelength),
        width=int(page.imagewidth),
        samples=int(page.samplesperpixel),
        dtype=np.dtype(page.dtype),
        planar=is_planar,
        tile=(int(page.tilelength), int(page.tilewidth)) if page.is_tiled else None,
        rows_per_strip=0 if page.is_tiled else int(page.rowsperstrip),
        compression=int(page.compression),
        predictor=int(page.predictor),
        photometric=RGB if is_ycbcr_jpeg else int(page.photometric),
        extra_samples=tuple(int(meaning) for meaning in page.extrasamples),
        chroma_subsampling=(page.subsampling or (2, 2)) if page.photometric == YCBCR else None,
    )


def _obstacle(page: TiffPage) -> tuple[str, str] | None:
    """Return why a page cannot be filtered, and what to do; None if it can."""
    return _obstacle_of_samples(page) or _obstacle_of_colours(page) or _obstacle_of_compression(page)


def _obstacle_of_samples(page: TiffPage) -> tuple[str, str] | None:
    if page.is_volumetric or page.imagedepth > 1 or page.tiledepth > 1:
        return "is a volume", "save each slice as a page"
    bits = page.bitspersample
    if page.dtype is None or page.dtype.name not in _DTYPES or bits != page.dtype.itemsize * 8:
        kind = {3: "floating-point", 5: "complex", 6: "complex"}.get(page.sampleformat, "integer")
        return f"has {bits}-bit {kind} samples", "convert it to 8 or 16-bit integers or 32-bit floats"
    return None


def _obstacle_of_colours(page: TiffPage) -> tuple[str, str] | None:
    if page.photometric == PALETTE:
        return "has palette colours, whose indices cannot be averaged", "convert it to RGB"
    if page.photometric == CFA:
        return "holds a mosaic of raw colours", "develop it to RGB"
    if page.photometric == CIELAB and page.sampleformat == 1:
        return "has L*a*b* colours, whose signed parts cannot be averaged as stored", "convert it to RGB"
    if page.is_subsampled and (page.compression not in JPEG_COMPRESSIONS or page.planarconfig == 2):
        return "has subsampled colours without JPEG compression", "convert it to RGB"
    return None


def _obstacle_of_compression(page: TiffPage) -> tuple[str, str] | None:
    if page.compression not in tifffile.TIFF.DECOMPRESSORS:
        name = _name(tifffile.COMPRESSION, page.compression)
        return f"has an unknown compression ({name})", "save it with deflate or zstd compression"
    if page.predictor not in _PREDICTORS and page.compression not in tifffile.TIFF.IMAGE_COMPRESSIONS:
        return f"has an unknown predictor ({page.predictor})", "save it with another predictor"
    return None


def _name(numbers: type[IntEnum], number: int) -> str:
    return numbers(number).name.lower().removeprefix("adobe_") if number in set(numbers) else str(number)


def copied_tags(page: TiffPage, read: Callable[[int, int], bytearray]) -> tuple[Tag, ...]:
    """Return the tags of a page that stay true when its pixels are filtered and stored anew.

    Parameters
    ----------
    page
        The page as tifffile sees it.
    read
        Returns the bytes of the file at an offset, as many as the second argument says.
    """
    tags: dict[int, Tag] = {}
    for tag in page.tags:
        code, tag_type = int(tag.code), int(tag.dtype)
        is_private_offset = page.is_ndpi and code in _NDPI_TAGS
        if code not in _NOT_COPIED and tag_type in _TYPE_BYTES and not is_private_offset:
            value = bytes(read(tag.valueoffset, tag.count * _TYPE_BYTES[tag_type]))
            tags.setdefault(code, Tag(code, tag_type, tag.count, value))
    return tuple(tags.values())


def dropped_data(page: TiffPage) -> list[str]:
    """Name what the user may miss in a copy of the page."""
    return [name for code, name in _DROPPED_WITH_NOTICE.items() if code in page.tags]


def shared_metadata(page: TiffPage) -> Metadata:
    """Return what the page says about its image in terms that every format shares."""
    text = {keyword: page.tags.valueof(code) for keyword, code in _TEXT_TAGS.items()}
    profile = page.tags.valueof(34675)
    return Metadata(
        resolution=_pixels_per_metre(page),
        icc_profile=profile if isinstance(profile, bytes) else None,
        text={keyword: value for keyword, value in text.items() if isinstance(value, str) and value},
    )


def _pixels_per_metre(page: TiffPage) -> tuple[float, float] | None:
    metres = _METRES_PER_UNIT.get(int(page.tags.valueof(296, 2)))
    horizontal, vertical = (_ratio(page.tags.valueof(code)) for code in (282, 283))
    if not metres or not horizontal or not vertical:
        return None
    return horizontal / metres, vertical / metres


def _ratio(value: object) -> float:
    """Return the value of a rational tag; 0 where the tag is missing, has another type, or divides by zero."""
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        return float(value[0]) / float(value[1])
    return 0.0


def metadata_tags(metadata: Metadata, byte_layout: ByteLayout) -> tuple[Tag, ...]:
    """Return the tags that say the same as `metadata`, which come from another format."""
    tags = []
    for keyword, code in _TEXT_TAGS.items():
        if keyword in metadata.text:
            value = metadata.text[keyword].encode() + b"\0"
            tags.append(Tag(code, ASCII, len(value), value))
    if metadata.icc_profile is not None:
        tags.append(Tag(34675, UNDEFINED, len(metadata.icc_profile), metadata.icc_profile))
    if metadata.resolution is not None:
        for code, per_metre in zip((282, 283), metadata.resolution, strict=True):
            per_centimetre = Fraction(per_metre / 100).limit_denominator(10_000)
            tags.append(byte_layout.integers(code, RATIONAL, per_centimetre.as_integer_ratio()))
        tags.append(byte_layout.integers(296, SHORT, [3]))
    return tuple(tags)


def text_without_tag(metadata: Metadata) -> list[str]:
    """Name the keywords of `metadata` that no TIFF tag stands for."""
    return sorted(set(metadata.text) - set(_TEXT_TAGS))
