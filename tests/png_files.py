"""PNG files for tests: made byte by byte in plain Python, and read and written by hand as the engine would."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from blurfast.io.base import Grain, ImageSpec
from blurfast.io.png import PngSink, PngSource
from blurfast.pixels import Window

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}

ADAM7 = ["1 6 4 6 2 6 4 6", "7 7 7 7 7 7 7 7", "5 6 5 6 5 6 5 6", "7 7 7 7 7 7 7 7",
         "3 6 4 6 3 6 4 6", "7 7 7 7 7 7 7 7", "5 6 5 6 5 6 5 6", "7 7 7 7 7 7 7 7"]  # fmt: skip
"""The pass in which each pixel of a square of 8 x 8 is stored, as the standard draws it."""

# ------------------------------------------------------------------------------------------------ plain Python


def predict(kind: int, left: int, above: int, above_left: int) -> int:
    if kind == 4:
        estimate = left + above - above_left
        return min((left, above, above_left), key=lambda value: abs(value - estimate))
    return (0, left, above, (left + above) // 2)[kind]


def filtered_row(kind: int, row: bytes, above: bytes, pixel_bytes: int) -> bytes:
    def at(values: bytes, index: int) -> int:
        return values[index] if index >= 0 else 0

    if kind == 0:
        return b"\0" + row
    residuals = [
        (row[i] - predict(kind, at(row, i - pixel_bytes), above[i], at(above, i - pixel_bytes))) % 256
        for i in range(len(row))
    ]
    return bytes([kind, *residuals])


def filtered_rows(rows: np.ndarray, kinds: list[int], pixel_bytes: int) -> bytes:
    previous = [np.zeros_like(rows[0]), *rows[:-1]]
    return b"".join(
        filtered_row(kinds[i % len(kinds)], row.tobytes(), above.tobytes(), pixel_bytes)
        for i, (row, above) in enumerate(zip(rows, previous, strict=True))
    )


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(pixels: np.ndarray, **changes: int) -> bytes:
    height, width, channels = pixels.shape
    fields = {
        "width": width, "height": height, "depth": 8 * pixels.itemsize, "colour": COLOUR_TYPES[channels],
        "compression": 0, "filtering": 0, "interlacing": 0,
    } | changes  # fmt: skip
    return chunk(b"IHDR", struct.pack(">IIBBBBB", *fields.values()))


def deflated(pixels: np.ndarray, kinds: list[int]) -> bytes:
    stored = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">"))).view(np.uint8)
    rows = stored.reshape(len(pixels), -1)
    return zlib.compress(filtered_rows(rows, kinds, pixels.shape[2] * pixels.itemsize))


def png(pixels: np.ndarray, kinds: list[int] | None = None, before: bytes = b"", after: bytes = b"") -> bytes:
    data = deflated(pixels, kinds or [0])
    return SIGNATURE + header(pixels) + before + chunk(b"IDAT", data) + after + chunk(b"IEND")


def packed(samples: np.ndarray, depth: int) -> np.ndarray:
    """Return rows of samples, shaped (rows, columns, channels), as bytes; the first sample in the highest bits."""
    rows = samples.reshape(len(samples), -1)
    if depth == 16:
        return rows.astype(">u2").view(np.uint8)
    bits = np.unpackbits(rows.astype(np.uint8)[:, :, np.newaxis], axis=2)[:, :, 8 - depth :]
    return np.packbits(bits.reshape(len(rows), -1), axis=1)


def interlaced_parts(samples: np.ndarray) -> list[np.ndarray]:
    """Return the images that an interlaced file is made of, without the empty ones."""
    height, width = samples.shape[:2]
    square = np.array([row.split() for row in ADAM7], int)
    number = np.tile(square, (-(-height // 8), -(-width // 8)))[:height, :width]
    parts = []
    for each in range(1, 8):
        rows, columns = (np.flatnonzero((number == each).any(axis=axis)) for axis in (1, 0))
        if rows.size:
            parts.append(samples[np.ix_(rows, columns)])
    return parts


def png_of_samples(
    samples: np.ndarray, depth: int, colour: int, kinds: list[int], *, interlaced: bool = False, before: bytes = b""
) -> bytes:
    """Return a file of samples as they are to be stored, whatever they stand for."""
    filter_bytes = max(1, samples.shape[2] * depth // 8)
    parts = interlaced_parts(samples) if interlaced else [samples]
    data = zlib.compress(b"".join(filtered_rows(packed(part, depth), kinds, filter_bytes) for part in parts), 1)
    head = header(samples, depth=depth, colour=colour, interlacing=int(interlaced))
    return SIGNATURE + head + before + chunk(b"IDAT", data) + chunk(b"IEND")


def chunks_in(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert int.from_bytes(data[at + 8 + length : at + 12 + length], "big") == zlib.crc32(kind + content)
        yield kind, content
        at += 12 + length


# ------------------------------------------------------------------------------------------------ driving by hand


def noise(shape: tuple[int, int, int], dtype: type[np.generic] = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def smooth(shape: tuple[int, int, int], dtype: type[np.generic] = np.uint8) -> np.ndarray:
    steps = np.random.default_rng(1).integers(-2, 3, shape)
    return np.cumsum(np.cumsum(steps, axis=0), axis=1).astype(dtype)


def windows(height: int, width: int, rows: int) -> list[Window]:
    return [Window(first, min(first + rows, height), 0, width) for first in range(0, height, rows)]


def read(source: PngSource, rows: int = 7) -> np.ndarray:
    (spec,) = source.images
    rows = max(rows, spec.grain.rows)
    pixels = np.zeros((spec.height, spec.width + 1, spec.channels), spec.dtype)  # a ring buffer's rows have gaps
    for window in windows(spec.height, spec.width, rows):
        (task,) = source.read_tasks(0, window, pixels[window.row_start : window.row_stop, : spec.width])
        task()
    assert not pixels[:, spec.width :].any()
    return pixels[:, : spec.width]


def read_file(path: Path, rows: int = 7) -> np.ndarray:
    source = PngSource(path)
    try:
        return read(source, rows)
    finally:
        source.close()


def read_bytes(data: bytes, directory: Path, rows: int = 7) -> np.ndarray:
    path = directory / "crafted.png"
    path.write_bytes(data)
    return read_file(path, rows)


def spec_of(pixels: np.ndarray) -> ImageSpec:
    height, width, channels = pixels.shape
    return ImageSpec(height, width, channels, pixels.dtype, Grain(1, width))


def feed(sink: PngSink, pixels: np.ndarray, rows: int = 7) -> None:
    for window in windows(pixels.shape[0], pixels.shape[1], rows):
        tasks = sink.encode_tasks(0, window, pixels[window.row_start : window.row_stop])
        segments = [task() for task in reversed(tasks)]  # the order is not theirs to choose
        for segment in reversed(segments):
            sink.append(0, segment)


def write_file(path: Path, pixels: np.ndarray, rows: int = 7, **options: Any) -> None:
    sink = PngSink(path, [spec_of(pixels)], **options)
    feed(sink, pixels, rows)
    sink.commit()


SMALL = noise((3, 4, 3))
