"""TIFF and PNG files that say much beside their pixels, made by tifffile, by Pillow and byte by byte.

Each comes with the tags or chunks that a filter may change or drop, with the reason. All others have to stay as they
are, bit by bit.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from tests.tiff_corpus import noise

HEIGHT, WIDTH = 40, 56

LAYOUT_TAGS = frozenset({
    256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 330, 338, 339,
})  # fmt: skip
"""How the pixels are stored: the matter of other tests."""


@dataclass(frozen=True)
class MetadataCase:
    """A file, what of its metadata becomes otherwise where nothing but a filter is asked for, and what is said."""

    write: Callable[[Path], None]
    changed: Mapping[int, str] = field(default_factory=dict)
    dropped: Mapping[int, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


# -------------------------------------------------------------------------------------------------- TIFF

OME_TEXT = {
    "axes": "TZCYX",
    "Channel": {"Name": ["DAPI", "GFP"]},
    "PhysicalSizeX": 0.1,
    "PhysicalSizeXUnit": "µm",
    "SignificantBits": 12,
    "Plane": {"PositionX": [float(number) for number in range(12)], "PositionXUnit": ["µm"] * 12},
    "MapAnnotation": {"Namespace": "a.user", "key": "value"},
}


def write_ome(path: Path) -> None:
    """Write a stack of two times, three slices and two channels."""
    tifffile.imwrite(path, noise((2, 3, 2, HEIGHT, WIDTH), 4095), ome=True, metadata=OME_TEXT)


def imagej_values() -> dict[str, Any]:
    """Return what ImageJ keeps beside a stack of 2 times, 3 slices and 2 channels."""
    ramp = np.arange(256, dtype=np.uint8)
    return {
        "axes": "TZCYX",
        "spacing": 0.25,
        "unit": "um",
        "finterval": 2.5,
        "min": 10.0,
        "max": 4000.0,
        "xorigin": 5.0,
        "Info": "by hand",
        "Labels": [f"plane {number}" for number in range(12)],
        "Ranges": (10.0, 4000.0, 20.0, 3000.0),
        "LUTs": [np.stack([ramp, ramp * 0, ramp * 0]), np.stack([ramp * 0, ramp, ramp * 0])],
        "ROI": b"Iout" + bytes(60),
        "Overlays": [b"Iout" + bytes([1]) * 60, b"Iout" + bytes([2]) * 60],
    }


def write_imagej(path: Path, byteorder: Any = ">") -> None:
    """Write a hyperstack with colour tables, labels, a region of interest and overlays."""
    pixels = noise((2, 3, 2, HEIGHT, WIDTH), 4095)
    options: dict[str, Any] = {"resolution": (10.0, 10.0), "metadata": imagej_values(), "byteorder": byteorder}
    tifffile.imwrite(path, pixels, imagej=True, **options)


GDAL_XML = (
    '<GDALMetadata>\n  <Item name="OWNER">somebody &amp; Co</Item>\n'
    '  <Item name="STATISTICS_MAXIMUM" sample="0">255</Item>\n'
    '  <Item name="STATISTICS_MEAN" sample="0">117.5</Item>\n'
    '  <Item name="SCALE" sample="0" role="scale">0.5</Item>\n</GDALMetadata>\n'
)
_GEO_KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)
TIE_POINT, PIXEL_SCALE = (0.0, 0.0, 0.0, 500000.0, 5200000.0, 0.0), (10.0, 20.0, 0.0)
GEO_TAGS: list[tuple[int, Any, int, Any, bool]] = [
    (33550, "d", 3, PIXEL_SCALE, True),
    (33922, "d", 6, TIE_POINT, True),
    (34735, "H", len(_GEO_KEYS), _GEO_KEYS, True),
    (42112, "s", 0, GDAL_XML, True),
    (42113, "s", 0, "-9999", True),
    (50844, "d", 92, tuple(map(float, range(92))), True),
]


def write_geotiff(path: Path, byteorder: Any = "<") -> None:
    """Write an image with a place on Earth, GDAL's metadata and a value for missing pixels."""
    pixels = noise((HEIGHT, WIDTH), 200).astype(np.float32)
    tifffile.imwrite(path, pixels, metadata=None, extratags=GEO_TAGS, byteorder=byteorder)


MAKER_NOTE = b"a camera's own business"
EXIF_VALUES = {33434: (1, 250), 36867: "2024:05:06 07:08:09", 37500: MAKER_NOTE, 40962: WIDTH, 40963: HEIGHT}


def exif_of_photo() -> Image.Exif:
    """Return what a camera says of a photo, its place included; it is turned by a quarter."""
    exif = Image.Exif()
    exif[271], exif[272], exif[274], exif[306] = "Maker", "Model", 6, "2024:05:06 07:08:09"
    exif[315], exif[33432] = "Somebody", "all rights"
    exif.get_ifd(34665).update(
        {**EXIF_VALUES, 33434: TiffImagePlugin.IFDRational(1, 250)},
    )
    exif.get_ifd(34853).update({1: "N", 2: tuple(TiffImagePlugin.IFDRational(n, 1) for n in (47, 30, 15))})
    return exif


XMP = b'<?xpacket begin="" id="x"?><x:xmpmeta xmlns:x="adobe:ns:meta/">\xc3\xa9</x:xmpmeta><?xpacket end="w"?>'


def resource(number: int, data: bytes) -> bytes:
    """Return one of Photoshop's resources."""
    return struct.pack(">4sHHI", b"8BIM", number, 0, len(data)) + data + bytes(len(data) % 2)


IPTC = b"\x1c\x02\x78\x00\x07caption"
RESOURCES, PREVIEW = resource(0x0404, IPTC), resource(1036, b"a small picture")


def write_photo(path: Path) -> None:
    """Write a photo as cameras' programs do."""
    Image.fromarray(noise((HEIGHT, WIDTH, 3))).save(
        path, exif=exif_of_photo().tobytes(), dpi=(240, 240), icc_profile=b"profile"
    )


def write_retouched(path: Path) -> None:
    """Write a photo as Photoshop does: XMP, IPTC, resources with a preview, layers."""
    tags = [
        (700, "B", len(XMP), XMP, True),
        (33723, "B", len(IPTC), IPTC, True),
        (34377, "B", len(PREVIEW + RESOURCES), PREVIEW + RESOURCES, True),
        (34675, 7, 7, b"profile", True),
        (37724, 7, 5, b"layer", True),
        (274, "H", 1, 8, True),
    ]
    tifffile.imwrite(path, noise((HEIGHT, WIDTH, 3)), photometric="rgb", metadata=None, extratags=tags)


def write_scan(path: Path) -> None:
    """Write pages that each have tags of their own, as scanners do."""
    with tifffile.TiffWriter(path) as writer:
        for number in range(3):
            tags: list[tuple[int, Any, int, Any, bool]] = [
                (269, "s", 0, f"document {number}", True),
                (285, "s", 0, f"page {number}", True),
                (286, "2I", 1, (number, 2), True),
                (297, "H", 2, (number, 3), True),
                (316, "s", 0, "host", True),
                (65000 + number, "s", 0, "private", True),
            ]
            options: dict[str, Any] = {"extratags": tags, "resolution": (300 + number, 300), "resolutionunit": 2}
            writer.write(noise((HEIGHT, WIDTH)), description=f"scan {number}", metadata=None, **options)


def write_all_types(path: Path, byteorder: Any, *, big: bool) -> None:
    """Write private tags of all types of numbers, few and many in each."""
    pairs = {5: (1, 3, 7, 2), 10: (-1, 3, 7, -2)}
    tags: list[tuple[int, Any, int, Any, bool]] = [(65100, 2, 0, "text", True), (65101, 7, 5, b"\0\1\2\3\4", True)]
    for kind in (1, 3, 4, 6, 8, 9, 11, 12, *((16, 17) if big else ())):
        negative = -3 if kind in (6, 8, 9, 11, 12, 17) else 3
        tags += [(65110 + kind, kind, 1, negative, True), (65130 + kind, kind, 9, (negative, *range(8)), True)]
    tags += [(65150 + kind, kind, 2, values, True) for kind, values in pairs.items()]
    tifffile.imwrite(path, noise((HEIGHT, WIDTH)), metadata=None, extratags=tags, byteorder=byteorder, bigtiff=big)


def write_stale(path: Path) -> None:
    """Write tags that describe the pixels as they were."""
    tags = [(280, "H", 1, 3, True), (281, "H", 1, 250, True), (340, "B", 1, 3, True)]
    tifffile.imwrite(path, noise((HEIGHT, WIDTH)), metadata=None, extratags=tags)


_MOVED_NOTES = "offsets in them lead nowhere any more"

TIFF_CASES: dict[str, MetadataCase] = {
    "ome": MetadataCase(write_ome, changed={270: "the file has a UUID of its own"}),
    "imagej, big-endian": MetadataCase(write_imagej),
    "imagej, little-endian": MetadataCase(partial(write_imagej, byteorder="<")),
    "geotiff": MetadataCase(
        write_geotiff,
        changed={42112: "without statistics, which are those of the old pixels"},
        notices=("statistics in GDAL_METADATA", "GDAL_NODATA -9999) are filtered"),
    ),
    "geotiff, big-endian": MetadataCase(
        partial(write_geotiff, byteorder=">"),
        changed={42112: "without statistics, which are those of the old pixels"},
        notices=("statistics in GDAL_METADATA", "GDAL_NODATA -9999) are filtered"),
    ),
    "photo": MetadataCase(write_photo, notices=(_MOVED_NOTES,)),
    "retouched": MetadataCase(
        write_retouched,
        changed={34377: "without the preview, which shows the old pixels"},
        dropped={37724: "layers hold the old pixels"},
        notices=("preview among Photoshop's resources", "Photoshop layers"),
    ),
    "scan": MetadataCase(write_scan),
    "all types, little-endian": MetadataCase(partial(write_all_types, byteorder="<", big=False)),
    "all types, big-endian": MetadataCase(partial(write_all_types, byteorder=">", big=False)),
    "all types, little-endian BigTIFF": MetadataCase(partial(write_all_types, byteorder="<", big=True)),
    "all types, big-endian BigTIFF": MetadataCase(partial(write_all_types, byteorder=">", big=True)),
    "stale": MetadataCase(
        write_stale,
        dropped={
            280: "is the least value before the filter",
            281: "is the greatest value before the filter",
            340: "is the least value before the filter",
        },
        notices=("MinSampleValue, MaxSampleValue, SMinSampleValue",),
    ),
}


# --------------------------------------------------------------------------------------------------- PNG


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG_CHUNKS: dict[bytes, bytes] = {
    b"cICP": b"\1\15\0\1",
    b"mDCV": bytes(24),
    b"cLLI": bytes(8),
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
    b"sRGB": b"\0",
    b"sBIT": b"\7\7\7",
    b"iCCP": b"name\0\0" + zlib.compress(b"profile"),
    b"bKGD": struct.pack(">3H", 1, 2, 3),
    b"hIST": bytes(6),
    b"pHYs": struct.pack(">IIB", 11811, 11811, 1),
    b"sPLT": b"name\0\x08" + bytes(6),
    b"oFFs": struct.pack(">iiB", 3, 4, 0),
    b"sCAL": b"\1" + b"0.1\0" + b"0.2",
    b"pCAL": b"name\0" + struct.pack(">iiBB", 0, 255, 0, 2) + b"unit\0" + b"0\0" + b"1",
    b"tIME": b"\7\xe8\1\2\3\4\5",
    b"eXIf": b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 274, 3, 1, 6, 0, 0),
    b"tEXt": b"Title\0plain",
    b"zTXt": b"Author\0\0" + zlib.compress(b"packed"),
    b"iTXt": b"XML:com.adobe.xmp\0\0\0\0\0" + XMP,
    b"prVt": b"private, safe to copy",
    b"prVT": b"private, not safe to copy",
    b"acTL": struct.pack(">II", 1, 0),
    b"fcTL": struct.pack(">5IHHBB", 0, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0),
}
"""A chunk of each kind that an RGB image can have."""

DROPPED_CHUNKS = {
    b"hIST": "counts the old pixels",
    b"sPLT": "suggests colours of the old pixels",
    b"tIME": "is when the old pixels were last changed",
    b"prVT": "says itself that it depends on the pixels",
    b"acTL": "the animation is not kept",
    b"fcTL": "the animation is not kept",
}


def write_png(path: Path) -> None:
    """Write an RGB image with a chunk of each kind."""
    rows = b"".join(b"\0" + row.tobytes() for row in noise((HEIGHT, WIDTH, 3)))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)), *PNG_CHUNKS.items()]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks))


def chunks_in(path: Path) -> dict[bytes, bytes]:
    """Return the ancillary chunks of a PNG file."""
    data = path.read_bytes()
    chunks = {}
    position = 8
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        chunks[kind] = data[position + 8 : position + 8 + length]
        position += 12 + length
    return {kind: content for kind, content in chunks.items() if kind[0] & 0x20}
