"""The tags of TIFF directories: how they are written, and which of them outlive a filter.

Tags are kept as the bytes of the file, not as values, so that a copy differs in no bit. This needs a copy in the byte
order of the original.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

NATIVE_ORDER = "<" if sys.byteorder == "little" else ">"
"""The byte order of this machine, as a format string has it."""

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SLONG, DOUBLE, IFD, LONG8, SLONG8, IFD8 = (
    1, 2, 3, 4, 5, 7, 9, 12, 13, 16, 17, 18,
)  # fmt: skip

TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_NUMBER_BYTES = {RATIONAL: 4, 10: 4}
"""The size of the numbers that a value is made of, where there are several in each."""

_CLASSIC_TYPES = {LONG8: LONG, SLONG8: SLONG, IFD8: IFD}
_BIG_TYPES = {LONG: LONG8, IFD: IFD8}
_INTEGER_FORMATS = {SHORT: "H", LONG: "I", LONG8: "Q", RATIONAL: "I"}

DESCRIPTION, COLOR_MAP, GDAL_NODATA = 270, 320, 42113
YCBCR_TAGS = frozenset({529, 531, 532})
KIND_TAGS = frozenset({254, 255})
"""The tags that say whether a page is a smaller version or a mask of another one."""


class Tag(NamedTuple):
    """One tag of a directory.

    Parameters
    ----------
    code, value_type, value_count
        As the directory says.
    value
        The bytes of the value, in the byte order of the file.
    directories
        The tags of the directories that the tag points to. Its value is then made when they are written.
    """

    code: int
    value_type: int
    value_count: int
    value: bytes
    directories: tuple[tuple[Tag, ...], ...] = ()

    def reordered(self) -> Tag:
        """Return the tag in the other byte order."""
        size = _NUMBER_BYTES.get(self.value_type, TYPE_BYTES[self.value_type])
        value = np.frombuffer(self.value, f"u{size}").byteswap().tobytes()
        directories = tuple(tuple(tag.reordered() for tag in directory) for directory in self.directories)
        return self._replace(value=value, directories=directories)


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
        return Tag(code, tag_type, len(packed) // TYPE_BYTES[tag_type], packed)

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
            placed = self._with_directories(tag, values, values_start) if tag.directories else tag
            entries += struct.pack(f"{self.order}HH{offset_format}", placed.code, placed.value_type, placed.value_count)
            if len(placed.value) <= offset_bytes:
                entries += placed.value.ljust(offset_bytes, b"\0")
            else:
                values += bytes((values_start + len(values)) % 2)  # values start on word boundaries
                entries += struct.pack(f"{self.order}{offset_format}", values_start + len(values))
                values += placed.value
        values += bytes((values_start + len(values)) % 2)
        following = 0 if is_last else values_start + len(values)
        entries += struct.pack(f"{self.order}{offset_format}", following)
        return bytes(entries + values)

    def _with_directories(self, tag: Tag, values: bytearray, values_start: int) -> Tag:
        """Append the directories that a tag points to, and return the tag with their offsets."""
        offsets = []
        for directory in tag.directories:
            values += bytes((values_start + len(values)) % 2)
            offsets.append(values_start + len(values))
            values += self._directory(sorted(directory), offsets[-1], is_last=True)
        narrow = _CLASSIC_TYPES.get(tag.value_type, tag.value_type)
        value_type = _BIG_TYPES.get(narrow, LONG8) if self.big else narrow
        packed = struct.pack(f"{self.order}{len(offsets)}{'Q' if self.big else 'I'}", *offsets)
        return Tag(tag.code, value_type, len(offsets), packed)


def classic_tags(tags: Iterable[Tag], order: str) -> tuple[list[Tag], list[int]]:
    """Return tags as a classic TIFF file can hold them, and the codes of those that it cannot.

    Integers of 64 bits become such of 32 bits, if none of them is too large.
    """
    classic: list[Tag] = []
    codes: list[int] = []
    for tag in tags:
        if tag.directories:
            narrowed = [classic_tags(directory, order) for directory in tag.directories]
            classic.append(tag._replace(directories=tuple(tuple(kept) for kept, _ in narrowed)))
            codes += [code for _, lost in narrowed for code in lost]
            continue
        narrow = _CLASSIC_TYPES.get(tag.value_type)
        if narrow is None:
            classic.append(tag)
            continue
        letter = "i" if narrow == SLONG else "u"
        values = np.frombuffer(tag.value, f"{order}{letter}8")
        fewer_bits = values.astype(f"{order}{letter}4")
        if np.array_equal(values, fewer_bits):
            classic.append(Tag(tag.code, narrow, tag.value_count, fewer_bits.tobytes()))
        else:
            codes.append(tag.code)
    return classic, codes
