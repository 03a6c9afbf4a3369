"""The structure of PNG files: signature, chunks, the image header, and what the other chunks say of the image.

The format is https://www.w3.org/TR/png-3/.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.metadata import Metadata

SIGNATURE = b"\x89PNG\r\n\x1a\n"

LARGEST_DIMENSION = 2**31 - 1

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_DEPTHS = {_GREY: (1, 2, 4, 8, 16), _RGB: (8, 16), _PALETTE: (1, 2, 4, 8), _GREY_ALPHA: (8, 16), _RGBA: (8, 16)}
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_COLOUR_TYPES = {1: _GREY, 2: _GREY_ALPHA, 3: _RGB, 4: _RGBA}

_HEADER = struct.Struct(">IIBBBBB")
_CHUNK_START = struct.Struct(">I4s")

_LARGEST_KEPT = 1 << 26
"""Bytes of all chunks together that are read into memory, and of what they may unpack to."""

_KNOWN_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}

_TRUE_OF_FILTERED = {
    b"bKGD", b"cHRM", b"cICP", b"cLLI", b"gAMA", b"iCCP", b"mDCV", b"pCAL", b"sBIT", b"sCAL", b"sRGB",
}  # fmt: skip

_BOUND_TO_SAMPLES = {b"bKGD", b"sBIT"}


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
    def channels(self) -> int:
        """Samples per pixel."""
        return _CHANNELS[self.colour_type]

    @property
    def alpha(self) -> int | None:
        """The channel that holds the opacity."""
        return self.channels - 1 if self.colour_type in (_GREY_ALPHA, _RGBA) else None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The samples' type in memory."""
        return np.dtype(np.uint16 if self.bit_depth == 16 else np.uint8)

    @property
    def pixel_bytes(self) -> int:
        """The size of a pixel of whole bytes."""
        return self.channels * self.bit_depth // 8

    @property
    def row_bytes(self) -> int:
        """The size of a row."""
        return (self.width * self.channels * self.bit_depth + 7) // 8

    @property
    def scanline_bytes(self) -> int:
        """The size of a row with the byte before it, which names its filter."""
        return self.row_bytes + 1

    @property
    def obstacle(self) -> str | None:
        """What keeps the rows from being read one by one as they are, if anything does."""
        if self.interlaced:
            return "is interlaced"
        if self.colour_type == _PALETTE:
            return "has a palette"
        if self.bit_depth < 8:
            return f"has {self.bit_depth} bits per sample"
        return None


class Chunk(NamedTuple):
    """One chunk as it is stored, without length and checksum."""

    type: bytes
    data: bytes

    @property
    def is_kept(self) -> bool:
        """Whether the chunk is as true of the filtered image as of the original.

        That goes for all that is marked as safe to copy (texts, resolution, Exif and private chunks), and for the
        colour space and the meaning of the samples. It does not go for the time of the last change, histograms,
        suggested palettes, animation and signatures.
        """
        critical, unsafe = not self.type[0] & 0x20, not self.type[3] & 0x20
        return not critical and (not unsafe or self.type in _TRUE_OF_FILTERED)

    def fits(self, source: Header, target: Header) -> bool:
        """Return whether a chunk that goes with one header may go with the other one."""
        same_samples = (source.bit_depth, source.colour_type) == (target.bit_depth, target.colour_type)
        same_colours = (source.colour_type & _RGB) == (target.colour_type & _RGB)
        if self.type in _BOUND_TO_SAMPLES:
            return same_samples
        return same_colours or self.type != b"iCCP"


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
        name = chunk_type.decode()
        if self._file.tell() + length > self.file_bytes:
            raise EOFError
        self._read_bytes += length
        if self._read_bytes > _LARGEST_KEPT:
            fact = f"its chunks have {self._read_bytes} bytes up to the {name} chunk"
            raise UnsupportedError(fact, path=self._path, remedy="remove the larger ones")
        data = self._read(length)
        self._check(chunk_type, zlib.crc32(data, zlib.crc32(chunk_type)))
        if chunk_type not in _KNOWN_CRITICAL and not chunk_type[0] & 0x20:
            raise UnsupportedError(f"needs the unknown chunk {name}", path=self._path, remedy="save it as plain PNG")
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

    def skip_data(self, length: int) -> None:
        """Pass over the data of the chunk whose start was just read, without a look at it."""
        self._file.seek(length + 4, 1)

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


def unreadable(error: OSError, path: Path) -> UnreadableError:
    """Return the error for a file that the system does not read."""
    return UnreadableError(f"cannot be read ({error.strerror or error})", path=path, remedy="check the disk")


def damaged(fact: str, path: Path) -> UnreadableError:
    """Return the error for a file that is not as it should be."""
    return UnreadableError(fact, path=path, remedy="get an intact copy")


def write_chunk(file: BinaryIO, chunk_type: bytes, *parts: bytes) -> None:
    """Write one chunk, whose data are the parts joined."""
    file.write(_CHUNK_START.pack(sum(map(len, parts)), chunk_type))
    checksum = zlib.crc32(chunk_type)
    for part in parts:
        file.write(part)
        checksum = zlib.crc32(part, checksum)
    file.write(checksum.to_bytes(4, "big"))


def metadata_of(chunks: Iterable[Chunk], path: Path) -> Metadata:
    """Return what the chunks say in terms that other formats share."""
    resolution, icc_profile, exif, text = None, None, None, {}
    text_size = 0
    for chunk in chunks:
        try:
            if chunk.type == b"pHYs":
                resolution = _parse_resolution(chunk.data)
            elif chunk.type == b"iCCP":
                icc_profile = _inflate(chunk.data.split(b"\0", 1)[1][1:])
            elif chunk.type == b"eXIf":
                exif = chunk.data
            elif chunk.type in (b"tEXt", b"zTXt", b"iTXt"):
                keyword, value = _parse_text(chunk, _LARGEST_KEPT - text_size)
                text[keyword] = value
                text_size += len(value)
        except (zlib.error, struct.error, ValueError, IndexError) as error:
            raise damaged(f"its {chunk.type.decode()} chunk is damaged", path) from error
    return Metadata(resolution, icc_profile, exif, text)


def chunks_of(metadata: Metadata) -> list[Chunk]:
    """Return the chunks that say what `metadata` says."""
    chunks = []
    if metadata.icc_profile is not None:
        chunks.append(Chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc_profile)))
    if metadata.resolution is not None:
        pixels_per_metre = [round(value) for value in metadata.resolution]
        if all(1 <= value <= LARGEST_DIMENSION for value in pixels_per_metre):
            chunks.append(Chunk(b"pHYs", struct.pack(">IIB", *pixels_per_metre, 1)))
    if metadata.exif is not None:
        chunks.append(Chunk(b"eXIf", metadata.exif))
    return chunks + _text_chunks(metadata.text)


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


def _inflate(data: bytes, most_bytes: int = _LARGEST_KEPT) -> bytes:
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(data, max(most_bytes, 1))  # 0 would be no limit
    if not inflater.eof:
        raise ValueError("incomplete, or larger than any sensible profile or text")
    return inflated
