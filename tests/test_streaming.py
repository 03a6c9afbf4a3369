"""Files from end to end: the same bytes as in memory, and never more memory than allowed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from blurfast import Gaussian, MemoryBudgetError, OutputExistsError, filter_file, gaussian, plan_file, planning
from blurfast.boundary import MODES

ROOT = Path(__file__).parents[1]
HEIGHT, WIDTH = 3000, 4000
BUDGET = 256_000_000


def scene(height: int, width: int, channels: int | None = None, dtype: str = "uint16") -> np.ndarray:
    """Return smooth waves with noise: compressible, but not in a way that hides errors."""
    generator = np.random.default_rng(1)
    rows, columns = np.ogrid[:height, :width]
    waves = 20_000 + 9000 * np.sin(rows / 37) + 9000 * np.cos(columns / 51)
    if channels is not None:
        waves = waves[:, :, np.newaxis] * np.linspace(0.5, 1, channels)
    pixels = waves + generator.integers(0, 512, waves.shape)
    return (pixels / 256).astype(dtype) if np.dtype(dtype).itemsize == 1 else pixels.astype(dtype)


SCRIPT = """
import json, resource, sys
from blurfast import Gaussian, filter_file
source, target, sigma, budget, options = sys.argv[1:]
report = filter_file(source, target, Gaussian(float(sigma)), max_memory=int(budget), **json.loads(options))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"peak": peak, "reported": report.peak_memory, "predicted": report.plans[0].predicted_memory}))
"""

# A started child counts its parent's memory as its own until it has become another program; so the parent is small.
LAUNCHER = """
import subprocess, sys
sys.exit(subprocess.run([sys.executable, "-W", "error", "-c", *sys.argv[1:]]).returncode)
"""


def stream(source: Path, target: Path, sigma: float, budget: int = BUDGET, **options: object) -> dict[str, int]:
    """Filter in a process of its own; return its memory, which is checked against the budget."""
    run = subprocess.run(
        [sys.executable, "-c", LAUNCHER, SCRIPT, source, target, str(sigma), str(budget), json.dumps(options)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-1500:]
    memory = json.loads(run.stdout)
    assert memory["peak"] <= budget, memory
    assert memory["predicted"] <= budget
    assert memory["reported"] <= memory["peak"]
    return memory


needs_rusage = pytest.mark.skipif(sys.platform == "win32", reason="measured by getrusage")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return scene(HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def expected(pixels) -> dict[float, np.ndarray]:
    return {sigma: gaussian(pixels, sigma) for sigma in (5.0, 50.0)}


LAYOUTS = {
    "strips": {"rowsperstrip": 16},
    "tiles": {"tile": (256, 256)},
    "deflate strips": {"rowsperstrip": 64, "compression": "zlib", "predictor": True},
    "zstd tiles": {"tile": (128, 256), "compression": "zstd"},
    "lzw tiles": {"tile": (256, 256), "compression": "lzw", "predictor": True},
}


@needs_rusage
@pytest.mark.parametrize("sigma", [5.0, 50.0])
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_tiff_within_its_budget(tmp_path, pixels, expected, layout, sigma):
    tifffile.imwrite(tmp_path / "in.tif", pixels, **LAYOUTS[layout])
    stream(tmp_path / "in.tif", tmp_path / "out.tif", sigma)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), expected[sigma])


@needs_rusage
@pytest.mark.parametrize("sigma", [5.0, 50.0])
def test_png_within_its_budget(tmp_path, pixels, expected, sigma):
    Image.fromarray(pixels).save(tmp_path / "in.png", compress_level=1)
    stream(tmp_path / "in.png", tmp_path / "out.png", sigma)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), expected[sigma])


@needs_rusage
@pytest.mark.parametrize("name", ["in.tif", "in.png"])
def test_an_image_larger_than_its_budget(tmp_path, name):
    """300 MB of pixels, of which 256 MB do not even have room."""
    pixels = np.tile(scene(1000, 2000, 3, "uint8"), (10, 5, 1))
    if name.endswith("tif"):
        tifffile.imwrite(tmp_path / name, pixels, tile=(256, 256), compression="zstd", photometric="rgb")
    else:
        Image.fromarray(pixels).save(tmp_path / name, compress_level=1)
    stream(tmp_path / name, tmp_path / "out.tif", 2.0, compression="none")
    result = tifffile.imread(tmp_path / "out.tif")
    for row in (0, 4321, 9700):
        top, bottom = max(0, row - 20), min(10_000, row + 320)
        part = gaussian(pixels[top:bottom], 2.0, channel_axis=-1)
        np.testing.assert_array_equal(result[row : row + 300], part[row - top : row - top + 300])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_narrow_bands_give_the_same_bytes(tmp_path, monkeypatch, suffix, mode):
    pixels = scene(1100, 700)
    if suffix == "tif":
        tifffile.imwrite(tmp_path / "in.tif", pixels, tile=(64, 80), compression="zlib")
    else:
        Image.fromarray(pixels).save(tmp_path / "in.png")
    monkeypatch.setattr(planning, "_PREFERRED_BAND_BYTES", 100_000)
    report = filter_file(
        tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}", Gaussian((7.0, 3.0)), mode=mode, cval=1e4
    )
    assert report.plans[0].bands.rows <= 100
    result = np.asarray(Image.open(tmp_path / f"out.{suffix}"))
    np.testing.assert_array_equal(result, gaussian(pixels, (7.0, 3.0), mode=mode, cval=1e4))


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("sigma", [1.0, 30.0])
def test_the_remedy_of_a_budget_that_is_too_small_works(tmp_path, suffix, sigma):
    pixels = scene(900, 700, 3, "uint8")
    path = tmp_path / f"in.{suffix}"
    tifffile.imwrite(path, pixels, photometric="rgb") if suffix == "tif" else Image.fromarray(pixels).save(path)
    with pytest.raises(MemoryBudgetError, match="does not fit into 1 MB") as caught:
        filter_file(path, tmp_path / f"out.{suffix}", Gaussian(sigma), max_memory="1MB")
    assert [child.name for child in tmp_path.iterdir()] == [path.name]
    assert caught.value.path == str(path)
    enough = re.fullmatch(r"use --max-memory (\d+MB) or more", caught.value.remedy)[1]
    assert plan_file(path, Gaussian(sigma), max_memory=enough)
    filter_file(path, tmp_path / f"out.{suffix}", Gaussian(sigma), max_memory=enough)
    result = np.asarray(Image.open(tmp_path / f"out.{suffix}"))
    np.testing.assert_array_equal(result, gaussian(pixels, sigma, channel_axis=-1))


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_input_and_output_may_be_the_same_file(tmp_path, suffix):
    pixels = scene(700, 500)
    path = tmp_path / f"same.{suffix}"
    tifffile.imwrite(path, pixels) if suffix == "tif" else Image.fromarray(pixels).save(path)
    before = path.read_bytes()
    with pytest.raises(OutputExistsError):
        filter_file(path, path, Gaussian(4))
    assert path.read_bytes() == before
    filter_file(path, path, Gaussian(4), overwrite=True)
    result = tifffile.imread(path) if suffix == "tif" else np.asarray(Image.open(path))
    np.testing.assert_array_equal(result, gaussian(pixels, 4))
    assert [child.name for child in tmp_path.iterdir()] == [path.name]


def test_every_page_is_filtered(tmp_path):
    pages = [scene(300, 200), scene(100, 333, 3, "uint8"), scene(64, 64, None, "float32")]
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for page in pages:
            writer.write(page, photometric="rgb" if page.ndim == 3 else "minisblack", compression="zlib")
    report = filter_file(tmp_path / "in.tif", tmp_path / "out.tif", Gaussian(3))
    assert len(report.plans) == 3
    with tifffile.TiffFile(tmp_path / "out.tif") as result:
        assert len(result.pages) == 3
        for page, original in zip(result.pages, pages, strict=True):
            channel_axis = -1 if original.ndim == 3 else None
            np.testing.assert_array_equal(page.asarray(), gaussian(original, 3, channel_axis=channel_axis))


@pytest.mark.parametrize("tile", [None, (64, 48)])
def test_planes_are_filtered_one_by_one(tmp_path, tile):
    pixels = np.moveaxis(scene(400, 300, 3), -1, 0)
    tifffile.imwrite(tmp_path / "in.tif", pixels, planarconfig="separate", photometric="rgb", tile=tile)
    filter_file(tmp_path / "in.tif", tmp_path / "out.tif", Gaussian(3))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), gaussian(pixels, 3, channel_axis=0))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    shape=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    sigma=st.tuples(st.just(0.0) | st.floats(0.1, 20), st.just(0.0) | st.floats(0.1, 20)),
    mode=st.sampled_from(MODES),
    tile=st.sampled_from([None, (16, 16), (48, 32)]),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    threads=st.integers(1, 4),
)
def test_arrays_and_files_agree(tmp_path, shape, sigma, mode, tile, dtype, threads):
    pixels = scene(*shape, None, dtype)
    expected = gaussian(pixels, sigma, mode=mode, cval=9)
    names = ["a.tif"] if dtype == "float32" else ["a.tif", "a.png"]
    for name in names:
        if name == "a.tif":
            tifffile.imwrite(tmp_path / name, pixels, tile=tile)
        else:
            Image.fromarray(pixels).save(tmp_path / name)
        filter_file(
            tmp_path / name, tmp_path / f"out{name}", Gaussian(sigma), mode=mode, cval=9, threads=threads,
            overwrite=True,
        )  # fmt: skip
        result = (
            tifffile.imread(tmp_path / f"out{name}")
            if name == "a.tif"
            else np.asarray(Image.open(tmp_path / f"out{name}"))
        )
        np.testing.assert_array_equal(result, expected)


def test_cancelling_leaves_nothing(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", scene(600, 400))

    def cancel(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filter_file(tmp_path / "in.tif", tmp_path / "out.tif", Gaussian(2), progress=cancel)
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mode": "around"}, ValueError, "mode is 'around'"),
        ({"cval": "black"}, TypeError, "cval is 'black'.*number"),
        ({"alpha": "none"}, ValueError, "alpha is 'none'.*weighted, independent"),
        ({"method": "spectral"}, ValueError, "method is 'spectral'"),
        ({"backend": "gpu"}, ValueError, "backend is 'gpu'"),
        ({"threads": 0}, ValueError, "threads is 0"),
        ({"max_memory": "lots"}, ValueError, "max_memory is 'lots'"),
    ],
)
def test_wrong_arguments_are_named_and_leave_nothing(tmp_path, arguments, error, message):
    tifffile.imwrite(tmp_path / "in.tif", scene(20, 30))
    with pytest.raises(error, match=message):
        filter_file(tmp_path / "in.tif", tmp_path / "out.tif", Gaussian(2), **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def test_python_objects_stay_few(tmp_path):
    """What is kept for each window must not grow with the image."""
    tifffile.imwrite(tmp_path / "in.tif", scene(4000, 64), rowsperstrip=4)
    tracemalloc.start()
    try:
        filter_file(tmp_path / "in.tif", tmp_path / "out.tif", Gaussian(1), threads=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000
