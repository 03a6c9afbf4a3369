"""`gaussian` on arrays: exact to the tolerance of each dtype, whatever the shape, the memory layout and the threads."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

import blurfast
from blurfast import UnsupportedError, gaussian
from blurfast.engine import filter_array
from blurfast.filters import Gaussian
from blurfast.io.array import describe
from blurfast.planning import plan_array
from tests import naive, tolerances

MODES = ["reflect", "mirror", "nearest", "wrap", "constant"]
INTEGERS = ["uint8", "uint16", "int8", "int16", "int32", "uint32", "int64"]
FLOATS = ["float16", "float32", "float64"]
DTYPES = ["bool", *INTEGERS, *FLOATS]

SHAPES = [(1, 1), (1, 2), (2, 1), (1, 67), (66, 1), (2, 2), (3, 5), (7, 130), (65, 33), (64, 64), (129, 20), (50, 515)]


def pixel_range(dtype: str) -> tuple[float, float]:
    """Return the range that test images span: all of the dtype, where float64 can hold it."""
    kind = np.dtype(dtype).kind
    if kind == "f":
        return -100.0, 155.0
    if kind == "b":
        return 0, 1
    if dtype == "int64":
        return -(2**40), 2**40 - 1
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def noise(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> np.ndarray:
    low, high = pixel_range(dtype)
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return generator.uniform(low, high, shape).astype(dtype)
    return generator.integers(int(low), int(high), shape, endpoint=True).astype(dtype)


def impulse(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    image = np.full(shape, pixel_range(dtype)[0], dtype=dtype)
    image[shape[0] // 3, shape[1] // 2] = pixel_range(dtype)[1]
    return image


def checker(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return squares of 5 x 5 pixels with the hardest edges that the dtype has.

    The mean of the two integers is one too: half a level would be a tie, which any rounding error decides.
    """
    rows, columns = np.indices(shape) // 5
    low, high = pixel_range(dtype)
    return np.where((rows + columns) % 2, low, high - (dtype in INTEGERS)).astype(dtype)


IMAGES = {"noise": noise, "impulse": impulse, "checker": checker}


def assert_exact(result: np.ndarray, exact: np.ndarray, spread: float) -> None:
    """Assert what holds of every pixel; how many integers may be off by one is for those tests that have many."""
    if result.dtype.kind == "f":
        tolerances.assert_near(result, exact, spread)
    elif result.dtype.kind == "b":
        assert np.abs(exact - 0.5)[result != (exact > 0.5)].max(initial=0) <= tolerances.LEVELS
    else:
        tolerances.count_wrong(result, naive.as_pixels(exact, result.dtype))


# ------------------------------------------------------------------------------------------------------ exactness


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("picture", list(IMAGES))
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_oracle(dtype, picture, mode):
    low, high = pixel_range(dtype)
    cval = low + 0.75 * (high - low)
    for shape, sigma in [((33, 70), 1.7), ((66, 31), (0.6, 4.0)), ((20, 41), (9.0, 0))]:
        image = IMAGES[picture](shape, dtype)
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
        image = IMAGES[picture](shape, dtype)
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
    "float32": [0.1, 1e-30, 3e38, 3e38 / 65535, 1 / 3, 1e-45, -16777217.0],
    "float64": [0.1, 1e-30, 3e38 / 65535, 1 / 3, 1.7e308, 5e-324, -9007199254740993.0],
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
    value=st.floats(allow_nan=False, allow_infinity=False, width=32),
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


# ------------------------------------------------------------------------------------------- layouts, channels, out


@pytest.mark.parametrize("sigma", [2.0, (0, 3.0), 0])
def test_any_memory_layout_gives_the_same_bytes(sigma):
    image = noise((51, 70), "float32")
    expected = gaussian(image, sigma)
    spaced = np.zeros((153, 210), "float32")
    spaced[::3, ::3] = image
    unaligned = np.frombuffer(b"x" + image.tobytes(), offset=1, dtype="float32").reshape(image.shape)
    layouts = {
        "Fortran": np.asfortranarray(image),
        "spaced": spaced[::3, ::3],
        "flipped rows": image[::-1].copy()[::-1],
        "flipped columns": image[:, ::-1].copy()[:, ::-1],
        "flipped twice": np.rot90(image, 2).copy()[::-1, ::-1],
        "byte-swapped": image.astype(">f4"),
        "read-only": np.broadcast_to(image, image.shape),
        "part of rows": np.pad(image, 9)[9:-9, 9:-9],
        "unaligned": unaligned,
        "list": image.tolist(),
    }
    for name, layout in layouts.items():
        result = gaussian(layout, sigma)
        if name == "list":
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
        else:
            assert result.tobytes() == expected.tobytes(), name
            assert result.flags.c_contiguous
            assert result.dtype == np.dtype("float32")


@pytest.mark.parametrize("shape", [(40, 30), (1, 30), (40, 1)])
def test_broadcast_input(shape):
    line = noise((1, shape[1]), "uint8")
    repeated = np.broadcast_to(line, shape)
    np.testing.assert_array_equal(gaussian(repeated, 2.0), gaussian(repeated.copy(), 2.0))
    column = np.broadcast_to(noise((shape[0], 1), "uint8"), shape)
    np.testing.assert_array_equal(gaussian(column, 2.0), gaussian(column.copy(), 2.0))


@pytest.mark.parametrize("channel_axis", [-3, -2, -1, 0, 1, 2])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 33])
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_channels_are_filtered_apart(channel_axis, channels, dtype):
    planes = [noise((34, 53), dtype, seed) for seed in range(channels)]
    image = np.stack(planes, axis=channel_axis)
    for mode in ("mirror", "constant"):
        result = gaussian(image, (1.0, 2.5), mode=mode, cval=8, channel_axis=channel_axis)
        expected = np.stack([gaussian(plane, (1.0, 2.5), mode=mode, cval=8) for plane in planes], axis=channel_axis)
        assert result.tobytes() == expected.tobytes()


def test_wide_image_with_channels_and_strides():
    image = noise((66, 2100, 3), "uint16")
    expected = np.stack([gaussian(image[:, :, channel].copy(), 4.0) for channel in range(3)], axis=-1)
    np.testing.assert_array_equal(gaussian(image, 4.0, channel_axis=-1), expected)
    mirrored = image[:, ::-1, ::-1].copy()[:, ::-1, ::-1]
    np.testing.assert_array_equal(gaussian(mirrored, 4.0, channel_axis=2), expected)


@pytest.mark.parametrize("layout", ["same", "Fortran", "flipped", "swapped", "spaced", "float64", "int16"])
def test_out_of_any_layout(layout):
    image = noise((61, 85), "float32")
    out = {
        "same": np.empty((61, 85), "float32"),
        "Fortran": np.empty((61, 85), "float32", order="F"),
        "flipped": np.empty((61, 85), "float32")[::-1, ::-1],
        "swapped": np.empty((61, 85), ">f4"),
        "spaced": np.empty((122, 170), "float32")[::2, 1::2],
        "float64": np.empty((61, 85), "float64"),
        "int16": np.empty((61, 85), "int16"),
    }[layout]
    assert gaussian(image, 2.0, out=out) is out
    exact = naive.gaussian(image, 2.0)
    if layout == "int16":
        assert tolerances.count_wrong(out, naive.as_pixels(exact, "int16")) <= 10
    else:
        tolerances.assert_near(out.astype(out.dtype.newbyteorder("=")), exact, 255)


@pytest.mark.parametrize("out_dtype", [name for name in DTYPES if name != "float16"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_out_of_another_dtype(dtype, out_dtype):
    image = noise((24, 40), dtype)
    exact = naive.gaussian(image, 1.5)
    result = gaussian(image, 1.5, out=np.empty(image.shape, out_dtype))
    if result.dtype.kind == "f":
        spread = max(tolerances.spread(image), np.abs(exact).max() if out_dtype == "float32" else 0)
        tolerances.assert_near(result, exact, spread)
    else:
        assert_exact(result, exact, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_of_float16(dtype):
    if np.dtype(dtype) in map(np.dtype, ("float64", "int32", "uint32", "int64")):
        pytest.xfail("see test_float64_into_float16_in_a_process_of_its_own")
    image = noise((24, 40), dtype).clip(0, 100).astype(dtype)
    out = gaussian(image, 1.5, out=np.empty(image.shape, "float16"))
    tolerances.assert_near(out, naive.gaussian(image, 1.5), 100)


@pytest.mark.parametrize("shape", [(300, 200), (1, 50), (50, 1), (257, 31)])
@pytest.mark.parametrize("mode", MODES)
def test_in_place(shape, mode):
    for dtype in ("uint8", "float64"):
        image = noise(shape, dtype)
        expected = gaussian(image, 3.0, mode=mode)
        assert gaussian(image, 3.0, mode=mode, out=image) is image
        np.testing.assert_array_equal(image, expected)


def test_in_place_larger_than_a_band():
    image = noise((2600, 1500), "float32")
    expected = gaussian(image, (30.0, 2.0), mode="wrap")
    gaussian(image, (30.0, 2.0), mode="wrap", out=image)
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("threads", [1, 16, 64, 256])
def test_in_place_on_machines_with_many_processors(threads):
    image = noise((400, 3000), "uint8")
    expected = gaussian(image, 5.0)
    gaussian(image, 5.0, out=image, threads=threads)
    np.testing.assert_array_equal(image, expected)


def overlapping(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return an image larger than the bands of a stream, and a view of the same memory."""
    memory = noise((3600, 1500), "float64")
    square = memory[:1500]
    return {
        "one row down": (memory[:-1], memory[1:]),
        "one row up": (memory[1:], memory[:-1]),
        "many rows down": (memory[:2000], memory[1600:]),
        "many rows up": (memory[1600:], memory[:2000]),
        "columns": (memory[:, :-9], memory[:, 9:]),
        "upside down": (memory, memory[::-1]),
        "transposed": (square, square.T),
    }[name]


@pytest.mark.parametrize(
    "name", ["one row down", "one row up", "many rows down", "many rows up", "columns", "upside down", "transposed"]
)
def test_out_that_overlaps_the_image(name):
    image, out = overlapping(name)
    expected = gaussian(image.copy(), (3.0, 1.0))
    gaussian(image, (3.0, 1.0), out=out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("channel_axis", [0, 1, 2])
@pytest.mark.parametrize("shift", [1, -1])
def test_out_that_overlaps_other_channels(channel_axis, shift):
    memory = np.moveaxis(noise((4, 40, 50), "float64"), 0, channel_axis)
    lower, upper = (np.moveaxis(np.moveaxis(memory, channel_axis, 0)[part], 0, channel_axis) for part in
                    (slice(0, 3), slice(1, 4)))  # fmt: skip
    image, out = (lower, upper) if shift == 1 else (upper, lower)
    expected = gaussian(image.copy(), 2.0, channel_axis=channel_axis)
    gaussian(image, 2.0, channel_axis=channel_axis, out=out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (0, 5, 3), (5, 0, 3), (5, 4, 0)])
def test_empty_images(shape, threads):
    channel_axis = -1 if len(shape) == 3 else None
    result = gaussian(np.empty(shape, "uint8"), 2.0, channel_axis=channel_axis, threads=threads)
    assert result.shape == shape
    assert result.dtype == np.uint8


def test_input_is_left_alone():
    image = noise((90, 80), "uint8")
    before = image.copy()
    gaussian(image, 3.0)
    np.testing.assert_array_equal(image, before)


def test_neighbours_of_out_are_left_alone():
    memory = np.full((64 + 2, 90 + 2), 7, "uint8")
    gaussian(noise((64, 90), "uint8"), 2.0, out=memory[1:-1, 1:-1])
    memory[1:-1, 1:-1] = 7
    assert (memory == 7).all()


# ------------------------------------------------------------------------------------------------- the same bytes


def filtered_by(plan, image):
    out = np.zeros(image.shape, plan.target_dtype)
    filter_array(plan, image[:, :, np.newaxis], out[:, :, np.newaxis])
    return out


@given(
    shape=st.tuples(st.integers(1, 200), st.integers(1, 700)),
    dtype=st.sampled_from(["bool", "uint8", "uint16", "float32", "float64"]),
    sigma=st.tuples(st.floats(0, 9), st.floats(0, 9)),
    mode=st.sampled_from(MODES),
    threads=st.integers(1, 4),
    half_tile=st.integers(1, 400),
)
def test_same_bytes_for_every_tile_and_thread_count(shape, dtype, sigma, mode, threads, half_tile):
    image = noise(shape, dtype)
    plan = plan_array(
        Gaussian(sigma), describe(image[:, :, np.newaxis]), image.dtype, threads, mode=mode, cval=image[0, 0]
    )
    expected = gaussian(image, sigma, mode=mode, cval=float(image[0, 0]), threads=1)
    tiled = filtered_by(dataclasses.replace(plan, tile_columns=2 * half_tile), image)
    assert tiled.tobytes() == expected.tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 50])
def test_same_bytes_for_every_number_of_threads(threads):
    image = noise((517, 1301, 3), "float32")
    expected = gaussian(image, 3.0, channel_axis=-1, threads=1)
    assert gaussian(image, 3.0, channel_axis=-1, threads=threads).tobytes() == expected.tobytes()


@given(
    rows=st.tuples(st.integers(0, 150), st.integers(1, 60)),
    columns=st.tuples(st.integers(0, 150), st.integers(1, 60)),
    dtype=st.sampled_from(["uint16", "float32"]),
)
def test_a_part_is_filtered_like_the_whole(rows, columns, dtype):
    """Cut out with its halo, a part gives the same bytes where the halo suffices, if it begins at an even place."""
    image = noise((420, 420), dtype)
    halo_rows, halo_columns = Gaussian(2.0).halo(image.dtype)
    top, left = 2 * (rows[0] // 2), 2 * (columns[0] // 2)
    bottom, right = top + rows[1] + 2 * halo_rows, left + columns[1] + 2 * halo_columns
    part = gaussian(image[top:bottom, left:right], 2.0)
    inner = part[halo_rows : part.shape[0] - halo_rows, halo_columns : part.shape[1] - halo_columns]
    whole = gaussian(image, 2.0)[top + halo_rows : bottom - halo_rows, left + halo_columns : right - halo_columns]
    if min(part.shape) < 8 or dtype == "uint16":
        assert (np.abs(inner.astype(float) - whole) <= 1).all()
    else:
        np.testing.assert_allclose(inner, whole, rtol=0, atol=1e-4)


# ------------------------------------------------------------------------------------------------------- arguments


IMAGE = np.zeros((6, 7))
COLOURS = np.zeros((6, 7, 3))

WRONG = [
    ({"image": np.zeros((3, 3), object)}, TypeError, "image .*object.*allowed.*uint8"),
    ({"image": np.zeros((3, 3), complex)}, TypeError, "image .*complex128.*allowed"),
    ({"image": np.zeros((3, 3), "uint64")}, TypeError, "image .*uint64.*allowed"),
    ({"image": np.zeros((3, 3), "datetime64[s]")}, TypeError, "image .*allowed"),
    ({"image": np.zeros((3, 3), "i4,i4")}, TypeError, "image .*allowed"),
    ({"image": [["a", "b"]]}, TypeError, "image .*allowed"),
    ({"image": None}, TypeError, "image "),
    ({"image": np.float64(3)}, ValueError, "image has 0 dimensions.*2"),
    ({"image": np.zeros(5)}, ValueError, "image has 1 dimensions.*2"),
    ({"image": COLOURS}, ValueError, "image has 3 dimensions.*2.*channel_axis=-1"),
    ({"image": np.zeros((2, 3, 4, 5)), "channel_axis": 0}, ValueError, "image has 4 dimensions.*3"),
    ({"channel_axis": -1}, ValueError, "image has 2 dimensions.*3"),
    ({"sigma": -1}, ValueError, "sigma is -1.*0 to 10000"),
    ({"sigma": "big"}, TypeError, "sigma is 'big'.*number"),
    ({"sigma": (1, 2, 3)}, ValueError, "sigma has 3 values"),
    ({"order": 4}, ValueError, "order is 4.*0 to 3"),
    ({"order": 0.5}, TypeError, "order is 0.5.*integer"),
    ({"mode": "Reflect"}, ValueError, "mode is 'Reflect'.*reflect, mirror, nearest, wrap, constant"),
    ({"mode": None}, ValueError, "mode is None"),
    ({"mode": 3}, ValueError, "mode is 3"),
    ({"mode": ["reflect", "wrap"]}, ValueError, "mode is "),
    ({"cval": None}, TypeError, "cval is None.*number"),
    ({"cval": "3"}, TypeError, "cval is '3'.*number"),
    ({"cval": 1j}, TypeError, "cval is 1j.*number"),
    ({"cval": [1, 2]}, TypeError, r"cval is \[1, 2\].*number"),
    ({"truncate": -1}, ValueError, "truncate is -1"),
    ({"truncate": "4"}, TypeError, "truncate is '4'"),
    ({"tolerance": 2}, ValueError, "tolerance is 2.*0 to 1"),
    ({"tolerance": "small"}, TypeError, "tolerance is 'small'"),
    ({"truncate": 4, "tolerance": 1e-3}, ValueError, "truncate and tolerance"),
    ({"image": COLOURS, "channel_axis": 3}, ValueError, "channel_axis is 3.*-3 to 2"),
    ({"image": COLOURS, "channel_axis": -4}, ValueError, "channel_axis is -4.*-3 to 2"),
    ({"image": COLOURS, "channel_axis": "last"}, TypeError, "channel_axis is 'last'"),
    ({"image": COLOURS, "channel_axis": 1.0}, TypeError, "channel_axis is 1.0"),
    ({"image": COLOURS, "channel_axis": True}, TypeError, "channel_axis is True"),
    ({"method": "fft"}, ValueError, "method is 'fft'.*auto, separable"),
    ({"backend": "gpu"}, ValueError, "backend is 'gpu'.*auto, cpu, cuda"),
    ({"backend": "cuda"}, UnsupportedError, "CUDA"),
    ({"out": [[0.0]]}, TypeError, "out is of type list"),
    ({"out": np.zeros((7, 6))}, ValueError, r"out has the shape \(7, 6\).*\(6, 7\)"),
    ({"out": np.zeros((6, 7), complex)}, TypeError, "out .*complex128.*allowed"),
    ({"out": np.broadcast_to(np.zeros((1, 7)), (6, 7))}, ValueError, "out is read-only"),
    ({"threads": 0}, ValueError, "threads is 0.*1"),
    ({"threads": -3}, ValueError, "threads is -3"),
    ({"threads": 1.5}, TypeError, "threads is 1.5.*integer"),
    ({"threads": "all"}, TypeError, "threads is 'all'"),
    ({"threads": True}, TypeError, "threads is True"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        gaussian(**{"image": IMAGE, "sigma": 1.0} | arguments)


def test_a_wrong_call_leaves_out_alone():
    out = np.full(IMAGE.shape, 5.0)
    with pytest.raises(ValueError, match="mode"):
        gaussian(IMAGE, 1.0, mode="none", out=out)
    assert (out == 5).all()


def test_apply_is_gaussian():
    image = noise((20, 30), "uint8")
    np.testing.assert_array_equal(
        blurfast.apply(Gaussian(2.0), image, mode="wrap"), gaussian(image, 2.0, mode="wrap")
    )


def test_the_public_names_exist():
    assert set(dir(blurfast)) == set(blurfast.__all__)
    assert all(getattr(blurfast, name) is not None for name in blurfast.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = blurfast.no_such_name
