"""What the directories of a TIFF file ask for, checked before anything is made of them.

A few bytes can ask for any amount of memory or time: a chain of directories that ends in itself, or many tags that
share one large value, of which each would get a copy.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from blurfast.errors import BlurfastError, UnreadableError, UnsupportedError
from blurfast.io.positioned import PositionedFile

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_SEGMENT_TABLES = frozenset({273, 279, 324, 325})
_NEVER_READ = frozenset({37724})  # Photoshop's layers, which may well be large

_LARGEST_VALUE = 1 << 26
_LARGEST_TABLE = 1 << 28
"""Offsets of 33 million tiles: two terapixels, in the smallest tiles that are common."""

_MOST_TAGS = 4096
"""What tifffile takes."""


class _Format(NamedTuple):
    """How a directory is written: the number of its tags, each tag, and the offset of the next directory.

    `first` is where the offset of the first directory is.
    """

    first: int
    tag_count: struct.Struct
    tag: struct.Struct
    offset: struct.Struct

    @classmethod
    def of(cls, file: PositionedFile) -> _Format | None:
        """Return the format that the first bytes tell of; None if they are not those of a TIFF file."""
        if file.size < 16:
            return None
        mark = bytes(file.read(0, 4))
        order = "<" if mark.startswith(b"II") else ">"
        if mark in (b"II+\0", b"MM\0+"):
            return cls(8, *(struct.Struct(order + codes) for codes in ("Q", "HHQ8x", "Q")))
        if mark in (b"II*\0", b"MM\0*"):
            # Whatever its header says, a file with this suffix has offsets of 64 bits.
            offset = "Q" if order == "<" and file.path.lower().endswith(".ndpi") else "I"
            return cls(4, *(struct.Struct(order + codes) for codes in ("H", "HHI4x", offset)))
        return None

    def number(self, number: struct.Struct, file: PositionedFile, offset: int) -> int:
        """Return a number in the file."""
        return int(number.unpack(file.read(offset, number.size))[0])


def check_directories(file: PositionedFile) -> None:
    """Look through all directories of a TIFF file, without their values.

    Where they are damaged in other ways, this is left to be found when they are read.

    Raises
    ------
    UnreadableError
        If a directory comes twice, or values overlap so much that together they are larger than the file.
    UnsupportedError
        If a single value is very large.
    """
    form = _Format.of(file)
    if form is None:
        return
    seen: set[int] = set()
    held = 0
    offset = form.number(form.offset, file, form.first)
    while offset and offset + form.tag_count.size <= file.size:
        if offset in seen:
            raise _damaged(f"page {len(seen)} is an earlier page again", file)
        seen.add(offset)
        tags = offset + form.tag_count.size
        end = tags + form.number(form.tag_count, file, offset) * form.tag.size
        if end - tags > _MOST_TAGS * form.tag.size or end + form.offset.size > file.size:
            return
        held += _checked_size(file.read(tags, end - tags), form, file, len(seen) - 1)
        if held > 2 * file.size + _LARGEST_VALUE:
            raise _damaged(f"the tags of the first {len(seen)} pages claim {held} bytes", file)
        offset = form.number(form.offset, file, end)


def _checked_size(tags: bytearray, form: _Format, file: PositionedFile, page: int) -> int:
    """Return the bytes that a directory and its values take, after a check of each value."""
    held = len(tags)
    for code, value_type, count in form.tag.iter_unpack(tags):
        size = count * _TYPE_BYTES.get(value_type, 0)
        if size > file.size or code in _NEVER_READ:  # tifffile ignores what does not fit into the file
            continue
        if size > (_LARGEST_TABLE if code in _SEGMENT_TABLES else _LARGEST_VALUE):
            fact = f"tag {code} of page {page} has {size} bytes"
            raise UnsupportedError(fact, path=file.path, remedy="remove that tag")
        held += size
    return held


def _damaged(fact: str, file: PositionedFile) -> BlurfastError:
    return UnreadableError(fact, path=file.path, remedy="copy it again")
