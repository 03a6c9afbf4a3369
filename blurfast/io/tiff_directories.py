"""The directories that tags of TIFF files and Exif data point to, read with distrust.

What is damaged is left out, and known as lost: metadata are no reason to refuse an image.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from blurfast.io.tiff_tags import IFD, IFD8, LONG, LONG8, TYPE_BYTES, ByteLayout, Tag

EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
_POINTERS = frozenset({EXIF, GPS, INTEROPERABILITY})
_OFFSET_LETTERS = {LONG: "I", IFD: "I", LONG8: "Q", IFD8: "Q"}
_IMAGE_TAGS = frozenset({273, 324, 330, 513})
"""They hold offsets of pixels, which a copy of the directory would not bring along."""

_MOST_TAGS = 4096
_MOST_DIRECTORIES = 16
"""How many one tag may point to."""

_GREATEST_DEPTH = 4
_ENTRY_BYTES = 20
_SPARE_BYTES = 1 << 26


Directory = tuple[Tag, ...]
"""The tags of a directory."""


class Entry(NamedTuple):
    """A tag as its directory has it; `position` is where its value is in the file."""

    code: int
    value_type: int
    value_count: int
    position: int

    @property
    def size(self) -> int:
        """The bytes of the value; 0 if its type is unknown."""
        return self.value_count * TYPE_BYTES.get(self.value_type, 0)


class DirectoryReader:
    """Reads directories at any offset of a file, or of a block of bytes.

    Parameters
    ----------
    read
        Returns the bytes at an offset, as many as its second argument says.
    size
        Of the file.
    byte_layout
        How it writes numbers.

    Attributes
    ----------
    damaged
        The codes of the tags that have turned out to be damaged so far.
    """

    def __init__(self, read: Callable[[int, int], bytes | bytearray], size: int, byte_layout: ByteLayout) -> None:
        self._read = read
        self._size = size
        self._byte_layout = byte_layout
        self.damaged: dict[int, None] = {}
        self._known: dict[int, Directory | None] = {}
        # A copy repeats a directory for each tag that points to it, which must not make it many times larger.
        self._bytes_left = 2 * size + _SPARE_BYTES

    def directory(self, offset: int, depth: int = 0) -> Directory | None:
        """Return the directory at an offset with all that it points to; None where there is none that can be copied."""
        if offset not in self._known:
            self._known[offset] = None  # what points back to it while it is read, points to nothing
            self._known[offset] = self._parsed(offset, depth)
        directory = self._known[offset]
        if directory is not None:
            self._bytes_left -= sum(len(tag.value) + _ENTRY_BYTES for tag in directory)
        return directory if self._bytes_left >= 0 else None

    def entries(self, offset: int) -> tuple[list[Entry], int] | None:
        """Return the entries of a directory, and the offset of the one that follows; None if it is damaged."""
        order, is_big = self._byte_layout.order, self._byte_layout.big
        count_form, entry_form, offset_form = (
            struct.Struct(order + letters) for letters in (("Q", "HHQ8x", "Q") if is_big else ("H", "HHI4x", "I"))
        )
        start = offset + count_form.size
        if offset < count_form.size or start > self._size:
            return None
        (count,) = count_form.unpack(self._read(offset, count_form.size))
        end = start + count * entry_form.size
        if count > _MOST_TAGS or end + offset_form.size > self._size:
            return None
        entries = [
            self._entry(*fields, end=start + (number + 1) * entry_form.size, offset_form=offset_form)
            for number, fields in enumerate(entry_form.iter_unpack(self._read(start, end - start)))
        ]
        (following,) = offset_form.unpack(self._read(end, offset_form.size))
        return entries, following

    def _entry(self, code: int, value_type: int, value_count: int, *, end: int, offset_form: struct.Struct) -> Entry:
        position = end - offset_form.size
        if value_count * TYPE_BYTES.get(value_type, 0) > offset_form.size:
            (position,) = offset_form.unpack(self._read(position, offset_form.size))
        return Entry(code, value_type, value_count, position)

    def tag(self, entry: Entry, depth: int = 0) -> Tag | None:
        """Return a tag with its value, or with the directories that it points to; None if these are damaged."""
        tag: Tag | None = None
        if entry.value_type in TYPE_BYTES and entry.position + entry.size <= self._size:
            value = bytes(self._read(entry.position, entry.size))
            tag = Tag(entry.code, entry.value_type, entry.value_count, value)
            if entry.code in _POINTERS or entry.value_type in (IFD, IFD8):
                tag = self._followed(tag, depth)
        if tag is None:
            self.damaged[entry.code] = None
        return tag

    def _followed(self, tag: Tag, depth: int) -> Tag | None:
        """Return a tag with the directories that its value leads to."""
        letter = _OFFSET_LETTERS.get(tag.value_type)
        if letter is None or depth >= _GREATEST_DEPTH or tag.value_count > _MOST_DIRECTORIES:
            return None
        offsets = struct.unpack(f"{self._byte_layout.order}{tag.value_count}{letter}", tag.value)
        directories = [self.directory(offset, depth + 1) for offset in offsets]
        tags = tuple(directory for directory in directories if directory is not None)
        holds_images = any(tag.code in _IMAGE_TAGS for directory in tags for tag in directory)
        return None if holds_images or len(tags) < len(offsets) else tag._replace(value=b"", directories=tags)

    def _parsed(self, offset: int, depth: int) -> Directory | None:
        listed = self.entries(offset)
        if listed is None:
            return None
        tags: dict[int, Tag] = {}
        held = 0
        for entry in listed[0]:
            held += entry.size
            if held > self._bytes_left:
                return None
            tag = self.tag(entry, depth)
            if tag is not None:
                tags.setdefault(tag.code, tag)
        return tuple(tags.values())
