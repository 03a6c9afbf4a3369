"""The structure of PNG files: signature, chunks, the image header, and what the other chunks say of the image.

The format is https://www.w3.org/TR/png-3/.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from blurfast.errors import UnreadableError, UnsupportedError

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# What becomes of the signature where line ends are converted, the highest bits are lost, or Latin-1 becomes UTF-8.
_SIGNATURE_AS_TEXT = re.compile(rb"(?:\x89|\t|\?|\xc2\x89|\xef\xbf\xbd)PNG[\r\n]+\x1a[\r\n]+")

LARGEST_DIMENSION = 2**31 - 1

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
_STORED_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
_COLOUR_TYPES = {1: GREY, 2: GREY_ALPHA, 3: RGB, 4: RGBA}

_HEADER = struct.Struct(">IIBBBBB")
_CHUNK_START = struct.Struct(">I4s")

LARGEST_KEPT = 1 << 26
"""Bytes of all chunks together that are read into memory, and of what they may unpack to."""

_CHECKED_BYTES = 1 << 16
"""How much is read at a time of what is only checked."""

_KNOWN_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}

_TRUE_OF_FILTERED = {
    b"bKGD", b"cHRM", b"cICP", b"cLLI", b"gAMA", b"iCCP", b"mDCV", b"pCAL", b"sBIT", b"sCAL", b"sRGB",
}  # fmt: skip

_BOUND_TO_SAMPLES = {b"bKGD", b"pCAL", b"sBIT"}
_BOUND_TO_SIZE = {b"caNv", b"oFFs", b"vpAg"}
"""They tell where on a larger canvas the image is."""


@dataclass(frozen=True)
class Header:
    """What an IHDR chunk says."""

    width: int
    height: int
    bit_depth: int
    colour_type: int
    interlaced: bool = False

    @classmethod
    def of_pixels(cls, height: int, width: int, channels: int, dtype: np.dtype[Any]) -> Header:
        """Return the header for pixels in memory."""
        return cls(width, height, 8 * dtype.itemsize, _COLOUR_TYPES[channels])

    @classmethod
    def parse(cls, data: bytes, path: Path) -> Header:
        """Return the header that an IHDR chunk holds, which is valid if this raises nothing."""
        if len(data) != _HEADER.size:
            raise damaged("its header has the wrong size", path)
        width, height, bit_depth, colour_type, compression, filtering, interlacing = _HEADER.unpack(data)
        if not (1 <= width <= LARGEST_DIMENSION and 1 <= height <= LARGEST_DIMENSION):
            raise damaged(f"its header declares {width} x {height} pixels", path)
        if bit_depth not in _DEPTHS.get(colour_type, ()):
            raise damaged(f"its header declares colour type {colour_type} with {bit_depth} bits", path)
        if compression or filtering or interlacing > 1:
            raise damaged("its header names methods that do not exist", path)
        return cls(width, height, bit_depth, colour_type, interlacing == 1)

    def pack(self) -> bytes:
        """Return the data of the IHDR chunk."""
        return _HEADER.pack(self.width, self.height, self.bit_depth, self.colour_type, 0, 0, self.interlaced)

    @property
    def stored_channels(self) -> int:
        """Samples per pixel in the file; an index of a palette is one."""
        return _STORED_CHANNELS[self.colour_type]

    @property
    def filter_bytes(self) -> int:
        """How far apart the bytes are that the scanline filters compare: a pixel, or one byte of smaller pixels."""
        return max(1, self.stored_channels * self.bit_depth // 8)

    def row_bytes(self, width: int) -> int:
        """Return the size of `width` pixels of a row."""
        return (width * self.stored_channels * self.bit_depth + 7) // 8


class Chunk(NamedTuple):
    """One chunk as it is stored, without length and checksum."""

    type: bytes
    data: bytes

    def fits(self, source: Header, target: Header) -> bool:
        """Return whether a chunk that goes with one header may go with the other one."""
        same_samples = (source.bit_depth, source.colour_type) == (target.bit_depth, target.colour_type)
        same_colours = (source.colour_type & RGB) == (target.colour_type & RGB)
        if self.type in _BOUND_TO_SAMPLES:
            return same_samples
        if self.type in _BOUND_TO_SIZE:
            return (source.width, source.height) == (target.width, target.height)
        return same_colours or self.type != b"iCCP"


def is_kept(chunk_type: bytes) -> bool:
    """Return whether chunks of a type are as true of the filtered image as of the original.

    That goes for all that is marked as safe to copy (texts, resolution, Exif and private chunks), and for the
    colour space and the meaning of the samples. It does not go for the time of the last change, histograms,
    suggested palettes, animation and signatures.
    """
    is_critical, is_unsafe = not chunk_type[0] & 0x20, not chunk_type[3] & 0x20
    return not is_critical and (not is_unsafe or chunk_type in _TRUE_OF_FILTERED)


class ChunkReader:
    """Reads chunks in turn and checks them.

    Where the file ends too early, the methods raise `EOFError`, which the caller can tell the place of.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self.file_bytes = os.fstat(file.fileno()).st_size
        self._read_bytes = 0

    def read_start(self) -> tuple[bytes, int]:
        """Return the type of the next chunk and the length of its data, which come next."""
        length, chunk_type = _CHUNK_START.unpack(self._read(_CHUNK_START.size))
        if length > LARGEST_DIMENSION or not (chunk_type.isalpha() and chunk_type.isascii()):
            raise damaged("its sequence of chunks is broken", self._path)
        return chunk_type, length

    def read_data(self, chunk_type: bytes, length: int) -> bytes:
        """Return the data of the chunk whose start was just read."""
        if self._file.tell() + length > self.file_bytes:
            raise EOFError
        self._read_bytes += length
        if self._read_bytes > LARGEST_KEPT:
            fact = f"its chunks have {self._read_bytes} bytes up to the {chunk_type.decode()} chunk"
            raise UnsupportedError(fact, path=self._path, remedy="remove the larger ones")
        data = self._read(length)
        self._check(chunk_type, zlib.crc32(data, zlib.crc32(chunk_type)))
        self._refuse_unknown(chunk_type)
        return data

    def read_pieces(self, chunk_type: bytes, length: int, piece_bytes: int) -> Iterator[bytes]:
        """Yield the data of the chunk whose start was just read, piece by piece."""
        checksum = zlib.crc32(chunk_type)
        while length:
            piece = self._read(min(length, piece_bytes))
            checksum = zlib.crc32(piece, checksum)
            length -= len(piece)
            yield piece
        self._check(chunk_type, checksum)

    def check_data(self, chunk_type: bytes, length: int) -> None:
        """Pass over the data of the chunk whose start was just read, after a check that nothing is wrong with it."""
        for _ in self.read_pieces(chunk_type, length, _CHECKED_BYTES):
            pass
        self._refuse_unknown(chunk_type)

    def skip_data(self, length: int) -> None:
        """Pass over the data of the chunk whose start was just read, without a look at it."""
        self._file.seek(length + 4, 1)

    def _refuse_unknown(self, chunk_type: bytes) -> None:
        if chunk_type not in _KNOWN_CRITICAL and not chunk_type[0] & 0x20:
            fact = f"needs the unknown chunk {chunk_type.decode()}"
            raise UnsupportedError(fact, path=self._path, remedy="save it as plain PNG")

    def _check(self, chunk_type: bytes, checksum: int) -> None:
        if int.from_bytes(self._read(4), "big") != checksum:
            raise damaged(f"the checksum of its {chunk_type.decode()} chunk is wrong", self._path)

    def _read(self, length: int) -> bytes:
        try:
            data = self._file.read(length)
        except OSError as error:
            raise unreadable(error, self._path) from error
        if len(data) < length:
            raise EOFError
        return data


def is_changed_as_text(start: bytes) -> bool:
    r"""Return whether the first bytes are those of a PNG file that has been changed as if it were a text.

    Examples
    --------
    >>> is_changed_as_text(b"\x89PNG\n\x1a\n"), is_changed_as_text(SIGNATURE), is_changed_as_text(b"PNG\r\n")
    (True, False, False)
    """
    return not start.startswith(SIGNATURE) and _SIGNATURE_AS_TEXT.match(start) is not None


def unreadable(error: OSError, path: Path) -> UnreadableError:
    """Return the error for a file that the system does not read."""
    return UnreadableError(f"cannot be read ({error.strerror or error})", path=path, remedy="check the disk")


def damaged(fact: str, path: Path) -> UnreadableError:
    """Return the error for a file that is not as it should be."""
    return UnreadableError(fact, path=path, remedy="get an intact copy")


class Writable(Protocol):
    """What bytes can be written to."""

    def write(self, data: bytes, /) -> object:
        """Write what comes next."""


def write_chunk(file: Writable, chunk_type: bytes, *parts: bytes) -> None:
    """Write one chunk, whose data are the parts joined."""
    file.write(_CHUNK_START.pack(sum(map(len, parts)), chunk_type))
    checksum = zlib.crc32(chunk_type)
    for part in parts:
        file.write(part)
        checksum = zlib.crc32(part, checksum)
    file.write(checksum.to_bytes(4, "big"))
