"""The tags for what every format shares, in TIFF files and in Exif data."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from fractions import Fraction

from blurfast.io.exif import parse_exif
from blurfast.io.metadata import Metadata
from blurfast.io.tiff_tags import ASCII, DESCRIPTION, RATIONAL, SHORT, ByteLayout, Tag

RESOLUTION, RESOLUTION_UNIT = (282, 283), 296
TEXT_TAGS = {"Description": DESCRIPTION, "Software": 305, "Author": 315, "Copyright": 33432, "Title": 269}
"""The tags that hold texts, by PNG's keywords."""

_INCH, _CENTIMETRE = 2, 3
_METRES_PER_UNIT = {_INCH: 0.0254, _CENTIMETRE: 0.01}


def text_tag(code: int, text: str) -> Tag:
    """Return a tag that holds a text."""
    value = text.encode() + b"\0"
    return Tag(code, ASCII, len(value), value)


def resolution_tags(resolution: tuple[float, float], byte_layout: ByteLayout) -> list[Tag]:
    """Return the tags for pixels per metre, horizontally and vertically; none if there are too many."""
    per_centimetre = [Fraction(per_metre / 100).limit_denominator(10_000) for per_metre in resolution]
    if any(value.numerator >= 2**32 for value in per_centimetre):
        return []
    ratios = [
        byte_layout.integers(code, RATIONAL, value.as_integer_ratio())
        for code, value in zip(RESOLUTION, per_centimetre, strict=True)
    ]
    return [*ratios, byte_layout.integers(RESOLUTION_UNIT, SHORT, [_CENTIMETRE])]


def pixels_per_metre(tags: Mapping[int, Tag], order: str) -> tuple[float, float] | None:
    """Return the resolution that tags tell, in pixels per metre; None if they tell none."""
    unit = tags.get(RESOLUTION_UNIT)
    unit_number = struct.unpack(f"{order}H", unit.value)[0] if unit is not None and len(unit.value) == 2 else 2
    metres = _METRES_PER_UNIT.get(unit_number)
    horizontal, vertical = (ratio(tags.get(code), order) for code in RESOLUTION)
    if not metres or not horizontal or not vertical:
        return None
    return float(horizontal) / metres, float(vertical) / metres


def ratio(tag: Tag | None, order: str) -> Fraction | None:
    """Return the value of a rational tag; None where the tag is missing, has another type, or divides by zero."""
    if tag is None or tag.value_type != RATIONAL or tag.value_count != 1:
        return None
    numerator, denominator = struct.unpack(f"{order}II", tag.value)
    return Fraction(numerator, denominator) if denominator else None


def exif_resolution(block: bytes | None) -> tuple[float, float] | None:
    """Return the resolution that Exif data tell, in pixels per metre; None if they tell none."""
    parsed = None if block is None else parse_exif(block)
    return None if parsed is None else pixels_per_metre({tag.code: tag for tag in parsed.tags}, parsed.order)


def exif_terms(metadata: Metadata, *, has_resolution: bool) -> list[Tag]:
    """Return little-endian tags for what formats without texts, or without a resolution, can only say in Exif data.

    Parameters
    ----------
    metadata
        What is to be said.
    has_resolution
        Whether the format has another place for the resolution.
    """
    texts = [text_tag(code, metadata.text[keyword]) for keyword, code in TEXT_TAGS.items() if keyword in metadata.text]
    if metadata.resolution is None or has_resolution:
        return texts
    return texts + resolution_tags(metadata.resolution, ByteLayout("<", big=False))


def texts_without_tag(metadata: Metadata) -> list[str]:
    """Return the keywords of texts that no tag stands for."""
    return [keyword for keyword in metadata.text if keyword not in TEXT_TAGS]
