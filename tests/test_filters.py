"""Filters as data: what they accept, what they refuse, and what they know."""

from __future__ import annotations

import dataclasses
import math
import pickle
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blurfast.filters import Gaussian
from tests import naive

UINT8 = np.dtype("uint8")


@pytest.mark.parametrize("sigma", [0, 2, 2.5, np.float32(2.5), np.int16(2), Fraction(5, 2), -0.0])
def test_one_sigma_serves_both_directions(sigma):
    assert Gaussian(sigma).sigmas == (float(sigma), float(sigma))


@pytest.mark.parametrize("pair", [(1, 2.5), [1, 2.5], np.array([1, 2.5])])
def test_a_sigma_for_each_direction(pair):
    assert Gaussian(pair).sigmas == (1.0, 2.5)


WRONG_SIGMAS = [
    (-1, ValueError),
    (math.nan, ValueError),
    (math.inf, ValueError),
    (10_001, ValueError),
    ((1, -1), ValueError),
    ((1, 2, 3), ValueError),
    ((), ValueError),
    (None, TypeError),
    ("2", TypeError),
    (b"2", TypeError),
    (True, TypeError),
    (np.True_, TypeError),
    (2 + 0j, TypeError),
    (Decimal(2), TypeError),
    ((1, None), TypeError),
    ((1, "2"), TypeError),
    ("12", TypeError),
]


@pytest.mark.parametrize(("sigma", "error"), WRONG_SIGMAS)
def test_wrong_sigma(sigma, error):
    with pytest.raises(error, match=r"^sigma "):
        Gaussian(sigma)


@pytest.mark.parametrize(
    ("order", "error"),
    [
        (-1, ValueError),
        (4, ValueError),
        ((0, 4), ValueError),
        ((0, 0, 0), ValueError),
        (1.0, TypeError),
        ("1", TypeError),
        (True, TypeError),
        (None, TypeError),
        ((0, 1.5), TypeError),
    ],
)
def test_wrong_order(order, error):
    with pytest.raises(error, match=r"^order "):
        Gaussian(2, order)


@pytest.mark.parametrize("sigma", [0, (0, 3), (3, 0)])
def test_a_derivative_needs_a_sigma(sigma):
    with pytest.raises(ValueError, match="sigma is 0"):
        Gaussian(sigma, 1)
    assert Gaussian((0, 3), (0, 1)).orders == (0, 1)


@pytest.mark.parametrize("argument", ["truncate", "tolerance"])
@pytest.mark.parametrize(
    ("value", "error"),
    [(-1, ValueError), (math.nan, ValueError), (math.inf, ValueError), ("4", TypeError), (True, TypeError)],
)
def test_wrong_truncate_and_tolerance(argument, value, error):
    with pytest.raises(error, match=rf"^{argument} "):
        Gaussian(2, **{argument: value})


def test_truncate_and_tolerance_exclude_each_other():
    with pytest.raises(ValueError, match="truncate and tolerance"):
        Gaussian(2, truncate=4, tolerance=1e-3)
    with pytest.raises(ValueError, match=r"^tolerance "):
        Gaussian(2, tolerance=1.5)


@pytest.mark.parametrize("truncate", [1e12, 1e308])
def test_a_truncate_without_end_is_refused_by_name(truncate):
    with pytest.raises(ValueError, match=r"^truncate "):
        Gaussian(2, truncate=truncate).halo(UINT8)


def test_is_data():
    gaussian = Gaussian((1, 2), order=(0, 1), truncate=3)
    assert gaussian == Gaussian([1.0, 2.0], order=(0, 1), truncate=3.0)
    assert hash(gaussian) == hash(Gaussian([1.0, 2.0], order=(0, 1), truncate=3.0))
    assert pickle.loads(pickle.dumps(gaussian)) == gaussian
    assert eval(repr(gaussian)) == gaussian
    with pytest.raises(dataclasses.FrozenInstanceError):
        gaussian.sigma = 3


@given(
    sigma=st.tuples(st.just(0.0) | st.floats(0.01, 50), st.just(0.0) | st.floats(0.01, 50)),
    truncate=st.floats(0, 8),
)
def test_halo_is_scipys_radius(sigma, truncate):
    expected = tuple(int(truncate * one + 0.5) if one else 0 for one in sigma)
    assert Gaussian(sigma, truncate=truncate).halo(UINT8) == expected


@pytest.mark.parametrize(("finer", "coarser"), [("uint16", "uint8"), ("float64", "float32"), ("uint32", "uint16")])
def test_finer_pixels_have_longer_tails(finer, coarser):
    gaussian = Gaussian(20)
    assert gaussian.halo(np.dtype(finer)) > gaussian.halo(np.dtype(coarser))
    assert gaussian.halo(np.dtype(coarser), np.dtype(finer)) == gaussian.halo(np.dtype(finer))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("sigma", [0.5, 3.0, 40.0])
def test_default_tolerance_bounds_the_worst_case(dtype, sigma):
    """The worst image is 1 wherever a weight is missing, and 0 elsewhere."""
    promised = {"uint8": 1 / 400 / 255, "uint16": 1 / 400 / 65535, "float32": 2e-6, "float64": 1e-6}[dtype]
    vertical, horizontal = Gaussian(sigma).taps(np.dtype(dtype))
    for taps in (vertical, horizontal):
        whole = naive.weights(sigma, 0, 9)
        middle, radius = whole.size // 2, taps.size // 2
        assert 1 - whole[middle - radius : middle + radius + 1].sum() <= promised / 2


def test_nobody_can_spoil_the_taps_of_others():
    image_dtype = np.dtype("float64")
    before = Gaussian(1.2345).taps(image_dtype)[0].copy()
    taps = Gaussian(1.2345).taps(image_dtype)[0]
    if taps.flags.writeable:
        taps *= 2
    np.testing.assert_array_equal(Gaussian(1.2345).taps(image_dtype)[0], before)
