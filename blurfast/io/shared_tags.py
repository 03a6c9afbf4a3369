"""The tags for what every format shares, in TIFF files and in Exif data."""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import re
import struct
from collections.abc import Mapping
from fractions import Fraction

from blurfast.io.exif import parse_exif
from blurfast.io.metadata import Metadata
from blurfast.io.tiff_tags import ASCII, BYTE, DESCRIPTION, RATIONAL, SHORT, ByteLayout, Tag

RESOLUTION, RESOLUTION_UNIT = (282, 283), 296
TEXT_TAGS = {
    "Description": DESCRIPTION, "Software": 305, "Author": 315, "Copyright": 33432, "Title": 269, "Creation Time": 306,
}  # fmt: skip
"""The tags that hold texts, by PNG's keywords."""

_DATE = "Creation Time"

_INCH, _CENTIMETRE = 2, 3
_METRES_PER_UNIT = {_INCH: 0.0254, _CENTIMETRE: 0.01}


def term_tag(keyword: str, text: str) -> Tag | None:
    r"""Return the tag that says a text by one of PNG's keywords; None if there is none for it, or for such a date.

    Examples
    --------
    >>> term_tag("Creation Time", "Mon, 06 May 2024 07:08:09 +0000").value
    b'2024:05:06 07:08:09\x00'
    """
    code = TEXT_TAGS.get(keyword)
    if code is None:
        return None
    if keyword != _DATE:
        return text_tag(code, text)
    date = _parsed_date(text)
    return None if date is None else text_tag(code, date.isoformat(" ").replace("-", ":"))


def term_text(keyword: str, tag: Tag) -> str:
    """Return the text that a tag holds, as it is said by one of PNG's keywords; an empty one if there is none.

    Examples
    --------
    >>> term_text("Creation Time", text_tag(306, "2024:05:06 07:08:09"))
    '2024-05-06T07:08:09'
    """
    if tag.value_type not in (ASCII, BYTE):
        return ""
    value = tag.value.rstrip(b"\0 ")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    if keyword != _DATE:
        return text
    date = _parsed_date(text)
    if date is not None:
        return date.isoformat()
    return text if re.search("[1-9]", text) else ""  # an unknown date has spaces or zeros for its digits


def _parsed_date(text: str) -> dt.datetime | None:
    """Return a date as TIFF, ISO 8601, or RFC 1123 write it, by the clock of its place."""
    for parse in (_parsed_tiff_date, dt.datetime.fromisoformat, email.utils.parsedate_to_datetime):
        with contextlib.suppress(ValueError, OverflowError):
            return parse(text).replace(tzinfo=None, microsecond=0)
    return None


def _parsed_tiff_date(text: str) -> dt.datetime:
    return dt.datetime.strptime(text, "%Y:%m:%d %H:%M:%S")


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
    """Return little-endian tags for what formats without texts, or without a resolution, can say in Exif data only.

    Parameters
    ----------
    metadata
        What is to be said.
    has_resolution
        Whether the format has another place for the resolution.
    """
    texts = [term_tag(keyword, text) for keyword, text in metadata.text.items()]
    terms = [*metadata.exif_tags, *(tag for tag in texts if tag is not None)]
    if metadata.resolution is None or has_resolution:
        return terms
    return terms + resolution_tags(metadata.resolution, ByteLayout("<", big=False))


def texts_without_tag(metadata: Metadata) -> list[str]:
    """Return the keywords of texts that no tag can say."""
    return [keyword for keyword, text in metadata.text.items() if term_tag(keyword, text) is None]
