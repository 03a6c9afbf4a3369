"""Images that Pillow reads and writes whole."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from blurfast.errors import OutputExistsError, UnreadableError, UnsupportedError
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.metadata import Metadata
from blurfast.io.pillow import SUFFIXES, PillowSink, PillowSource
from blurfast.io.png_source import PngSource
from blurfast.io.registry import open_source
from blurfast.pixels import Window


def scene(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    steps = np.random.default_rng(seed).integers(-2, 3, (height, width, channels))
    return np.clip(128 + np.cumsum(steps, axis=1), 0, 255).astype(np.uint8)


def image_of(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def read(path: Path) -> np.ndarray:
    source = PillowSource(path)
    (spec,) = source.images
    assert spec.grain == Grain(spec.height, spec.width)
    assert spec.sequential
    pixels = np.zeros((spec.height, spec.width + 2, spec.channels), spec.dtype)
    (task,) = source.read_tasks(0, Window(0, spec.height, 0, spec.width), pixels[:, : spec.width])
    task()
    source.close()
    assert not pixels[:, spec.width :].any()
    return pixels[:, : spec.width]


def spec_of(pixels: np.ndarray) -> ImageSpec:
    height, width, channels = pixels.shape
    return ImageSpec(height, width, channels, pixels.dtype, Grain(1, width))


def write(path: Path, pixels: np.ndarray, rows: int = 7, **options) -> None:
    sink = PillowSink(path, [spec_of(pixels)], **options)
    height, width, _ = pixels.shape
    assert sink.images[0].grain == Grain(1, width)
    assert sink.images[0].held_bytes == pixels.nbytes
    for first in range(0, height, rows):
        last = min(first + rows, height)
        for task in sink.encode_tasks(0, Window(first, last, 0, width), pixels[first:last]):
            sink.append(0, task())
    sink.commit()


# ------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.bmp", "a.ppm", "a.tga", "a.gif"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (33, 47), (700, 600)])
def test_reads_what_pillow_reads(tmp_path, name, channels, size):
    pixels = scene(*size, channels)
    image_of(pixels).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        expected = np.asarray(image if image.mode == "L" else image.convert("RGB"))
    actual = read(tmp_path / name)
    np.testing.assert_array_equal(actual, expected.reshape(actual.shape))


@pytest.mark.parametrize("name", ["a.bmp", "a.tga", "a.gif"])
def test_palette_becomes_colour(tmp_path, name):
    image_of(scene(20, 30, 3)).quantize(16).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.mode == "P"
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read(tmp_path / name), expected)
    assert PillowSource(tmp_path / name).images[0].alpha is None


def test_palettes_and_bits_are_said_to_become_pixels(tmp_path):
    palette = image_of(scene(20, 30, 3)).quantize(16)
    palette.save(tmp_path / "a.gif")
    palette.save(tmp_path / "b.gif", transparency=3)
    palette.save(tmp_path / "c.bmp")
    image_of(scene(20, 30, 1)).convert("1").save(tmp_path / "d.pbm")
    image_of(scene(20, 30, 3)).save(tmp_path / "e.bmp")
    notices = [PillowSource(path).notices for path in sorted(tmp_path.iterdir())]
    assert notices == [
        ["palette colours are written as RGB, in uint8"],
        ["palette colours are written as RGBA, in uint8"],
        ["palette colours are written as RGB, in uint8"],
        ["1-bit samples are written as uint8, as 0 and 255"],
        [],
    ]


def test_palette_with_transparency_becomes_colour_and_alpha(tmp_path):
    image_of(scene(20, 30, 3)).quantize(16).save(tmp_path / "a.gif", transparency=3)
    with Image.open(tmp_path / "a.gif") as image:
        expected = np.asarray(image.convert("RGBA"))
    assert 0 < (expected[:, :, 3] == 0).sum() < 600
    np.testing.assert_array_equal(read(tmp_path / "a.gif"), expected)
    assert PillowSource(tmp_path / "a.gif").images[0].alpha == 3


def test_transparent_shade_becomes_alpha(tmp_path):
    pixels = np.random.default_rng(0).permutation(256).astype(np.uint8).reshape(16, 16, 1)  # no shade can be left out
    image_of(pixels).save(tmp_path / "a.gif", transparency=128)
    actual = read(tmp_path / "a.gif")
    np.testing.assert_array_equal(actual[:, :, :1], pixels)
    np.testing.assert_array_equal(actual[:, :, 1:], np.where(pixels == 128, 0, 255))
    assert PillowSource(tmp_path / "a.gif").images[0].alpha == 1


@pytest.mark.parametrize("name", ["a.bmp", "a.tga", "a.pbm"])
def test_bits_become_black_and_white(tmp_path, name):
    bits = scene(20, 30, 1) > 128
    Image.fromarray(bits[:, :, 0]).save(tmp_path / name)
    np.testing.assert_array_equal(read(tmp_path / name), np.where(bits, 255, 0))


@pytest.mark.parametrize(("name", "mode"), [("a.tga", "LA"), ("a.tga", "RGBA"), ("a.qoi", "RGBA"), ("a.webp", "RGBA")])
def test_alpha_is_kept(tmp_path, name, mode):
    pixels = scene(20, 30, len(mode))
    options = {"lossless": True, "exact": True} if name == "a.webp" else {}
    Image.fromarray(pixels).save(tmp_path / name, **options)
    np.testing.assert_array_equal(read(tmp_path / name), pixels)
    assert PillowSource(tmp_path / name).images[0].alpha == len(mode) - 1


def test_first_frame_of_an_animation(tmp_path):
    first, second = (image_of(scene(20, 30, 1, seed)) for seed in (0, 1))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    np.testing.assert_array_equal(
        read(tmp_path / "a.gif"), scene(20, 30, 1).repeat(read(tmp_path / "a.gif").shape[2], 2)
    )


def test_16_bit_pgm(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65535, (9, 13, 1), np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 13 9 65535\n" + pixels.astype(">u2").tobytes())
    actual = read(tmp_path / "a.pgm")
    assert actual.dtype == np.uint16
    np.testing.assert_array_equal(actual, pixels)


def test_colours_of_16_bits_a_pixel(tmp_path):
    stored = np.random.default_rng(0).integers(0, 1 << 16, (9, 12), np.uint16)
    masks = np.array([0xF800, 0x07E0, 0x001F], "<u4")  # red, green, blue
    header = np.array([40, 12, -9, 1 | 16 << 16, 3, stored.nbytes, 0, 0, 0, 0], "<i4").tobytes() + masks.tobytes()
    start = 14 + len(header)
    file = b"BM" + np.array([start + stored.nbytes, 0, start], "<u4").tobytes() + header
    (tmp_path / "a.bmp").write_bytes(file + stored.astype("<u2").tobytes())
    levels = np.stack([stored >> 11, stored >> 5 & 63, stored & 31], axis=2)
    np.testing.assert_array_equal(read(tmp_path / "a.bmp"), levels * 255 // [31, 63, 31])


def test_what_would_lose_bits_is_refused(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6 2 2 65535\n" + bytes(24))
    (tmp_path / "b.ppm").write_bytes(b"P3 1 1 1023\n 1 2 3\n")
    for name in ("a.ppm", "b.ppm"):
        with pytest.raises(UnsupportedError, match=r"has 16 bits per sample.*; save it as TIFF or PNG$"):
            PillowSource(tmp_path / name)


def test_png_files_have_a_reader_of_their_own(tmp_path):
    path = tmp_path / "named_otherwise.jpg"
    image_of(scene(20, 30, 3)).save(path, "PNG")
    with pytest.raises(UnreadableError, match="not an image of a known format"):
        PillowSource(path)
    with contextlib.closing(open_source(path)) as source:
        assert isinstance(source, PngSource)
    path.write_bytes(path.read_bytes().replace(b"IDAT", b"IDAt"))
    with pytest.raises(UnreadableError, match="checksum of its IDAt chunk"):
        open_source(path)


def test_cmyk_is_refused(tmp_path):
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(UnsupportedError, match="its pixels are CMYK; convert it to RGB"):
        PillowSource(tmp_path / "a.jpg")


def test_task_bytes_cover_what_is_decoded(tmp_path):
    image_of(scene(100, 200, 3)).save(tmp_path / "a.jpg")
    assert PillowSource(tmp_path / "a.jpg").images[0].task_bytes >= 100 * 200 * 4


def test_size_limits_of_pillow(tmp_path, monkeypatch):
    image_of(scene(100, 200, 3)).save(tmp_path / "a.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15000)  # a warning of Pillow's
        assert read(tmp_path / "a.jpg").shape == (100, 200, 3)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)  # an error of Pillow's
        with pytest.raises(UnsupportedError, match="more than the 10000 pixels"):
            PillowSource(tmp_path / "a.jpg")


# ------------------------------------------------------------------------------------------------ damage


def test_missing_empty_and_foreign_files(tmp_path):
    with pytest.raises(UnreadableError, match="cannot be opened"):
        PillowSource(tmp_path / "absent.jpg")
    with pytest.raises(UnreadableError, match="cannot be opened"):
        PillowSource(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(UnreadableError, match="holds no image in its 0 bytes"):
        PillowSource(tmp_path / "a.jpg")
    for content in (b"no image at all", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(UnreadableError, match="not an image of a known format"):
            PillowSource(tmp_path / "a.jpg")


def test_rare_kinds_of_bmp_are_not_called_damaged(tmp_path):
    image_of(scene(8, 8, 3)).save(tmp_path / "a.bmp")
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[30] = 4  # the compression: JPEG data
    (tmp_path / "a.bmp").write_bytes(data)
    with pytest.raises(UnsupportedError, match="a kind of BMP that is not read; save it as PNG or TIFF"):
        PillowSource(tmp_path / "a.bmp")


def test_rare_kinds_of_jpeg_are_named(tmp_path):
    pixels = scene(20, 30, 1)[:, :, 0].astype(np.uint16) << 8
    (tmp_path / "a.jpg").write_bytes(imagecodecs.jpeg_encode(pixels, lossless=True, bitspersample=16))
    with pytest.raises(UnreadableError, match=r"a rare kind of JPEG \(.*more than 8 bits\).*convert it to TIFF or PNG"):
        PillowSource(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.bmp", "a.webp", "a.gif"])
def test_truncated_files(tmp_path, name):
    image_of(scene(50, 60, 3)).save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    for length in {0, 1, 5, 20, 30, len(data) // 4, len(data) // 2, len(data) * 3 // 4}:
        (tmp_path / name).write_bytes(data[:length])
        with pytest.raises(UnreadableError) as raised:
            read(tmp_path / name)
        if length > 30:
            assert raised.value.fact == "the file ends before the image is complete"


@pytest.mark.parametrize("name", ["a.jpg", "a.bmp", "a.webp", "a.gif", "a.tga", "a.ppm", "a.qoi"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_mutations_never_raise_anything_else(tmp_path, name, data):
    image_of(scene(12, 9, 3)).save(tmp_path / name)
    mutated = bytearray((tmp_path / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        mutated[place] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(mutated)
    with contextlib.suppress(UnreadableError, UnsupportedError):
        spec = PillowSource(tmp_path / name).images[0]
        if spec.width * spec.height < 1 << 20:
            assert read(tmp_path / name).shape == (spec.height, spec.width, spec.channels)


def test_a_file_that_changes_is_noticed(tmp_path):
    image_of(scene(20, 30, 3)).save(tmp_path / "a.jpg")
    source = PillowSource(tmp_path / "a.jpg")
    image_of(scene(20, 31, 3)).save(tmp_path / "b.jpg")
    shutil.move(tmp_path / "b.jpg", tmp_path / "a.jpg")
    (task,) = source.read_tasks(0, Window(0, 20, 0, 30), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(UnreadableError, match="has changed"):
        task()


# ------------------------------------------------------------------------------------------------ metadata

EXIF = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_profile_and_exif_survive(tmp_path, name):
    written = Metadata(icc_profile=b"profile" * 20000, exif=EXIF)
    write(tmp_path / name, scene(20, 30, 3), metadata=written)
    metadata = PillowSource(tmp_path / name).metadata
    assert (metadata.icc_profile, metadata.exif) == (written.icc_profile, EXIF)
    with Image.open(tmp_path / name) as image:
        assert image.size == (30, 20)
        assert image.getexif()[274] == 6


@pytest.mark.parametrize("name", ["a.jpg", "a.bmp"])
def test_resolution_survives(tmp_path, name):
    write(tmp_path / name, scene(20, 30, 3), metadata=Metadata(resolution=(11811.0, 5905.5)))
    assert PillowSource(tmp_path / name).metadata.resolution == pytest.approx((11811.0, 5905.5), rel=1e-3)


def test_description_survives_as_the_comment_of_jpeg(tmp_path):
    write(tmp_path / "a.jpg", scene(20, 30, 3), metadata=Metadata(text={"Description": "grün", "Title": "x"}))
    assert PillowSource(tmp_path / "a.jpg").metadata.text == {"Description": "grün"}


def test_too_much_metadata_for_jpeg(tmp_path):
    large = {
        "Exif data": Metadata(exif=bytes(65530)),
        "Description": Metadata(text={"Description": "x" * 70000}),
        "XMP": Metadata(xmp=bytes(65530)),
    }
    for name, metadata in large.items():
        sink = PillowSink(tmp_path / "a.jpg", [spec_of(scene(2, 2, 3))], metadata=metadata)
        sink.abort()
        assert sink.notices == [f"metadata that are not kept in JPEG: {name} (too large)"]
    write(tmp_path / "a.jpg", scene(2, 2, 3), metadata=Metadata(exif=bytes(65527)))


# ------------------------------------------------------------------------------------------------ writing


def test_suffixes():
    assert {".jpg", ".jpeg", ".webp", ".bmp"} == SUFFIXES


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rows", [1, 8, 100])
@pytest.mark.parametrize("name", ["a.jpg", "A.JPEG", "a.webp", "a.bmp"])
def test_round_trip(tmp_path, name, channels, rows):
    pixels = np.repeat(scene(40, 50, 1), channels, axis=2)
    write(tmp_path / name, pixels, rows)
    actual = read(tmp_path / name)
    assert actual.shape[:2] == pixels.shape[:2]
    error = np.abs(actual.astype(int) - pixels)
    assert error.max() <= (0 if name == "a.bmp" else 20)
    assert error.mean() <= (0 if name == "a.bmp" else 2)


def test_webp_keeps_alpha(tmp_path):
    pixels = scene(20, 30, 4)
    write(tmp_path / "a.webp", pixels)
    np.testing.assert_array_equal(read(tmp_path / "a.webp")[:, :, 3], pixels[:, :, 3])


def test_quality(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    sizes = {}
    for quality in (10, None, 95):
        write(tmp_path / "a.jpg", pixels, quality=quality, overwrite=True)
        sizes[quality] = (tmp_path / "a.jpg").stat().st_size
    assert sizes[10] < sizes[None] / 2
    assert sizes[None] == sizes[95]
    for quality in (0, 101):
        with pytest.raises(ValueError, match="quality must be"):
            PillowSink(tmp_path / "b.jpg", [spec_of(pixels)], quality=quality)


SPEC = ImageSpec(4, 5, 3, np.dtype(np.uint8), Grain(1, 5))


@pytest.mark.parametrize(
    ("name", "images", "fact"),
    [
        ("a.jpg", [SPEC, SPEC], "JPEG holds one image, not 2; write TIFF instead"),
        ("a.jpg", [dataclasses.replace(SPEC, channels=4)], "JPEG holds 1 or 3 channels, not 4"),
        ("a.bmp", [dataclasses.replace(SPEC, channels=4)], "BMP holds 1 or 3 channels, not 4"),
        (
            "a.webp",
            [dataclasses.replace(SPEC, channels=2)],
            "WebP holds 1, 3 or 4 channels, not 2; write TIFF or PNG instead",
        ),
        (
            "a.webp",
            [dataclasses.replace(SPEC, dtype=np.dtype(np.uint16))],
            "WebP holds uint8, not uint16; write TIFF or PNG instead, or add --dtype uint8 and a --scale",
        ),
        (
            "a.jpg",
            [dataclasses.replace(SPEC, dtype=np.dtype(np.float32))],
            "holds uint8, not float32; write TIFF instead",
        ),
        ("a.jpg", [dataclasses.replace(SPEC, channels=5)], "JPEG holds 1 or 3 channels, not 5; write TIFF instead"),
        ("a.webp", [dataclasses.replace(SPEC, width=16384)], "images of 16384 x 4 pixels"),
        ("a.jpg", [dataclasses.replace(SPEC, height=65501)], "images of 5 x 65501 pixels"),
        ("a.bmp", [dataclasses.replace(SPEC, height=0)], "images of 5 x 0 pixels"),
        ("a.bmp", [dataclasses.replace(SPEC, height=40000, width=40000)], "images of 40000 x 40000 pixels"),
    ],
)
def test_what_a_format_cannot_hold(tmp_path, name, images, fact):
    with pytest.raises(UnsupportedError, match=fact):
        PillowSink(tmp_path / name, images)
    assert list(tmp_path.iterdir()) == []


def test_abort_leaves_no_file(tmp_path):
    sink = PillowSink(tmp_path / "a.jpg", [SPEC])
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        PillowSink(tmp_path / "a.jpg", [SPEC])
    assert (tmp_path / "a.jpg").read_bytes() == b"mine"
    write(tmp_path / "a.jpg", scene(4, 5, 3), overwrite=True)
    assert read(tmp_path / "a.jpg").shape == (4, 5, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]
