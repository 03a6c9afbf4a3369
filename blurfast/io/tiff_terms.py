"""What the tags of a TIFF page say in terms that every format shares, and the tags that say it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from tifffile import TIFF

from blurfast.io.exif import belongs_into_exif, exif_block, parse_exif, preview_notices, with_tags
from blurfast.io.imagej import METADATA, METADATA_SIZES, is_imagej
from blurfast.io.metadata import Metadata, loss_notices
from blurfast.io.ome import is_ome
from blurfast.io.photoshop import updated_resources
from blurfast.io.shaped import is_shaped
from blurfast.io.shared_tags import (
    RESOLUTION,
    RESOLUTION_UNIT,
    TEXT_TAGS,
    pixels_per_metre,
    ratio,
    resolution_tags,
    term_tag,
    term_text,
)
from blurfast.io.tiff_directories import EXIF, GPS
from blurfast.io.tiff_tags import (
    BYTE,
    DESCRIPTION,
    GDAL_NODATA,
    KIND_TAGS,
    UNDEFINED,
    YCBCR_TAGS,
    ByteLayout,
    Tag,
    classic_tags,
)

XMP, IPTC, PHOTOSHOP, ICC_PROFILE = 700, 33723, 34377, 34675
_ORIENTATION, _UPRIGHT = 274, 1
_BYTE_ORDERS: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}
_IPTC_RESOURCE = struct.Struct(">4sHHI")
_IPTC_RESOURCE_NUMBER = 0x0404

_FAMILIES = {
    **dict.fromkeys((33550, 33922, 34264, 34735, 34736, 34737, 33920, 50844), "the georeference"),
    42112: "GDAL_METADATA",
    GDAL_NODATA: "GDAL_NODATA",
    **dict.fromkeys((METADATA, METADATA_SIZES), "ImageJ's metadata"),
}
_SLIDES = {b"</scn>": "Leica's description of a slide", b"</DataObject>": "Philips' description of a slide"}
_NEEDED_BY_TIFF_ONLY = KIND_TAGS | YCBCR_TAGS
_SHARED = frozenset({XMP, PHOTOSHOP, ICC_PROFILE})


class TermTags(NamedTuple):
    """The tags for a page of an image from another format, and what is to be said about what they leave out."""

    tags: tuple[Tag, ...]
    notices: list[str]


def tag_name(code: int) -> str:
    """Return what a tag is called, or its number."""
    return TIFF.TAGS.get(code, str(code))


def series_name(description: bytes) -> str | None:
    """Return whose description of all images of a file a text is; None if it is of one image only."""
    if is_ome(description):
        return "OME-XML"
    if is_imagej(description):
        return "ImageJ's description"
    if is_shaped(description):
        return "tifffile's description"
    return next((name for end, name in _SLIDES.items() if description.rstrip(b"\0 \r\n").endswith(end)), None)


def shared_metadata(tags: Sequence[Tag], order: str, colour_model: str | None) -> Metadata:
    """Return what the tags of a page say in terms that every format shares."""
    classic, _ = classic_tags(tags, order)
    by_code = {tag.code: tag for tag in classic}
    others = []
    if DESCRIPTION in by_code:
        series = series_name(by_code[DESCRIPTION].value)
        if series is not None:
            del by_code[DESCRIPTION]
            others.append(series)
    texts = {keyword: term_text(keyword, by_code[code]) for keyword, code in TEXT_TAGS.items() if code in by_code}
    resolution = pixels_per_metre(by_code, order)
    has_exif = EXIF in by_code or GPS in by_code
    return Metadata(
        resolution=resolution,
        icc_profile=_bytes(by_code.get(ICC_PROFILE)),
        exif=exif_block(by_code.values(), order) if has_exif else None,
        exif_tags=() if has_exif else _exif_tags(by_code, order, has_resolution=resolution is not None),
        text={keyword: text for keyword, text in texts.items() if text},
        colour_model=colour_model,
        xmp=_bytes(by_code.get(XMP)),
        photoshop=_photoshop(by_code),
        others=(*others, *_other_names(by_code)),
    )


def _exif_tags(tags: Mapping[int, Tag], order: str, *, has_resolution: bool) -> tuple[Tag, ...]:
    """Return what is said in tags that have their place in Exif data, and no other one in formats beside TIFF."""
    resolution = {*RESOLUTION, RESOLUTION_UNIT}
    horizontal, vertical = (ratio(tags.get(code), order) for code in RESOLUTION)
    said = {*TEXT_TAGS.values(), *(resolution if has_resolution or horizontal == vertical else ())}
    orientation = tags.get(_ORIENTATION)
    if orientation is not None and int.from_bytes(orientation.value, _BYTE_ORDERS[order]) == _UPRIGHT:
        said.add(_ORIENTATION)
    kept = [tag for code, tag in tags.items() if belongs_into_exif(code) and code not in said]
    return tuple(tag if order == "<" else tag.reordered() for tag in kept)


def _other_names(codes: Iterable[int]) -> dict[str, None]:
    """Name what no other format has a place for."""
    return {
        _FAMILIES.get(code, tag_name(code)): None
        for code in codes
        if code not in _SHARED | _NEEDED_BY_TIFF_ONLY | {IPTC} and not belongs_into_exif(code)
    }


def _bytes(tag: Tag | None) -> bytes | None:
    return tag.value if tag is not None and tag.value_type in (BYTE, UNDEFINED) and tag.value else None


def _photoshop(tags: Mapping[int, Tag]) -> bytes | None:
    """Return Photoshop's image resources; what IPTC defines alone becomes one of them."""
    resources = _bytes(tags.get(PHOTOSHOP))
    if resources is not None or IPTC not in tags:
        return resources
    records = tags[IPTC].value  # of type LONG in many files, in their byte order or not
    return _IPTC_RESOURCE.pack(b"8BIM", _IPTC_RESOURCE_NUMBER, 0, len(records)) + records + bytes(len(records) % 2)


def metadata_tags(metadata: Metadata, byte_layout: ByteLayout) -> TermTags:
    """Return the tags that say the same as `metadata`, which come from another format."""
    lost = [*metadata.others]
    tags: dict[int, Tag] = {}
    notices = []
    exif = with_tags(metadata.exif, metadata.exif_tags)
    if exif is not None:
        parsed = parse_exif(exif)
        if parsed is None:
            lost.append("Exif data, which are damaged")
        else:
            notices += preview_notices(exif)
            ordered = parsed.tags if parsed.order == byte_layout.order else [tag.reordered() for tag in parsed.tags]
            tags |= {tag.code: tag for tag in ordered}
            lost += [tag_name(code) for code in parsed.lost]
    for keyword, text in metadata.text.items():
        tag = term_tag(keyword, text)
        if tag is None or (tag.code in tags and term_text(keyword, tags[tag.code]) != term_text(keyword, tag)):
            lost.append(keyword)
        else:
            tags[tag.code] = tag
    if metadata.resolution is not None:
        tags |= {tag.code: tag for tag in resolution_tags(metadata.resolution, byte_layout)}
    photoshop, preview_lost = updated_resources(metadata.photoshop)
    raw = {
        ICC_PROFILE: (UNDEFINED, metadata.icc_profile),
        XMP: (BYTE, metadata.xmp),
        PHOTOSHOP: (BYTE, photoshop),
    }
    tags |= {code: Tag(code, kind, len(value), value) for code, (kind, value) in raw.items() if value is not None}
    notices += preview_lost + loss_notices("TIFF", lost)
    return TermTags(tuple(tags.values()), notices)
