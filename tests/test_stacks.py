"""Stacks whose images have no directories of their own: ImageJ's above 4 GB, tifffile's truncated ones, MetaMorph's."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import blurfast
from blurfast import Gaussian, filter_file
from blurfast.errors import BlurfastError, UnreadableError, UnsupportedError
from blurfast.io import tiff_frames
from blurfast.io.tiff_sink import TiffSink
from blurfast.io.tiff_source import TiffSource
from tests.cli_runs import run
from tests.metadata_corpus import imagej_values
from tests.pyramid_checks import noise

BLUR = Gaussian(1)
IDENTITY = Gaussian(0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.tif"


def filtered(path: Path, **options: Any) -> tuple[Path, tuple[str, ...]]:
    """Filter a file, and return the result's path, and what was said."""
    target = path.with_name("out.tif")
    report = filter_file(path, target, options.pop("filter", BLUR), overwrite=True, **options)
    return target, report.notices


def pages_in(path: Path) -> list[np.ndarray]:
    """Return the pixels of each directory."""
    with tifffile.TiffFile(path) as tiff:
        return [page.asarray() for page in tiff.pages]


def write_imagej(path: Path, frames: np.ndarray, **options: Any) -> None:
    """Write an ImageJ stack with a single directory."""
    tifffile.imwrite(path, frames, imagej=True, truncate=True, **options)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 1


def write_truncated(path: Path, frames: np.ndarray, **options: Any) -> None:
    """Write one of tifffile's series with a single directory."""
    options.setdefault("photometric", "minisblack")
    tifffile.imwrite(path, frames, truncate=True, **options)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 1


def write_described(path: Path, frames: np.ndarray, description: str, **options: Any) -> None:
    """Write frames behind a single directory that has any description."""
    options = {"photometric": "minisblack", "metadata": None, **options}
    tifffile.imwrite(path, frames[0], description=description, **options)
    with path.open("ab") as file:
        file.write(frames[1:].tobytes())
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        is_plain = page.compression == 1 and not page.is_tiled
        assert not is_plain or page.dataoffsets[0] + frames.nbytes == os.path.getsize(path)


# ------------------------------------------------------------------------------------------------ what the pages are


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_imagej(path: Path, dtype: str, order: Any) -> None:
    frames = np.abs(noise((2, 3, 2, 21, 34), dtype))
    write_imagej(path, frames, byteorder=order, metadata={"axes": "TZCYX", "spacing": 0.5})
    result, notices = filtered(path)
    assert notices == ()
    with tifffile.TiffFile(result) as tiff:
        (series,) = tiff.series
        assert (series.kind, series.axes, series.shape, tiff.byteorder) == ("imagej", "TZCYX", frames.shape, order)
        assert len(tiff.pages) == 12
        assert series.dataoffset is not None  # one run of bytes
        assert tiff.imagej_metadata is not None
        assert tiff.imagej_metadata["spacing"] == 0.5
        smoothed = series.asarray()
    for place in np.ndindex(2, 3, 2):
        np.testing.assert_array_equal(smoothed[place], blurfast.gaussian(frames[place], 1))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(2, 7),
    shape=st.tuples(st.integers(1, 23), st.integers(2, 23)),  # tifffile takes a single column for samples
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]),
    order=st.sampled_from("<>"),
    colours=st.sampled_from(["grey", "interleaved", "planes"]),
    rows_per_strip=st.integers(1, 30),
    big=st.booleans(),
)
@example(count=2, shape=(1, 1), dtype="uint8", order=">", colours="planes", rows_per_strip=1, big=False)
def test_truncated_series(
    tmp_path: Path, count: int, shape: tuple[int, int], dtype: str, order: Any, colours: str, rows_per_strip: int,
    *, big: bool,
) -> None:  # fmt: skip
    path = tmp_path / "in.tif"
    sizes = {"grey": shape, "interleaved": (*shape, 3), "planes": (3, *shape)}[colours]
    frames = noise((count, *sizes), dtype)
    options: dict[str, Any] = {}
    if colours != "grey":
        options = {"photometric": "rgb", "planarconfig": "contig" if colours == "interleaved" else "separate"}
    write_truncated(path, frames, byteorder=order, bigtiff=big, rowsperstrip=rows_per_strip, **options)
    result, notices = filtered(path, filter=IDENTITY)
    assert notices == ()
    pages = pages_in(result)
    assert len(pages) == count
    np.testing.assert_array_equal(np.reshape(pages, frames.shape), frames)
    with tifffile.TiffFile(result) as tiff:
        assert (tiff.byteorder, tiff.is_bigtiff) == (order, big)
        np.testing.assert_array_equal(tiff.asarray().reshape(frames.shape), frames)
    for number in (count - 1, 0):
        (page,) = pages_in(filtered(path, filter=IDENTITY, page=number)[0])
        np.testing.assert_array_equal(page.reshape(sizes), frames[number])


def test_colours_of_imagej(path: Path) -> None:
    frames = noise((4, 15, 20, 3))
    write_imagej(path, frames)
    result, _ = filtered(path, filter=IDENTITY)
    np.testing.assert_array_equal(pages_in(result), frames)
    with tifffile.TiffFile(result) as tiff:
        np.testing.assert_array_equal(tiff.series[0].asarray(), frames)
        assert tiff.series[0].kind == "imagej"


def test_palette(path: Path) -> None:
    frames, table = noise((3, 15, 20)), noise((3, 256), "uint16")
    write_imagej(path, frames, photometric="palette", colormap=table)
    result, notices = filtered(path, filter=IDENTITY)
    assert any("pages 0-2" in notice and "palette" in notice for notice in notices)
    pages = pages_in(result)
    np.testing.assert_array_equal(pages, np.moveaxis(table, 0, -1)[frames] // (257 if pages[0].itemsize == 1 else 1))


def test_frames_can_be_compressed_tiled_and_halved(path: Path) -> None:
    frames = noise((3, 300, 280), "uint16")
    write_imagej(path, frames)
    result, _ = filtered(path, filter=IDENTITY, compression="zstd", tile="64x64", pyramid=True)
    np.testing.assert_array_equal(pages_in(result), frames)
    with tifffile.TiffFile(result) as tiff:
        assert [page.aspage().tile for page in tiff.pages] == [(64, 64)] * 3
        assert [len(page.aspage().pages or ()) for page in tiff.pages] == [1] * 3


def write_metamorph(path: Path, frames: np.ndarray) -> None:
    """Write frames as MetaMorph does: how many there are is the count of a tag."""
    planes = len(frames)
    values = [number for plane in range(planes) for number in (plane + 1, 1, 2450000, plane, 2450000, plane)]
    tags = [(33628, "I", 2, (0, 1), True), (33629, "2I", 3 * planes, values, True)]
    tifffile.imwrite(path, frames, truncate=True, photometric="minisblack", metadata=None, extratags=tags)
    with tifffile.TiffFile(path) as tiff:
        position = tiff.pages.first.tags[33629].offset
    with path.open("r+b") as file:
        file.seek(position + 4)
        file.write(struct.pack("<I", planes))
    with tifffile.TiffFile(path) as tiff:
        np.testing.assert_array_equal(tiff.series[0].asarray().reshape(frames.shape), frames)
        assert tiff.series[0].kind == "stk"


@pytest.mark.parametrize("planes", [1, 5])
def test_metamorph(path: Path, planes: int) -> None:
    frames = noise((planes, 18, 20), "uint16")
    write_metamorph(path, frames)
    result, notices = filtered(path, filter=IDENTITY)
    assert notices == ("tags that cannot be kept are left out: MetaMorph's data of STK files",)
    np.testing.assert_array_equal(pages_in(result), frames)
    with tifffile.TiffFile(result) as tiff:
        assert not tiff.is_stk


# ------------------------------------------------------------------------------------------------- what is said of them


def test_selected_frames_stay_a_hyperstack(path: Path) -> None:
    frames = noise((2, 3, 2, 21, 34), "uint16")
    write_imagej(path, frames, metadata=imagej_values(), resolution=(10.0, 20.0))
    result, _ = filtered(path, filter=IDENTITY, page="7,9,11")  # the second channel at the second time
    with tifffile.TiffFile(result) as tiff:
        (series,) = tiff.series
        assert (series.kind, series.axes) == ("imagej", "ZYX")
        np.testing.assert_array_equal(series.asarray(), frames[1, :, 1])
        metadata = tiff.imagej_metadata
        assert metadata is not None
        assert metadata["Labels"] == ["plane 7", "plane 9", "plane 11"]
        assert [page.aspage().resolution for page in tiff.pages] == [(10.0, 20.0)] * 3


def test_tags_of_all_frames_are_written_once(path: Path) -> None:
    frames = noise((4, 21, 34))
    write_imagej(path, frames, metadata={"Info": "by hand"}, resolution=(10.0, 20.0))
    result, _ = filtered(path)
    with tifffile.TiffFile(result) as tiff, tifffile.TiffFile(path) as before:
        codes = [set(page.aspage().tags.keys()) for page in tiff.pages]
        assert {270, 50838, 50839} <= codes[0]
        assert all(codes[number] & {270, 50838, 50839} == set() for number in (1, 2, 3))
        assert tiff.pages.first.description == before.pages.first.description
        assert [page.aspage().resolution for page in tiff.pages] == [(10.0, 20.0)] * 4


def test_large_tags_are_not_repeated(path: Path) -> None:
    for size, copies in ((400, 6), (401, 1)):  # a frame has 400 bytes
        write_truncated(path, noise((6, 20, 20)), iccprofile=b"p" * size)
        result, _ = filtered(path)
        with tifffile.TiffFile(result) as tiff:
            profiles = [page.aspage().tags.valueof(34675) for page in tiff.pages]
        assert profiles == [b"p" * size] * copies + [None] * (6 - copies)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (2, 3, 20, 30)),
        ({"region": (2, 3, 10, 11)}, (2, 3, 11, 10)),
        ({"page": "3-5", "dtype": "float32"}, (3, 20, 30)),
    ],
)
def test_shapes_no_longer_say_truncated(path: Path, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    write_truncated(path, noise((2, 3, 20, 30)), metadata={"axes": "TZYX", "mine": "ünï"})
    result, notices = filtered(path, **options)
    assert notices == ()
    with tifffile.TiffFile(result) as tiff:
        values = json.loads(tiff.pages.first.description)
        (series,) = tiff.series
        assert (series.kind, series.shape[-len(shape) :]) == ("shaped", shape)
    assert values["mine"] == "ünï"
    assert "truncated" not in values


# ------------------------------------------------------------------------------------------------ large, and many


def sparse_imagej(path: Path, shape: tuple[int, int, int]) -> int:
    """Write a stack of zeros that takes no room on the disk, and return where its pixels are."""
    description = f"ImageJ=1.54f\nimages={shape[0]}\nslices={shape[0]}\n"
    tifffile.imwrite(path, shape=shape[1:], dtype="uint8", description=description, metadata=None)
    with tifffile.TiffFile(path) as tiff:
        start = int(tiff.pages.first.dataoffsets[0])
    os.truncate(path, start + int(np.prod(shape)))
    return start


def test_beyond_4_gb(path: Path) -> None:
    shape, part = (5, 30_000, 30_000), noise((20, 50))
    start = sparse_imagej(path, shape)
    with path.open("r+b") as file:
        for row, pixels in enumerate(part):
            file.seek(start + 4 * shape[1] * shape[2] + (29_000 + row) * shape[2] + 7_000)
            file.write(pixels.tobytes())
    result, _ = filtered(path, filter=IDENTITY, page=4, region=(6_999, 28_998, 52, 24))
    (page,) = pages_in(result)
    np.testing.assert_array_equal(page, np.pad(part, ((2, 2), (1, 1))))
    with contextlib.closing(TiffSource(path)) as source:
        sink = TiffSink(path.with_name("large.tif"), source.images, like=source)
        sink.abort()
        assert sink.byte_layout.big
        assert not source.byte_layout.big


def seconds_to_describe(path: Path) -> float:
    started = time.perf_counter()
    with contextlib.closing(TiffSource(path)) as source:
        assert len(source.layout_description) == 10_000
    return time.perf_counter() - started


def test_many_frames_open_at_once(path: Path) -> None:
    sparse_imagej(path, (10_000, 8, 8))
    assert seconds_to_describe(path) < 2
    result = run("info", path, "--json")
    assert result.status == 0
    assert len(json.loads(result.stdout)["pages"]) == 10_000


def test_info_lists_all_frames(path: Path) -> None:
    write_imagej(path, noise((7, 21, 34)))
    result = run("info", path)
    assert result.status == 0
    assert "pages 0-6" in result.stdout
    assert "21 x 34 pixels" in result.stdout


# --------------------------------------------------------------------------------------------------- what is refused


def test_a_short_file(path: Path) -> None:
    frames = noise((6, 20, 30), "uint16")
    write_imagej(path, frames)
    os.truncate(path, os.path.getsize(path) - 2 * frames[0].nbytes - 1)
    with pytest.raises(UnreadableError, match="is said to hold 6 images, but ends after 3 of them") as caught:
        TiffSource(path)
    assert "--page 0-2" in str(caught.value.remedy)
    result, notices = filtered(path, filter=IDENTITY, page="0-2")
    assert notices == ()
    np.testing.assert_array_equal(pages_in(result), frames[:3])
    with pytest.raises(UnsupportedError, match="has no page 3"):
        filtered(path, page=3)


@pytest.mark.parametrize("count", [10**6, 2**31, 2**63, 2**64 + 1, 10**30])
def test_absurd_numbers_of_images(path: Path, count: int) -> None:
    frames = noise((2, 20, 30))
    write_described(path, frames, f"ImageJ=1.54f\nimages={count}\n")
    with pytest.raises(UnsupportedError, match=f"is said to hold {count} images"):
        TiffSource(path)
    write_described(path, frames, json.dumps({"shape": [count, 20, 30], "truncated": True}))
    with pytest.raises(UnsupportedError, match=f"is said to hold {count} images"):
        TiffSource(path)
    np.testing.assert_array_equal(pages_in(filtered(path, filter=IDENTITY, page=0)[0]), frames[:1])


def test_many_tiny_frames(path: Path) -> None:
    """Each page takes more memory than a frame of a few bytes has on the disk."""
    sparse_imagej(path, (50, 1, 1))
    assert len(pages_in(filtered(path)[0])) == 50
    most = tiff_frames._MOST_SMALL_FRAMES
    sparse_imagej(path, (most + 1, 1, 1))
    with pytest.raises(UnsupportedError, match=f"is said to hold {most + 1} images, but has .* bytes"):
        TiffSource(path)


@pytest.mark.parametrize(
    "lines",
    ["images=-3", "images=x", "images=", "images=2.5", "images=0", "images=1", "slices=3", "images=1\nimages=5", "" ],
)  # fmt: skip
def test_descriptions_of_one_image(path: Path, lines: str) -> None:
    frames = noise((2, 20, 30))
    write_described(path, frames, f"ImageJ=1.54f\n{lines}\n")
    with contextlib.closing(TiffSource(path)) as source:
        assert len(source.images) == 1


def test_more_digits_than_numbers_have(path: Path) -> None:
    write_described(path, noise((2, 20, 30)), f"ImageJ=1.54f\nimages={'9' * 5000}\n")
    with pytest.raises(UnreadableError, match="damaged"):
        TiffSource(path)


@pytest.mark.parametrize(
    "values",
    [
        {"shape": "x", "truncated": True},
        {"shape": [None, 20, 30], "truncated": True},
        {"shape": [-4, 20, 30], "truncated": True},
        {"shape": [1e400, 20, 30], "truncated": True},
        {"shape": [], "truncated": True},
        {"shape": [5, 20, 30], "truncated": False},
    ],
)
def test_shapes_of_one_image(path: Path, values: dict[str, Any]) -> None:
    write_described(path, noise((2, 20, 30)), json.dumps(values))
    with contextlib.closing(TiffSource(path)) as source:
        assert len(source.images) == 1


@pytest.mark.parametrize(
    "options",
    [{"compression": "zlib"}, {"tile": (16, 16)}, {"compression": "lzw", "predictor": 2}],
)
def test_frames_that_are_not_stored_plainly(path: Path, options: dict[str, Any]) -> None:
    write_described(path, noise((3, 20, 30)), "ImageJ=1.54f\nimages=3\n", **options)
    with pytest.raises(UnsupportedError, match="whose pixels are not stored plainly") as caught:
        TiffSource(path)
    assert "--page 0" in str(caught.value.remedy)
    assert len(pages_in(filtered(path, page=0)[0])) == 1


def test_strips_that_lie_apart(path: Path) -> None:
    write_described(path, noise((3, 20, 30)), "ImageJ=1.54f\nimages=3\n", rowsperstrip=10)
    with tifffile.TiffFile(path) as tiff:
        offsets = tiff.pages.first.tags[273]
        value = offsets.value
    for moved in ((value[1], value[0]), (value[0], value[1] + 1), (value[0], 0)):
        with path.open("r+b") as file:
            file.seek(offsets.valueoffset)
            file.write(struct.pack("<2I", *moved))
        with pytest.raises(UnsupportedError, match="whose pixels lie apart"):
            TiffSource(path)


def test_several_directories_with_hidden_images(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for count in (3, 2):
            writer.write(noise((count, 20, 30)), truncate=True, photometric="minisblack")
    with pytest.raises(UnsupportedError, match="is said to hold 5 images, but has 2 directories"):
        TiffSource(path)
    assert len(pages_in(filtered(path, page=1)[0])) == 1


def test_planes_that_are_counted_as_channels(path: Path) -> None:
    """Bio-Formats writes such descriptions of pages that are made of planes."""
    frames = noise((2, 3, 20, 30))
    options: dict[str, Any] = {"photometric": "rgb", "planarconfig": "separate"}
    write_described(path, frames[:1], "ImageJ=1.54f\nimages=3\nchannels=3\n", **options)
    np.testing.assert_array_equal(pages_in(filtered(path, filter=IDENTITY)[0]), frames[:1])
    write_described(path, frames, "ImageJ=1.54f\nimages=6\nchannels=3\nframes=2\n", **options)
    np.testing.assert_array_equal(pages_in(filtered(path, filter=IDENTITY)[0]), frames)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_stacks_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "in.tif"
    write_imagej(path, noise((4, 6, 7), "uint16"))
    whole = bytearray(path.read_bytes())
    for position in data.draw(st.lists(st.integers(0, 300), min_size=1, max_size=3)):
        whole[position] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(len(whole) // 2, len(whole)) | st.just(len(whole)))])
    shapes: Sequence[tuple[int, ...]] = []
    with contextlib.suppress(BlurfastError):
        target, _ = filtered(path)
        shapes = [page.shape for page in pages_in(target)]
    assert len(shapes) <= 4 * 6 * 7 * 2  # no more images than there are bytes
