"""The codecs that TIFF outputs can be written with, by name and by their numbers in files."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import imagecodecs
import numpy as np

from blurfast.pixels import Pixels
from blurfast.resources import MEGABYTE

Encoded = bytes | bytearray | memoryview
"""What an encoder returns; a view where the pixels are stored as they lie in memory."""

JPEG_QUALITY = 95
"""The quality of JPEG data unless a level is asked for."""

# A level less than the usual 6 takes three quarters of its time, for files that are 2 % larger.
_DEFLATE_LEVEL = 5


class Scratch(NamedTuple):
    """Memory of a codec beside the pixels and what it returns: some in any case, and some for each byte of pixels."""

    base: int
    per_byte: float
    most: int = 2**62

    def bytes_for(self, pixel_bytes: int) -> int:
        """Return the memory for so many bytes of pixels."""
        return min(self.most, self.base + math.ceil(self.per_byte * pixel_bytes))


class Codec(NamedTuple):
    """What a compression can do.

    Parameters
    ----------
    tag
        Its number in a file.
    encode
        Encodes pixels, with a level.
    levels
        The first and the last one, None where it has none.
    has_predictor
        Whether differences may be encoded in place of pixels.
    is_image
        Whether it encodes images rather than bytes.
    dtypes, channels
        What it takes; empty where it takes any.
    greatest_side
        Of a segment.
    encoding
        The memory that it needs at a level. This and the next were measured with tiles of 256 to 2048 rows and columns
        of noisy RGB pixels.
    decoding
        The memory that it needs to read what it has written.
    """

    tag: int
    encode: Callable[..., Encoded]
    levels: tuple[int, int] | None = None
    has_predictor: bool = False
    is_image: bool = False
    dtypes: frozenset[str] = frozenset()
    channels: frozenset[int] = frozenset()
    greatest_side: int = 2**31
    encoding: Callable[[int | None], Scratch] = lambda _level: Scratch(0, 1)
    decoding: Scratch = Scratch(0, 0)


def _stored(pixels: Pixels, _level: int | None) -> Encoded:
    return pixels.reshape(-1).view(np.uint8).data


def _deflate(pixels: Any, level: int | None) -> Encoded:
    return imagecodecs.deflate_encode(pixels, _DEFLATE_LEVEL if level is None else level)


def _packbits(pixels: Pixels, _level: int | None) -> Encoded:
    return imagecodecs.packbits_encode(pixels, axis=-2)  # no run may cross the end of a row


def _lzw(pixels: Pixels, _level: int | None) -> Encoded:
    return imagecodecs.lzw_encode(pixels.tobytes())


def _webp(pixels: Pixels, level: int | None) -> Encoded:
    return imagecodecs.webp_encode(pixels, level, lossless=level is None)


def _jpeg2000(pixels: Pixels, level: int | None) -> Encoded:
    return imagecodecs.jpeg2k_encode(pixels, level, codecformat="J2K", reversible=level is None)


def _jpegxl(pixels: Pixels, level: int | None) -> Encoded:
    return imagecodecs.jpegxl_encode(pixels, level, lossless=level is None)


def _jpeg(pixels: Pixels, level: int | None, **colours: Any) -> Encoded:
    return imagecodecs.jpeg_encode(pixels, level or JPEG_QUALITY, **colours)


def _deflate_scratch(level: int | None) -> Scratch:
    return Scratch(0, 1) if level is None or level < 10 else Scratch(3 * MEGABYTE, 2)


# The sizes to which zstd's tables grow, up to a level.
_ZSTD_TABLES = {9: 13 * MEGABYTE, 12: 43 * MEGABYTE, 15: 68 * MEGABYTE, 19: 86 * MEGABYTE, 22: 700 * MEGABYTE}


def _zstd_scratch(level: int | None) -> Scratch:
    if level is None or level < 6:
        return Scratch(MEGABYTE, 1)
    return Scratch(0, 22, next(most for last, most in _ZSTD_TABLES.items() if level <= last))


def _lzma_scratch(level: int | None) -> Scratch:
    base = 17 if level is None or level < 7 else 34 if level == 7 else 67
    return Scratch(base * MEGABYTE, 10.5)


def _webp_scratch(level: int | None) -> Scratch:
    return Scratch(11 * MEGABYTE, 12) if level is None else Scratch(0, 1)


_BYTE = frozenset({"uint8"})
_BYTE_AND_WORD = frozenset({"uint8", "uint16"})
CODECS = {
    "none": Codec(1, _stored, encoding=lambda _level: Scratch(0, 0)),
    "lzw": Codec(5, _lzw, has_predictor=True, encoding=lambda _level: Scratch(0, 2)),
    "deflate": Codec(8, _deflate, (0, 12), has_predictor=True, encoding=_deflate_scratch),
    "zstd": Codec(50000, imagecodecs.zstd_encode, (1, 22), has_predictor=True, encoding=_zstd_scratch),
    "lzma": Codec(
        34925,
        imagecodecs.lzma_encode,
        (0, 9),
        has_predictor=True,
        encoding=_lzma_scratch,
        decoding=Scratch(0, 1),
    ),
    "packbits": Codec(32773, _packbits),
    "jpeg": Codec(7, _jpeg, (1, 100), False, True, _BYTE, frozenset({1, 3, 4}), 65500),
    "webp": Codec(
        50001,
        _webp,
        (1, 100),
        False,
        True,
        _BYTE,
        frozenset({3, 4}),
        16383,
        encoding=_webp_scratch,
        decoding=Scratch(0, 1.6),
    ),
    "jpeg2000": Codec(
        34712,
        _jpeg2000,
        (1, 1000),
        False,
        True,
        _BYTE_AND_WORD,
        encoding=lambda _level: Scratch(0, 9),
        decoding=Scratch(0, 5.5),
    ),
    "jpegxl": Codec(
        50002,
        _jpegxl,
        (1, 100),
        False,
        True,
        _BYTE_AND_WORD,
        encoding=lambda _level: Scratch(3 * MEGABYTE, 18.2),
        decoding=Scratch(3 * MEGABYTE, 1),
    ),
}
COMPRESSIONS = tuple(CODECS)
"""What the `compression` of a `TiffSink` starts with."""

CODEC_OF_TAG = {codec.tag: name for name, codec in CODECS.items()} | {
    6: "jpeg",
    33007: "jpeg",
    34892: "jpeg",
    32946: "deflate",
    50013: "deflate",
    33003: "jpeg2000",
    33004: "jpeg2000",
    33005: "jpeg2000",
    34926: "zstd",
    34927: "webp",
    52546: "jpegxl",
}

APERIO_JPEG2000 = frozenset({33003, 33005})
"""The numbers of JPEG 2000 in Aperio's slides, which say how colours are stored: their readers know no other."""


def decoding_bytes(compression: int, pixel_bytes: int) -> int:
    """Return the memory that decoding so many bytes of pixels needs beside them.

    Parameters
    ----------
    compression
        The number of the codec in files.
    """
    name = CODEC_OF_TAG.get(compression)
    return pixel_bytes if name is None else CODECS[name].decoding.bytes_for(pixel_bytes)


def parse_compression(compression: str) -> tuple[str, int | None]:
    """Return the name and the level that a compression such as ``"deflate:9"`` asks for."""
    name, colon, text = compression.lower().partition(":")
    if name not in CODECS:
        raise ValueError(f"compression {name!r} is unknown; choose one of {', '.join(COMPRESSIONS)}")
    if not colon:
        return name, None
    levels = CODECS[name].levels
    if levels is None:
        raise ValueError(f"compression {name!r} has no levels")
    first, last = levels
    if not (text.isascii() and text.isdigit() and first <= int(text) <= last):
        raise ValueError(f"the level of {name!r} must be a number from {first} to {last}, not {text!r}")
    return name, int(text)
