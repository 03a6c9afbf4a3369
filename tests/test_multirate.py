"""The multirate Gaussian: its error bound, its independence of tiles, and its memory."""

from __future__ import annotations

import dataclasses
import sys
import tracemalloc

import numpy as np
import pytest
import tifffile

import blurfast
from blurfast import planning
from blurfast.engine import filter_array, filter_copied
from blurfast.errors import UnsupportedError
from blurfast.io.array import ArraySink, ArraySource, describe
from blurfast.io.base import Grain
from blurfast.planning import Bands, plan_array
from blurfast.resources import Resources
from blurfast.weights import multirate_gaussian
from tests import naive
from tests.tolerances import SHARE_OF_ROUNDED_OTHERWISE

# A sigma for every factor of decimation.
SIGMAS = {2: 5.0, 4: 10.0, 8: 22.0, 16: 60.0}


def signals(length: int) -> dict[str, np.ndarray]:
    """Return signals in [0, 1] that find out filters."""
    random = np.random.default_rng(1)
    ramp = np.arange(length)
    return {
        "noise": random.random(length),
        "impulse": (ramp == length // 2 + 1).astype(float),
        "step": (ramp > length // 3).astype(float),
        "nyquist": (ramp % 2).astype(float),
        "square": (ramp % 8 < 4).astype(float),
    }


def ideal(signal: np.ndarray, sigma: float, mode: str = "reflect") -> np.ndarray:
    """Return the Gaussian of a line in float64."""
    return naive.correlate(signal[np.newaxis], np.ones(1), naive.weights(sigma), mode)[0]


@pytest.mark.parametrize("sigma", [4.0, 5.0, 7.3, 10.0, 22.0, 60.0, 200.0, 1000.0])
@pytest.mark.parametrize("tolerance", [1e-4, 5e-6, 1e-6, 5e-7, 2e-8])
def test_designs_keep_their_tolerance(sigma, tolerance):
    design = multirate_gaussian(sigma, tolerance)
    if design is None:
        assert sigma < 6, "only small sigmas may have no design"
        return
    assert 0 < design.error <= tolerance
    for resampler in (design.decimate, design.blur, design.interpolate):
        np.testing.assert_allclose(resampler.taps.sum(axis=1), 1, atol=1e-14)


@pytest.mark.parametrize("factor", SIGMAS)
@pytest.mark.parametrize("name", signals(8))
@pytest.mark.parametrize("axis", [0, 1])
def test_the_error_bound_holds(factor, name, axis):
    sigma = SIGMAS[factor]
    line = signals(1500)[name]
    image = np.repeat(line[:, np.newaxis], 3, axis=1) if axis == 0 else np.repeat(line[np.newaxis], 3, axis=0)
    sigmas = (sigma, 0.0) if axis == 0 else (0.0, sigma)
    design = multirate_gaussian(sigma, 1e-6)
    assert design.factor == factor
    result = blurfast.gaussian(image, sigmas, tolerance=1e-6, method="multirate")
    error = np.abs(result - np.take(result, [0], axis=1 - axis)).max()
    assert error == 0, "equal lines stay equal"
    assert np.abs(np.take(result, 0, axis=1 - axis) - ideal(line, sigma)).max() <= design.error


@pytest.mark.parametrize("factor", SIGMAS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float16", "float32", "float64", "int32"])
def test_all_dtypes_are_as_exact_as_by_default(factor, dtype):
    sigma = 6.0 if factor == 2 else SIGMAS[factor]
    random = np.random.default_rng(2)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        image = random.random((150, 170)).astype(kind)
    else:
        limits = np.iinfo(kind)
        image = random.integers(limits.min, limits.max, (150, 170), dtype=kind, endpoint=True)
        image[40:80, 30:90] = limits.max
    tolerance = 1e-9 if dtype == "int32" else None  # by default it asks for more than the method can do
    result = blurfast.gaussian(image, sigma, tolerance=tolerance, method="multirate")
    exact = naive.gaussian(image.astype(np.float64), sigma)
    if kind.kind == "f":
        allowed = {"float16": 6e-4, "float32": 3e-6, "float64": 1e-6}[dtype]
        assert np.abs(result.astype(np.float64) - exact).max() <= allowed
    elif dtype == "int32":
        assert np.abs(result - exact).max() <= 1e-9 * 2**32 + 1
    else:
        wrong = result != np.rint(exact)
        assert np.abs(result - np.rint(exact)).max() <= 1
        assert wrong.mean() <= SHARE_OF_ROUNDED_OTHERWISE


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (37, 1), (2, 3), (5, 260), (131, 97)])
def test_modes_and_images_smaller_than_the_factor(mode, shape):
    image = np.random.default_rng(3).random(shape)
    for sigma in (6.0, (9.0, 30.0), (0.0, 25.0), (40.0, 1.0)):
        result = blurfast.gaussian(image, sigma, mode=mode, cval=0.7, method="multirate")
        exact = naive.gaussian(image, sigma, mode=mode, cval=0.7)
        assert np.abs(result - exact).max() <= 1e-6, sigma


def test_sigma_1000_on_a_small_image():
    image = np.random.default_rng(4).random((40, 60)).astype(np.float32)
    result = blurfast.gaussian(image, 1000)
    np.testing.assert_allclose(result, image.mean(dtype=np.float64), atol=3e-6)


@pytest.mark.parametrize("channels", [2, 3, 4, 7])
def test_channels_are_filtered_separately(channels):
    image = np.random.default_rng(5).integers(0, 256, (90, 120, channels)).astype(np.uint8)
    together = blurfast.gaussian(image, 11, channel_axis=-1, method="multirate")
    for channel in range(channels):
        alone = blurfast.gaussian(image[..., channel], 11, method="multirate")
        np.testing.assert_array_equal(together[..., channel], alone)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 3e30, -7.7e-20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_flat_stays_flat(value, dtype):
    image = np.full((70, 90), value, dtype)
    for sigma in SIGMAS.values():
        result = blurfast.gaussian(image, sigma, method="multirate")
        np.testing.assert_array_equal(result, image)


def test_results_stay_in_range():
    random = np.random.default_rng(6)
    image = np.where(random.random((200, 230)) < 0.02, np.float32(0.3), np.float32(0.1))
    for sigma in SIGMAS.values():
        result = blurfast.gaussian(image, sigma, method="multirate")
        assert result.min() >= image.min()
        assert result.max() <= image.max()


@pytest.mark.parametrize("sigma", [5.0, (12.0, 30.0), (0.0, 70.0)])
def test_bytes_do_not_depend_on_bands_and_threads(sigma):
    image = np.random.default_rng(7).random((700, 333, 1)).astype(np.float32)
    expected = blurfast.gaussian(image[..., 0], sigma, method="multirate", threads=1).tobytes()
    for rows in (2, 34, 250):
        plan = plan_array(blurfast.Gaussian(sigma), describe(image), image.dtype, 3, method="multirate")
        plan = dataclasses.replace(plan, bands=Bands(rows, 333, 0), threads=3)
        result = np.empty_like(image)
        filter_array(plan, image, result)
        assert result.tobytes() == expected


def test_files_equal_arrays(tmp_path):
    image = np.random.default_rng(8).integers(0, 65536, (1300, 900)).astype(np.uint16)
    for name, options in (("strips", {"rowsperstrip": 7}), ("tiles", {"tile": (64, 48), "compression": "zlib"})):
        source, target = tmp_path / f"{name}.tif", tmp_path / f"{name}-out.tif"
        tifffile.imwrite(source, image, **options)
        for sigma in (15, 50):
            report = blurfast.filter_file(source, target, blurfast.Gaussian(sigma), overwrite=True)
            assert report.plans[0].method == "multirate"
            np.testing.assert_array_equal(tifffile.imread(target), blurfast.gaussian(image, sigma))


def test_scratch_memory_is_bounded():
    image = np.zeros((9000, 5000), np.float32)
    result = np.zeros_like(image)
    tracemalloc.start()
    blurfast.gaussian(image, 6, out=result)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64e6


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"truncate": 4.0}, "cut"), ({"order": 1}, "derivatives"), ({"tolerance": 1e-13}, "too small")],
)
def test_a_forced_method_says_why_it_cannot_serve(options, reason):
    with pytest.raises(UnsupportedError, match=reason):
        blurfast.gaussian(np.zeros((9, 9)), 10, method="multirate", **options)


def test_auto_takes_it_where_it_pays():
    spec = describe(np.zeros((2000, 2000, 1), np.float32))
    methods = {sigma: plan_array(blurfast.Gaussian(sigma), spec, spec.dtype, 1).method for sigma in (1, 3, 8, 20, 200)}
    assert methods == {1: "separable", 3: "separable", 8: "multirate", 20: "multirate", 200: "multirate"}


@pytest.mark.parametrize("mode", ["reflect", "wrap"])
@pytest.mark.parametrize("band_rows", [2, 6, 34, 100])
def test_streams_equal_arrays_and_read_nothing_else(monkeypatch, band_rows, mode):
    image = np.random.default_rng(9).random((1500, 60, 1)).astype(np.float32)
    expected = blurfast.gaussian(image[..., 0], 50, mode=mode)
    result = np.empty_like(image)
    sink = ArraySink(result)
    monkeypatch.setattr(planning, "_PREFERRED_BAND_BYTES", band_rows * image[0].nbytes)
    unlimited = Resources(2, sys.maxsize)
    plan = planning.plan_stream(blurfast.Gaussian(50), describe(image), sink.images[0], unlimited, 0, mode=mode)
    assert plan.method == "multirate"
    assert plan.bands.rows == band_rows
    assert plan.bands.ring_rows < 1500
    empty = np.empty

    def poisoned(shape, dtype=float):
        array = empty(shape, dtype)
        array.view(np.uint8).fill(0xFF)  # which makes every float a NaN
        return array

    monkeypatch.setattr(np, "empty", poisoned)
    filter_copied(plan, ArraySource(image), sink)
    np.testing.assert_array_equal(result[..., 0], expected)


def test_blocks_equal_arrays():
    image = np.random.default_rng(10).random((300, 420, 2)).astype(np.float32)
    expected = blurfast.gaussian(image, 20, channel_axis=-1)
    result = np.empty_like(image)
    spec = dataclasses.replace(describe(image), grain=Grain(16, 16))
    plan = planning.plan_stream(blurfast.Gaussian(20), spec, spec, Resources(2, sys.maxsize), 0)
    for rows, columns in ((64, 64), (16, 208), (2, 400)):
        blocks = dataclasses.replace(plan, bands=Bands(rows, columns, 0))
        filter_copied(blocks, ArraySource(image), ArraySink(result))
        np.testing.assert_array_equal(result, expected)
