"""Writing PNG files: rows are filtered and deflated in pieces, by several threads at once."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

import numpy as np

from blurfast.cpu.catalogue import Kernel
from blurfast.errors import UnsupportedError
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.metadata import Metadata
from blurfast.io.output import AtomicFile
from blurfast.io.png_chunks import LARGEST_DIMENSION, SIGNATURE, Chunk, Header, write_chunk
from blurfast.io.png_deflate import DEFAULT_LEVEL, FILTER_ROWS, Deflated, deflate_rows, scratch_pieces
from blurfast.io.png_metadata import chunks_like, chunks_of
from blurfast.io.png_options import parse_png_level
from blurfast.io.png_source import PngSource
from blurfast.pixels import Pixels, Window

_PIECE_BYTES = 1 << 20
_LARGEST_ROW = 1 << 30
"""A row that does not compress has to fit into one chunk."""

_ZLIB_START = b"\x78\x01"
_EMPTY_FINAL_BLOCK = b"\x03\x00"

_ADLER_MODULUS = 65521


class PngSink:
    """A PNG image that is compressed piece by piece.

    Parameters
    ----------
    path
        The output.
    images
        The one image: `uint8` or `uint16`, 1 to 4 channels (grey, grey + alpha, RGB, RGBA).
    like
        The image whose ancillary chunks are copied; those that depend on the samples' type only where it is the same.
    metadata
        What to say about the image where there is no `like`.
    level
        From 0, which does not compress, to 9, the smallest and slowest; see `png_deflate`. 2 by default.
    overwrite
        Whether a file that is there already may be replaced.

    Attributes
    ----------
    images
        The image, as it is written.
    notices
        What is not kept, one sentence each.

    Raises
    ------
    TypeError, ValueError
        If there is no such level.
    UnsupportedError
        If PNG cannot hold such images.
    OutputExistsError, UnwritableError
        As `AtomicFile` does.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        images: Sequence[ImageSpec],
        *,
        like: PngSource | None = None,
        metadata: Metadata = Metadata(),
        level: int | None = None,
        overwrite: bool = False,
    ) -> None:
        _refuse_unsupported(path, images)
        self._level = DEFAULT_LEVEL if level is None else parse_png_level(level)
        spec = images[0]
        self.images: Sequence[ImageSpec] = [_streamed(spec, self._level)]
        self._header = Header.of_pixels(spec.height, spec.width, spec.channels, spec.dtype)
        self._scanline_bytes = 1 + self._header.row_bytes(spec.width)
        self._above = np.zeros((1, spec.width, spec.channels), spec.dtype)
        self._adler = 1
        self._bytes_appended = 0
        header = self._header
        chunks, self.notices = (
            chunks_of(metadata, header) if like is None else chunks_like(like.chunks, like.header, header)
        )
        self._output = AtomicFile(path, overwrite=overwrite)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._output.abort)
            self._write_start(chunks)
            on_failure.pop_all()

    @property
    def kernels(self) -> list[Kernel]:
        """The kernel that its tasks run."""
        return [FILTER_ROWS]

    def encode_tasks(self, image: int, window: Window, pixels: Pixels) -> list[Callable[[], Deflated]]:
        """Return the tasks that filter and deflate the rows of `window`, about 1 MiB each. Called in order."""
        rows_per_piece = max(1, _PIECE_BYTES // self._scanline_bytes)
        tasks: list[Callable[[], Deflated]] = []
        above = self._above
        for first in range(0, window.rows, rows_per_piece):
            piece = pixels[first : first + rows_per_piece]
            tasks.append(functools.partial(deflate_rows, piece, above, self._header, self._level))
            above = piece[-1:]
        self._above = above.copy()
        return tasks

    def append(self, image: int, segment: Deflated) -> None:
        """Write the next piece."""
        start = b"" if self._bytes_appended else _ZLIB_START
        self._adler = adler32_combine(self._adler, segment.adler, segment.length)
        self._bytes_appended += segment.length
        write_chunk(self._output, b"IDAT", start, segment.data)

    def commit(self) -> None:
        """Finish the file and move it to its place."""
        expected = self._header.height * self._scanline_bytes
        if self._bytes_appended != expected:
            rows = self._bytes_appended // self._scanline_bytes
            raise ValueError(f"{rows} of {self._header.height} rows were appended")
        write_chunk(self._output, b"IDAT", _EMPTY_FINAL_BLOCK, self._adler.to_bytes(4, "big"))
        write_chunk(self._output, b"IEND")
        self._output.commit()

    def abort(self) -> None:
        """Remove what was written."""
        self._output.abort()

    def _write_start(self, chunks: Sequence[Chunk]) -> None:
        self._output.write(SIGNATURE)
        write_chunk(self._output, b"IHDR", self._header.pack())
        for chunk in chunks:
            write_chunk(self._output, chunk.type, chunk.data)


def adler32_combine(first: int, second: int, second_length: int) -> int:
    """Return the Adler-32 checksum of two runs of bytes from their own ones, and the length of the second run.

    The sum s1 of the bytes (plus 1) adds up; the sum s2 of all values of s1 grows, for each byte of the second run,
    by what s1 was at the end of the first. Mark Adler's method, from ``adler32_combine_`` in zlib's ``adler32.c``.
    """
    first_s1, first_s2 = first & 0xFFFF, first >> 16
    second_s1, second_s2 = second & 0xFFFF, second >> 16
    s1 = (first_s1 + second_s1 - 1) % _ADLER_MODULUS
    s2 = (first_s2 + second_s2 + second_length * (first_s1 - 1)) % _ADLER_MODULUS
    return s2 << 16 | s1


def _refuse_unsupported(path: str | os.PathLike[str], images: Sequence[ImageSpec]) -> None:
    remedy = "write TIFF instead"
    if len(images) != 1:
        raise UnsupportedError(
            f"PNG holds one image, not {len(images)}", path=path, remedy=f"{remedy}, or choose one with --page"
        )
    spec = images[0]
    if spec.dtype not in (np.uint8, np.uint16):
        fact = f"PNG holds uint8 and uint16, not {spec.dtype}"
        raise UnsupportedError(fact, path=path, remedy=f"{remedy}, or add --dtype uint8 and a --scale")
    if not 1 <= spec.channels <= 4:
        raise UnsupportedError(f"PNG holds 1 to 4 channels, not {spec.channels}", path=path, remedy=remedy)
    if not (1 <= spec.height <= LARGEST_DIMENSION and spec.width >= 1 and spec.row_bytes <= _LARGEST_ROW):
        fact = f"PNG does not hold images of {spec.width} x {spec.height} pixels"
        raise UnsupportedError(fact, path=path, remedy=remedy)


def _streamed(spec: ImageSpec, level: int) -> ImageSpec:
    """Return how the image is written: by whole rows, in any number."""
    piece_bytes = max(_PIECE_BYTES, spec.row_bytes + 1)
    return dataclasses.replace(
        spec,
        grain=Grain(1, spec.width),
        sequential=False,
        task_bytes=(scratch_pieces(level) - 1) * piece_bytes,
        encoded_bytes=piece_bytes,
    )
