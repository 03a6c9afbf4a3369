"""NaN and infinities among pixels that are transformed: they reach as far as the weights, and spoil nothing else.

Values near the largest of a dtype are here too, for they become infinite where sums do.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from blurfast import correlate
from blurfast.boundary import MODES
from blurfast.cpu.nonfinite import Contributions, repair_bytes
from blurfast.transforms import Transform
from tests import naive, tolerances
from tests.convolutions import assert_like, average, weights
from tests.pictures import noise


def assert_special(image, kernel, **options):
    """Assert that NaN and infinities stand exactly where the oracle has them, and that all else is near to it."""
    result = correlate(image, kernel, method="fft", **options)
    with np.errstate(invalid="ignore"):
        exact = naive.correlate_kernel(image.astype(float), kernel, **({"mode": "reflect"} | options))
    np.testing.assert_array_equal(np.isnan(result), np.isnan(exact))
    np.testing.assert_array_equal(result == np.inf, exact == np.inf)
    np.testing.assert_array_equal(result == -np.inf, exact == -np.inf)
    finite = np.isfinite(exact)
    plain = image[np.isfinite(image)].astype(float)
    reach = (plain.max(initial=0) - plain.min(initial=0)) * max(1.0, np.abs(kernel).sum())
    tolerances.assert_near(result[finite], exact[finite], reach)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("mode", MODES)
def test_special_pixels_reach_the_weights_that_are_not_zero(mode, value, dtype):
    kernel = weights((8, 11))
    kernel[:, 2] = kernel[3] = kernel[0, 0] = 0
    image = noise((60, 75), dtype)
    image[0, 3] = image[30, 40] = image[31, 40] = image[59, 74] = value
    assert_special(image, kernel, mode=mode, cval=2.0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_opposing_infinities_meet(dtype):
    image = noise((70, 64), dtype)
    image[20, 20], image[24, 25], image[40, 40], image[0, 60] = np.inf, -np.inf, np.nan, np.inf
    assert_special(image, average((9, 10)))
    assert_special(image, weights((7, 7)))
    assert_special(image, np.array([[0, 0, 0], [0, 0, 0], [1.0, 0, -1.0]]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nothing_but_special_pixels(value):
    assert_special(np.full((40, 40), value, "float32"), average((5, 5)))
    assert_special(np.full((40, 40), value, "float32"), np.array([[1.0, -1.0]]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_pixels_of_one_channel_leave_the_others_alone(dtype):
    image, kernel = noise((50, 40, 3), dtype), average((7, 6))
    expected = correlate(image, kernel, channel_axis=-1, method="fft")
    spoilt = image.copy()
    spoilt[20, 20, 1] = np.nan
    result = correlate(spoilt, kernel, channel_axis=-1, method="fft")
    assert np.isnan(result[..., 1]).sum() == 42
    for channel in (0, 2):
        assert_like(result[..., channel], expected[..., channel].astype(float), image, kernel)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e20])
def test_special_pixels_cost_no_precision(scale):
    """Pixels of any magnitude are filtered as well beside a NaN as without it."""
    image = (scale * np.random.default_rng(0).uniform(0, 1, (120, 120))).astype("float32")
    image[50, 60] = np.nan
    assert_special(image, average((31, 31)))


@pytest.mark.parametrize(("dtype", "largest"), [("float32", 8e37), ("float64", 4e307)])
@pytest.mark.parametrize("share", [1e-8, 1e-3, 0.1, 1.0])
def test_huge_values(dtype, largest, share):
    """Up to a quarter of the largest number, as documented."""
    image = (share * largest * np.random.default_rng(0).uniform(-1, 1, (120, 130))).astype(dtype)
    kernel = average((31, 31))
    result = correlate(image, kernel, method="fft") / share / largest
    exact = naive.correlate_kernel(image / share / largest, kernel, "reflect")
    tolerances.assert_near(result.astype(dtype), exact, 2.0)


def test_sums_beyond_the_largest_value_are_infinite():
    image = np.full((60, 60), 3e38, "float32")
    image[:, 30:] *= -1
    result = correlate(image, np.ones((3, 3)), method="fft")
    assert (result[:, :28] == np.inf).all()
    assert (result[:, 32:] == -np.inf).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_memory_of_a_repair_is_what_is_planned(dtype):
    transform = Transform(rows=700, columns=720, kernel_rows=41, kernel_columns=41, channels=1, itemsize=4)
    tile = noise((700, 720), dtype)
    tile[::30, ::40], tile[5::30, ::40], tile[9::30, ::40] = np.nan, np.inf, -np.inf
    contributions = Contributions(np.random.default_rng(0).normal(size=(41, 41)), transform)
    contributions.of(tile)  # what numpy keeps for transforms of a size is not counted
    tracemalloc.start()
    contributions.of(tile)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.9 * repair_bytes(transform) <= peak <= repair_bytes(transform)
