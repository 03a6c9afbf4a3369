"""`convolve` and `correlate` where pixels or weights are special: NaN, infinite, huge, or more than fits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from blurfast import convolve, correlate
from blurfast.boundary import MODES
from tests import naive
from tests.convolutions import weights
from tests.pictures import noise

METHODS = ["direct", "separable"]


def holed(shape, seed):
    """Return weights of which about half are zero."""
    kernel = weights(shape, seed)
    kernel[np.random.default_rng(seed + 1).uniform(size=shape) < 0.5] = 0
    kernel.flat[seed % kernel.size] = 0.75
    return kernel


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 1), (2, 2), (3, 3), (6, 5)])
def test_special_pixels_reach_as_far_as_in_scipy(shape, mode, dtype):
    for seed in range(6):
        kernel = holed(shape, seed)
        image = noise((36, 43), dtype, seed)
        for function, theirs in ((correlate, ndimage.correlate), (convolve, ndimage.convolve)):
            for special in (np.nan, np.inf, -np.inf):
                spoilt = image.copy()
                spoilt[[0, 17, 18, 35], [42, 20, 21, 5]] = special
                with np.errstate(invalid="ignore"):
                    expected = theirs(spoilt.astype(float), kernel, mode=mode)
                result = function(spoilt, kernel, mode=mode, method="direct")
                np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
                for sign in (np.inf, -np.inf):
                    np.testing.assert_array_equal(result == sign, expected == sign)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("holes", [False, True])
def test_special_pixels_leave_all_others_alone(holes, special, dtype):
    for shape in ((1, 5), (4, 1), (3, 3), (6, 5)):
        for seed in range(6):
            kernel = holed(shape, seed) if holes else weights(shape, seed)
            image = noise((70, 143), dtype, seed)
            spoilt = image.copy()
            spoilt[33, 61] = special
            before = convolve(image, kernel, method="direct")
            after = convolve(spoilt, kernel, method="direct")
            assert np.isfinite(after).sum() == image.size - np.count_nonzero(kernel)
            assert after[np.isfinite(after)].tobytes() == before[np.isfinite(after)].tobytes()


@pytest.mark.parametrize("value", [np.nan, 1e30])
def test_pixels_under_a_zero_do_not_matter(value):
    kernel, image = np.array([[0.0, 1.0], [1.0, 0.0]]), noise((70, 143), "float32")
    spoilt = image.copy()
    spoilt[33, 61] = value
    before, after = (correlate(picture, kernel, method="direct") for picture in (image, spoilt))
    assert np.argwhere(before.view("int32") != after.view("int32")).tolist() == [[33, 62], [34, 61]]


def test_special_pixels_fill_the_rectangle_of_products():
    image = noise((40, 50), "float32")
    image[20, 20] = np.nan
    result = correlate(image, np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 3.0, 1.0]), method="separable")
    assert np.argwhere(np.isnan(result)).tolist() == [[row, column] for row in (19, 20, 21) for column in range(19, 23)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values_beyond_the_edges(value, method):
    result = correlate(np.ones((9, 9), "float32"), np.full((3, 3), 1 / 9), mode="constant", cval=value, method=method)
    expected = np.pad(np.ones((7, 7)), 1, constant_values=value)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("share", [0.2, 0.49])
def test_huge_values(share, dtype, method):
    largest = float(np.finfo(dtype).max) * share
    image = np.where(noise((45, 61), "bool"), largest, -largest).astype(dtype)
    for kernel in (np.outer([0.25, 0.5, 0.25], [0.3, 0.7]), np.outer([0.1, 0.2, 0.3, 0.4], [1.0])):
        result = convolve(image, kernel, method=method)
        exact = naive.convolve_kernel(image.astype(float), kernel, "reflect")
        np.testing.assert_allclose(result / largest, exact / largest, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_results_that_do_not_fit_saturate_or_are_infinite(method):
    kernel = np.full((2, 2), 1e39)
    for dtype, expected in (("uint8", 255), ("int16", 2**15 - 1), ("float32", np.inf)):
        assert (convolve(np.ones((6, 7), dtype), kernel, method=method) == expected).all()
    ones = convolve(np.full((6, 7), 1e-39), kernel, method=method)
    np.testing.assert_allclose(ones, 4)
    np.testing.assert_allclose(convolve(np.full((6, 7), 1e-300), np.full((1, 2), 1e300), method=method), 2)
    halves = convolve(np.array([[1.0, 3.0, 5.0]]), [[1e308, 1e308]], normalize=True, method=method)
    np.testing.assert_allclose(halves, [[2.0, 4.0, 5.0]])
