"""Taps: the numbers that filters are made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from blurfast.weights import gaussian_taps
from tests import naive

SIGMAS = [0.1, 0.3, 0.5, 1.0, 2.7, 10.0, 123.4]


def without_padding(taps: np.ndarray, size: int) -> np.ndarray:
    """Return the middle `size` taps, after a check that any others are zeros on both sides."""
    beyond, rest = divmod(taps.size - size, 2)
    assert rest == 0
    assert 0 <= beyond <= 1
    assert not taps[:beyond].any()
    assert not taps[taps.size - beyond :].any()
    return taps[beyond : taps.size - beyond]


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("truncate", [1.0, 3.3, 4.0, 8.0])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_truncated_taps_are_the_definition(sigma, truncate, order):
    expected = naive.weights(sigma, order, truncate)
    taps = without_padding(gaussian_taps(sigma, order, truncate=truncate), expected.size)
    np.testing.assert_allclose(taps, expected, rtol=1e-12, atol=1e-15 * np.abs(expected).max(initial=0))


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize(("sigma", "truncate"), [(0.7, 4), (2.0, 3), (5.5, 2.5), (1.0, 0.4)])
def test_truncated_taps_are_scipys(sigma, truncate, order):
    radius = int(truncate * sigma + 0.5)
    impulse = np.zeros(4 * radius + 1)
    impulse[2 * radius] = 1
    response = ndimage.gaussian_filter1d(impulse, sigma, order=order, truncate=truncate, mode="constant")
    taps = without_padding(gaussian_taps(sigma, order, truncate=truncate), 2 * radius + 1)
    np.testing.assert_allclose(taps[::-1], response[radius : 3 * radius + 1], rtol=1e-13, atol=1e-16)


@given(sigma=st.floats(0.05, 300), tolerance=st.floats(1e-12, 0.5), order=st.integers(0, 3))
def test_tolerance_bounds_what_is_left_out(sigma, tolerance, order):
    taps = gaussian_taps(sigma, order, tolerance=tolerance)
    whole = gaussian_taps(sigma, order, truncate=40)
    radius = taps.size // 2
    middle = whole.size // 2
    left_out = np.abs(whole).sum() - np.abs(whole[middle - radius : middle + radius + 1]).sum()
    assert left_out <= tolerance * np.abs(whole).sum() * (1 + 1e-9) + 1e-15 * np.abs(whole).sum()


@given(sigma=st.floats(0.05, 300), tolerances=st.lists(st.floats(1e-12, 0.5), min_size=2, max_size=2))
def test_smaller_tolerance_is_never_shorter(sigma, tolerances):
    strict, loose = sorted(tolerances)
    assert gaussian_taps(sigma, tolerance=strict).size >= gaussian_taps(sigma, tolerance=loose).size


@given(sigma=st.floats(1e-3, 500), order=st.integers(0, 3))
def test_symmetry_and_sum(sigma, order):
    taps = gaussian_taps(sigma, order, tolerance=1e-6)
    assert taps.size % 2 == 1
    assert taps.dtype == np.float64
    np.testing.assert_array_equal(taps, taps[::-1] * (-1) ** order)
    if order == 0:
        assert taps.sum() == pytest.approx(1, abs=1e-14)
        assert (taps >= 0).all()
        assert (np.diff(taps[taps.size // 2 :]) <= 0).all()


@pytest.mark.parametrize("sigma", [5e-324, 1e-300, 1e-160, 1e-100, 1e-20, 1e-5, 0.01])
def test_sigma_towards_zero_is_the_identity(sigma):
    taps = gaussian_taps(sigma)  # without a warning of an overflow either
    assert taps[taps.size // 2] == 1
    assert np.abs(taps).sum() == 1


def test_sigma_of_the_largest_kind():
    taps = gaussian_taps(10_000, tolerance=1e-6)
    assert 40_000 < taps.size // 2 < 90_000
    assert taps.sum() == pytest.approx(1, abs=1e-12)


def test_first_derivative_of_a_ramp_is_its_slope():
    taps = gaussian_taps(3, 1, truncate=8)
    ramp = 0.25 * np.arange(taps.size)
    assert taps @ ramp == pytest.approx(0.25, rel=1e-12)


def test_tolerance_zero_is_as_far_as_float64_reaches():
    assert gaussian_taps(2, tolerance=0).size // 2 == pytest.approx(18, abs=2)
