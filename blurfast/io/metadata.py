"""What a file says about its image beside the pixels, in terms that every format shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from blurfast.io.tiff_tags import Tag


@dataclass(frozen=True)
class Metadata:
    r"""The metadata that survive a change of format.

    A sink of the same format as the source copies that format's own tags or chunks instead, which is complete.

    Parameters
    ----------
    resolution
        Horizontal and vertical resolution in pixels per metre.
    icc_profile
        The colour profile, as an ICC file.
    exif
        The file's Exif block: a TIFF structure without the ``Exif\0\0`` prefix.
    text
        Free text by PNG's keywords, such as ``"Description"``; ``"Creation Time"`` in the form of ISO 8601 where it
        comes from a TIFF file.
    colour_model
        What the channels are where they are neither shades of grey nor RGB, in plain words. Only the format that the
        image comes from can say so.
    xmp
        An XMP packet.
    photoshop
        Photoshop's image resources, among them what IPTC defines: a run of ``8BIM`` blocks.
    others
        What else the format of the image says, which no other format has a place for, in plain words.
    exif_tags
        What a TIFF file without Exif data says in tags that other formats can hold in Exif data only; little-endian.
    """

    resolution: tuple[float, float] | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None
    text: Mapping[str, str] = field(default_factory=dict)
    colour_model: str | None = None
    xmp: bytes | None = None
    photoshop: bytes | None = None
    others: tuple[str, ...] = ()
    exif_tags: tuple[Tag, ...] = ()


def loss_notices(format_name: str, lost: Iterable[str]) -> list[str]:
    """Return what is to be said where a format has no place for some of the metadata, once for each kind.

    Examples
    --------
    >>> loss_notices("BMP", ["Exif data", "XMP"])
    ['metadata that are not kept in BMP: Exif data, XMP']
    >>> loss_notices("BMP", [])
    []
    """
    names = ", ".join(dict.fromkeys(lost))
    return [f"metadata that are not kept in {format_name}: {names}"] if names else []
