"""`gaussian` on arrays: exact to the tolerance of each dtype, flat where the image is, never out of its range."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from blurfast import gaussian
from blurfast.boundary import MODES
from tests import naive, tolerances
from tests.pictures import DTYPES, FLOATS, INTEGERS, PICTURES, checker, noise, pixel_range
from tests.tolerances import assert_exact

SHAPES = [(1, 1), (1, 2), (2, 1), (1, 67), (66, 1), (2, 2), (3, 5), (7, 130), (65, 33), (64, 64), (129, 20), (50, 515)]

# ------------------------------------------------------------------------------------------------------ exactness


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("picture", list(PICTURES))
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_oracle(dtype, picture, mode):
    low, high = pixel_range(dtype)
    cval = low + 0.75 * (high - low)
    for shape, sigma in [((33, 70), 1.7), ((66, 31), (0.6, 4.0)), ((20, 41), (9.0, 0))]:
        image = PICTURES[picture](shape, dtype)
        exact = naive.gaussian(image, sigma, mode=mode, cval=cval)
        result = gaussian(image, sigma, mode=mode, cval=cval)
        assert result.dtype == image.dtype
        assert_exact(result, exact, tolerances.spread(image, mode, cval))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_scipy_in_float64(dtype, mode):
    image = noise((130, 201), dtype)
    for sigma in (0.8, (3.0, 2.0), 12.0):
        exact = ndimage.gaussian_filter(image.astype(np.float64), sigma, mode=mode, cval=3.0, truncate=8)
        assert_exact(gaussian(image, sigma, mode=mode, cval=3.0), exact, tolerances.spread(image, mode, 3.0))


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 11.0, (0.2, 3.0), (3.0, 0.2), (0, 2.0), (2.0, 0)])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_rounded_right_999_times_in_1000(dtype, sigma):
    pixels = wrong = 0
    for picture, shape in (("noise", (350, 350)), ("checker", (190, 190)), ("noise", (300, 40))):
        image = PICTURES[picture](shape, dtype)
        exact = ndimage.gaussian_filter(image.astype(np.float64), sigma, truncate=8)
        wrong += tolerances.count_wrong(gaussian(image, sigma), naive.as_pixels(exact, dtype))
        pixels += image.size
    assert wrong <= tolerances.SHARE_OF_ROUNDED_OTHERWISE * pixels, f"{1000 * wrong / pixels:.2f} of 1000 pixels"


@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1), (2, 4000), (3, 3000), (3000, 5), (9, 4000)])
@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_narrow_images_are_rounded_right_too(dtype, shape):
    image = noise(shape, dtype)
    wrong = 0
    for sigma in (0.5, 1.5, 4.0, 10.0):
        exact = ndimage.gaussian_filter(image.astype(np.float64), sigma, truncate=8)
        wrong += tolerances.count_wrong(gaussian(image, sigma), naive.as_pixels(exact, dtype))
    assert wrong <= 4 * image.size * tolerances.SHARE_OF_ROUNDED_OTHERWISE


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(shape, mode):
    for dtype in ("uint8", "uint16", "float32", "float64"):
        image = noise(shape, dtype)
        for sigma in (1.2, (0, 30.0), (25.0, 0.4)):  # halos wider than most of these images
            exact = naive.gaussian(image, sigma, mode=mode, cval=-7.0)
            assert_exact(gaussian(image, sigma, mode=mode, cval=-7.0), exact, tolerances.spread(image, mode, -7.0))


@pytest.mark.parametrize("mode", MODES)
def test_images_wider_and_higher_than_tiles_and_panels(mode):
    for shape in ((70, 9001), (3001, 70)):
        image = noise(shape, "float32")
        exact = ndimage.gaussian_filter(image.astype(np.float64), (2.0, 3.0), mode=mode, cval=9, truncate=8)
        tolerances.assert_near(gaussian(image, (2.0, 3.0), mode=mode, cval=9), exact, 255)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(3, 4), (1, 9), (40, 61)])
def test_sigmas_far_larger_than_the_image(shape, mode):
    for dtype in ("uint8", "float32", "float64"):
        image = noise(shape, dtype)
        exact = ndimage.gaussian_filter(image.astype(np.float64), 200.0, mode=mode, truncate=6)
        assert_exact(gaussian(image, 200.0, mode=mode), exact, tolerances.spread(image, mode))


@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    dtype=st.sampled_from(DTYPES),
    sigma=st.tuples(st.just(0.0) | st.floats(0.1, 15), st.just(0.0) | st.floats(0.1, 15)),
    mode=st.sampled_from(MODES),
    cval=st.integers(0, 100),
    seed=st.integers(0, 99),
)
def test_any_image_equals_the_oracle(shape, dtype, sigma, mode, cval, seed):
    image = noise(shape, dtype, seed)
    if dtype == "bool":  # the tolerance is a share of the dtype's range
        cval = min(cval, 1)
    exact = naive.gaussian(image, sigma, mode=mode, cval=cval)
    assert_exact(gaussian(image, sigma, mode=mode, cval=cval), exact, tolerances.spread(image, mode, cval))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sigma", [0.5, 2.0, (3.0, 0.9), 20.0])
def test_a_given_truncate_is_met_to_the_last_digits(sigma, mode):
    image = noise((61, 83))
    for truncate in (0.5, 2.0, 4.0):
        exact = naive.gaussian(image, sigma, mode=mode, cval=5.0, truncate=truncate)
        result = gaussian(image, sigma, mode=mode, cval=5.0, truncate=truncate)
        tolerances.assert_near(result, exact, 255, tolerances.LIKE_TRUNCATED)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-9])
def test_tolerance_bounds_the_error(tolerance):
    image = checker((120, 90), "float64")
    exact = naive.gaussian(image, 6.0)
    error = np.abs(gaussian(image, 6.0, tolerance=tolerance) - exact).max()
    assert error <= tolerance * 255
    assert tolerance < 1e-8 or error > 0


# ----------------------------------------------------------------------------------------------------- derivatives


def absolute_weights(sigma: float, order: tuple[int, int], truncate: float) -> float:
    """Return by how much a derivative can exceed the range of the image."""
    return math.prod(float(np.abs(naive.weights(sigma, one, truncate)).sum()) for one in order)


ORDERS = [(0, 1), (1, 0), (1, 1), (2, 0), (0, 2), (2, 2), (3, 0), (1, 3), (3, 3)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_derivatives_equal_the_oracle(order, mode):
    for dtype in ("uint8", "uint16", "float32", "float64"):
        image = noise((44, 71), dtype)
        out = np.empty(image.shape, dtype if dtype.startswith("f") else "float32")
        for sigma in (0.8, 2.5):
            exact = naive.gaussian(image, sigma, order=order, mode=mode, cval=20.0)
            result = gaussian(image, sigma, order=order, mode=mode, cval=20.0, out=out)
            assert result is out
            spread = tolerances.spread(image, mode, 20.0) * absolute_weights(sigma, order, 8)
            tolerances.assert_near(result, exact, spread)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("truncate", [1.0, 3.0, 6.0])
def test_derivatives_with_a_given_truncate_in_float64(order, mode, truncate):
    image = noise((44, 71))
    for sigma in (0.8, 2.5, 20.0):
        exact = naive.gaussian(image, sigma, order=order, mode=mode, cval=20.0, truncate=truncate)
        result = gaussian(image, sigma, order=order, mode=mode, cval=20.0, truncate=truncate)
        spread = 255 * absolute_weights(sigma, order, truncate)
        tolerances.assert_near(result, exact, spread, tolerances.LIKE_TRUNCATED)


@pytest.mark.parametrize("order", ORDERS)
def test_derivatives_equal_scipy(order):
    image = noise((44, 71))
    exact = ndimage.gaussian_filter(image, 2.5, order=order, mode="nearest", truncate=8)
    tolerances.assert_near(
        gaussian(image, 2.5, order=order, mode="nearest"), exact, 255 * absolute_weights(2.5, order, 8)
    )


@pytest.mark.parametrize("order", [1, 2, (0, 1), (2, 0), (0, 3)])
@pytest.mark.parametrize(("sigma", "truncate"), [(0.3, 0.5), (0.1, 1.0), (0.01, 4.0), (2.0, 0.0)])
def test_derivatives_cut_to_a_single_weight(sigma, truncate, order):
    image = noise((9, 14))
    exact = naive.gaussian(image, sigma, order=order if isinstance(order, tuple) else (order, order), truncate=truncate)
    result = gaussian(image, sigma, order=order, truncate=truncate)
    np.testing.assert_allclose(result, exact, rtol=1e-12, atol=0)


@pytest.mark.parametrize("order", [1, 3, (0, 1)])
def test_derivatives_of_a_tiny_gaussian_vanish_like_its_samples(order):
    assert np.abs(gaussian(noise((9, 14)), 0.01, order=order)).max() == 0


@pytest.mark.parametrize("order", ORDERS)
def test_odd_derivatives_of_a_flat_image_are_zero(order):
    if any(one % 2 for one in order):
        for dtype in ("uint8", "float32", "float64"):
            out = np.empty((40, 30), "float64" if dtype == "float64" else "float32")
            assert not gaussian(np.full((40, 30), 77, dtype), 2.0, order=order, out=out).any()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16"])
def test_derivatives_in_integers_saturate(dtype):
    image = checker((40, 50), dtype)
    exact = naive.gaussian(image, 0.7, order=(0, 1))
    tolerances.count_wrong(gaussian(image, 0.7, order=(0, 1)), naive.as_pixels(exact, dtype))
    assert exact.max() > 100
    assert exact.min() < -60


def test_derivatives_hardly_depend_on_the_brightness():
    image = noise((40, 50), "uint8").astype("float32")
    plain = gaussian(image, 2.0, order=(0, 1))
    bright = gaussian(image + 2**15, 2.0, order=(0, 1))
    resolution = float(np.spacing(np.float32(2**15)))
    np.testing.assert_allclose(bright, plain, rtol=0, atol=resolution * absolute_weights(2.0, (0, 1), 8))


# -------------------------------------------------------------------------------------- flatness, range, NaN and inf


NASTY = {
    "bool": [False, True],
    "float16": [0.1, 1 / 3, 65504, 6e-8, -7.7],
    "float32": [0.1, 1e-30, 3e37, 3e38 / 65535, 1 / 3, 1e-45, -16777217.0],
    "float64": [0.1, 1e-30, 3e38 / 65535, 1 / 3, 4.4e307, 5e-324, -9007199254740993.0],
} | {dtype: [np.iinfo(dtype).min, np.iinfo(dtype).max, 1, 77] for dtype in INTEGERS if dtype != "int64"}


@pytest.mark.parametrize("mode", MODES[:4])
@pytest.mark.parametrize("dtype", list(NASTY))
def test_flat_stays_flat(dtype, mode):
    for value in NASTY[dtype]:
        image = np.full((37, 83), value, dtype)
        for sigma in (0.1, 0.34, 0.5, 1.0, 3.0, (0, 2.0), (7.7, 0.2), 60.0):
            result = gaussian(image, sigma, mode=mode)
            assert (result == image).all(), f"{value} became {set(np.unique(result)) - {value}} at sigma {sigma}"


@given(
    value=st.floats(-(2.0**125), 2.0**125, width=32),
    sigma=st.floats(0.05, 40),
    mode=st.sampled_from(MODES[:4]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_any_flat_image_stays_flat(value, sigma, mode, dtype):
    image = np.full((9, 21), value, dtype)
    np.testing.assert_array_equal(gaussian(image, sigma, mode=mode), image)


def test_flat_stays_flat_with_the_same_cval():
    image = np.full((30, 40), 0.1, "float32")
    np.testing.assert_array_equal(gaussian(image, 2.0, mode="constant", cval=float(image[0, 0])), image)


def test_a_flat_part_stays_flat():
    image = np.full((200, 200), 0.1, "float32")
    image[150:] = 1 / 3
    result = gaussian(image, 3.0)
    assert (result[:130] == image[0, 0]).all()
    assert (result[170:] == image[-1, -1]).all()


sane = {
    "float32": st.floats(-(2.0**120), 2.0**120, width=32),
    "float64": st.floats(-1e307, 1e307),
    "float16": st.floats(-65504, 65504, width=16),
}


@given(data=st.data(), dtype=st.sampled_from(list(sane)), mode=st.sampled_from(MODES[:4]))
def test_nothing_leaves_the_range_of_the_input(data, dtype, mode):
    values = data.draw(st.lists(sane[dtype], min_size=1, max_size=8))
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 40)))
    sigma = data.draw(st.floats(0.1, 0.5) | st.floats(0.5, 20))
    choices = np.random.default_rng(data.draw(st.integers(0, 999))).integers(0, len(values), shape)
    image = np.array(values, dtype)[choices]
    result = gaussian(image, sigma, mode=mode)
    assert result.min() >= image.min()
    assert result.max() <= image.max()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sigma", [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.7, 1.0, 4.0, 33.0])
def test_two_values_are_never_exceeded(sigma, dtype):
    generator = np.random.default_rng(8)
    one = np.dtype(dtype).type(1)
    for low, high in ((0, 1), (-1 / 3, 0.1), (one, np.nextafter(one, one + one)), (1e-7, 3e4), (-3e4, 3e4)):
        for share in (0.01, 0.5, 0.99):  # nearly saturated regions too
            image = np.where(generator.random((70, 90)) < share, high, low).astype(dtype)
            for truncate in (None, 2.0):
                result = gaussian(image, sigma, truncate=truncate)
                assert result.min() >= image.min()
                assert result.max() <= image.max()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_largest_contrast_of_all_stays_finite(dtype):
    largest = np.finfo(dtype).max
    result = gaussian(checker((40, 40), "float32").astype(dtype).clip(-1, 1) * largest, 1.0)
    assert np.isfinite(result).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(60, 75), (66, 5)])
def test_nan_and_infinity_spread_as_far_as_in_scipy(shape, dtype, mode):
    image = noise(shape, dtype)
    image[30, 3], image[12, 1], image[50, 4], image[0, 0] = np.nan, np.inf, -np.inf, np.inf
    for sigma, truncate in ((1.0, 4.0), ((0.5, 2.0), 3.0), (3.0, 2.5), ((2.0, 0), 4.0)):
        with np.errstate(invalid="ignore"):
            expected = ndimage.gaussian_filter(image.astype("float64"), sigma, mode=mode, cval=1.5, truncate=truncate)
        result = gaussian(image, sigma, mode=mode, cval=1.5, truncate=truncate)
        np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
        np.testing.assert_array_equal(np.isposinf(result), np.isposinf(expected))
        np.testing.assert_array_equal(np.isneginf(result), np.isneginf(expected))
        finite = np.isfinite(expected)
        tolerances.assert_near(result[finite], expected[finite], 255)


def test_nan_does_not_reach_beyond_its_support():
    image = np.ones((40, 300), "float32")
    image[20, 150] = np.nan
    result = gaussian(image, 2.0, truncate=3)
    assert np.isnan(result[14:27, 144:157]).all()
    assert np.isnan(result).sum() == 13 * 13
    assert (result[~np.isnan(result)] == 1).all()


def test_cval_may_be_nan_or_infinite():
    image = noise((20, 30), "float64")
    inner = gaussian(image, 1.0, truncate=3)
    for cval in (np.nan, np.inf):
        result = gaussian(image, 1.0, truncate=3, mode="constant", cval=cval)
        assert not np.isfinite(result[:3]).any()
        np.testing.assert_allclose(result[3:-3, 3:-3], inner[3:-3, 3:-3], rtol=1e-12)


def test_float16_reaches_its_largest_number_and_overflows_like_numpy():
    image = np.full((20, 30), 65504, "float16")
    image[:, 15:] = -65504
    result = gaussian(image, 2.0)
    assert np.isfinite(result).all()
    assert result[0, 0] == 65504
    out = np.empty((20, 30), "float16")
    gaussian(np.full((20, 30), 1e6, "float32"), 2.0, out=out)
    assert np.isposinf(out).all()


@pytest.mark.parametrize("cval", [-1e6, -300.0, 0.25, 300.0, 1e6])
def test_cval_may_lie_outside_the_range_of_integers(cval):
    image = noise((30, 40), "uint8")
    exact = naive.gaussian(image, 1.5, mode="constant", cval=cval, truncate=4)
    result = gaussian(image, 1.5, mode="constant", cval=cval, truncate=4)
    assert tolerances.count_wrong(result, naive.as_pixels(exact, "uint8")) <= 2


def test_cval_beyond_float32_is_infinite_there_without_a_warning():
    result = gaussian(np.ones((30, 40), "float32"), 1.0, mode="constant", cval=1e300)
    assert np.isposinf(result[0, 0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigma_zero_is_the_identity(dtype):
    image = noise((35, 67), dtype)
    np.testing.assert_array_equal(gaussian(image, 0), image)
    np.testing.assert_array_equal(gaussian(image, (0, 0), mode="constant", cval=9), image)
