"""Regions: any part, from any source, into any sink, is the crop of the whole, and little more than it is read."""

from __future__ import annotations

import functools
import json
import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

import blurfast
from blurfast import planning
from blurfast.boundary import MODES
from blurfast.engine import filter_stream
from blurfast.errors import MemoryBudgetError, UnsupportedError
from blurfast.files import filter_file
from blurfast.filters import Convolution, Gaussian
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.edits import parse_region, spelled
from blurfast.io.positioned import PositionedFile
from blurfast.pixels import Window
from blurfast.planning import Bands, Plan, plan_stream
from blurfast.resources import Resources
from tests import tolerances
from tests.batches import lines_of
from tests.cli_runs import assert_refused, command, run, write_tiff
from tests.executor_provider import executor
from tests.pictures import noise
from tests.test_engine import WatchfulSink, WatchfulSource, spec

_RANDOM = np.random.default_rng(8)
FILTERS = {
    "identity": (Gaussian(0), "auto"),
    "small blur": (Gaussian((0.7, 2)), "separable"),
    "large blur": (Gaussian((9, 14)), "separable"),
    "multirate": (Gaussian((14, 9)), "multirate"),
    "derivative": (Gaussian(1.5, order=(1, 0)), "auto"),
    "sum of products": (Convolution(_RANDOM.random((2, 7)).T @ _RANDOM.random((2, 7)), normalize=True), "separable"),
    "direct": (Convolution(_RANDOM.random((5, 4)), normalize=True), "direct"),
    "fft": (Convolution(_RANDOM.random((15, 12)), normalize=True), "fft"),
}


def crop(pixels: np.ndarray, region: Window) -> np.ndarray:
    return pixels[region.row_start : region.row_stop, region.column_start : region.column_stop]


def assert_is_crop(part: np.ndarray, whole: np.ndarray, region: Window, name: str) -> None:
    """Assert that the bytes are the same; with transforms, whose sizes depend on the cut, that the values are."""
    if name == "fft":
        tolerances.assert_near(part.astype(np.float64), crop(whole, region).astype(np.float64), 255, share=4e-3)
    else:
        np.testing.assert_array_equal(part, crop(whole, region))


def regions(height: int, width: int) -> st.SearchStrategy[Window]:
    """Return rectangles inside an image, many of them at its edges."""

    def span(length: int) -> st.SearchStrategy[tuple[int, int]]:
        bound = st.sampled_from([0, 1, length - 1, length]) | st.integers(0, length)
        return st.tuples(bound, bound).map(sorted).filter(lambda bounds: 0 <= bounds[0] < bounds[1] <= length)

    return st.builds(lambda rows, columns: Window(*rows, *columns), span(height), span(width))


def in_windows(plan: Plan, rows: int, columns: int | None, target_grain: Grain) -> Plan:
    """Return a plan with windows of about this size: blocks, each read with its own halo, if `columns` is given."""
    unit_rows, unit_columns = math.lcm(2, target_grain.rows), math.lcm(2, target_grain.columns)
    rows = max(1, rows // unit_rows) * unit_rows
    if columns is None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(planning, "_PREFERRED_BAND_BYTES", rows * plan.reach.window.columns * plan.image.channels)
            bands = planning._candidate_bands(plan, replace(plan.image, grain=target_grain))[0]
        return replace(plan, bands=bands)
    columns = max(1, columns // unit_columns) * unit_columns
    plan = replace(plan, bands=Bands(rows, columns, 0))
    return replace(plan, tile=plan.operation.tile(*plan.computed_size, plan.threads))


@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3, 4])),
    dtype=st.sampled_from(["uint8", "float32"]),
    name=st.sampled_from(sorted(FILTERS)),
    mode=st.sampled_from(MODES),
    grain=st.tuples(st.integers(1, 40), st.none() | st.integers(5, 40)),
    target_grain=st.tuples(st.integers(1, 40), st.integers(5, 40)),
    windows=st.tuples(st.integers(2, 80), st.none() | st.integers(10, 80)),
    is_sequential=st.booleans(),
    data=st.data(),
)
def test_any_part_is_the_crop_of_the_whole(
    shape, dtype, name, mode, grain, target_grain, windows, is_sequential, data
) -> None:
    (height, width, channels), (rows, columns) = shape, windows
    region = data.draw(regions(height, width))
    filter, method = FILTERS[name]
    pixels = noise(shape, dtype, seed=height * width)
    if is_sequential or mode == "wrap":
        columns = None
    read_grain = Grain(grain[0], width if is_sequential or grain[1] is None else grain[1])
    written_grain = Grain(target_grain[0], region.columns if columns is None else target_grain[1])
    options = {"mode": mode, "cval": 40.0, "method": method}
    results = []
    for part, grain_of_part in ((None, Grain(1, width)), (region, written_grain)):
        source = WatchfulSource(pixels, grain=read_grain, sequential=is_sequential)
        source.images = [replace(source.images[0], alpha=3 if channels == 4 else None)]
        area = part or Window(0, height, 0, width)
        sink = WatchfulSink(spec(crop(pixels, area), grain_of_part), source=source)
        try:
            plan = plan_stream(
                filter, source.images[0], sink.images[0], Resources(2, 10**12), 0, region=part, **options
            )
        except UnsupportedError:  # too small for the multirate method
            assume(False)
        if part is not None:
            plan = in_windows(plan, rows, columns, grain_of_part)
        filter_stream([plan], source, sink)
        results.append(sink.results[0])
    assert_is_crop(results[1], results[0], region, name)


@pytest.mark.parametrize("is_sequential", [False, True])
def test_only_what_the_region_depends_on_is_read(is_sequential: bool) -> None:
    pixels = noise((900, 500, 1), "uint8")
    grain = Grain(10, 500 if is_sequential else 20)
    source = WatchfulSource(pixels, grain=grain, sequential=is_sequential)
    read: list[Window] = []
    original = source._read
    source._read = lambda image, window, target: (read.append(window), original(image, window, target))
    region, filter = Window(451, 500, 240, 301), Gaussian(2, truncate=4)  # a radius of 8
    sink = WatchfulSink(spec(crop(pixels, region), Grain(1, region.columns)))
    plan = plan_stream(filter, source.images[0], sink.images[0], Resources(2, 10**9), 0, region=region)
    filter_stream([plan], source, sink)
    assert (min(window.row_start for window in read), max(window.row_stop for window in read)) == (
        (0, 510) if is_sequential else (440, 510)
    )
    if not is_sequential:
        assert min(window.column_start for window in read) == 220
        assert max(window.column_stop for window in read) == 320
        assert len(read) == 7 * 5, "something was read twice"


# ------------------------------------------------------------------------------------------------------------- files

LAYOUTS = {
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (32, 48)},
    "big-endian": {"byteorder": ">", "rowsperstrip": 200},
    "deflate": {"compression": "deflate", "predictor": True, "rowsperstrip": 16},
    "deflated tiles": {"compression": "deflate", "tile": (64, 16)},
    "one deflated strip": {"compression": "deflate", "rowsperstrip": 10**6},
    "planes": {"planarconfig": "separate", "tile": (32, 32)},
    "jpeg": {"compression": "jpeg", "tile": (64, 64)},
}
REGIONS = [(0, 0, 173, 211), (0, 0, 1, 1), (172, 210, 1, 1), (33, 71, 41, 50), (0, 60, 5, 151), (101, 3, 72, 100)]


def pixels_of(path: Path) -> np.ndarray:
    if path.suffix == ".tif":
        return tifffile.imread(path)
    with Image.open(path) as image:
        return np.asarray(image)


def assert_file_is_cropped(source: Path, target: Path, filter: object, name: str = "", **options: object) -> None:
    """Filter the whole file and then its regions, and compare the pixels."""
    filter_file(source, target, filter, overwrite=True, **options)
    whole = pixels_of(target)
    is_planar = whole.ndim == 3 and whole.shape[0] == 3
    for numbers in REGIONS:
        region = parse_region(numbers)
        report = filter_file(source, target, filter, overwrite=True, region=numbers, **options)
        part = pixels_of(target)
        assert report.pixels == (3 if is_planar else 1) * region.rows * region.columns
        planes = zip(part, whole, strict=True) if is_planar else [(part, whole)]
        for one, all_of_it in planes:
            assert_is_crop(one, all_of_it, region, name)


@pytest.mark.parametrize("mode", ["reflect", "wrap", "constant"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiff_layouts(layout: str, mode: str, tmp_path: Path) -> None:
    shape = (3, 211, 173) if layout == "planes" else (211, 173, 3)
    tifffile.imwrite(tmp_path / "in.tif", noise(shape, "uint8"), photometric="rgb", **LAYOUTS[layout])
    compression = "none" if layout == "jpeg" else None  # what is lost depends on where blocks begin
    for filter in (Gaussian(2), Gaussian((12, 3))):
        assert_file_is_cropped(tmp_path / "in.tif", tmp_path / "out.tif", filter, mode=mode, compression=compression)


@pytest.mark.parametrize("name", FILTERS)
def test_filters_and_methods(name: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "in.tif", noise((211, 173), "uint16"), tile=(32, 32))
    filter, method = FILTERS[name]
    if name == "fft":
        tifffile.imwrite(tmp_path / "in.tif", noise((211, 173), "uint8"), tile=(32, 32))
    assert_file_is_cropped(tmp_path / "in.tif", tmp_path / "out.tif", filter, name, method=method)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("before", ["in.png", "interlaced.png", "in.jpg", "in.bmp"])
def test_other_formats(before: str, suffix: str, tmp_path: Path) -> None:
    image = Image.fromarray(noise((211, 173, 3), "uint8"))
    if before == "interlaced.png":
        image = Image.fromarray(noise((211, 173), "uint8") % 2 * 255).convert("1")
    image.save(tmp_path / before)
    for mode in ("mirror", "wrap"):
        assert_file_is_cropped(tmp_path / before, tmp_path / f"out{suffix}", Gaussian(3), mode=mode)


def test_weighted_colours(tmp_path: Path) -> None:
    Image.fromarray(noise((211, 173, 4), "uint8")).save(tmp_path / "in.png")
    assert_file_is_cropped(tmp_path / "in.png", tmp_path / "out.png", Gaussian(2))
    assert_file_is_cropped(tmp_path / "in.png", tmp_path / "out.tif", Gaussian(9), tile="16x16")


def test_of_every_page(tmp_path: Path) -> None:
    pages = [noise((60 + number, 80), "uint16", seed=number) for number in range(3)]
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for page in pages:
            writer.write(page, contiguous=False)
    report = filter_file(tmp_path / "in.tif", tmp_path / "out.tif", Gaussian(2), region="10,20,31,40", page="0,2")
    assert [plan.image.height for plan in report.plans] == [60, 62]
    with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
        assert len(tiff.pages) == 2
        for page, before in zip(tiff.pages, (pages[0], pages[2]), strict=True):
            np.testing.assert_array_equal(page.asarray(), blurfast.gaussian(before, 2)[20:60, 10:41])


def test_every_page_must_contain_it(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for height in (60, 40):
            writer.write(noise((height, 50), "uint8"), contiguous=False)
    with pytest.raises(UnsupportedError, match=r"50 x 40 pixels does not contain the region 0,0,50,41"):
        filter_file(tmp_path / "in.tif", tmp_path / "out.tif", Gaussian(1), region=(0, 0, 50, 41))
    assert not (tmp_path / "out.tif").exists()
    filter_file(tmp_path / "in.tif", tmp_path / "out.tif", Gaussian(1), region=(0, 0, 50, 41), page=0)


@pytest.mark.parametrize("layout", [{"rowsperstrip": 64}, {"tile": (256, 256)}])
def test_little_of_a_large_file_is_read(layout: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side, region = 12_000, Window(9001, 9101, 5000, 5120)
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, shape=(side, side), dtype="uint8", **layout)
    patch = noise((region.rows, region.columns), "uint8")
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        assert page.is_tiled == ("tile" in layout)
        columns = page.tilewidth if page.is_tiled else side
        rows = page.tilelength if page.is_tiled else page.rowsperstrip
        offsets, across = page.dataoffsets, -(-side // columns)
    with open(path, "r+b") as file:
        for row, column in np.ndindex(patch.shape):
            (down, y), (right, x) = divmod(row + region.row_start, rows), divmod(column + region.column_start, columns)
            file.seek(offsets[down * across + right] + y * columns + x)
            file.write(patch[row, column].tobytes())
    reads: list[int] = []
    read, read_rows = PositionedFile.read, PositionedFile.read_rows
    monkeypatch.setattr(
        PositionedFile, "read", lambda self, offset, size: (reads.append(size), read(self, offset, size))[1]
    )
    monkeypatch.setattr(
        PositionedFile,
        "read_rows",
        lambda self, offset, target: (reads.append(target.nbytes), read_rows(self, offset, target))[1],
    )
    filter_file(path, tmp_path / "out.tif", Gaussian(2), region=spelled(region))
    surrounded = np.pad(patch, 30)
    expected = blurfast.gaussian(surrounded, 2)[30:-30, 30:-30]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), expected)
    assert sum(reads) < 0.02 * side**2, "more was read than the rows, or the tiles, of the region"


def test_memory_is_that_of_the_region() -> None:
    image = ImageSpec(60_000, 60_000, 1, np.dtype("float32"), Grain(256, 256))
    region = Window(30_001, 30_257, 30_000, 30_256)
    target = replace(image, height=256, width=256)
    for mode in ("reflect", "wrap"):
        plan = functools.partial(plan_stream, Gaussian(300), image, mode=mode, baseline_memory=10**8)
        whole, part = plan(image, Resources(2, 10**11)), plan(target, Resources(2, 10**11), region=region)
        assert part.bands.memory < whole.bands.memory / 4
        assert part.method == whole.method
    with pytest.raises(MemoryBudgetError):  # there are no blocks with mode wrap
        plan(image, Resources(2, 3 * 10**8))
    assert plan(target, Resources(2, 3 * 10**8), region=region).predicted_memory <= 3 * 10**8


@pytest.mark.parametrize("name", ["in.png", "in.tif"])
def test_what_lies_below_may_be_damaged(name: str, tmp_path: Path) -> None:
    pixels, path = noise((400, 300), "uint8"), tmp_path / name
    if name == "in.png":
        Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels, rowsperstrip=10)
    data = bytearray(path.read_bytes())
    data[-40_000:-5_000] = bytes(35_000)
    path.write_bytes(data)
    filter_file(path, tmp_path / "out.tif", Gaussian(2), region=(0, 100, 300, 100))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), blurfast.gaussian(pixels, 2)[100:200])


@pytest.mark.parametrize("name", ["small blur", "multirate", "direct"])
def test_on_a_device(name: str, tmp_path: Path) -> None:
    pixels = noise((70, 93), "uint8")
    tifffile.imwrite(tmp_path / "in.tif", pixels, tile=(16, 16))
    filter, method = FILTERS[name]
    results = []
    for region in (None, (33, 11, 40, 31)):
        with executor() as device:
            filter_file(
                *(tmp_path / "in.tif", tmp_path / "out.tif", filter),
                backend="cuda",
                method=method,
                region=region,
                dtype="float32",
                overwrite=True,
            )
        assert device.executed
        results.append(tifffile.imread(tmp_path / "out.tif"))
    np.testing.assert_array_equal(results[1], results[0][11:42, 33:73])


# ------------------------------------------------------------------------------------------- arguments, command line


@pytest.mark.parametrize(
    "region", ["10,20,30", "1,2,3,4,5", "a,0,1,1", "", "-1,0,2,2", "0,0,0,5", (0, 0, 5, 0), [-1] * 4]
)
def test_no_region(region: object) -> None:
    with pytest.raises(ValueError, match=re.escape(f"region is {region!r}; it must")):
        parse_region(region)


@pytest.mark.parametrize("region", [(0, 0, 1.5, 2), (True, 0, 1, 1), "0123"])
def test_numbers_of_a_region(region: object) -> None:
    with pytest.raises((TypeError, ValueError), match="region is"):
        parse_region(region)
    assert parse_region(np.array([1, 2, 3, 4])) == parse_region(" 1, 2,3 ,4") == Window(2, 6, 1, 4)
    assert spelled(Window(2, 6, 1, 4)) == "1,2,3,4"


def test_command(tmp_path: Path) -> None:
    source, target = write_tiff(tmp_path / "in.tif", (80, 90)), tmp_path / "out.tif"
    done = run("gaussian", source, target, "--sigma", "2", "--region", "11,7,30,41", "--json")
    assert done.status == 0, done.stderr
    assert json.loads(done.stdout)["pixels"] == 30 * 41
    expected = blurfast.gaussian(tifffile.imread(source), 2)[7:48, 11:41]
    np.testing.assert_array_equal(tifffile.imread(target), expected)
    explained = run("gaussian", source, "--sigma", "2", "--region", "11,7,30,41", "--explain")
    assert "region     41 x 30 pixels from row 7 and column 11 on" in explained.stdout
    record = json.loads(run("gaussian", source, "--sigma", "2", "--region", "11,7,30,41", "--explain", "--json").stdout)
    assert record["plans"][0]["region"] == [11, 7, 30, 41]
    piped = subprocess.run(
        command("gaussian", "-", "-", "--sigma", "2", "--region", "11,7,30,41"),
        input=source.read_bytes(), capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    (tmp_path / "piped.tif").write_bytes(piped.stdout)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "piped.tif"), expected)


def test_batch_with_a_manifest(tmp_path: Path) -> None:
    sources = [write_tiff(tmp_path / f"{number}.tif", (40 + number, 50)) for number in range(4)]
    options = ("--sigma", "2", "--out-dir", tmp_path / "out", "--jobs", "2", "--manifest", tmp_path / "log")
    done = run("gaussian", *sources, *options, "--region", "0,1,50,40")
    assert done.status == 1
    assert "0.tif: an image of 50 x 40 pixels does not contain the region 0,1,50,40" in done.stderr
    for source in sources[1:]:
        expected = blurfast.gaussian(tifffile.imread(source), 2)[1:41]
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / source.name), expected)
    assert {line["parameters"]["region"] for line in lines_of(tmp_path / "log")} == {"0,1,50,40"}
    again = run("gaussian", *sources[1:], *options, "--skip-existing", "--region", "0,1,50,40")
    assert again.stderr.count("skipped, since") == 3, again.stderr
    other = run("gaussian", *sources[1:], *options, "--skip-existing", "--region", "0,0,50,40")
    assert "skipped, since" not in other.stderr
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "out" / "1.tif"), blurfast.gaussian(tifffile.imread(sources[1]), 2)[:40]
    )


@pytest.mark.parametrize(
    ("region", "status", "fact"),
    [
        ("1,2,3", 2, "'--region': '1,2,3'; it must be column, row, width and height"),
        ("0,0,0,9", 2, "'--region': '0,0,0,9'; it must begin inside the image and have a width and a height"),
        ("30,0,31,9", 4, "in.tif: an image of 60 x 40 pixels does not contain the region 30,0,31,9"),
    ],
)
def test_command_errors(region: str, status: int, fact: str, image: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.tif"
    assert_refused(run("gaussian", image, target, "--sigma", "1", "--region", region), status, fact)
    assert not target.exists()
