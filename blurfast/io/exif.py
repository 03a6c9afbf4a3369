"""Exif blocks: the TIFF structure in which photos of other formats hold what TIFF files hold in tags.

A block that only passes through is changed in place, so that all of it stays where it was: cameras put absolute
offsets into their MakerNote, which nobody else can follow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from blurfast.io.tiff_directories import EXIF, GPS, DirectoryReader, Entry
from blurfast.io.tiff_tags import LONG, SHORT, ByteLayout, Tag

MAKER_NOTE = 37500
WIDTH, HEIGHT = 40962, 40963
"""The tags in the directory of Exif that repeat the image's size."""

SUBJECT_TAGS = frozenset({37396, 41492})
"""The tags in the directory of Exif that point to places of the image."""

_STRIPS, _STRIP_SIZES, _JPEG_START, _JPEG_SIZE = 273, 279, 513, 514
_INTEGER_LETTERS = {SHORT: "H", LONG: "I"}
_HEADER_BYTES = 8

# What the main directory of a block may say of the image, by the Exif standard and by the habits of Windows.
_MAIN_TAGS = frozenset({
    269, 270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 316, 318, 319, 18246, 18249, 33432, EXIF, GPS,
    *range(40091, 40096),
})  # fmt: skip


class ParsedExif(NamedTuple):
    """A block that was parsed: the tags of its main directory, the codes of damaged ones, and its byte order."""

    tags: tuple[Tag, ...]
    lost: tuple[int, ...]
    order: str


def belongs_into_exif(code: int) -> bool:
    """Return whether a tag of a TIFF file has its place in the main directory of a block, too."""
    return code in _MAIN_TAGS


def exif_block(tags: Iterable[Tag], order: str) -> bytes | None:
    """Return the block that holds those of the tags that have a place in it; None if these are none.

    Parameters
    ----------
    tags
        Of a classic TIFF file.
    order
        Their byte order.
    """
    main = [tag for tag in tags if belongs_into_exif(tag.code)]
    if not main:
        return None
    layout = ByteLayout(order, big=False)
    return layout.header(_HEADER_BYTES) + layout.directories([main], _HEADER_BYTES)


def parse_exif(block: bytes) -> ParsedExif | None:
    """Return what a block holds that a TIFF file can hold, too; None if the block is damaged."""
    opened = _opened(block)
    if opened is None:
        return None
    directory = opened.reader.directory(opened.main)
    if directory is None:
        return None
    kept = tuple(tag for tag in directory if belongs_into_exif(tag.code))
    return ParsedExif(kept, tuple(opened.reader.damaged), opened.order)


def without_preview(block: bytes) -> bytes:
    """Return a block without its second image, which shows what the first one was before it was filtered."""
    opened = _opened(block)
    listed = None if opened is None else opened.reader.entries(opened.main)
    if opened is None or listed is None or listed[1] == 0:
        return block
    entries, following = listed
    emptied = bytearray(block)
    for start, size in _preview_bytes(block, following):
        emptied[start : start + size] = bytes(size)
        if start + size == len(block):
            del emptied[start:]
    link = opened.main + 2 + 12 * len(entries)
    emptied[link : link + 4] = bytes(4)
    return bytes(emptied)


def with_size(block: bytes, width: int, height: int) -> bytes:
    """Return a block whose statements about the image's size, if there are any, are true."""
    changed = bytearray(block)
    opened = _opened(block)
    for entry in _exif_entries(block):
        value = {WIDTH: width, HEIGHT: height}.get(entry.code)
        letter = _INTEGER_LETTERS.get(entry.value_type)
        if opened is None or value is None or letter is None or entry.value_count != 1:
            continue
        if value < 1 << 8 * entry.size:
            struct.pack_into(opened.order + letter, changed, entry.position, value)
    return bytes(changed)


def updated_exif(block: bytes, width: int, height: int) -> tuple[bytes, list[str]]:
    """Return a block as it is true of a filtered image of this size, and what is to be said about it."""
    changed = with_size(without_preview(block), width, height)
    return changed, preview_notices(block)


def preview_notices(block: bytes) -> list[str]:
    """Return what is to be said about the second image of a block, if there is one, which is not kept."""
    has_preview = without_preview(block) != block
    return ["the preview in Exif data shows the image before the filter, and is not kept"] if has_preview else []


def with_tags(block: bytes | None, tags: Iterable[Tag]) -> bytes | None:
    """Return a block whose main directory has further tags; what it says itself takes precedence.

    Parameters
    ----------
    block
        The block; without one, a new one is made. A damaged one is returned as it is.
    tags
        In little-endian byte order.
    """
    if block is None:
        return exif_block(tags, "<")
    opened = _opened(block)
    listed = None if opened is None else opened.reader.entries(opened.main)
    if opened is None or listed is None:
        return block
    entries, following = listed
    known = {entry.code for entry in entries}
    added = [tag if opened.order == "<" else tag.reordered() for tag in tags if tag.code not in known]
    if not added:
        return block
    return _with_new_directory(block, opened, entries, following, added)


class _Opened(NamedTuple):
    """A block whose header is as it should be: byte order, offset of the main directory, and what reads directories."""

    order: str
    main: int
    reader: DirectoryReader


def _opened(block: bytes) -> _Opened | None:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < _HEADER_BYTES:
        return None
    (main,) = struct.unpack_from(f"{order}I", block, 4)
    layout = ByteLayout(order, big=False)
    return _Opened(order, main, DirectoryReader(lambda at, size: block[at : at + size], len(block), layout))


def _integers(block: bytes, order: str, entry: Entry) -> tuple[int, ...]:
    """Return the numbers of an entry; none if they are no integers or not in the block."""
    letter = _INTEGER_LETTERS.get(entry.value_type)
    if letter is None or entry.position + entry.size > len(block):
        return ()
    return struct.unpack_from(f"{order}{entry.value_count}{letter}", block, entry.position)


def _preview_bytes(block: bytes, offset: int) -> Iterator[tuple[int, int]]:
    """Yield where the second image of a block lies, as offsets and sizes within the block."""
    opened = _opened(block)
    listed = None if opened is None else opened.reader.entries(offset)
    if opened is None or listed is None:
        return
    numbers = {entry.code: _integers(block, opened.order, entry) for entry in listed[0]}
    for starts, sizes in ((_JPEG_START, _JPEG_SIZE), (_STRIPS, _STRIP_SIZES)):
        for start, size in zip(numbers.get(starts, ()), numbers.get(sizes, ()), strict=False):
            if _HEADER_BYTES <= start < start + size <= len(block):
                yield start, size


def _exif_entries(block: bytes) -> Iterator[Entry]:
    """Yield the entries of the directory of Exif, those whose values are in the block."""
    opened = _opened(block)
    listed = None if opened is None else opened.reader.entries(opened.main)
    if opened is None or listed is None:
        return
    for entry in listed[0]:
        if entry.code == EXIF:
            for offset in _integers(block, opened.order, entry)[:1]:
                inner, _ = opened.reader.entries(offset) or ([], 0)
                yield from (found for found in inner if found.position + found.size <= len(block))


def _with_new_directory(block: bytes, opened: _Opened, entries: list[Entry], following: int, added: list[Tag]) -> bytes:
    """Return a block with a new main directory at its end, whose old entries lead to where their values are."""
    start = len(block) + len(block) % 2
    count = len(entries) + len(added)
    values_start = start + 2 + 12 * count + 4
    first_entry = opened.main + 2
    raw = {entry.code: block[first_entry + 12 * i : first_entry + 12 * (i + 1)] for i, entry in enumerate(entries)}
    values = bytearray()
    for tag in added:
        value = tag.value.ljust(4, b"\0")
        if len(value) > 4:
            value = struct.pack(f"{opened.order}I", values_start + len(values))
            values += tag.value + bytes(len(tag.value) % 2)
        raw[tag.code] = struct.pack(f"{opened.order}HHI", tag.code, tag.value_type, tag.value_count) + value
    directory = struct.pack(f"{opened.order}H", len(raw)) + b"".join(raw[code] for code in sorted(raw))
    directory += struct.pack(f"{opened.order}I", following) + bytes(12 * (count - len(raw)))
    header = block[:4] + struct.pack(f"{opened.order}I", start)
    return header + block[8:].ljust(start - 8, b"\0") + directory + bytes(values)
