"""What the chunks of PNG files say of the image beside its pixels, and the chunks that say it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from blurfast.io.exif import updated_exif, with_tags
from blurfast.io.metadata import Metadata, loss_notices
from blurfast.io.png_chunks import LARGEST_DIMENSION, LARGEST_KEPT, PALETTE, Chunk, Header
from blurfast.io.shared_tags import exif_resolution

_XMP_KEYWORD = "XML:com.adobe.xmp"
_REPLACED_BY_PROFILE = {b"cHRM", b"gAMA", b"sRGB"}
_ANIMATION = {b"acTL", b"fcTL", b"fdAT"}
_ABOUT_STORED_SAMPLES = {b"PLTE", b"tRNS"}


class OutputChunks(NamedTuple):
    """The chunks of an output, and what is to be said about those that are lost."""

    chunks: list[Chunk]
    notices: list[str]


def chunks_like(chunks: Iterable[Chunk], source: Header, target: Header) -> OutputChunks:
    """Return those of the chunks that go with one header which are true of an image with the other one, too."""
    kept: list[Chunk] = []
    lost: list[bytes] = []
    notices: list[str] = []
    for chunk in chunks:
        if not chunk.fits(source, target):
            lost.append(chunk.type)
        elif chunk.type == b"eXIf":
            exif, notices = updated_exif(chunk.data, target.width, target.height)
            kept.append(Chunk(b"eXIf", exif))
        else:
            kept.append(chunk)
    return OutputChunks(kept, [*notices, *dropped_notices(lost, target)])


def dropped_notices(chunk_types: Iterable[bytes], header: Header) -> list[str]:
    """Return what is to be said about chunks that are not kept, in one sentence or none."""
    silent = _ANIMATION | (_ABOUT_STORED_SAMPLES if header.colour_type == PALETTE else {b"tRNS"})
    names = ", ".join(dict.fromkeys(chunk_type.decode() for chunk_type in chunk_types if chunk_type not in silent))
    return [f"chunks that are not true of the result are not kept: {names}"] if names else []


def metadata_of(chunks: Iterable[Chunk]) -> Metadata:
    """Return what the chunks say in terms that other formats share; damaged ones are named among what is not kept."""
    resolution, icc_profile, exif, xmp, text = None, None, None, None, {}
    others: dict[bytes, None] = {}
    damaged: dict[str, None] = {}
    room = LARGEST_KEPT
    for chunk in chunks:
        try:
            if chunk.type == b"pHYs":
                resolution = _parse_resolution(chunk.data)
                others |= {b"pHYs": None} if resolution is None else {}
            elif chunk.type == b"iCCP":
                icc_profile = _inflate(chunk.data.split(b"\0", 1)[1][1:], room)
            elif chunk.type == b"eXIf":
                exif = chunk.data
            elif chunk.type in (b"tEXt", b"zTXt", b"iTXt"):
                keyword, value = _parse_text(chunk, room)
                text[keyword] = value
                room -= len(value)
            else:
                others[chunk.type] = None
        except (zlib.error, struct.error, ValueError, IndexError):
            damaged[f"{chunk.type.decode()} (damaged)"] = None
            room //= 2  # or many of them could each unpack to all that there is room for
    if icc_profile is not None:
        others = {chunk_type: None for chunk_type in others if chunk_type not in _REPLACED_BY_PROFILE}
    if _XMP_KEYWORD in text:
        xmp = text.pop(_XMP_KEYWORD).encode()
    resolution = resolution or exif_resolution(exif)
    names = (*(chunk_type.decode() for chunk_type in others), *damaged)
    return Metadata(resolution, icc_profile, exif, text, xmp=xmp, others=names)


def chunks_of(metadata: Metadata, header: Header) -> OutputChunks:
    """Return the chunks that say what `metadata` says of an image."""
    chunks = []
    notices: list[str] = []
    lost = [*metadata.others, *["Photoshop's resources"] * (metadata.photoshop is not None)]
    if metadata.icc_profile is not None:
        chunks.append(Chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc_profile)))
    if metadata.resolution is not None:
        pixels_per_metre = [round(value) for value in metadata.resolution]
        if all(1 <= value <= LARGEST_DIMENSION for value in pixels_per_metre):
            chunks.append(Chunk(b"pHYs", struct.pack(">IIB", *pixels_per_metre, 1)))
        elif metadata.exif is None:
            lost.append("the resolution")
    exif = with_tags(metadata.exif, metadata.exif_tags)
    if exif is not None:
        exif, notices = updated_exif(exif, header.width, header.height)
        chunks.append(Chunk(b"eXIf", exif))
    if metadata.xmp is not None:
        chunks.append(Chunk(b"iTXt", _XMP_KEYWORD.encode() + b"\0\0\0\0\0" + metadata.xmp))
    return OutputChunks(chunks + _text_chunks(metadata.text), notices + loss_notices("PNG", lost))


def _parse_resolution(data: bytes) -> tuple[float, float] | None:
    horizontal, vertical, unit = struct.unpack(">IIB", data)
    return (float(horizontal), float(vertical)) if unit == 1 else None  # else it is only a ratio


def _parse_text(chunk: Chunk, most_bytes: int) -> tuple[str, str]:
    keyword, value = chunk.data.split(b"\0", 1)
    if chunk.type == b"tEXt":
        return keyword.decode("latin-1"), value.decode("latin-1")
    if chunk.type == b"zTXt":
        return keyword.decode("latin-1"), _inflate(value[1:], most_bytes).decode("latin-1")
    compressed, _method = value[:2]
    _language, _translated_keyword, value = value[2:].split(b"\0", 2)
    return keyword.decode("latin-1"), (_inflate(value, most_bytes) if compressed else value).decode()


def _text_chunks(text: Mapping[str, str]) -> list[Chunk]:
    chunks = []
    for keyword, value in text.items():
        # A keyword has at most 79 letters of Latin-1; a text has no NUL.
        start = keyword.replace("\0", " ").encode("latin-1", "replace")[:79].strip() or b"Comment"
        content = value.replace("\0", " ")
        try:
            chunks.append(Chunk(b"tEXt", start + b"\0" + content.encode("latin-1")))
        except UnicodeEncodeError:
            chunks.append(Chunk(b"iTXt", start + b"\0\0\0\0\0" + content.encode("utf-8", "replace")))
    return chunks


def _inflate(data: bytes, most_bytes: int) -> bytes:
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(data, max(most_bytes, 1))  # 0 would be no limit
    if not inflater.eof:
        raise ValueError("incomplete, or larger than any sensible profile or text")
    return inflated
