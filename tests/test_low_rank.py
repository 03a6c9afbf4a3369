"""Sums of separable kernels: the fewest terms, exact where they can be, with an error that holds."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from blurfast.kernel_shapes import parse_shape
from blurfast.low_rank import SeparableSum, split
from tests import naive

INTEGERS = arrays.arrays(np.float64, st.integers(1, 9), elements=st.integers(-999, 999))


def whole(terms: SeparableSum) -> np.ndarray:
    return np.sum([np.outer(column, row) for column, row in terms.terms], axis=0)


def total(terms: SeparableSum) -> float:
    return math.fsum(math.fsum(column) * math.fsum(row) for column, row in terms.terms)


def relative_error(weights: np.ndarray, terms: SeparableSum) -> float:
    """Measure the error without rounding."""
    exact = [[Fraction(weight) for weight in row] for row in weights.tolist()]
    factors = [([*map(Fraction, column.tolist())], [*map(Fraction, row.tolist())]) for column, row in terms.terms]
    differences = sum(
        abs(weight - sum(column[i] * row[j] for column, row in factors))
        for i, line in enumerate(exact)
        for j, weight in enumerate(line)
    )
    return float(differences / sum(abs(weight) for line in exact for weight in line))


def of_rank(rank: int, height: int, width: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(height, rank)) @ generator.normal(size=(rank, width))


@given(column=INTEGERS, row=INTEGERS, exponent=st.integers(-60, 60))
def test_products_of_integers_are_exact(column, row, exponent):
    weights = np.outer(column, row) * 2.0**exponent
    terms = split(weights, 0.0)
    assert terms is not None
    assert len(terms.terms) == 1
    assert terms.error == 0.0
    np.testing.assert_array_equal(whole(terms), weights)


@pytest.mark.parametrize("text", ["identity", "box:7x5", "box:49", "sobel-x", "sobel-y", "motion:9", "motion:8,90"])
def test_separable_shapes_are_exact(text):
    weights = parse_shape(text)
    terms = split(weights, 0.0)
    assert terms is not None
    assert len(terms.terms) == 1
    np.testing.assert_array_equal(whole(terms), weights)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_single_rows_and_columns_are_exact(shape):
    weights = np.random.default_rng(5).normal(size=shape)
    terms = split(weights, 0.0)
    assert terms is not None
    np.testing.assert_array_equal(whole(terms), weights)


@pytest.mark.parametrize("text", ["gaussian:3", "gaussian:0.7,9", "gaussian:20"])
def test_gaussians_have_one_term(text):
    weights = parse_shape(text)
    terms = split(weights, 1e-15)
    assert terms is not None
    ((column, row),) = terms.terms
    assert column.min() > 0
    assert row.min() > 0


@given(
    rank=st.integers(1, 3), height=st.integers(3, 40), width=st.integers(3, 40), seed=st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_rank_is_the_number_of_terms(rank, height, width, seed):
    weights = of_rank(rank, height, width, seed)
    least = np.linalg.svd(weights, compute_uv=False)[rank - 1]
    tolerance = min(1e-10, float(0.5 * least / np.abs(weights).sum()))
    terms = split(weights, max(tolerance, 1e-13))
    assert terms is not None
    assert len(terms.terms) <= rank
    if tolerance >= 1e-13:
        assert len(terms.terms) == rank
    np.testing.assert_allclose(whole(terms), weights, rtol=0, atol=1e-12 * np.abs(weights).sum())


@given(
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    seed=st.integers(0, 2**32 - 1),
    offset=st.sampled_from([0.0, 0.5, 3.0]),
    tolerance=st.floats(1e-9, 1.0),
)
def test_error_is_what_it_says(height, width, seed, offset, tolerance):
    weights = np.random.default_rng(seed).normal(size=(height, width)) + offset
    terms = split(weights, tolerance)
    if terms is None:
        return
    assert terms.error <= tolerance
    assert terms.error == pytest.approx(relative_error(weights, terms), rel=1e-9, abs=1e-13)
    assert abs(total(terms) - math.fsum(weights.ravel())) <= (terms.error + 1e-13) * np.abs(weights).sum()


@given(seed=st.integers(0, 2**32 - 1), most_terms=st.integers(1, 3))
def test_full_rank_has_no_split(seed, most_terms):
    weights = np.random.default_rng(seed).random((12, 15))
    assert split(weights, 1e-6, most_terms) is None


@pytest.mark.parametrize(("text", "rank"), [("laplacian", 2), ("sharpen", 2), ("sharpen:0.1", 2), ("emboss", 3)])
def test_known_ranks(text, rank):
    weights = parse_shape(text)
    terms = split(weights, 1e-12)
    assert terms is not None
    assert len(terms.terms) == rank
    assert split(weights, 1e-12, rank - 1) is None
    assert total(terms) == pytest.approx(weights.sum(), abs=1e-13)


def test_terms_are_as_few_as_the_tolerance_allows():
    weights = parse_shape("disk:9")
    left, values, right = np.linalg.svd(weights)
    best = [np.abs(weights - (left[:, :k] * values[:k]) @ right[:k]).sum() for k in (1, 2, 3)]
    for count, error in enumerate(best, 1):
        terms = split(weights, 1.05 * error)
        assert terms is not None
        assert len(terms.terms) == count
    assert split(weights, 0.9 * best[2]) is None


@pytest.mark.parametrize("tolerance", [0.3, 0.2, 0.13])
@pytest.mark.parametrize("text", ["disk:7", "disk:40"])
def test_total_weight_is_kept(text, tolerance):
    terms = split(parse_shape(text), tolerance)
    assert terms is not None
    assert terms.error > 0.01
    assert total(terms) == pytest.approx(1, abs=1e-14)


@given(seed=st.integers(0, 2**32 - 1))
def test_one_term_of_a_non_negative_kernel_is_non_negative(seed):
    generator = np.random.default_rng(seed)
    weights = np.outer(generator.random(9), generator.random(11)) * generator.uniform(0.9, 1.1, (9, 11))
    weights[[0, 4]] = 0
    weights[:, [2, 10]] = 0
    terms = split(weights, 0.2)
    assert terms is not None
    ((column, row),) = terms.terms
    assert column.min() >= 0
    assert row.min() >= 0
    assert not column[[0, 4]].any()
    assert not row[[2, 10]].any()


def test_rows_and_columns_of_zeros_stay_zeros():
    weights = np.pad(of_rank(3, 6, 7, seed=1), 2)
    terms = split(weights, 1e-12)
    assert terms is not None
    assert len(terms.terms) == 3
    for column, row in terms.terms:
        assert not column[[0, 1, -2, -1]].any()
        assert not row[[0, 1, -2, -1]].any()


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_scale_does_not_matter(rank, scale):
    weights = of_rank(rank, 7, 9, seed=2) * scale
    terms = split(weights, 1e-12)
    assert terms is not None
    assert len(terms.terms) == rank
    np.testing.assert_allclose(whole(terms) / scale, weights / scale, rtol=0, atol=1e-12)
    for column, row in terms.terms:
        assert 1 / 32 < np.abs(column).max() / np.abs(row).max() < 32


def test_nothing_but_zeros():
    terms = split(np.zeros((3, 4)), 0.0)
    assert terms is not None
    assert terms.error == 0.0
    assert whole(terms).tolist() == np.zeros((3, 4)).tolist()


def test_tolerance_zero_is_refused_where_rounding_remains():
    assert split(of_rank(2, 9, 9, seed=3), 0.0) is None


def test_filtering_is_off_by_no_more_than_the_error():
    weights = parse_shape("disk:4.5") - parse_shape("box:9") / 2
    image = np.random.default_rng(7).uniform(-1, 1, (30, 31))
    terms = split(weights, 0.2)
    assert terms is not None
    exact = naive.correlate_kernel(image, weights, "reflect")
    summed = sum(naive.correlate(image, column, row, "reflect") for column, row in terms.terms)
    worst = np.abs(summed - exact).max()
    assert 0 < worst <= terms.error * np.abs(weights).sum() * np.abs(image).max()


def test_large_kernels_do_not_take_long():
    start = time.perf_counter()
    assert split(np.random.default_rng(8).random((401, 401)), 1e-6) is None
    assert time.perf_counter() - start < 2
