"""TIFF files: what is read equals what tifffile reads, and what is written reads back everywhere."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import itertools
import os
import threading
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blurfast.errors import BlurfastError, OutputExistsError, UnreadableError, UnsupportedError, UnwritableError
from blurfast.io.base import Grain, ImageSpec, Sink, Source
from blurfast.io.metadata import Metadata
from blurfast.io.tiff_sink import TiffSink
from blurfast.io.tiff_source import TiffSource
from blurfast.pixels import Pixels, Window

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float16", "float32", "float64"]
LOSSLESS = ["none", "lzw", "deflate", "zstd", "packbits", "lzma"]


def noise(shape: tuple[int, ...], dtype: str = "uint8") -> Pixels:
    """Return smooth rows with some noise, over the range of the dtype."""
    generator = np.random.default_rng(1)
    ramp = np.linspace(0, 200, int(np.prod(shape))).reshape(shape)
    pixels = ramp + generator.integers(0, 50, shape)
    if np.dtype(dtype).kind == "i":
        return (pixels - 128).astype(dtype)
    return pixels.astype(dtype)


def read_image(source: Source, image: int, band: int = 1) -> Pixels:
    """Read an image in bands of so many grains, as the engine does: into rows that do not touch each other."""
    spec = source.images[image]
    padded = np.full((spec.height, spec.width + 3, spec.channels), 77, spec.dtype)
    target = padded[:, : spec.width]
    with ThreadPoolExecutor(3) as pool:
        rows = spec.grain.rows * band
        for start in range(0, spec.height, rows):
            window = Window(start, min(start + rows, spec.height), 0, spec.width)
            list(pool.map(lambda task: task(), source.read_tasks(image, window, target[start : window.row_stop])))
    assert np.all(padded[:, spec.width :] == 77)
    return target


def read_file(path: Path, band: int = 4) -> list[Pixels]:
    """Return all images of a file, but those that only a planner would refuse."""
    with contextlib.closing(TiffSource(path)) as source:
        sizes = [max(spec.height * spec.row_bytes, spec.task_bytes) for spec in source.images]
        return [read_image(source, image, band) for image, size in enumerate(sizes) if size < 1 << 22]


def write_image(sink: Sink, image: int, pixels: Pixels) -> None:
    """Write an image in bands of two grains."""
    spec = sink.images[image]
    with ThreadPoolExecutor(3) as pool:
        for start in range(0, spec.height, 2 * spec.grain.rows):
            window = Window(start, min(start + 2 * spec.grain.rows, spec.height), 0, spec.width)
            tasks = sink.encode_tasks(image, window, pixels[start : window.row_stop])
            for segment in pool.map(lambda task: task(), tasks):
                sink.append(image, segment)


def copy(source_path: Path, path: Path, **options: Any) -> list[str]:
    """Copy a file through source and sink; return what both have to say."""
    with contextlib.closing(TiffSource(source_path)) as source:
        sink = TiffSink(path, source.images, like=source, **options)
        try:
            for image in range(len(source.images)):
                write_image(sink, image, read_image(source, image))
            sink.commit()
        finally:
            sink.abort()
        return source.notices + sink.notices


def tag_values(path: Path, codes: Iterable[int]) -> dict[int, Any]:
    """Return the values of tags of the first page, None where a tag is missing."""
    with tifffile.TiffFile(path) as tiff:
        return {code: tiff.pages.first.tags.valueof(code) for code in codes}


@pytest.fixture
def simple(tmp_path: Path) -> Path:
    path = tmp_path / "simple.tif"
    tifffile.imwrite(path, noise((50, 40, 3)), photometric="rgb", rowsperstrip=7, compression="deflate", metadata=None)
    return path


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compression", LOSSLESS)
@pytest.mark.parametrize("layout", ["strips", "tiles"])
def test_copy_keeps_pixels_and_layout(tmp_path: Path, dtype: str, compression: str, layout: str) -> None:
    segments: dict[str, Any] = {"rowsperstrip": 5} if layout == "strips" else {"tile": (16, 32)}
    has_predictor = compression in {"lzw", "deflate", "zstd", "lzma"}
    for predictor, order, big in itertools.product([1, 3 if "float" in dtype else 2], "<>", [False, True]):
        if predictor > 1 and not has_predictor:
            continue
        pixels = noise((37, 45, 3), dtype)
        before, after = tmp_path / "before.tif", tmp_path / "after.tif"
        with tifffile.TiffWriter(before, byteorder=order, bigtiff=big) as writer:
            options = {"compression": compression, "predictor": predictor, "photometric": "rgb", **segments}
            writer.write(pixels, metadata=None, **options)
        copy(before, after, overwrite=True)
        np.testing.assert_array_equal(tifffile.imread(after), pixels)
        np.testing.assert_array_equal(read_file(after)[0], pixels)
        with contextlib.closing(TiffSource(before)) as first, contextlib.closing(TiffSource(after)) as second:
            assert first.layout_description == second.layout_description


@pytest.mark.parametrize("compression", ["none", "deflate"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_planar_channels_are_images(tmp_path: Path, compression: str, tile: tuple[int, int] | None, order: Any) -> None:
    planes = noise((3, 21, 35), "uint16")
    before, after = tmp_path / "before.tif", tmp_path / "after.tif"
    tifffile.imwrite(
        before, planes, photometric="rgb", planarconfig="separate", compression=compression, tile=tile, byteorder=order
    )
    copy(before, after)
    assert [image.shape for image in read_file(after)] == [(21, 35, 1)] * 3
    np.testing.assert_array_equal(tifffile.imread(after), planes)


def test_pages_of_different_kinds(tmp_path: Path) -> None:
    before, after = tmp_path / "before.tif", tmp_path / "after.tif"
    pages = [noise((5, 7)), noise((300, 1), "float32"), noise((1, 200, 4), "uint16")]
    with tifffile.TiffWriter(before) as writer:
        writer.write(pages[0], metadata=None)
        writer.write(pages[1], metadata=None, compression="zstd", rowsperstrip=9)
        writer.write(pages[2], metadata=None, photometric="rgb", extrasamples=["unassalpha"], tile=(32, 16))
    copy(before, after)
    with tifffile.TiffFile(after) as tiff:
        for page, pixels in zip(tiff.pages, pages, strict=True):
            np.testing.assert_array_equal(page.asarray(), pixels)
    with contextlib.closing(TiffSource(after)) as source:
        assert [image.alpha for image in source.images] == [None, None, 3]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_shape(tmp_path: Path, data: st.DataObject) -> None:
    height, width, channels = (data.draw(st.integers(1, most)) for most in (70, 70, 5))
    dtype = data.draw(st.sampled_from(DTYPES))
    tile = data.draw(st.none() | st.tuples(st.sampled_from([16, 32, 48]), st.sampled_from([16, 64])))
    options: dict[str, Any] = {"tile": tile} if tile else {"rowsperstrip": data.draw(st.integers(1, 80))}
    pixels = noise((height, width, channels) if channels > 1 else (height, width), dtype)
    before, after = tmp_path / "before.tif", tmp_path / "after.tif"
    options["planarconfig"] = "contig" if channels > 1 else None
    options["compression"] = data.draw(st.sampled_from(LOSSLESS))
    options["byteorder"] = data.draw(st.sampled_from("<>"))
    tifffile.imwrite(before, pixels, photometric="minisblack", metadata=None, **options)
    copy(before, after, overwrite=True, compression=data.draw(st.none() | st.sampled_from(LOSSLESS)))
    np.testing.assert_array_equal(tifffile.imread(after), pixels)


def test_blocks_narrower_than_the_image(tmp_path: Path) -> None:
    path = tmp_path / "tiles.tif"
    pixels = noise((70, 90), "uint16")
    tifffile.imwrite(path, pixels, tile=(16, 32), compression="deflate")
    source = TiffSource(path)
    sink = TiffSink(tmp_path / "out.tif", source.images, like=source)
    for row, column in itertools.product(range(0, 70, 16), range(0, 90, 64)):
        window = Window(row, min(row + 16, 70), column, min(column + 64, 90))
        target = np.empty((window.rows, window.columns, 1), "uint16")
        for task in source.read_tasks(0, window, target):
            task()
        for encode in sink.encode_tasks(0, window, target):
            sink.append(0, encode())
    sink.commit()
    source.close()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), pixels)


def test_uncompressed_rows_are_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.tif"
    pixels = noise((40, 30, 3), "int32")
    tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=6, byteorder=">")
    target = np.zeros((5, 30, 3), "int32")
    with contextlib.closing(TiffSource(path)) as source:
        assert source.images[0].grain == Grain(1, 30)
        for task in source.read_tasks(0, Window(13, 18, 0, 30), target):
            task()
    np.testing.assert_array_equal(target, pixels[13:18])


def test_reading_without_preadv(simple: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "preadv", raising=False)
    copy(simple, tmp_path / "raw.tif", compression="none")
    for path in (simple, tmp_path / "raw.tif"):
        np.testing.assert_array_equal(read_file(path)[0], noise((50, 40, 3)))


def test_segments_that_are_not_stored_hold_the_fill_value(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    nodata = [(42113, "s", 0, "9", True)]
    tiles = iter([np.full((16, 16), 5, "uint8"), None, None, np.full((16, 16), 6, "uint8")])
    tifffile.imwrite(path, tiles, shape=(32, 32), dtype="uint8", tile=(16, 16), extratags=nodata)
    pixels = read_file(path)[0][..., 0]
    assert [pixels[0, 0], pixels[0, 16], pixels[16, 0], pixels[31, 31]] == [5, 9, 9, 6]


@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
def test_jpeg_stays_jpeg_with_a_notice(tmp_path: Path, photometric: str, subsampling: tuple[int, int]) -> None:
    before, after = tmp_path / "before.tif", tmp_path / "after.tif"
    pixels = imagecodecs.jpeg_decode(imagecodecs.jpeg_encode(np.full((50, 70, 3), 90, "uint8"), 95))
    options = {"subsampling": subsampling} if photometric == "rgb" else {}
    pixels = pixels if photometric == "rgb" else pixels[..., 0]
    tifffile.imwrite(before, pixels, tile=(16, 32), photometric=photometric, compression="jpeg", **options)
    notices = copy(before, after)
    assert any("jpeg is lossy" in notice for notice in notices)
    assert tag_values(after, [259, 262, 530, 532]) == tag_values(before, [259, 262, 530, 532])
    assert np.abs(tifffile.imread(after).astype(int) - tifffile.imread(before)).max() <= 4


def test_jpeg_becomes_rgb_under_another_codec(tmp_path: Path) -> None:
    before, after = tmp_path / "before.tif", tmp_path / "after.tif"
    tifffile.imwrite(before, noise((40, 40, 3)), tile=(16, 16), photometric="rgb", compression="jpeg")
    copy(before, after, compression="zstd:3")
    assert tag_values(after, [262, 530, 532]) == {262: 2, 530: None, 532: None}
    np.testing.assert_array_equal(tifffile.imread(after), tifffile.imread(before))


@pytest.mark.parametrize("codec", ["webp", "jpeg2000", "jpegxl"])
def test_image_codecs_lose_nothing_unless_told(tmp_path: Path, codec: str) -> None:
    before, after = tmp_path / "before.tif", tmp_path / "after.tif"
    tifffile.imwrite(before, noise((45, 40, 3)), photometric="rgb", rowsperstrip=1)
    copy(before, after, compression=codec)
    np.testing.assert_array_equal(tifffile.imread(after), noise((45, 40, 3)))
    again = tmp_path / "again.tif"
    assert any("without loss" in notice for notice in copy(after, again))
    np.testing.assert_array_equal(tifffile.imread(again), noise((45, 40, 3)))
    lossy = tmp_path / "lossy.tif"
    copy(before, lossy, compression=f"{codec}:50")
    assert lossy.stat().st_size < after.stat().st_size


@pytest.mark.parametrize(
    ("compression", "dtype", "channels"),
    [("jpeg", "uint16", 3), ("jpeg", "uint8", 4), ("webp", "uint8", 1), ("jpeg2000", "float32", 1)],
)
def test_codec_that_cannot_hold_the_image(tmp_path: Path, compression: str, dtype: str, channels: int) -> None:
    image = ImageSpec(20, 20, channels, np.dtype(dtype), Grain(20, 20))
    with pytest.raises(UnsupportedError, match="--compression"):
        TiffSink(tmp_path / "out.tif", [image], compression=compression)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("compression", ["zip", "deflate:", "deflate:13", "lzw:3", "jpeg:-1", "zstd:x"])
def test_wrong_compression(tmp_path: Path, compression: str) -> None:
    image = ImageSpec(20, 20, 1, np.dtype("uint8"), Grain(20, 20))
    with pytest.raises(ValueError, match=r"compression|level"):
        TiffSink(tmp_path / "out.tif", [image], compression=compression)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_tags_survive(tmp_path: Path, order: Any, big: bool) -> None:
    before, after = tmp_path / "before.tif", tmp_path / "after.tif"
    description = "Zürich · 東京".encode()
    tags: list[tuple[int, Any, int, Any, bool]] = [
        (33550, "d", 3, (0.5, 0.5, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 7.0, 8.0, 0.0), True),
        (34735, "H", 8, (1, 1, 0, 1, 1024, 0, 1, 1), True),
        (34736, "d", 2, (6378137.0, 298.25), True),
        (42113, "s", 0, "0", True),
        (700, "B", 5, b"<xmp>", True),
        (274, "H", 1, 6, True),
        (50000, "I", 3, (1, 2, 3), True),
        (280, "H", 1, 3, True),
    ]
    with tifffile.TiffWriter(before, byteorder=order, bigtiff=big) as writer:
        text: dict[str, Any] = {"description": description, "datetime": "2020:01:02 03:04:05", "software": "scanner"}
        resolution: dict[str, Any] = {"resolution": (300.5, 200.25), "resolutionunit": "CENTIMETER"}
        options = {"iccprofile": b"profile bytes", "extratags": tags, "subfiletype": 2, **text, **resolution}
        writer.write(noise((30, 30)), metadata=None, **options)
    copy(before, after)
    kept = [254, 270, 282, 283, 296, 305, 306, 34675, *(tag[0] for tag in tags if tag[0] != 280)]
    assert tag_values(after, kept) == tag_values(before, kept)
    assert tag_values(after, [280]) == {280: None}
    with contextlib.closing(TiffSource(after)) as source:
        assert source.metadata.resolution == pytest.approx((30050, 20025))
        assert source.metadata.icc_profile == b"profile bytes"
        assert source.metadata.text["Description"] == description.decode()


def test_metadata_of_another_format(tmp_path: Path) -> None:
    image = ImageSpec(20, 30, 2, np.dtype("uint16"), Grain(1, 30))
    metadata = Metadata((11811.0, 5905.5), b"icc", b"exif", {"Description": "ünï", "Author": "me", "Odd": "x"})
    sink = TiffSink(tmp_path / "out.tif", [image, image], metadata=metadata, compression="deflate:9")
    for number in (0, 1):
        write_image(sink, number, noise((20, 30, 2), "uint16"))
    sink.commit()
    assert any("Exif" in notice and "Odd" in notice for notice in sink.notices)
    with contextlib.closing(TiffSource(tmp_path / "out.tif")) as source:
        expected = Metadata((11811.0, 5905.5), b"icc", None, {"Description": "ünï", "Author": "me"})
        assert dataclasses.replace(source.metadata, exif=None) == expected
        assert source.images[1].alpha == 1
    np.testing.assert_array_equal(read_file(tmp_path / "out.tif"), [noise((20, 30, 2), "uint16")] * 2)


def test_smaller_versions_of_other_proportions_are_left_out_with_a_notice(tmp_path: Path) -> None:
    before, after = tmp_path / "before.tif", tmp_path / "after.tif"
    with tifffile.TiffWriter(before) as writer:
        writer.write(noise((64, 64)), metadata=None, subifds=1, tile=(16, 16))
        writer.write(noise((32, 22)), metadata=None, subfiletype=1, tile=(16, 16))
        writer.write(noise((20, 20)), metadata=None, subfiletype=1)
    notices = copy(before, after)
    assert any("1 image in SubIFDs (page 0) is not kept" in notice for notice in notices)
    assert any("1 smaller version (page 1) is not kept" in notice for notice in notices)
    assert len(read_file(after)) == 1
    assert tag_values(after, [330]) == {330: None}


def test_imagej_stack_stays_one(tmp_path: Path) -> None:
    before, after = tmp_path / "before.tif", tmp_path / "after.tif"
    stack = noise((3, 200, 3000), "uint16")
    tifffile.imwrite(before, stack, imagej=True)
    copy(before, after)
    with tifffile.TiffFile(after) as tiff:
        assert tiff.is_imagej
        assert tiff.series[0].dataoffset is not None  # one run of bytes
        np.testing.assert_array_equal(tiff.asarray(), stack)


def test_large_outputs_are_bigtiff(tmp_path: Path) -> None:
    image = ImageSpec(30_000, 100_000, 1, np.dtype("uint8"), Grain(1, 100_000))
    for compression, big in {"none": False, "deflate": True}.items():
        sink = TiffSink(tmp_path / "out.tif", [image], compression=compression)
        sink.abort()
        assert sink.byte_layout.big is big


UNSUPPORTED: dict[str, dict[str, Any]] = {
    "complex": {"data": noise((20, 20), "complex64")},
    "volume": {"data": noise((16, 20, 20)), "photometric": "minisblack", "volumetric": True},
    "mosaic": {"data": noise((20, 20)), "photometric": "cfa"},
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_unsupported_pages(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, **UNSUPPORTED[kind])
    with pytest.raises(UnsupportedError, match="page 0") as caught:
        TiffSource(path)
    assert caught.value.path == str(path)
    assert caught.value.remedy


def test_inputs_that_are_no_tiff(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("no TIFF file at all")
    facts = {"missing.tif": "no such file", ".": "is a directory", "empty.tif": "empty", "text.tif": "not a TIFF"}
    for name, fact in facts.items():
        with pytest.raises(UnreadableError, match=fact):
            TiffSource(tmp_path / name)


SMALL_FILES: list[dict[str, Any]] = [
    {"compression": "zlib", "predictor": 2, "tile": (16, 16)},
    {"compression": "lzw", "rowsperstrip": 5, "byteorder": ">"},
    {"rowsperstrip": 4, "bigtiff": True},
    {"compression": "jpeg", "tile": (16, 16)},
    {"compression": "jpeg2000", "tile": (16, 16)},
]


def write_small_file(path: Path, **options: Any) -> None:
    order, big = options.pop("byteorder", "<"), options.pop("bigtiff", False)
    with tifffile.TiffWriter(path, byteorder=order, bigtiff=big) as writer:
        for _ in range(2):
            writer.write(noise((30, 40, 3)), photometric="rgb", metadata=None, description="text", **options)


@pytest.mark.parametrize("number", range(len(SMALL_FILES)))
def test_damaged_files_never_crash(tmp_path: Path, number: int, capfd: pytest.CaptureFixture[str]) -> None:
    write_small_file(tmp_path / "whole.tif", **SMALL_FILES[number])
    whole = (tmp_path / "whole.tif").read_bytes()
    assert len(read_file(tmp_path / "whole.tif")) == 2
    generator = np.random.default_rng(number)
    damaged = tmp_path / "damaged.tif"
    accepted = 0
    for length in np.linspace(1, len(whole) - 1, 40, dtype=int):
        damaged.write_bytes(whole[:length])
        with pytest.raises(UnreadableError):
            read_file(damaged)
    for _ in range(150):
        mutated = bytearray(whole)
        start = int(generator.integers(0, len(whole)) if generator.random() < 0.5 else generator.integers(0, 300))
        mutated[start : start + 2] = generator.bytes(len(mutated[start : start + 2]))
        damaged.write_bytes(mutated)
        with contextlib.suppress(BlurfastError):
            read_file(damaged)
            accepted += 1
    assert 10 < accepted < 140
    assert capfd.readouterr() == ("", "")


def test_short_segment_names_page_and_segment(tmp_path: Path) -> None:
    path = tmp_path / "short.tif"
    strips = [zlib.compress(bytes(size)) for size in (400, 400, 100)]
    tifffile.imwrite(path, iter(strips), shape=(60, 20), dtype="uint8", rowsperstrip=20, compression="zlib")
    with pytest.raises(UnreadableError, match="segment 2 of page 0"):
        read_file(path)


def test_impossible_sizes_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "huge.tif"
    tifffile.imwrite(
        path, iter([zlib.compress(bytes(400))]), shape=(20, 20), dtype="uint8", rowsperstrip=20, compression="zlib"
    )
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tags = tiff.pages.first.tags
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tags[name].overwrite(60_000)
    with pytest.raises(UnreadableError, match="fewer bytes than its pixels need"):
        TiffSource(path)


def test_existing_output(simple: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.tif"
    output.write_text("precious")
    with pytest.raises(OutputExistsError):
        copy(simple, output)
    assert output.read_text() == "precious"
    copy(simple, output, overwrite=True)
    copy(output, output, overwrite=True)
    np.testing.assert_array_equal(tifffile.imread(output), tifffile.imread(simple))


class FullDisk(io.FileIO):
    """A file on a disk with room for a few bytes."""

    room = 0

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("room", [0, 100, 5000])
def test_full_disk(simple: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    monkeypatch.setattr(FullDisk, "room", room)
    monkeypatch.setattr("blurfast.io.output.open", FullDisk, raising=False)
    with pytest.raises(UnwritableError, match="disk is full"):
        copy(simple, tmp_path / "out.tif")
    assert list(tmp_path.iterdir()) == [simple]


def test_abort_leaves_nothing(simple: Path, tmp_path: Path) -> None:
    threads = threading.enumerate()
    source = TiffSource(simple)
    sink = TiffSink(tmp_path / "out.tif", source.images, like=source)
    write_image(sink, 0, noise((50, 40, 3)))
    sink.abort()
    sink.abort()
    assert list(tmp_path.iterdir()) == [simple]
    assert threading.enumerate() == threads
    finished = TiffSink(tmp_path / "out.tif", source.images, like=source)
    with pytest.raises(RuntimeError, match="missing"):
        finished.commit()
    write_image(finished, 0, noise((50, 40, 3)))
    finished.commit()
    finished.abort()
    assert (tmp_path / "out.tif").exists()
    source.close()


def test_images_must_fit_the_layout(simple: Path, tmp_path: Path) -> None:
    source = TiffSource(simple)
    for images in ([], [ImageSpec(50, 41, 3, np.dtype("uint8"), Grain(1, 41))]):
        with pytest.raises(ValueError, match="layout"):
            TiffSink(tmp_path / "out.tif", images, like=source)
    source.close()


def test_lzw_without_its_first_code(tmp_path: Path) -> None:
    path = tmp_path / "lzw.tif"
    tifffile.imwrite(path, iter([bytes(9)]), shape=(4, 4), dtype="uint8", rowsperstrip=4, compression="lzw")
    with pytest.raises(UnreadableError, match="segment 0 of page 0"):
        read_file(path)
