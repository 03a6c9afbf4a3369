"""Files that are made to do harm: those that ask for more memory or time than they could ever need."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib
from PIL import Image

from blurfast import Gaussian
from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.files import describe_file, filter_file
from blurfast.io.codestreams import declared_samples
from blurfast.io.pillow import PillowSource
from blurfast.io.png_source import PngSource
from blurfast.io.tiff_tags import ByteLayout, Tag
from tests.cli_runs import noise
from tests.png_files import SIGNATURE, SMALL, chunk, deflated, header, png

# ---- images within TIFF files, which declare sizes of their own

_ENCODERS: dict[str, tuple[int, Callable[[np.ndarray], bytes]]] = {
    "jpeg": (7, imagecodecs.jpeg_encode),
    "j2k": (34712, lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", reversible=True)),
    "jp2": (34712, lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="JP2", reversible=True)),
    "webp": (50001, imagecodecs.webp_encode),
    "webp lossless": (50001, lambda pixels: imagecodecs.webp_encode(pixels, lossless=True)),
    "jpegxl": (50002, lambda pixels: imagecodecs.jpegxl_encode(pixels, lossless=True)),
    "jpegxl in boxes": (50002, lambda pixels: imagecodecs.jpegxl_encode(pixels, lossless=True, usecontainer=True)),
    "png": (34933, imagecodecs.png_encode),
    "lerc": (34887, imagecodecs.lerc_encode),
}


@pytest.mark.parametrize("codec", _ENCODERS)
@given(shape=st.tuples(st.integers(1, 300), st.integers(1, 300)), times=st.sampled_from([1, 1, 8]))
def test_declared_size_is_the_size(codec: str, shape: tuple[int, int], times: int) -> None:
    compression, encode = _ENCODERS[codec]
    rows, columns = shape[0] * times, shape[1]
    assert declared_samples(compression, encode(np.zeros((rows, columns, 3), "uint8"))) == rows * columns * 3


@pytest.mark.parametrize("codec", _ENCODERS)
@given(data=st.data())
def test_any_bytes_declare_something_or_nothing(codec: str, data: st.DataObject) -> None:
    compression, encode = _ENCODERS[codec]
    encoded = bytearray(encode(np.zeros((9, 12, 3), "uint8")))
    start = data.draw(st.integers(0, len(encoded)))
    encoded[start : data.draw(st.integers(start, len(encoded)))] = data.draw(st.binary(max_size=20))
    declared = declared_samples(compression, encoded)
    assert declared is None or declared >= 0


def test_markers_of_jpeg_are_found_as_decoders_find_them() -> None:
    encoded = imagecodecs.jpeg_encode(np.zeros((30, 20, 3), "uint8"))
    disguised = encoded[:2] + b"junk\xff\xff\xff\xfe\0\x06\xff\xc0\0\0\xff\0\xff\x01" + encoded[2:]
    assert imagecodecs.jpeg_decode(disguised).shape == (30, 20, 3)
    assert declared_samples(7, disguised) == 1800
    assert declared_samples(7, encoded[: encoded.index(b"\xff\xc0")]) is None


def with_segment(path: Path, encoded: bytes, compression: Any, **options: Any) -> Path:
    """Write a TIFF file of 16 x 16 pixels in a single tile."""
    tifffile.imwrite(
        path, iter([encoded]), shape=(16, 16, 3), dtype="uint8", tile=(16, 16), photometric="rgb",
        compression=compression, metadata=None, **options,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("codec", _ENCODERS)
def test_bombs_in_tiles_are_not_decoded(tmp_path: Path, codec: str) -> None:
    compression, encode = _ENCODERS[codec]
    whole = with_segment(tmp_path / "whole.tif", encode(noise((16, 16, 3))), compression)
    filter_file(whole, tmp_path / "out.tif", Gaussian(1), compression="none")
    bomb = with_segment(tmp_path / "bomb.tif", encode(np.zeros((300, 400, 3), "uint8")), compression)
    with pytest.raises(UnreadableError, match="segment 0 of page 0 declares 360000 samples"):
        filter_file(bomb, tmp_path / "bombed.tif", Gaussian(1), compression="none")
    assert not (tmp_path / "bombed.tif").exists()


def test_segments_that_inflate_beyond_their_size(tmp_path: Path) -> None:
    deflater = isal_zlib.compressobj(1)
    deflated_zeros = b"".join(deflater.compress(bytes(1 << 24)) for _ in range(32)) + deflater.flush()
    bomb = with_segment(tmp_path / "bomb.tif", deflated_zeros, "zlib")
    with pytest.raises(UnreadableError, match="segment 0 of page 0 cannot be decoded"):
        filter_file(bomb, tmp_path / "out.tif", Gaussian(1))


def test_a_compression_that_cannot_be_decoded_safely(tmp_path: Path) -> None:
    path = with_segment(tmp_path / "in.tif", imagecodecs.jpegxr_encode(noise((16, 16, 3))), "jpegxr")
    with pytest.raises(UnsupportedError, match="page 0 has JPEG XR compression"):
        describe_file(path)


# ---- directories of TIFF files

GREY: dict[int, Sequence[int]] = {256: [20], 257: [20], 258: [8], 259: [1], 262: [1], 277: [1], 278: [20], 279: [400]}
LAYOUTS = [ByteLayout("<", big=False), ByteLayout(">", big=True)]


def directory(layout: ByteLayout, following: int, *further: Tag, pixels: int = 8) -> bytes:
    """Return a directory of an image of 20 x 20 bytes, whose values have room in their tags."""
    tags = [layout.integers(code, 4, values) for code, values in {**GREY, 273: [pixels]}.items()]
    packed = layout.directories([[*tags, *further]], 0)
    offset_bytes = 8 if layout.big else 4
    end = (8 if layout.big else 2) + (len(tags) + len(further)) * (4 + 2 * offset_bytes)
    offset = struct.pack(layout.order + ("Q" if layout.big else "I"), following)
    return packed[:end] + offset + packed[end + offset_bytes :]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pages", [1, 2, 30])
def test_a_chain_of_directories_that_ends_in_itself(tmp_path: Path, layout: ByteLayout, pages: int) -> None:
    start = len(layout.header(0))
    size = len(directory(layout, 0))
    for target in (start, start + (pages - 1) * size):
        following = [start + number * size for number in range(1, pages)] + [target]
        content = layout.header(start) + b"".join(directory(layout, offset) for offset in following) + bytes(500)
        (tmp_path / "loop.tif").write_bytes(content)
        with pytest.raises(UnreadableError, match=f"page {pages} is an earlier page again"):
            describe_file(tmp_path / "loop.tif")
    following[-1] = 0
    whole = layout.header(start) + b"".join(directory(layout, offset) for offset in following) + bytes(500)
    (tmp_path / "chain.tif").write_bytes(whole)
    assert len(describe_file(tmp_path / "chain.tif")) == pages


def with_shared_value(path: Path, size: int, tags: int) -> Path:
    """Write a TIFF file in which many tags share one large value."""
    layout = LAYOUTS[1]
    start = len(layout.header(0))
    shared = [Tag(60000 + number, 7, size, struct.pack(">Q", 8)) for number in range(tags)]
    path.write_bytes(layout.header(start) + directory(layout, 0, *shared) + bytes(size + 500))
    return path


def test_values_that_overlap_are_not_copied_for_each_tag(tmp_path: Path) -> None:
    path = with_shared_value(tmp_path / "in.tif", 1 << 20, tags=500)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableError, match="the tags of the first 1 pages claim 52"):
            describe_file(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    assert describe_file(with_shared_value(path, 1 << 20, tags=3))


def with_long_value(path: Path, code: int, size: int) -> Path:
    """Write a TIFF file with one long value, which takes no room on the disk."""
    layout = LAYOUTS[1]
    start = len(layout.header(0))
    long = Tag(code, 7, size, struct.pack(">Q", 1000))
    path.write_bytes(layout.header(start) + directory(layout, 0, long) + bytes(500))
    with open(path, "r+b") as file:
        file.truncate(size + 2000)
    return path


def test_very_long_values(tmp_path: Path) -> None:
    for code, size in ((270, 1 << 30), (60000, 1 << 30), (324, 1 << 34)):
        with pytest.raises(UnsupportedError, match=f"tag {code} of page 0 has {size} bytes; remove that tag"):
            describe_file(with_long_value(tmp_path / "in.tif", code, size))
    assert describe_file(with_long_value(tmp_path / "in.tif", 37724, 1 << 30))  # Photoshop's layers, which stay unread


def test_segments_may_overlap(tmp_path: Path) -> None:
    """As where a program has stored equal strips once."""
    pixels = noise((10, 20))
    tifffile.imwrite(tmp_path / "in.tif", np.tile(pixels, (4, 1)), photometric="minisblack", rowsperstrip=10)
    with tifffile.TiffFile(tmp_path / "in.tif", mode="r+") as tiff:
        offsets = tiff.pages.first.tags["StripOffsets"]
        offsets.overwrite([offsets.value[0]] * 4)
        offset = offsets.value[0]
    with open(tmp_path / "in.tif", "r+b") as file:
        file.truncate(offset + pixels.size)
    filter_file(tmp_path / "in.tif", tmp_path / "out.tif", Gaussian(0))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), np.tile(pixels, (4, 1)))


# ---- PNG and JPEG files


def test_texts_that_inflate_without_end(tmp_path: Path) -> None:
    text = zlib.compress(bytes(40 << 20))
    chunks = [chunk(b"zTXt", b"%d\0\0" % number + text) for number in range(3)]
    (tmp_path / "one.png").write_bytes(png(SMALL, before=chunks[0]))
    with contextlib.closing(PngSource(tmp_path / "one.png")) as source:
        assert len(source.metadata.text["0"]) == 40 << 20
    (tmp_path / "bomb.png").write_bytes(png(SMALL, before=b"".join(chunks)))
    with contextlib.closing(PngSource(tmp_path / "bomb.png")) as source:
        assert list(source.metadata.text) == ["0"]
        assert source.metadata.others == ("zTXt (damaged)",)


def test_chunks_that_are_large_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blurfast.io.png_chunks.LARGEST_KEPT", 1000)
    texts = chunk(b"tEXt", b"a\0" + bytes(398)) + chunk(b"tEXt", b"b\0" + bytes(398))
    (tmp_path / "in.png").write_bytes(png(SMALL, before=texts))
    PngSource(tmp_path / "in.png").close()
    (tmp_path / "in.png").write_bytes(png(SMALL, before=texts + chunk(b"tEXt", b"c\0" + bytes(398))))
    with pytest.raises(UnsupportedError, match="its chunks have 1213 bytes up to the tEXt chunk"):
        PngSource(tmp_path / "in.png")


def test_pixels_that_inflate_beyond_the_image(tmp_path: Path) -> None:
    deflater = isal_zlib.compressobj(1)
    zeros = b"".join(deflater.compress(bytes(1 << 24)) for _ in range(32)) + deflater.flush()
    file = SIGNATURE + header(SMALL) + chunk(b"IDAT", zeros) + chunk(b"IEND")
    assert len(file) > len(deflated(SMALL, [0]))
    (tmp_path / "bomb.png").write_bytes(file)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableError, match="it holds more than the 3 rows"):
            filter_file(tmp_path / "bomb.png", tmp_path / "out.png", Gaussian(1))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 24


def test_progressive_jpeg_takes_more_memory(tmp_path: Path) -> None:
    needed = []
    for progressive in (False, True):
        buffer = io.BytesIO()
        Image.fromarray(noise((100, 200, 3))).save(buffer, "JPEG", progressive=progressive)
        (tmp_path / "in.jpg").write_bytes(buffer.getvalue())
        needed.append(PillowSource(tmp_path / "in.jpg").images[0].task_bytes)
    assert needed[1] - needed[0] == 100 * 200 * 3 * 2  # a coefficient of two bytes for each sample


_SIDES_AT = {"BMP": (18, "<ii"), "JPEG": (5, ">HH"), "QOI": (4, ">II"), "TGA": (12, "<HH")}


@pytest.mark.parametrize("name", _SIDES_AT)
def test_headers_that_declare_more_than_the_file_can_hold(tmp_path: Path, name: str) -> None:
    """Blank images compress best, and are read; what declares more is refused before there is memory for it."""
    path = tmp_path / "in"
    options = {"TGA": {"compression": "tga_rle"}, "JPEG": {"progressive": True, "quality": 1}}
    Image.new("L" if name == "JPEG" else "RGB", (4000, 3000)).save(path, name, **options.get(name, {}))
    assert PillowSource(path).images[0].height == 3000
    content = bytearray(path.read_bytes())
    at, sides = _SIDES_AT[name]
    struct.pack_into(sides, content, at + (content.find(b"\xff\xc2") if name == "JPEG" else 0), 12_000, 14_000)
    path.write_bytes(content[:20_000])
    with pytest.raises(UnreadableError, match="bytes cannot hold"):
        PillowSource(path)
