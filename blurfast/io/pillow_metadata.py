"""What Pillow tells of an image beside its pixels, and what it is told to write."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from PIL import ExifTags, Image

from blurfast.io.exif import updated_exif, with_tags
from blurfast.io.metadata import Metadata, loss_notices
from blurfast.io.photoshop import updated_resources
from blurfast.io.shared_tags import exif_resolution, exif_terms, texts_without_tag
from blurfast.io.tiff_tags import DESCRIPTION

_METRES_PER_INCH = 0.0254
_EXIF_PREFIX, _PHOTOSHOP_PREFIX = b"Exif\0\0", b"Photoshop 3.0\0"
_XMP_PREFIX, _FURTHER_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_LARGEST_JPEG_SEGMENT = 65533
_LARGEST_RESOURCES = 1 << 22
_APP1, _APP13 = b"\xff\xe1", b"\xff\xed"

# Segments of JPEG files that are kept in other ways, or that belong to how the pixels are stored.
_KNOWN_SEGMENTS = (
    b"JFIF", b"JFXX", _EXIF_PREFIX, _XMP_PREFIX, _PHOTOSHOP_PREFIX, b"ICC_PROFILE\0", b"Adobe", b"MPF\0",
)  # fmt: skip


class SaveOptions(NamedTuple):
    """Pillow's options for an output, and what is to be said about metadata that they leave out."""

    options: dict[str, Any]
    notices: list[str]


def read_metadata(image: Image.Image) -> Metadata:
    """Return what an opened image says beside its pixels."""
    info = image.info
    exif = info.get("exif")
    exif = exif.removeprefix(_EXIF_PREFIX) if exif else None
    resolution = exif_resolution(exif)
    if "dpi" in info and all(value > 0 for value in info["dpi"]):
        horizontal, vertical = info["dpi"]
        resolution = float(horizontal) / _METRES_PER_INCH, float(vertical) / _METRES_PER_INCH
    text = {}
    if "comment" in info:
        text = {"Description": info["comment"].decode("utf-8", "replace")}
    segments = [data for _, data in getattr(image, "applist", ())]
    resources = b"".join(
        data.removeprefix(_PHOTOSHOP_PREFIX) for data in segments if data.startswith(_PHOTOSHOP_PREFIX)
    )
    return Metadata(
        resolution=resolution,
        icc_profile=info.get("icc_profile"),
        exif=exif,
        text=text,
        xmp=info.get("xmp") or None,
        photoshop=resources or None,
        others=tuple(dict.fromkeys(_other_segments(image))),
    )


def left_out_images(image: Image.Image) -> list[str]:
    """Return what is to be said where a file holds further images."""
    if not getattr(image, "is_animated", False):
        return []
    return ["only the first image of the file is kept"]


def _other_segments(image: Image.Image) -> Iterator[str]:
    """Name the segments of a JPEG file that are not kept."""
    for name, data in getattr(image, "applist", ()):
        if data.startswith(_FURTHER_XMP_PREFIX):
            yield "the further parts of XMP"
        elif not data.startswith(_KNOWN_SEGMENTS) and name != "COM":
            yield name


def save_options(format_name: str, metadata: Metadata, width: int, height: int) -> SaveOptions:
    """Return Pillow's options for the metadata that a format has a place for.

    Parameters
    ----------
    format_name
        ``"BMP"``, ``"JPEG"`` or ``"WebP"``.
    metadata
        What is to be said.
    width, height
        The size of the output.
    """
    options: dict[str, Any] = {}
    if metadata.resolution is not None and format_name != "WebP":
        options["dpi"] = tuple(value * _METRES_PER_INCH for value in metadata.resolution)
    if format_name == "BMP":
        return SaveOptions(options, loss_notices(format_name, _all_names(metadata)))
    if metadata.icc_profile is not None:
        options["icc_profile"] = metadata.icc_profile
    lost = [*metadata.others, *texts_without_tag(metadata)]
    exif, notices = _exif_of(metadata, format_name, width, height)
    if format_name == "WebP":
        options |= {"exif": _EXIF_PREFIX + exif} if exif is not None else {}
        options |= {"xmp": metadata.xmp} if metadata.xmp is not None else {}
        lost += ["Photoshop's resources"] * (metadata.photoshop is not None)
    else:
        resources, preview_lost = updated_resources(metadata.photoshop)
        notices += preview_lost
        lost += _add_segments(options, exif, metadata, resources)
    return SaveOptions(options, notices + loss_notices(format_name, lost))


def _all_names(metadata: Metadata) -> Iterable[str]:
    """Name all that there is but the resolution."""
    parts = {
        "the colour profile": metadata.icc_profile,
        "Exif data": metadata.exif,
        "XMP": metadata.xmp,
        "Photoshop's resources": metadata.photoshop,
    }
    tags = [ExifTags.TAGS.get(tag.code, str(tag.code)) for tag in metadata.exif_tags]
    return [*(name for name, part in parts.items() if part is not None), *tags, *metadata.text, *metadata.others]


def _exif_of(metadata: Metadata, format_name: str, width: int, height: int) -> tuple[bytes | None, list[str]]:
    """Return the Exif block of an output, with what the format can only say there."""
    terms = exif_terms(metadata, has_resolution=format_name != "WebP")
    if format_name == "JPEG":
        terms = [tag for tag in terms if tag.code != DESCRIPTION]  # it becomes the comment
    if metadata.exif is None:
        return with_tags(None, terms), []
    exif, notices = updated_exif(metadata.exif, width, height)
    return with_tags(exif, terms), notices


def _add_segments(
    options: dict[str, Any], exif: bytes | None, metadata: Metadata, resources: bytes | None
) -> list[str]:
    """Add the options for the segments of a JPEG file, and name those that are too large for it."""
    lost = []
    comment = metadata.text.get("Description", "").encode()
    for name, option, data in (
        ("Exif data", "exif", None if exif is None else _EXIF_PREFIX + exif),
        ("Description", "comment", comment or None),
    ):
        if data is not None and len(data) > _LARGEST_JPEG_SEGMENT:
            lost.append(f"{name} (too large)")
        elif data is not None:
            options[option] = data
    further = b""
    if metadata.xmp is not None:
        if len(_XMP_PREFIX + metadata.xmp) > _LARGEST_JPEG_SEGMENT:
            lost.append("XMP (too large)")
        else:
            further += _segment(_APP1, _XMP_PREFIX + metadata.xmp)
    if resources is not None:
        if len(resources) > _LARGEST_RESOURCES:
            lost.append("Photoshop's resources (too large)")
        else:
            room = _LARGEST_JPEG_SEGMENT - len(_PHOTOSHOP_PREFIX)
            for start in range(0, len(resources), room):
                further += _segment(_APP13, _PHOTOSHOP_PREFIX + resources[start : start + room])
    if further:
        options["extra"] = further
    return lost


def _segment(marker: bytes, data: bytes) -> bytes:
    return marker + struct.pack(">H", 2 + len(data)) + data
