"""TIFF files as they are found in the wild, made by tifffile, by Pillow's libtiff and byte by byte.

Each is given with the pixels that it stands for, made here from numbers alone, so that no reader is its own judge.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]
Values = tuple[str, Sequence[int] | str]
"""How `struct` writes the values of a tag, and the values; ``s`` and text."""

MINISWHITE, MINISBLACK, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5
DEFLATE, PACKBITS = 8, 32773

_TYPES = {"s": 2, "H": 3, "I": 4, "Q": 16}

HEIGHT, WIDTH = 45, 61


def noise(shape: Sequence[int], greatest: int = 255, seed: int = 3) -> Pixels:
    """Return integers of all sizes up to the greatest, in the smallest dtype that has room for them."""
    values = np.random.default_rng(seed).integers(0, greatest, shape, endpoint=True)
    return values.astype(np.min_scalar_type(greatest))


# ------------------------------------------------------------------------------------------------- byte by byte


class HandMadePage(NamedTuple):
    """The tags of a page but for those that say where its segments are; None stands for a missing segment."""

    tags: Mapping[int, Values]
    segments: Sequence[bytes | None]


def write_by_hand(path: Path, *pages: HandMadePage, order: str = "<", omitted: Sequence[int] = ()) -> None:
    """Write a classic TIFF file, whose directories follow the segments."""
    data = bytearray(struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 0))
    next_pointer = 4
    for tags, segments in pages:
        offsets = []
        for segment in segments:
            offsets.append(0 if segment is None else len(data))
            data += segment or b""
        is_tiled = 322 in tags
        sizes = [len(segment or b"") for segment in segments]
        where = {324 if is_tiled else 273: ("I", offsets), 325 if is_tiled else 279: ("I", sizes)}
        entries = {code: values for code, values in {**tags, **where}.items() if code not in omitted}
        data += bytes(len(data) % 2)
        struct.pack_into(f"{order}I", data, next_pointer, len(data))
        next_pointer = _add_directory(data, entries, order)
    path.write_bytes(data)


def _add_directory(data: bytearray, entries: Mapping[int, Values], order: str) -> int:
    """Append a directory, and return where the offset of the next one is to be written."""
    start = len(data)
    data += struct.pack(f"{order}H", len(entries)) + bytes(12 * len(entries) + 4)
    for index, (code, (letter, values)) in enumerate(sorted(entries.items())):
        value = values.encode() if isinstance(values, str) else struct.pack(f"{order}{len(values)}{letter}", *values)
        place = start + 2 + 12 * index
        if len(value) > 4:
            data += bytes(len(data) % 2)
            position = len(data)
            data += value
            value = struct.pack(f"{order}I", position)
        struct.pack_into(f"{order}HHI4s", data, place, code, _TYPES[letter], len(values), value.ljust(4, b"\0"))
    return start + 2 + 12 * len(entries)


def packed(samples: Pixels, bits: int) -> bytes:
    """Return rows of samples as a big-endian file holds them: the highest bit first, each row from a whole byte on."""
    rows = samples.reshape(len(samples), -1).astype(np.uint64)
    digits = (rows[:, :, np.newaxis] >> np.arange(bits - 1, -1, -1, dtype=np.uint64)) & np.uint64(1)
    return np.packbits(digits.astype(np.uint8).reshape(len(rows), -1), axis=1).tobytes()


def strip_page(
    samples: Pixels,
    bits: int,
    photometric: int,
    *,
    rows: int = HEIGHT,
    compression: int = 1,
    missing: Sequence[int] = (),
    more: Mapping[int, Values] | None = None,
) -> HandMadePage:
    """Return a page of strips of so many rows, some of which may be missing."""
    channels = samples.shape[2] if samples.ndim == 3 else 1
    encode = {1: bytes, DEFLATE: zlib.compress, PACKBITS: imagecodecs.packbits_encode}[compression]
    strips = [packed(samples[start : start + rows], bits) for start in range(0, len(samples), rows)]
    tags: dict[int, Values] = {
        256: ("I", [samples.shape[1]]),
        257: ("I", [samples.shape[0]]),
        258: ("H", [bits] * channels),
        259: ("H", [compression]),
        262: ("H", [photometric]),
        277: ("H", [channels]),
        278: ("I", [rows]),
        **(more or {}),
    }
    return HandMadePage(tags, [None if index in missing else encode(strip) for index, strip in enumerate(strips)])


def tile_page(samples: Pixels, bits: int, *, missing: Sequence[int] = ()) -> HandMadePage:
    """Return a page of tiles of 16 x 32 samples, some of which may be missing."""
    page = strip_page(samples, bits, MINISBLACK, more={322: ("H", [32]), 323: ("H", [16])})
    height, width = samples.shape
    padded = np.pad(samples, ((0, -height % 16), (0, -width % 32)))
    tiles = [
        packed(padded[row : row + 16, column : column + 32], bits)
        for row in range(0, height, 16)
        for column in range(0, width, 32)
    ]
    tags = {code: values for code, values in page.tags.items() if code != 278}
    return HandMadePage(tags, [None if index in missing else tile for index, tile in enumerate(tiles)])


def colour_map(colours: Pixels, factor: int) -> Values:
    """Return the tag for a palette whose 8-bit colours are multiplied by a factor."""
    return "H", (colours.T.astype(int) * factor).ravel().tolist()


# ------------------------------------------------------------------------------------------------------ the makers
# Each writes a file, and returns the pixels that its pages stand for, channels last.


def _one_strip(path: Path, *, order: Any, greatest: int) -> list[Pixels]:
    pixels = noise((HEIGHT, WIDTH, 3), greatest)
    tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=HEIGHT, byteorder=order, metadata=None)
    return [pixels]


def _planes(path: Path) -> list[Pixels]:
    pixels = noise((HEIGHT, WIDTH, 3), 65535)
    planes = np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", rowsperstrip=HEIGHT, metadata=None)
    return [pixels]


def _float_predictor(path: Path, *, dtype: str) -> list[Pixels]:
    pixels = np.random.default_rng(4).normal(size=(HEIGHT, WIDTH, 2)).astype(dtype)
    options: dict[str, Any] = {"compression": "zstd", "predictor": 3, "byteorder": ">", "planarconfig": "contig"}
    tifffile.imwrite(path, pixels, photometric="minisblack", rowsperstrip=8, metadata=None, **options)
    return [pixels]


def _spread(samples: Pixels, bits: int) -> Pixels:
    """Return samples of up to 7 bits as uint8, from 0 to 255."""
    return np.rint(samples * (255 / (2**bits - 1))).astype(np.uint8)


def _packed_strips(
    path: Path,
    *,
    bits: int,
    photometric: int = MINISBLACK,
    channels: int = 1,
    rows: int = 7,
    order: str = "<",
    compression: int = 1,
    omitted: Sequence[int] = (),
) -> list[Pixels]:
    samples = noise((HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH), 2**bits - 1)
    page = strip_page(samples, bits, photometric, rows=rows, compression=compression)
    write_by_hand(path, page, order=order, omitted=omitted)
    if bits > 8:
        return [samples]
    return [255 - _spread(samples, bits) if photometric == MINISWHITE else _spread(samples, bits)]


def _packed_tiles(path: Path, *, bits: int) -> list[Pixels]:
    samples = noise((HEIGHT, WIDTH), 2**bits - 1)
    write_by_hand(path, tile_page(samples, bits))
    return [samples if bits > 8 else _spread(samples, bits)]


def _fax(path: Path, *, compression: str) -> list[Pixels]:
    bits = noise((HEIGHT, WIDTH), 1).astype(bool)
    Image.fromarray(bits).save(path, compression=compression)
    return [bits * np.uint8(255)]


def _reversed_fax(path: Path) -> list[Pixels]:
    expected = _fax(path, compression="group4")
    with tifffile.TiffFile(path) as tiff:
        data = path.read_bytes()[tiff.pages.first.dataoffsets[0] :][: tiff.pages.first.databytecounts[0]]
    page = strip_page(np.zeros((HEIGHT, WIDTH), np.uint8), 1, MINISBLACK, more={259: ("H", [4]), 266: ("H", [2])})
    write_by_hand(path, page._replace(segments=[imagecodecs.bitorder_encode(data)]))
    return expected


def _palette(path: Path, *, bits: int, factor: int) -> list[Pixels]:
    indices, colours = noise((HEIGHT, WIDTH), 2**bits - 1), noise((2**bits, 3), seed=8)
    write_by_hand(path, strip_page(indices, bits, PALETTE, rows=8, more={320: colour_map(colours, factor)}))
    return [colours[indices]]


def _fine_palette(path: Path) -> list[Pixels]:
    indices, colours = noise((HEIGHT, WIDTH)), noise((256, 3), 65535)
    options: dict[str, Any] = {"tile": (16, 16), "compression": "lzw", "metadata": None}
    tifffile.imwrite(path, indices, photometric="palette", colormap=colours.T, **options)
    return [colours[indices]]


def _predicted_palette(path: Path) -> list[Pixels]:
    indices, colours = noise((HEIGHT, WIDTH)), noise((256, 3))
    options: dict[str, Any] = {"compression": "deflate", "predictor": 2, "metadata": None}
    tifffile.imwrite(path, indices, photometric="palette", colormap=colours.T.astype(np.uint16) * 257, **options)
    return [colours[indices]]


def _cmyk(path: Path, *, channels: int = 4, greatest: int = 255, planar: bool = False, **options: Any) -> list[Pixels]:
    pixels = noise((HEIGHT, WIDTH, channels), greatest)
    options["planarconfig"] = "separate" if planar else "contig"
    options["extrasamples"] = ["unspecified"] * (channels - 4)
    data = np.moveaxis(pixels, -1, 0) if planar else pixels
    tifffile.imwrite(path, data, photometric="separated", metadata=None, **options)
    return [pixels]


def _sparse_tiles(path: Path, *, missing: Sequence[int], no_data: int | None = None) -> list[Pixels]:
    pixels = noise((HEIGHT, WIDTH), 65535)
    page = tile_page(pixels, 16, missing=missing)
    text = "" if no_data is None else f"{no_data}\0"
    page = page._replace(tags={**page.tags, 42113: ("s", text)}) if text else page
    write_by_hand(path, page, order=">")
    for index in missing:
        row, column = index // 2 * 16, index % 2 * 32
        pixels[row : row + 16, column : column + 32] = no_data or 0
    return [pixels]


def _sparse_strips(path: Path, *, bits: int = 8, compression: int = 1, no_data: str = "") -> list[Pixels]:
    samples = noise((HEIGHT, WIDTH), 2**bits - 1)
    page = strip_page(samples, bits, MINISBLACK, rows=10, compression=compression, missing=(0, 2))
    write_by_hand(path, page._replace(tags={**page.tags, 42113: ("s", f"{no_data}\0")}) if no_data else page)
    samples[:10] = samples[20:30] = max(0, int(no_data or 0))  # what cannot be is zero
    return [_spread(samples, bits) if bits < 8 else samples]


def _sparse_palette(path: Path) -> list[Pixels]:
    indices, colours = noise((HEIGHT, WIDTH)), noise((256, 3), seed=9)
    more = {320: colour_map(colours, 257), 42113: ("s", "7\0")}
    write_by_hand(path, strip_page(indices, 8, PALETTE, rows=10, missing=(1,), more=more))
    indices[10:20] = 7
    return [colours[indices]]


def _pages_of_all_kinds(path: Path) -> list[Pixels]:
    bits, wide, colours = noise((33, 50), 1), noise((20, 70), 4095), noise((16, 3))
    indices, inks, words = noise((HEIGHT, WIDTH), 15), noise((9, 200, 4)), noise((50, 20), 65535)
    write_by_hand(
        path,
        strip_page(bits, 1, MINISWHITE, rows=33),
        strip_page(wide, 12, MINISBLACK, rows=3),
        strip_page(indices, 4, PALETTE, rows=5, more={320: colour_map(colours, 256)}),
        strip_page(inks, 8, CMYK, rows=4, compression=DEFLATE),
        tile_page(words, 16),
        order=">",
    )
    return [(1 - bits) * np.uint8(255), wide, colours[indices], inks, words]


# ------------------------------------------------------------------------------------------------------ the corpus

Maker = Callable[[Path], list[Pixels]]

_ORDERS = {"little": "<", "big": ">"}

STRIPS: dict[str, Maker] = {
    **{
        f"{name}-endian strip of {bits} bits": partial(_one_strip, order=order, greatest=2**bits - 1)
        for name, order in _ORDERS.items()
        for bits in (8, 16, 32)
    },
    "planes of one strip each": _planes,
    "strip without its byte count": partial(_packed_strips, bits=8, rows=HEIGHT, omitted=[279]),
    **{f"float{bits} of a predictor": partial(_float_predictor, dtype=f"float{bits}") for bits in (16, 32, 64)},
}

BITS: dict[str, Maker] = {
    **{f"{bits} bits": partial(_packed_strips, bits=bits) for bits in (1, 2, 3, 4, 6, 7)},
    **{
        f"{bits} bits, {name}-endian": partial(_packed_strips, bits=bits, order=order, rows=HEIGHT)
        for bits in (9, 10, 12, 14, 15, 17, 24, 31)
        for name, order in _ORDERS.items()
    },
    **{f"{bits} bits, white is 0": partial(_packed_strips, bits=bits, photometric=MINISWHITE) for bits in (1, 4, 12)},
    **{f"{bits} bits of RGB": partial(_packed_strips, bits=bits, photometric=RGB, channels=3) for bits in (4, 12)},
    **{f"{bits} bits deflated": partial(_packed_strips, bits=bits, compression=DEFLATE) for bits in (1, 2, 12)},
    **{f"{bits} bits of packbits": partial(_packed_strips, bits=bits, compression=PACKBITS) for bits in (1, 12)},
    **{f"{bits} bits in tiles": partial(_packed_tiles, bits=bits) for bits in (1, 4, 12)},
    "strip of bits without its byte count": partial(_packed_strips, bits=1, rows=HEIGHT, omitted=[279]),
    **{f"fax, {kind}": partial(_fax, compression=kind) for kind in ("group3", "group4", "tiff_ccitt")},
    "fax of reversed bits": _reversed_fax,
}

PALETTES: dict[str, Maker] = {
    **{
        f"palette of {bits} bits, times {factor}": partial(_palette, bits=bits, factor=factor)
        for bits in (1, 2, 4, 8)
        for factor in (1, 256, 257)
    },
    "palette of 16-bit colours": _fine_palette,
    "palette with a predictor": _predicted_palette,
}

CMYK_FILES: dict[str, Maker] = {
    "CMYK strips": partial(_cmyk, rowsperstrip=10),
    "CMYK tiles": partial(_cmyk, tile=(16, 32), compression="lzw"),
    "CMYK planes": partial(_cmyk, planar=True, compression="deflate"),
    "CMYK of 16 bits": partial(_cmyk, greatest=65535),
    "CMYK and a spot colour": partial(_cmyk, channels=5),
}

SPARSE: dict[str, Maker] = {
    "sparse tiles": partial(_sparse_tiles, missing=[1, 3, 4]),
    "sparse tiles with a value for no data": partial(_sparse_tiles, missing=[0, 5], no_data=777),
    "no tiles at all": partial(_sparse_tiles, missing=range(6)),
    "sparse strips": _sparse_strips,
    "sparse strips with a value for no data": partial(_sparse_strips, no_data="9"),
    "sparse strips with an impossible value": partial(_sparse_strips, no_data="-9999"),
    "sparse deflated strips": partial(_sparse_strips, compression=DEFLATE),
    "sparse bits": partial(_sparse_strips, bits=1),
    "sparse bits, set": partial(_sparse_strips, bits=1, no_data="1"),
    "sparse bits, not set": partial(_sparse_strips, bits=1, no_data="0"),
    "sparse palette": _sparse_palette,
}

CORPUS = {**STRIPS, **BITS, **PALETTES, **CMYK_FILES, **SPARSE, "pages of all kinds": _pages_of_all_kinds}


def read_pages(path: Path) -> list[Pixels]:
    """Return the pages of a file as tifffile reads them, channels last."""
    with tifffile.TiffFile(path) as tiff:
        return [
            np.moveaxis(page.asarray(), 0, -1) if page.planarconfig == 2 and page.ndim == 3 else page.asarray()
            for page in tiff.pages
        ]
