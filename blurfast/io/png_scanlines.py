"""The rows of a PNG file: inflated, checked, and unfiltered in the order in which they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from blurfast.cpu import objects
from blurfast.cpu.catalogue import Kernel
from blurfast.io.png_chunks import ChunkReader, Header, damaged
from blurfast.io.png_passes import passes_of, scanline_bytes

UNFILTER = Kernel("png", "unfilter", "uint8", "uint8")

READ_BYTES = 1 << 18
"""How much of the file is read at a time: enough to make the calls cheap."""


class Scanlines:
    """The rows of an image, pass by pass.

    Parameters
    ----------
    file
        At the first IDAT chunk.
    path
        The file that errors are about.
    header
        Of the image.

    Attributes
    ----------
    row
        The next row of the present pass.
    """

    def __init__(self, file: BinaryIO, path: Path, header: Header) -> None:
        self.row = 0
        self._path = path
        self._header = header
        self._passes = passes_of(header)
        self._pass_number = 0
        self._row_above = np.zeros(header.row_bytes(self._passes[0].width), np.uint8)
        self._reader = ChunkReader(file, path)
        self._deflated = self._deflated_pieces()
        self._inflater = isal_zlib.decompressobj()
        self._pending = b""
        self._after_pixels = (b"IDAT", 0)

    def read(self, target: NDArray[Any]) -> None:
        """Fill `target`, whose rows have no gaps inside, with the next rows of a pass; the next pass follows the last.

        Samples of 16 bits keep the byte order of the file.

        Raises
        ------
        UnreadableError
            If the file ends too early or is damaged.
        """
        part = self._passes[self._pass_number]
        if self.row == part.height:
            self._pass_number += 1
            part = self._passes[self._pass_number]
            self.row = 0
            self._row_above = np.zeros(self._header.row_bytes(part.width), np.uint8)
        filtered = self._inflate_rows(len(target), scanline_bytes(self._header, part))
        self._unfilter(filtered, target)
        self.row += len(target)

    def finish(self) -> None:
        """Check that the image ends here, and read the file to its end."""
        try:
            if self._inflate(1):
                raise damaged(f"it holds more than the {self._header.height} rows of its header", self._path)
            if not self._inflater.eof:
                raise damaged("the checksum of its pixels is missing", self._path)
            if self._inflater.unused_data or any(self._deflated):
                raise damaged("there are data after the end of the pixels", self._path)
            self._check_trailing_chunks()
        except EOFError as error:
            raise damaged("the file ends after its last row, without an end mark", self._path) from error

    def _unfilter(self, filtered: bytearray, target: NDArray[Any]) -> None:
        (unfilter,) = objects.load([UNFILTER])
        scanlines, bad_row = np.frombuffer(filtered, np.uint8), np.empty(1, np.int64)
        unfilter(
            scanlines.ctypes.data, len(target), self._row_above.size, self._header.filter_bytes,
            self._row_above.ctypes.data, target.ctypes.data, target.strides[0], bad_row.ctypes.data,
        )  # fmt: skip
        if bad_row[0] >= 0:
            row = self._name(self.row + int(bad_row[0]) + 1)
            raise damaged(f"{row} has a filter that does not exist", self._path)
        self._row_above[:] = target[-1].reshape(-1).view(np.uint8)

    def _inflate_rows(self, row_count: int, row_bytes: int) -> bytearray:
        """Return the next scanlines of the pass."""
        wanted = row_count * row_bytes
        scanlines = bytearray(wanted)
        filled = 0
        end = "the file ends"
        try:
            while filled < wanted:
                inflated = self._inflate(wanted - filled)
                if not inflated:
                    end = "its pixels end"
                    raise EOFError
                scanlines[filled : filled + len(inflated)] = inflated
                filled += len(inflated)
        except EOFError as error:
            complete = self.row + filled // row_bytes
            place = f"after {self._name(complete)}" if complete else f"within {self._name(1)}"
            raise damaged(f"{end} {place}", self._path) from error
        return scanlines

    def _inflate(self, largest: int) -> bytes:
        """Return some more bytes, or none where the compressed data end."""
        inflated = b""
        while not inflated and not self._inflater.eof:
            try:
                inflated = self._inflater.decompress(self._pending, largest)
            except isal_zlib.IsalError as error:  # type: ignore[misc]  # the stub declares an instance
                row = self._name(min(self.row + 1, self._passes[self._pass_number].height))
                raise damaged(f"its compressed data are damaged near {row}", self._path) from error
            self._pending = self._inflater.unconsumed_tail
            if not inflated and not self._pending and not self._inflater.eof:
                self._pending = next(self._deflated, b"")
                if not self._pending:
                    break
        return inflated

    def _name(self, row: int) -> str:
        """Return what to call a row of the present pass, counted from 1."""
        name = f"row {row} of {self._passes[self._pass_number].height}"
        return f"{name} in part {self._pass_number + 1} of {len(self._passes)}" if self._header.interlaced else name

    def _deflated_pieces(self) -> Iterator[bytes]:
        """Yield the data of the run of IDAT chunks."""
        chunk_type, length = self._reader.read_start()
        while chunk_type == b"IDAT":
            yield from self._reader.read_pieces(chunk_type, length, READ_BYTES)
            chunk_type, length = self._reader.read_start()
        self._after_pixels = chunk_type, length

    def _check_trailing_chunks(self) -> None:
        chunk_type, length = self._after_pixels
        while chunk_type != b"IEND":
            if chunk_type in (b"IHDR", b"IDAT"):
                raise damaged("its sequence of chunks is broken", self._path)
            self._reader.check_data(chunk_type, length)
            chunk_type, length = self._reader.read_start()
        self._reader.check_data(chunk_type, length)
