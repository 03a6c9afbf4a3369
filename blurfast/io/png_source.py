"""Reading PNG files: row by row, or whole where they are interlaced."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from blurfast.cpu.catalogue import Kernel
from blurfast.errors import UnreadableError
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.metadata import Metadata
from blurfast.io.png_chunks import (
    PALETTE,
    SIGNATURE,
    Chunk,
    ChunkReader,
    Header,
    damaged,
    is_kept,
    unreadable,
)
from blurfast.io.png_metadata import dropped_notices, metadata_of
from blurfast.io.png_passes import Pass, passes_of, scanline_bytes
from blurfast.io.png_samples import Samples, few_bits_notice, palette_notice, samples_of
from blurfast.io.png_scanlines import READ_BYTES, UNFILTER, Scanlines
from blurfast.pixels import Pixels, Window

_BAND_BYTES = 1 << 20
"""How much is inflated at a time: enough to make the calls cheap, little enough for the caches."""

_LARGEST_RATIO = 1032
"""Deflate cannot store more bytes than this in one: 258 in a match, whose two codes take a bit each."""

_PALETTE_CHUNK, _TRANSPARENCY_CHUNK, _ANIMATION_CHUNK = b"PLTE", b"tRNS", b"acTL"


class PngSource:
    """A PNG image that is inflated as its rows are asked for, in memory that does not depend on its height.

    An interlaced image is read whole, straight to its place. Palettes become RGB, colours that stand for transparency
    become an alpha channel, and greys of fewer than 8 bits are spread over the range of `uint8`.

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
        The chunks that stay true of a filtered image (`is_kept`), in their order.
    notices
        What is changed or not kept, one sentence each; and, once it has been read, what was wrong with the image.

    Raises
    ------
    UnreadableError
        If the file cannot be opened, is damaged, or is not PNG.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with contextlib.ExitStack() as on_failure:
            self._file = on_failure.enter_context(_open(self.path))
            preamble = _read_preamble(self._file, self.path)
            self.header = preamble.header
            self._pixels_at = preamble.pixels_at
            self._samples = samples_of(
                self.header, preamble.data_of(_PALETTE_CHUNK), preamble.data_of(_TRANSPARENCY_CHUNK), self.path
            )
            trailing, dropped = _read_trailing_chunks(self._file, self.path, preamble.pixels_at)
            on_failure.pop_all()
        self.chunks = [chunk for chunk in (*preamble.chunks, *trailing) if is_kept(chunk.type)]
        self.images: Sequence[ImageSpec] = [_spec(self.header, self._samples)]
        self.notices: list[str] = _conversion_notices(self.header, self._samples)
        if preamble.data_of(_ANIMATION_CHUNK) is not None:
            self.notices.append("the animation is not kept, only its still image")
        self.notices += dropped_notices((*preamble.dropped, *dropped), self.header)
        self._scanlines: Scanlines | None = None

    @functools.cached_property
    def metadata(self) -> Metadata:
        """Resolution, colour profile, Exif and texts."""
        return metadata_of(self.chunks)

    @property
    def kernels(self) -> list[Kernel]:
        """The kernel that its tasks run."""
        return [UNFILTER]

    @property
    def layout_description(self) -> list[dict[str, Any]]:
        """How the image is stored, in plain words and numbers."""
        (spec,) = self.images
        return [
            {
                "format": "PNG",
                "shape": [spec.height, spec.width, spec.channels],
                "dtype": spec.dtype.name,
                "stored": _stored(self.header),
                "compression": "deflate",
                "layout": "interlaced" if self.header.interlaced else "rows",
                "alpha": spec.alpha is not None,
            }
        ]

    def read_tasks(self, image: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
        """Return the one task that reads the rows of `window`: the next or first ones, or all if interlaced."""
        if self.header.interlaced:
            return [functools.partial(self._read_interlaced, target)]
        return [functools.partial(self._read_rows, window, target)]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _begin(self) -> Scanlines:
        self._file.seek(self._pixels_at)
        return Scanlines(self._file, self.path, self.header)

    def _read_rows(self, window: Window, target: Pixels) -> None:
        if window.row_start == 0:
            self._scanlines = self._begin()
        if self._scanlines is None or self._scanlines.row != window.row_start:
            raise ValueError(f"{self.path}: rows are read in order, so row {window.row_start} is not the next one")
        (part,) = passes_of(self.header)
        rows_per_band = _rows_per_band(self.header, self._samples, part)
        for first in range(0, window.rows, rows_per_band):
            band = target[first : first + rows_per_band]
            if self._samples.are_pixels:
                self._scanlines.read(band)
                if self.header.bit_depth == 16 and sys.byteorder == "little":
                    band.byteswap(inplace=True)
            else:
                band[:] = self._read_band(self._scanlines, len(band), part.width)
        if window.row_stop == self.header.height:
            self._scanlines.finish()

    def _read_interlaced(self, target: Pixels) -> None:
        scanlines = self._begin()
        for part in passes_of(self.header):
            rows_per_band = _rows_per_band(self.header, self._samples, part)
            for first in range(0, part.height, rows_per_band):
                count = min(rows_per_band, part.height - first)
                pixels = self._read_band(scanlines, count, part.width)
                _as_single_values(target)[part.rows(first, count), part.columns] = _as_single_values(pixels)
        scanlines.finish()

    def _read_band(self, scanlines: Scanlines, row_count: int, width: int) -> Pixels:
        """Return the next rows of a pass as pixels."""
        stored = np.empty((row_count, self.header.row_bytes(width)), np.uint8)
        scanlines.read(stored)
        if self._samples.has_unknown_colours(stored, width):
            self._note("some pixels have a colour that is not in the palette, and are read as black")
        return self._samples.pixels(stored, width)

    def _note(self, notice: str) -> None:
        if notice not in self.notices:
            self.notices.append(notice)


def _spec(header: Header, samples: Samples) -> ImageSpec:
    parts = passes_of(header)
    band_bytes = max(_rows_per_band(header, samples, part) * _bytes_per_row(header, samples, part) for part in parts)
    row_above = max(header.row_bytes(part.width) for part in parts)
    return ImageSpec(
        height=header.height,
        width=header.width,
        channels=samples.channels,
        dtype=samples.dtype,
        grain=Grain(header.height if header.interlaced else 1, header.width),
        sequential=True,
        task_bytes=max(band_bytes, 2 * _BAND_BYTES) + row_above + 2 * READ_BYTES,  # a piece is kept with its rest
        alpha=samples.alpha,
    )


def _bytes_per_row(header: Header, samples: Samples, part: Pass) -> int:
    """Return the most memory that reading a row of a pass takes beside its target."""
    inflated_and_gathered = 2
    stored_and_expanded = 1 + samples.scratch_per_byte if header.interlaced or not samples.are_pixels else 0
    return scanline_bytes(header, part) * (inflated_and_gathered + stored_and_expanded)


def _rows_per_band(header: Header, samples: Samples, part: Pass) -> int:
    """Return how many rows of a pass to read at a time."""
    per_row = scanline_bytes(header, part) * (1 + samples.scratch_per_byte)
    return max(1, min(_BAND_BYTES // per_row, part.height))


def _as_single_values(pixels: Pixels) -> Pixels:
    """Return pixels, shaped (rows, columns, channels), as (rows, columns), which NumPy copies much faster."""
    return pixels.view(f"V{pixels.shape[2] * pixels.itemsize}")[:, :, 0]


def _conversion_notices(header: Header, samples: Samples) -> list[str]:
    if header.colour_type == PALETTE:
        return [palette_notice(samples.channels)]
    return [few_bits_notice(header.bit_depth)] if header.bit_depth < 8 else []


def _stored(header: Header) -> str | None:
    """Return what the samples are where they are not pixels, in plain words."""
    if header.colour_type == PALETTE:
        return f"{header.bit_depth}-bit palette indices"
    return f"{header.bit_depth}-bit samples" if header.bit_depth < 8 else None


class _Preamble(NamedTuple):
    """What stands before the pixels, where these begin, and the types of chunks that are left out."""

    header: Header
    chunks: list[Chunk]
    pixels_at: int
    dropped: list[bytes]

    def data_of(self, chunk_type: bytes) -> bytes | None:
        """Return the data of the first chunk of a type, None where there is none."""
        return next((chunk.data for chunk in self.chunks if chunk.type == chunk_type), None)


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
        chunks, dropped = [], []
        pixels_at = file.tell()
        chunk_type, length = reader.read_start()
        while chunk_type != b"IDAT":
            if chunk_type in (b"IHDR", b"IEND"):
                raise damaged("it has no pixels", path)
            if is_kept(chunk_type) or chunk_type in (_PALETTE_CHUNK, _TRANSPARENCY_CHUNK, _ANIMATION_CHUNK):
                chunks.append(Chunk(chunk_type, reader.read_data(chunk_type, length)))
            else:
                dropped.append(chunk_type)
                reader.check_data(chunk_type, length)
            pixels_at = file.tell()
            chunk_type, length = reader.read_start()
    except OSError as error:
        raise unreadable(error, path) from error
    except EOFError as error:
        raise damaged("the file ends before its pixels begin", path) from error
    filtered_bytes = sum(part.height * scanline_bytes(header, part) for part in passes_of(header))
    if filtered_bytes > _LARGEST_RATIO * reader.file_bytes:
        raise damaged(f"{reader.file_bytes} bytes cannot hold {header.width} x {header.height} pixels", path)
    return _Preamble(header, chunks, pixels_at, dropped)


def _read_trailing_chunks(file: BinaryIO, path: Path, pixels_at: int) -> tuple[list[Chunk], list[bytes]]:
    """Return the chunks after the pixels that stay true, and the types of those that do not.

    A file that ends too early fails later, where the row can be named; all that is skipped here is checked then.
    """
    file.seek(pixels_at)
    reader = ChunkReader(file, path)
    chunks, dropped = [], []
    with contextlib.suppress(EOFError):
        chunk_type, length = reader.read_start()
        while chunk_type != b"IEND":
            if is_kept(chunk_type):
                chunks.append(Chunk(chunk_type, reader.read_data(chunk_type, length)))
            else:
                dropped += [chunk_type] * (chunk_type != b"IDAT")
                reader.skip_data(length)
            chunk_type, length = reader.read_start()
    return chunks, dropped


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        fact = f"cannot be opened ({error.strerror})"
        raise UnreadableError(fact, path=path, remedy="check its name and permissions") from error
