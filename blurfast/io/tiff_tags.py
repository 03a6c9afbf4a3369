"""The tags of TIFF directories: how they are written, and which of them outlive a filter.

Tags are kept as the bytes of the file, not as values, so that a copy differs in no bit. This needs a copy in the byte
order of the original.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from tifffile import TiffPage

from blurfast.io.metadata import Metadata

ASCII, SHORT, LONG, SLONG, RATIONAL, UNDEFINED, LONG8, SLONG8 = 2, 3, 4, 9, 5, 7, 16, 17

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8}
_CLASSIC_TYPES = {LONG8: LONG, SLONG8: SLONG}
_INTEGER_FORMATS = {SHORT: "H", LONG: "I", LONG8: "Q", RATIONAL: "I"}

DESCRIPTION, COLOR_MAP, GDAL_NODATA = 270, 320, 42113
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
    COLOR_MAP,
    34412,  # CZ_LSMINFO holds offsets into the old file
    37724,  # Photoshop's layers hold unfiltered pixels
}
_NOT_COPIED = frozenset(_LAYOUT_TAGS | _POINTER_TAGS | _CODEC_TAGS | _STALE_TAGS)
_NDPI_TAGS = range(65420, 65536)
YCBCR_TAGS = frozenset({529, 531, 532})
KIND_TAGS = frozenset({254, 255})
"""The tags that say whether a page is a smaller version or a mask of another one."""
VALUE_TAGS = frozenset({263, 264, 265, 290, 291, 301, 321, GDAL_NODATA})
"""The tags that speak of values of samples, such as grey curves and the value of missing pixels."""
SERIES_TAGS = frozenset({297, 50838, 50839, *range(33628, 33632), 34361, 34362})
"""The tags that speak of other pages, too."""

_DROPPED_WITH_NOTICE = {
    330: "smaller versions of the image (SubIFDs)",
    34665: "Exif data",
    34853: "GPS data",
    37724: "Photoshop layers",
}
_TEXT_TAGS = {"Description": DESCRIPTION, "Software": 305, "Author": 315, "Copyright": 33432, "Title": 269}
_METRES_PER_UNIT = {2: 0.0254, 3: 0.01}


class Tag(NamedTuple):
    """One tag of a directory, its value as bytes in the byte order of the file."""

    code: int
    value_type: int
    value_count: int
    value: bytes


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


def classic_tags(tags: Iterable[Tag], order: str) -> tuple[list[Tag], list[int]]:
    """Return tags as a classic TIFF file can hold them, and the codes of those that it cannot.

    Integers of 64 bits become such of 32 bits, if none of them is too large.
    """
    classic, codes = [], []
    for tag in tags:
        narrow = _CLASSIC_TYPES.get(tag.value_type)
        if narrow is None:
            classic.append(tag)
            continue
        letter = "i" if narrow == SLONG else "u"
        values = np.frombuffer(tag.value, f"{order}{letter}8")
        narrowed = values.astype(f"{order}{letter}4")
        if np.array_equal(values, narrowed):
            classic.append(Tag(tag.code, narrow, tag.value_count, narrowed.tobytes()))
        else:
            codes.append(tag.code)
    return classic, codes


def copied_tags(
    page: TiffPage, read: Callable[[int, int], bytearray], stale: frozenset[int] = frozenset()
) -> tuple[Tag, ...]:
    """Return the tags of a page that stay true when its pixels are filtered and stored anew.

    Parameters
    ----------
    page
        The page as tifffile sees it.
    read
        Returns the bytes of the file at an offset, as many as the second argument says.
    stale
        The codes of tags that do not stay true of this page.
    """
    tags: dict[int, Tag] = {}
    for tag in page.tags:
        code, tag_type = int(tag.code), int(tag.dtype)
        is_private_offset = page.is_ndpi and code in _NDPI_TAGS
        if code not in _NOT_COPIED | stale and tag_type in _TYPE_BYTES and not is_private_offset:
            value = bytes(read(tag.valueoffset, tag.count * _TYPE_BYTES[tag_type]))
            tags.setdefault(code, Tag(code, tag_type, tag.count, value))
    return tuple(tags.values())


def dropped_data(page: TiffPage) -> list[str]:
    """Name what the user may miss in a copy of the page."""
    return [name for code, name in _DROPPED_WITH_NOTICE.items() if code in page.tags]


def describes_series(page: TiffPage) -> bool:
    """Return whether the description of a page tells the number, the shape or the type of all images of the file.

    ImageJ, tifffile and the OME format do so.
    """
    text = page.tags.valueof(DESCRIPTION)
    is_ours = isinstance(text, str) and (text.startswith(("ImageJ=", '{"shape":')) or text.rstrip().endswith("</OME>"))
    return bool(is_ours)


def shared_metadata(page: TiffPage, colour_model: str | None) -> Metadata:
    """Return what the page says about its image in terms that every format shares."""
    text = {keyword: page.tags.valueof(code) for keyword, code in _TEXT_TAGS.items()}
    profile = page.tags.valueof(34675)
    return Metadata(
        resolution=_pixels_per_metre(page),
        icc_profile=profile if isinstance(profile, bytes) else None,
        text={keyword: value for keyword, value in text.items() if isinstance(value, str) and value},
        colour_model=colour_model,
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
        per_centimetre = [Fraction(per_metre / 100).limit_denominator(10_000) for per_metre in metadata.resolution]
        if all(value.numerator < 2**32 for value in per_centimetre):
            for code, ratio in zip((282, 283), per_centimetre, strict=True):
                tags.append(byte_layout.integers(code, RATIONAL, ratio.as_integer_ratio()))
            tags.append(byte_layout.integers(296, SHORT, [3]))
    return tuple(tags)


def text_without_tag(metadata: Metadata) -> list[str]:
    """Name the keywords of `metadata` that no TIFF tag stands for."""
    return sorted(set(metadata.text) - set(_TEXT_TAGS))
