"""How much the decoders of images within images will make, as what they decode declares in its first bytes.

The segments of a TIFF file may be images in formats of their own, which repeat their size. Decoders believe them: a
few hundred bytes can make one fill gigabytes. So what they declare is looked at before.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

Encoded = bytes | bytearray

_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_JPEG_START_OF_SCAN = 0xDA
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})

_JPEG2000_START = b"\xff\x4f\xff\x51"
_JPEGXL_START = b"\xff\x0a"
_JPEGXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def declared_samples(compression: int, encoded: Encoded) -> int | None:
    """Return the number of samples that a segment declares; None if it declares none, or not where it should.

    Parameters
    ----------
    compression
        As the TIFF tag numbers it.
    encoded
        The bytes of the segment.

    Examples
    --------
    >>> import imagecodecs, numpy
    >>> declared_samples(7, imagecodecs.jpeg_encode(numpy.zeros((30, 20, 3), dtype="uint8")))
    1800
    """
    read = _READERS.get(compression)
    try:
        return None if read is None else read(encoded)
    except (struct.error, IndexError):  # it ends too early, which the decoder will say, too
        return None


def _jpeg(data: Encoded) -> int | None:
    """Return what the frame header of a JPEG stream declares. Its markers are found as libjpeg finds them."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in _JPEG_FRAMES:
            rows, columns, components = struct.unpack_from(">HHB", data, at + 3)
            return int(rows * columns * components)
        if marker == _JPEG_START_OF_SCAN:
            return None
        if marker and marker not in _JPEG_STANDALONE:
            at += int.from_bytes(data[at : at + 2], "big")
    return None


def _jpeg2000(data: Encoded) -> int | None:
    start = 0 if data.startswith(_JPEG2000_START) else _box(data, b"jp2c")
    if start is None or not data.startswith(_JPEG2000_START, start):
        return None
    right, bottom, left, top, _, _, _, _, components = struct.unpack_from(">8IH", data, start + 8)
    return int(max(0, bottom - top) * max(0, right - left) * components)


def _jpegxl(data: Encoded) -> int | None:
    start = 0 if data.startswith(_JPEGXL_START) else _box(data, b"jxlc")
    if start is None:
        start = _box(data, b"jxlp")
        start = None if start is None else start + 4  # its number comes first
    if start is None or not data.startswith(_JPEGXL_START, start):
        return None
    bits = int.from_bytes(data[start + 2 : start + 12], "little")
    rows, columns = _jpegxl_size(bits)
    return 3 * rows * columns


def _jpegxl_size(bits: int) -> tuple[int, int]:
    """Return the rows and columns of a SizeHeader (ISO/IEC 18181-1), of which `bits` are the first, lowest first."""

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    is_small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if is_small else take((9, 13, 18, 30)[take(2)]) + 1

    rows = side()
    ratio = take(3)
    if ratio == 0:
        return rows, side()
    numerator, denominator = _JPEGXL_RATIOS[ratio - 1]
    return rows, rows * numerator // denominator


def _box(data: Encoded, wanted: bytes) -> int | None:
    """Return where the content of the first box of a kind begins, in a file made of ISO's boxes."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        content = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, content)
            content += 8
        if kind == wanted:
            return content
        if length < content - at:  # 0 is a box up to the end
            return None
        at += length
    return None


def _webp(data: Encoded) -> int | None:
    kind = data[12:16]
    if kind == b"VP8X":
        columns, rows = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        sides = int.from_bytes(data[21:25], "little")
        columns, rows = (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        columns, rows = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        return None
    return 3 * rows * columns


def _png(data: Encoded) -> int:
    columns, rows, _, colour_type = struct.unpack_from(">IIBB", data, 16)
    return int(rows * columns * _PNG_CHANNELS.get(colour_type, 4))


def _lerc(data: Encoded) -> int | None:
    if data.startswith(b"CntZImage "):
        _, _, rows, columns = struct.unpack_from("<4I", data, 10)
        return int(rows * columns)
    if not data.startswith(b"Lerc2 "):
        return None
    (version,) = struct.unpack_from("<I", data, 6)
    rows, columns, depth = struct.unpack_from("<3I", data, 14 if version >= 3 else 10)  # a checksum came with 3
    return int(rows * columns * (depth if version >= 4 else 1))


_READERS: dict[int, Callable[[Encoded], int | None]] = {
    **dict.fromkeys((6, 7, 33007, 34892), _jpeg),
    **dict.fromkeys((33003, 33004, 33005, 34712), _jpeg2000),
    **dict.fromkeys((50002, 52546), _jpegxl),
    **dict.fromkeys((34927, 50001), _webp),
    34887: _lerc,
    34933: _png,
}
