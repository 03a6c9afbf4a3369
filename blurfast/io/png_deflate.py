"""How rows of a PNG file are filtered and deflated: levels from fastest to smallest.

From level 2 on, each level tries one more way for every piece of the image, and keeps the smallest result. No single
way is best for all pictures. Matches with what came before make drawings small, but noise, which every photograph
has, contains only chance matches; there, Huffman codes alone are smaller, and much faster. Drawings can be smaller
without any prediction of pixels, whereas photographs never are. Pieces do not know the end of the piece before: in
pieces of 1 MiB, such a dictionary saved 0.2 % at most.

Measured on 1500 x 1000 RGB pixels in one thread of a Zen processor: MB/s of pixels, and the size relative to them.
The photograph is a noisy micrograph, and the drawing has letters and discs; they are blurred by sigma 5 and 3.

========= =============== =============== =============== ===============
level     photograph      blurred         drawing         blurred
========= =============== =============== =============== ===============
0         5100    1.000   6400    1.000   6300    1.000   6100    1.000
1          500    0.689    570    0.368   2600    0.0741   990    0.193
2          430    0.635    510    0.319   1500    0.0701   800    0.170
3          190    0.620    240    0.250    280    0.0701   280    0.170
4          120    0.620    120    0.250    240    0.0635   190    0.158
5           47    0.620     47    0.250    180    0.0635   100    0.154
6           28    0.620     12    0.250    110    0.0635    48    0.147
7           21    0.620     10    0.250     82    0.0531    39    0.147
8           15    0.620    8.5    0.250     30    0.0507    27    0.147
9           10    0.620    2.2    0.250     15    0.0507    12    0.145
Pillow 6    18    0.620     12    0.277     80    0.0649    35    0.148
OpenCV 6    27    0.675     13    0.281     91    0.0646    44    0.152
========= =============== =============== =============== ===============
"""

from __future__ import annotations

import zlib
from typing import Any, Literal, NamedTuple

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from blurfast.cpu import objects
from blurfast.cpu.catalogue import Kernel
from blurfast.io.png_chunks import Header
from blurfast.pixels import Pixels

FILTER_ROWS = Kernel("png", "filter_rows", "uint8", "uint8")

DEFAULT_LEVEL = 2
"""The highest level that costs no more than filtering a picture does."""

_NO_FILTER, _LEFT, _BEST = 0, 1, -1
"""Filters of rows, as `filter_rows` takes them; the last one is chosen for each row."""


class Deflated(NamedTuple):
    """A piece of the image's deflate stream, with the checksum and length of what it inflates to."""

    data: bytes
    adler: int
    length: int


class _Way(NamedTuple):
    """One way to filter and deflate a piece: the filter of its rows; then library, level and strategy."""

    row_filter: int
    library: Literal["zlib", "isal", "zlib-ng"]
    level: int
    strategy: int = zlib.Z_DEFAULT_STRATEGY


_STORED = _Way(_NO_FILTER, "zlib", 0)
_FASTEST = _Way(_LEFT, "isal", 1)
_WAYS = (
    _Way(_BEST, "isal", 1),
    _Way(_BEST, "zlib-ng", 1, zlib.Z_HUFFMAN_ONLY),
    _Way(_BEST, "zlib-ng", 1, zlib.Z_RLE),
    _Way(_BEST, "zlib-ng", 5),
    _Way(_BEST, "zlib-ng", 7, zlib.Z_FILTERED),
    _Way(_NO_FILTER, "zlib-ng", 7, zlib.Z_FILTERED),
    _Way(_NO_FILTER, "zlib-ng", 9, zlib.Z_FILTERED),
    _Way(_BEST, "zlib-ng", 9, zlib.Z_FILTERED),
)
"""What the levels from the default one on try: the first way, and each level one more."""


def _ways(level: int) -> tuple[_Way, ...]:
    if level == 0:
        return (_STORED,)
    if level < DEFAULT_LEVEL:
        return (_FASTEST,)
    return _WAYS[: level - DEFAULT_LEVEL + 1]


def scratch_pieces(level: int) -> int:
    """Return how many times the size of a piece `deflate_rows` needs at most."""
    swapped, scanlines_and_deflated = 1, 2
    return swapped + scanlines_and_deflated * min(len(_ways(level)), 2)


def deflate_rows(rows: Pixels, above: Pixels, header: Header, level: int) -> Deflated:
    """Return rows, of which the first one is below `above`, as a run of deflate blocks that ends at a whole byte."""
    ways = _ways(level)
    stored, stored_above = _as_stored(rows), _as_stored(above)
    scanlines = {
        row_filter: _filter_rows(stored, stored_above, header, row_filter)
        for row_filter in {way.row_filter for way in ways}
    }
    kept, smallest = ways[0], _deflate(scanlines[ways[0].row_filter], ways[0])
    for way in ways[1:]:
        deflated = _deflate(scanlines[way.row_filter], way)
        if len(deflated) < len(smallest):
            kept, smallest = way, deflated
    inflated = scanlines[kept.row_filter]
    return Deflated(smallest, isal_zlib.adler32(inflated), len(inflated))


def _filter_rows(rows: Pixels, above: Pixels, header: Header, row_filter: int) -> NDArray[np.uint8]:
    (filter_rows,) = objects.load([FILTER_ROWS])
    row_bytes = header.row_bytes(header.width)
    scanlines = np.empty(len(rows) * (1 + row_bytes), np.uint8)
    filter_rows(
        rows.ctypes.data, rows.strides[0], len(rows), row_bytes, header.filter_bytes, above.ctypes.data,
        row_filter, scanlines.ctypes.data,
    )  # fmt: skip
    return scanlines


def _deflate(scanlines: NDArray[np.uint8], way: _Way) -> bytes:
    deflater = _deflater(way)
    deflated: bytes = deflater.compress(scanlines.data) + deflater.flush(zlib.Z_SYNC_FLUSH)
    return deflated


def _deflater(way: _Way) -> Any:
    raw = -zlib.MAX_WBITS
    if way.library == "isal":
        return isal_zlib.compressobj(way.level, isal_zlib.DEFLATED, raw)
    if way.library == "zlib":
        return zlib.compressobj(way.level, zlib.DEFLATED, raw)
    from zlib_ng import zlib_ng  # not needed at the default level

    return zlib_ng.compressobj(way.level, zlib.DEFLATED, raw, zlib.DEF_MEM_LEVEL + 1, way.strategy)


def _as_stored(pixels: Pixels) -> NDArray[Any]:
    """Return pixels with the bytes in PNG's order, and without gaps within a row."""
    stored = pixels.astype(pixels.dtype.newbyteorder(">"), copy=False)
    within_row = (stored.shape[2] * stored.itemsize, stored.itemsize)
    return stored if stored.strides[1:] == within_row else np.ascontiguousarray(stored)
