"""Smaller versions of images: each is the average of the one before, whatever the file is like."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blurfast import Gaussian, filter_file
from blurfast.errors import UnsupportedError
from blurfast.io import pyramid
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.tiff_levels import exponent_of, full_pyramid
from blurfast.io.tiff_sink import TiffSink
from blurfast.pixels import Pixels, Window
from tests.pyramid_checks import assert_halves, halved, noise, read_chain, read_levels, sub_pages

ROOT = Path(__file__).parents[1]
DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float16", "float32", "float64"]
BLUR = Gaussian(1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.tif"


def blurred(path: Path, name: str = "out.tif", **options: Any) -> Path:
    """Filter a file, and return the result's path."""
    filter_file(path, path.with_name(name), BLUR, overwrite=True, **options)
    return path.with_name(name)


def assert_pyramid(path: Path, page: int = 0, alpha: int | None = None) -> None:
    """Assert that the SubIFDs of a page hold its halves, down to a small one."""
    levels = read_levels(path, page)
    assert len(levels) == 1 + len(full_pyramid(*levels[0].shape[:2]))
    for image, smaller in itertools.pairwise(levels):
        assert_halves(image, smaller, alpha=alpha)
    for level in sub_pages(path, page):
        assert level.is_tiled
        assert level.is_reduced


# ------------------------------------------------------------------------------------------- what the levels hold


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_level_is_the_average_of_the_one_before(path: Path, dtype: str, channels: int) -> None:
    pixels = noise((523, 301, 3), dtype) if channels == 3 else noise((523, 301), dtype)
    tifffile.imwrite(path, pixels, photometric="rgb" if channels == 3 else "minisblack", metadata=None)
    plain, result = blurred(path, "plain.tif"), blurred(path, pyramid=True)
    np.testing.assert_array_equal(tifffile.imread(result, level=0), tifffile.imread(plain))
    assert_pyramid(result)
    with tifffile.TiffFile(result) as tiff:
        assert [level.shape[:2] for level in tiff.series[0].levels] == [(523, 301), (262, 151), (131, 76)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 1025), (1025, 1), (257, 3), (3, 257), (256, 256), (513, 512)])
@pytest.mark.parametrize("tile", [None, (16, 32), (512, 512)])
def test_any_size(path: Path, shape: tuple[int, int], tile: tuple[int, int] | None) -> None:
    tifffile.imwrite(path, noise(shape), tile=tile, metadata=None)
    assert_pyramid(blurred(path, pyramid=True))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_windows_of_any_size_bring_the_same_file(tmp_path: Path, data: st.DataObject) -> None:
    """Windows are whole grains that come in raster order, and their tasks end in any order."""
    height, width = data.draw(st.integers(1, 150)), data.draw(st.integers(258, 700))
    tile = data.draw(st.sampled_from([(16, 16), (32, 64), (64, 16)]))
    pixels = noise((height, width, 1))
    columns = data.draw(st.sampled_from([width, tile[1], 3 * tile[1]]))
    rows = tile[0] * (data.draw(st.integers(1, 4)) if columns == width else 1)
    cog = data.draw(st.booleans())
    write_in_windows(tmp_path / "at_once.tif", pixels, tile, (height, width), range, cog=cog)

    def shuffled(count: int) -> list[int]:
        return data.draw(st.permutations(range(count)))

    write_in_windows(tmp_path / "out.tif", pixels, tile, (rows, columns), shuffled, cog=cog)
    assert (tmp_path / "out.tif").read_bytes() == (tmp_path / "at_once.tif").read_bytes()
    levels = read_chain(tmp_path / "out.tif") if cog else read_levels(tmp_path / "out.tif")
    np.testing.assert_array_equal(levels[0], pixels[..., 0])
    for image, smaller in itertools.pairwise(levels):
        assert_halves(image, smaller)


def write_in_windows(
    path: Path,
    pixels: Pixels,
    tile: tuple[int, int],
    window: tuple[int, int],
    order: Callable[[int], Sequence[int]],
    *,
    cog: bool,
) -> None:
    """Write an image in windows, whose tasks end in a given order."""
    height, width, _ = pixels.shape
    image = ImageSpec(height, width, 1, pixels.dtype, Grain(1, width))
    sink = TiffSink(path, [image], tile=tile, pyramid=True, cog=cog, overwrite=True)
    try:
        for row, column in itertools.product(range(0, height, window[0]), range(0, width, window[1])):
            part = Window(row, min(row + window[0], height), column, min(column + window[1], width))
            tasks = sink.encode_tasks(0, part, pixels[row : part.row_stop, column : part.column_stop])
            results = {number: tasks[number]() for number in order(len(tasks))}
            for number in range(len(tasks)):
                sink.append(0, results[number])
        sink.commit()
    finally:
        sink.abort()


def test_halves_are_rounded_to_even() -> None:
    image = np.array([[[0], [1], [1], [2], [254]], [[0], [1], [2], [1], [255]]], np.uint8)
    half = np.empty((1, 3, 1), np.uint8)
    pyramid.halve(image, half)
    assert half.ravel().tolist() == [0, 2, 254]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_counts_for_nothing_unless_there_is_nothing_else(dtype: str) -> None:
    image = np.array([[[1], [np.nan], [np.nan], [np.nan], [np.nan]]] * 2 + [[[3], [5], [np.inf], [1], [-2]]], dtype)
    half = np.empty((2, 3, 1), dtype)
    pyramid.halve(image, half)
    np.testing.assert_array_equal(half[..., 0], [[1, np.nan, np.nan], [4, np.inf, -2]])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("rule", ["weighted", "independent"])
def test_colours_count_by_their_opacity(path: Path, dtype: str, rule: Any) -> None:
    pixels = np.abs(noise((300, 270, 4), dtype))
    pixels[40:200, 50:120, 3] = 0
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unassalpha"], metadata=None)
    result = blurred(path, pyramid=True, alpha=rule)
    image, smaller = read_levels(result)
    assert_halves(image, smaller, alpha=3 if rule == "weighted" else None)


# ---------------------------------------------------------------------------------------------- how they are stored


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate", "zstd", "packbits", "lzma", "webp", "jpegxl"])
@pytest.mark.parametrize("big", ["yes", "no"])
def test_levels_are_compressed_as_the_image_is(path: Path, compression: str, big: str) -> None:
    tifffile.imwrite(path, noise((300, 520, 3)), photometric="rgb", metadata=None)
    result = blurred(path, pyramid=True, compression=compression, bigtiff=big, tile="64x128")
    assert_pyramid(result)
    with tifffile.TiffFile(result) as tiff:
        assert tiff.is_bigtiff == (big == "yes")
        first = tiff.pages.first
        for level in first.pages:
            assert (level.tile, level.compression, level.predictor) == ((64, 128), first.compression, first.predictor)


def test_jpeg_levels_keep_their_colours(path: Path) -> None:
    pixels = np.empty((300, 400, 3), np.uint8)
    pixels[:] = 200, 90, 40
    tifffile.imwrite(path, pixels, photometric="rgb", compression="jpeg", tile=(128, 128), metadata=None)
    image, smaller = read_levels(blurred(path, pyramid=True))
    assert np.abs(image.astype(int)[20:100, 20:100] - pixels[0, 0]).max() <= 3
    assert np.abs(smaller.astype(int) - halved(image)).max() <= 8


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("predictor", ["none", "horizontal", "float"])
def test_byte_order_and_predictor(path: Path, order: Any, predictor: str) -> None:
    tifffile.imwrite(path, noise((300, 310), "float32"), byteorder=order, metadata=None)
    compression = "none" if predictor == "none" else "zstd"
    result = blurred(path, pyramid=True, compression=compression, predictor=predictor)
    with tifffile.TiffFile(result) as tiff:
        assert tiff.byteorder == order
    assert_pyramid(result)


def test_an_image_in_planes(path: Path) -> None:
    tifffile.imwrite(path, noise((3, 290, 300)), photometric="rgb", planarconfig="separate", metadata=None)
    result = blurred(path, pyramid=True)
    image, smaller = read_levels(result)
    for plane, smaller_plane in zip(image, smaller, strict=True):
        assert_halves(plane, smaller_plane)


def test_every_page_has_its_own_levels(path: Path) -> None:
    pages = [noise((300, 520), "uint16"), noise((100, 90)), noise((600, 280, 3))]
    with tifffile.TiffWriter(path) as writer:
        for pixels in pages:
            writer.write(pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack", metadata=None)
    result = blurred(path, pyramid=True)
    for page in range(3):
        assert_pyramid(result, page)
    assert_pyramid(blurred(path, pyramid=True, page=2))


def test_image_and_levels_of_a_stack_lie_apart(path: Path) -> None:
    """ImageJ takes the pages of a stack for contiguous."""
    pages = noise((3, 300, 200), "uint16")
    tifffile.imwrite(path, pages, imagej=True)
    with tifffile.TiffFile(blurred(path, pyramid=True)) as tiff:
        offsets = [offset for page in tiff.pages for offset in page.aspage().dataoffsets]
        assert (
            tiff.pages.first.dataoffsets[0] + pages.nbytes
            == tiff.pages[-1].dataoffsets[-1] + (tiff.pages[-1].databytecounts[-1])
        )
        assert offsets == sorted(offsets)


def test_other_formats_get_levels_too(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(noise((300, 280, 4))).save(tmp_path / "in.png")
    filter_file(tmp_path / "in.png", tmp_path / "out.tif", BLUR, pyramid=True)
    assert_pyramid(tmp_path / "out.tif", alpha=3)
    with pytest.raises(UnsupportedError, match="--pyramid is for TIFF outputs"):
        filter_file(tmp_path / "in.png", tmp_path / "out.png", BLUR, pyramid=True)


def test_the_file_is_the_same_for_any_number_of_threads(path: Path) -> None:
    tifffile.imwrite(path, noise((2100, 1900)), tile=(64, 64), compression="zstd", metadata=None)
    files = [blurred(path, pyramid=True, threads=threads).read_bytes() for threads in (1, 2, 4)]
    assert files[0] == files[1] == files[2]


# ------------------------------------------------------------------------------------------- what the input has of them


def write_pyramid(path: Path, shapes: list[tuple[int, int]], *, chained: bool, **options: Any) -> None:
    """Write an image and smaller versions that hold something else than that image."""
    with tifffile.TiffWriter(path) as writer:
        kept = {"photometric": "minisblack", "metadata": None, "tile": (64, 64), **options}
        writer.write(noise(shapes[0]), **kept, **({} if chained else {"subifds": len(shapes) - 1}))
        for number, shape in enumerate(shapes[1:]):
            writer.write(noise(shape, seed=number + 1), subfiletype=1, **kept)


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize(
    "shapes",
    [
        [(300, 501), (150, 251), (75, 126)],
        [(301, 501), (150, 250), (75, 125), (37, 62)],  # rounded down
        [(801, 600), (200, 150)],
    ],
)
def test_levels_of_the_input_are_made_anew(path: Path, shapes: list[tuple[int, int]], *, chained: bool) -> None:
    write_pyramid(path, shapes, chained=chained, compression="deflate")
    report = filter_file(path, path.with_name("out.tif"), BLUR)
    assert report.notices == ()
    result = path.with_name("out.tif")
    levels = read_chain(result) if chained else read_levels(result)
    assert len(read_chain(result)) == (len(shapes) if chained else 1)
    assert len(levels) == len(shapes)
    for shape, level in zip(shapes[1:], levels[1:], strict=True):
        times = exponent_of(shapes[0], shape)
        assert times is not None
        assert_halves(levels[0], level, times)


@pytest.mark.parametrize("chained", [False, True])
def test_levels_can_be_left_out_or_made_complete(path: Path, *, chained: bool) -> None:
    write_pyramid(path, [(600, 500), (150, 125)], chained=chained)
    without = blurred(path, "without.tif", pyramid=False)
    assert [level.shape for level in (*read_chain(without), *read_levels(without)[1:])] == [(600, 500)]
    complete = blurred(path, pyramid=True)
    assert_pyramid(complete)
    assert len(read_chain(complete)) == 1


def test_levels_follow_the_image_that_they_are_of(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for shape, kind in [((100, 200), 0), ((50, 100), 1), ((90, 80), 0), ((45, 40), 1), ((30, 30), 1)]:
            writer.write(noise(shape), metadata=None, subfiletype=kind)
    report = filter_file(path, path.with_name("out.tif"), BLUR)
    assert report.notices == ("1 smaller version (page 4) is not kept",)
    first, half, second, second_half = read_chain(path.with_name("out.tif"))
    assert_halves(first, half)
    assert_halves(second, second_half)


def test_selected_pages_keep_their_levels(path: Path) -> None:
    write_pyramid(path, [(300, 200), (150, 100), (75, 50)], chained=True)
    for page in (None, 0):
        image, half, quarter = read_chain(blurred(path, page=page))
        assert_halves(image, half)
        assert_halves(half, quarter)
    (level,) = read_chain(blurred(path, page=1))
    assert level.shape == (150, 100)
    every = read_chain(blurred(path, page="0-"))
    assert [image.shape for image in every] == [(300, 200), (150, 100), (75, 50)]
    assert np.abs(every[1].astype(int) - half).max() > 50  # filtered on its own, not made of the first


def test_other_formats_take_the_image_alone(path: Path) -> None:
    write_pyramid(path, [(300, 200), (150, 100)], chained=True)
    report = filter_file(path, path.with_name("out.png"), BLUR)
    assert report.pixels == 300 * 200


# ----------------------------------------------------------------------------------------- memory, and what goes wrong


def test_tiles_in_memory_are_those_that_the_plan_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(path, noise((3000, 2500)), tile=(128, 128), metadata=None)
    most, builders = 0, []
    begun, opened = pyramid.PyramidBuilder.__init__, pyramid.PyramidBuilder._open_tile
    lock = threading.Lock()

    def begin(self: Any, *arguments: Any) -> None:
        begun(self, *arguments)
        builders.append(self)

    def open_tile(self: Any, *arguments: Any) -> Any:
        nonlocal most
        tile = opened(self, *arguments)
        with lock, self._lock:
            most = max(most, sum(other.pixels.nbytes for other in self._tiles.values()))
        return tile

    monkeypatch.setattr(pyramid.PyramidBuilder, "__init__", begin)
    monkeypatch.setattr(pyramid.PyramidBuilder, "_open_tile", open_tile)
    report = filter_file(path, path.with_name("out.tif"), BLUR, pyramid=True, threads=3)
    (builder,) = builders
    assert 0 < most <= builder.held_bytes + 3 * 128 * 128
    assert builder.is_complete
    bands = report.plans[0].bands
    assert bands is not None
    assert bands.parts["encoding"] >= builder.held_bytes + 3 * 128 * 128


@pytest.mark.parametrize("option", ["pyramid", "cog"])
def test_a_failed_run_leaves_nothing(path: Path, option: str) -> None:
    tifffile.imwrite(path, noise((600, 500)), metadata=None)

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filter_file(path, path.with_name("out.tif"), BLUR, progress=stop, **{option: True})
    assert os.listdir(path.parent) == ["in.tif"]


def test_missing_segments_are_noticed(tmp_path: Path) -> None:
    sink = TiffSink(tmp_path / "out.tif", [ImageSpec(300, 20, 1, np.dtype("uint8"), Grain(1, 20))], pyramid=True)
    with pytest.raises(RuntimeError, match="segments are missing"):
        sink.commit()
    sink.abort()
    assert os.listdir(tmp_path) == []


KILLED = """
import os, sys
import numpy as np
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.tiff_sink import TiffSink
sink = TiffSink(sys.argv[1], [ImageSpec(600, 600, 1, np.dtype("uint8"), Grain(1, 600))], **{sys.argv[2]: True})
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there, leftovers stay")
@pytest.mark.parametrize("option", ["pyramid", "cog"])
def test_what_a_killed_run_leaves_is_removed_by_the_next(path: Path, option: str) -> None:
    command = [sys.executable, "-c", KILLED, str(path.with_name("killed.tif")), option]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    names = os.listdir(path.parent)
    assert len(names) == 2
    assert all(re.fullmatch(r"\.blurfast-.*\.part", name) for name in names)
    TiffSink(path, [ImageSpec(1, 1, 1, np.dtype("uint8"), Grain(1, 1))]).abort()
    # A directory is searched once by each process: this one has not seen it before.
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize(
    ("shape", "smaller", "times"),
    [
        ((1000, 500), (500, 250), 1),
        ((1001, 501), (500, 250), 1),
        ((1001, 501), (501, 251), 1),
        ((46000, 32914), (11500, 8228), 2),
        ((46000, 32914), (2875, 2057), 4),
        ((1000, 500), (1000, 500), None),
        ((1000, 500), (500, 200), None),
        ((1000, 500), (333, 167), None),
        ((1000, 500), (2000, 1000), None),
        ((1000, 500), (0, 0), None),
        ((0, 0), (10, 10), None),
    ],
)
def test_levels_are_told_by_their_sizes(shape: tuple[int, int], smaller: tuple[int, int], times: int | None) -> None:
    assert exponent_of(shape, smaller) == times
