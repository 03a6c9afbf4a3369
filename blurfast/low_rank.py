"""Kernels as sums of a few separable ones, each of which costs a column and a row of taps instead of a rectangle."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Vectors beyond those asked for, and passes over the kernel, with which the leading singular vectors are found: with
# these the sum is as good as that of a full decomposition to all digits that a tolerance could ask for.
_EXTRA_VECTORS = 8
_PASSES = 3

# A factor whose sum is less than this share of its absolute sum is no lever to mend the total weight with: what would
# have to be added is this many times larger than what is missing.
_LEAST_LEVER = 0.01

# What is smaller than this share of the absolute weights, or of the largest singular value, is rounding.
_ROUNDING = 1e-14

# Integers up to here are exact in float64.
_LARGEST_INTEGER = 2**53


@dataclass(frozen=True, eq=False)
class SeparableSum:
    """A kernel as a sum of outer products.

    Parameters
    ----------
    terms
        Pairs of a column and a row of weights.
    error
        The sum of the absolute differences between the kernel and the sum of the products, as a share of the sum of
        the kernel's absolute weights.
    """

    terms: tuple[tuple[Floats, Floats], ...]
    error: float


def split(weights: Floats, tolerance: float, most_terms: int = 3) -> SeparableSum | None:
    """Write a kernel as the sum of as few separable kernels as a tolerance allows.

    Parameters
    ----------
    weights
        The kernel: 2-D, finite, not empty.
    tolerance
        The largest error, as `SeparableSum.error` measures it.
    most_terms
        How many terms there may be.

    Returns
    -------
    SeparableSum or None
        None if more terms would be needed.

    Notes
    -----
    The error bounds what filtering with the terms instead of the kernel can do: no result is off by more than it,
    times the sum of the absolute weights, times the largest absolute pixel.

    A kernel of rank one is its own cross: any of its rows and columns through the largest weight. Where there is a
    divisor that makes the row one of integers, as there is for most kernels that people write down, the products are
    exact. Everything else is a singular value decomposition, which no sum of as many products surpasses in the least
    squares: S. Treitel and J. L. Shanks, "The design of multistage separable planar filters", 1971. Only its leading
    part is computed, by subspace iteration, which takes a second for the largest kernels: N. Halko, P. G. Martinsson
    and J. A. Tropp, "Finding structure with randomness", 2011.

    Filters take sums of differences from a reference pixel, and then add the pixel times the total weight. The total
    of the terms must therefore be the kernel's, lest a flat image change its brightness: a decomposition alone keeps
    it to within the error only. What is missing is spread over one column.

    Factors of a non-negative kernel that are alone are non-negative, and rows and columns of zeros stay zeros.

    Examples
    --------
    >>> binomial = split(np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0]), 0.0)
    >>> [(column.tolist(), row.tolist()) for column, row in binomial.terms], binomial.error
    ([([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])], 0.0)
    >>> laplacian = np.array([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
    >>> len(split(laplacian, 1e-12).terms), split(np.eye(5), 1e-3)
    (2, None)
    """
    if not weights.any():
        return SeparableSum(((np.zeros(weights.shape[0]), np.zeros(weights.shape[1])),), 0.0)
    # A power of two is exact to scale by, and keeps squares from overflowing.
    exponent = math.frexp(float(np.abs(weights).max()))[1]
    scaled = np.ldexp(weights, -exponent)
    total, magnitude = float(scaled.sum()), float(np.abs(scaled).sum())
    for columns, rows in _candidates(scaled, most_terms):
        mended = _with_total(columns, rows, total, magnitude)
        error = float(np.abs(scaled - mended @ rows).sum()) / magnitude
        if error <= tolerance:
            terms = tuple(_balanced(column, row, exponent) for column, row in zip(mended.T, rows, strict=True))
            return SeparableSum(terms, error)
    return None


def _candidates(weights: Floats, most_terms: int) -> Iterator[tuple[Floats, Floats]]:
    """Yield sums of more and more terms, as a matrix of columns and one of rows."""
    yield _cross(weights)
    columns, rows = _leading_singular_vectors(weights, most_terms)
    if weights.min() >= 0:
        # The first vectors of such a kernel have one sign, but for their rounding.
        yield np.abs(columns[:, :1]), np.abs(rows[:1])
    else:
        yield columns[:, :1], rows[:1]
    for count in range(2, columns.shape[1] + 1):
        yield columns[:, :count], rows[:count]


def _cross(weights: Floats) -> tuple[Floats, Floats]:
    """Return the column and the row through the largest weight, scaled so that their product has it too."""
    row, column = np.unravel_index(np.abs(weights).argmax(), weights.shape)
    factor = _without_divisor(weights[row])
    return weights[:, [column]] / factor[column], factor[np.newaxis]


def _without_divisor(row: Floats) -> Floats:
    """Divide a row by the greatest common divisor of its weights, or by nothing if that leaves no small integers.

    Every other row of a kernel of rank one is then an integer, or another weight without rounding, times this one.
    """
    fractions = [weight.as_integer_ratio() for weight in row.tolist()]
    denominator = max(below for _, below in fractions)  # all are powers of two
    numerators = [above * (denominator // below) for above, below in fractions]
    divisor = math.gcd(*numerators)
    integers = [numerator // divisor for numerator in numerators]
    return np.array(integers, dtype=np.float64) if max(map(abs, integers)) <= _LARGEST_INTEGER else row


def _leading_singular_vectors(weights: Floats, count: int) -> tuple[Floats, Floats]:
    """Return left and right singular vectors times the roots of their values: `count`, or as many as the rank."""
    width = min(count + _EXTRA_VECTORS, *weights.shape)
    start = np.random.default_rng(0).standard_normal((weights.shape[1], width))
    basis = np.linalg.qr(weights @ start).Q
    for _ in range(_PASSES):
        basis = np.linalg.qr(weights @ np.linalg.qr(weights.T @ basis).Q).Q
    left, values, right = np.linalg.svd(basis.T @ weights, full_matrices=False)
    rank = min(count, int(np.count_nonzero(values > values[0] * _ROUNDING)))
    roots = np.sqrt(values[:rank])
    columns, rows = (basis @ left[:, :rank]) * roots, right[:rank] * roots[:, np.newaxis]
    columns[~weights.any(axis=1)] = 0.0
    rows[:, ~weights.any(axis=0)] = 0.0
    return columns, rows


def _with_total(columns: Floats, rows: Floats, total: float, magnitude: float) -> Floats:
    """Return the columns, one of them changed so that the weights of all products add up to `total`.

    The change is in proportion to the column's absolute weights, which keeps zeros and signs. Where all rows add up to
    next to nothing, as those of derivatives do, the products do as well, and there is nothing to mend.
    """
    row_sums = rows.sum(axis=1)
    missing = total - float(columns.sum(axis=0) @ row_sums)
    levers = np.abs(row_sums) / np.abs(rows).sum(axis=1)
    best = int(levers.argmax())
    if abs(missing) <= _ROUNDING * magnitude or levers[best] < _LEAST_LEVER:
        return columns
    mended = columns.copy()
    shares = np.abs(columns[:, best]) / np.abs(columns[:, best]).sum()
    mended[:, best] += missing / row_sums[best] * shares
    return mended


def _balanced(column: Floats, row: Floats, exponent: int) -> tuple[Floats, Floats]:
    """Scale a term by two to the power of `exponent`, and both factors by powers of two to the same magnitude."""
    column_exponent, row_exponent = (math.frexp(float(np.abs(factor).max()))[1] for factor in (column, row))
    shift = (row_exponent + exponent - column_exponent) // 2
    return np.ldexp(column, shift), np.ldexp(row, exponent - shift)
