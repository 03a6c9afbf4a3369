"""Reading PNG files row by row."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from isal import isal_zlib

from blurfast.cpu import objects
from blurfast.cpu.catalogue import Kernel
from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.metadata import Metadata
from blurfast.io.png_chunks import SIGNATURE, Chunk, ChunkReader, Header, damaged, metadata_of, unreadable
from blurfast.pixels import Pixels, Window

UNFILTER = Kernel("png", "unfilter", "uint8", "uint8")

_READ_BYTES = 1 << 18
_BAND_BYTES = 1 << 20
"""How much is read, and inflated, at a time: enough to make the calls cheap, little enough for the caches."""

_LARGEST_RATIO = 1032
"""Deflate cannot store more bytes than this in one: 258 in a match, whose two codes take a bit each."""


class NotStreamableError(UnsupportedError):
    """The PNG file is valid, but its rows cannot be read one by one as they are; Pillow may read it whole."""


def is_streamable(path: str | os.PathLike[str]) -> bool:
    """Return whether `PngSource` reads the file: 8 or 16 bits per sample, no palette, colour key or interlacing.

    Raises
    ------
    UnreadableError
        If the file cannot be opened, or is damaged before its pixels begin.
    """
    with _open(Path(path)) as file:
        return _read_preamble(file, Path(path)).obstacle is None


class PngSource:
    """A PNG image that is inflated as its rows are asked for, in memory that does not depend on its height.

    All checksums are verified by the time the last row has been read. Reading can begin anew at the first row.
    Bytes after the end of the image are ignored, as all readers do; of an animation, the still image is read.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    header
        The image header.
    images
        The one image.
    chunks
        The chunks that stay true of a filtered image (`Chunk.is_kept`), in their order.

    Raises
    ------
    UnreadableError
        If the file cannot be opened, is damaged, or is not PNG.
    NotStreamableError
        If it is interlaced, has a palette, a colour key or fewer than 8 bits per sample.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with contextlib.ExitStack() as on_failure:
            self._file = on_failure.enter_context(_open(self.path))
            preamble = _read_preamble(self._file, self.path)
            if preamble.obstacle is not None:
                raise NotStreamableError(preamble.obstacle, path=path, remedy="save it as plain PNG")
            self.header = preamble.header
            self._pixels_at = preamble.pixels_at
            chunks = preamble.chunks + _read_trailing_chunks(self._file, self.path, preamble.pixels_at)
            on_failure.pop_all()
        self.chunks = [chunk for chunk in chunks if chunk.is_kept]
        self.images: Sequence[ImageSpec] = [self._spec()]
        self._scanlines: _Scanlines | None = None
        self._previous_row = np.empty(0, np.uint8)

    @functools.cached_property
    def metadata(self) -> Metadata:
        """Resolution, colour profile, Exif and texts."""
        return metadata_of(self.chunks, self.path)

    @property
    def notices(self) -> list[str]:
        """Nothing is left out that a filtered image could keep."""
        return []

    @property
    def kernels(self) -> list[Kernel]:
        """The kernel that its tasks run."""
        return [UNFILTER]

    @property
    def layout_description(self) -> list[dict[str, Any]]:
        """How the image is stored, in plain words and numbers."""
        header = self.header
        return [
            {
                "format": "PNG",
                "shape": [header.height, header.width, header.channels],
                "dtype": header.dtype.name,
                "compression": "deflate",
                "layout": "rows",
                "alpha": header.alpha is not None,
            }
        ]

    def read_tasks(self, image: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
        """Return the one task that reads the rows of `window`, which are the next ones or begin at the first one."""
        return [functools.partial(self._read_rows, window, target)]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _spec(self) -> ImageSpec:
        header = self.header
        band_bytes = max(_BAND_BYTES, header.scanline_bytes)
        return ImageSpec(
            height=header.height,
            width=header.width,
            channels=header.channels,
            dtype=header.dtype,
            grain=Grain(1, header.width),
            sequential=True,
            # A band is inflated in pieces and gathered; a piece of the file is kept with its rest.
            task_bytes=2 * band_bytes + header.row_bytes + 2 * _READ_BYTES,
            alpha=header.alpha,
        )

    def _read_rows(self, window: Window, target: Pixels) -> None:
        if window.row_start == 0:
            self._file.seek(self._pixels_at)
            self._scanlines = _Scanlines(self._file, self.path, self.header)
            self._previous_row = np.zeros(self.header.row_bytes, np.uint8)
        if self._scanlines is None or self._scanlines.row != window.row_start:
            raise ValueError(f"{self.path}: rows are read in order, so row {window.row_start} is not the next one")
        rows_per_band = max(1, _BAND_BYTES // self.header.scanline_bytes)
        for first in range(0, window.rows, rows_per_band):
            self._read_band(self._scanlines, target[first : first + rows_per_band])
        if window.row_stop == self.header.height:
            self._scanlines.finish()

    def _read_band(self, scanlines: _Scanlines, target: Pixels) -> None:
        (unfilter,) = objects.load([UNFILTER])
        row_count, row_bytes = len(target), self.header.row_bytes
        first_row = scanlines.row
        filtered = np.frombuffer(scanlines.read(row_count), np.uint8)
        bad_row = np.empty(1, np.int64)
        unfilter(
            filtered.ctypes.data, row_count, row_bytes, self.header.pixel_bytes, self._previous_row.ctypes.data,
            target.ctypes.data, target.strides[0], bad_row.ctypes.data,
        )  # fmt: skip
        if bad_row[0] >= 0:
            raise damaged(f"row {first_row + int(bad_row[0]) + 1} has a filter that does not exist", self.path)
        self._previous_row[:] = target[-1].reshape(-1).view(np.uint8)
        if self.header.bit_depth == 16 and sys.byteorder == "little":
            target.byteswap(inplace=True)


class _Scanlines:
    """Inflates an image's scanlines in order."""

    def __init__(self, file: BinaryIO, path: Path, header: Header) -> None:
        self.row = 0
        self._path = path
        self._header = header
        self._reader = ChunkReader(file, path)
        self._deflated = self._deflated_pieces()
        self._inflater = isal_zlib.decompressobj()
        self._pending = b""
        self._after_pixels = (b"IDAT", 0)

    def read(self, row_count: int) -> bytearray:
        """Return the next `row_count` scanlines."""
        wanted = row_count * self._header.scanline_bytes
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
            rows = self.row + filled // self._header.scanline_bytes
            raise damaged(f"{end} after row {rows} of {self._header.height}", self._path) from error
        self.row += row_count
        return scanlines

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

    def _inflate(self, largest: int) -> bytes:
        """Return some more bytes, or none where the compressed data end."""
        inflated = b""
        while not inflated and not self._inflater.eof:
            try:
                inflated = self._inflater.decompress(self._pending, largest)
            except isal_zlib.IsalError as error:  # type: ignore[misc]  # the stub declares an instance
                row = min(self.row + 1, self._header.height)
                raise damaged(f"its compressed data are damaged near row {row}", self._path) from error
            self._pending = self._inflater.unconsumed_tail
            if not inflated and not self._pending and not self._inflater.eof:
                self._pending = next(self._deflated, b"")
                if not self._pending:
                    break
        return inflated

    def _deflated_pieces(self) -> Iterator[bytes]:
        """Yield the data of the run of IDAT chunks."""
        chunk_type, length = self._reader.read_start()
        while chunk_type == b"IDAT":
            yield from self._reader.read_pieces(chunk_type, length, _READ_BYTES)
            chunk_type, length = self._reader.read_start()
        self._after_pixels = chunk_type, length

    def _check_trailing_chunks(self) -> None:
        chunk_type, length = self._after_pixels
        while chunk_type != b"IEND":
            if chunk_type in (b"IHDR", b"IDAT"):
                raise damaged("its sequence of chunks is broken", self._path)
            self._reader.read_data(chunk_type, length)
            chunk_type, length = self._reader.read_start()
        self._reader.read_data(chunk_type, length)


class _Preamble(NamedTuple):
    """All that stands before the pixels, and where these begin; `obstacle` is what keeps them from being streamed."""

    header: Header
    chunks: list[Chunk]
    pixels_at: int
    obstacle: str | None


def _read_preamble(file: BinaryIO, path: Path) -> _Preamble:
    try:
        signature = file.read(len(SIGNATURE))
        if signature != SIGNATURE:
            raise damaged("is not a PNG file" if signature else "the file is empty", path)
        reader = ChunkReader(file, path)
        chunk_type, length = reader.read_start()
        if chunk_type != b"IHDR":
            raise damaged("its header is missing", path)
        header = Header.parse(reader.read_data(chunk_type, length), path)
        chunks = []
        pixels_at = file.tell()
        chunk_type, length = reader.read_start()
        while chunk_type != b"IDAT":
            if chunk_type in (b"IHDR", b"IEND"):
                raise damaged("it has no pixels", path)
            chunks.append(Chunk(chunk_type, reader.read_data(chunk_type, length)))
            pixels_at = file.tell()
            chunk_type, length = reader.read_start()
    except OSError as error:
        raise unreadable(error, path) from error
    except EOFError as error:
        raise damaged("the file ends before its pixels begin", path) from error
    if header.height * header.scanline_bytes > _LARGEST_RATIO * reader.file_bytes:
        raise damaged(f"{reader.file_bytes} bytes cannot hold {header.width} x {header.height} pixels", path)
    obstacle = header.obstacle
    if obstacle is None and any(chunk.type == b"tRNS" for chunk in chunks):
        obstacle = "has a colour that stands for transparency"
    return _Preamble(header, chunks, pixels_at, obstacle)


def _read_trailing_chunks(file: BinaryIO, path: Path, pixels_at: int) -> list[Chunk]:
    """Return the chunks after the pixels. A file that ends too early fails later, where the row can be named."""
    file.seek(pixels_at)
    reader = ChunkReader(file, path)
    chunks = []
    with contextlib.suppress(EOFError):
        chunk_type, length = reader.read_start()
        while chunk_type != b"IEND":
            if chunk_type == b"IDAT":
                reader.skip_data(length)
            else:
                chunks.append(Chunk(chunk_type, reader.read_data(chunk_type, length)))
            chunk_type, length = reader.read_start()
    return chunks


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        fact = f"cannot be opened ({error.strerror})"
        raise UnreadableError(fact, path=path, remedy="check its name and permissions") from error
