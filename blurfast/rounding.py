"""How weights are rounded to the precision of the sums, so that rounding never shows.

All methods sum differences from a *reference* pixel, and add what the reference itself gives: an image that is flat
stays exactly flat. A filter that averages must not leave the range of its input either, and rounding errors could
carry it out by a little; but the reference's own tap adds nothing to the sum of differences, and where its weight is
larger than all rounding errors together, it is room enough for them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blurfast.weights import Resampler


def exact_gain(taps: NDArray[np.float64]) -> float:
    """Return the sum of taps, which is exactly one for an average and zero for a derivative, without its rounding."""
    gain = float(taps.sum())
    for exact in (0.0, 1.0):
        if abs(gain - exact) <= 1e-13 * float(np.abs(taps).sum()):
            return exact
    return gain


def reference_tap(resampler: Resampler, shift: int = 0) -> int:
    """Return the tap of the pixel that sums are relative to.

    For an average it is the one with the largest weight; else the output's own.

    Parameters
    ----------
    shift
        Where two outputs share their reference: by how many inputs the second one's lie behind the first one's. The
        tap is then the first one's, and the smaller of its weights in both counts.
    """
    taps = resampler.taps
    if resampler.up > 1 or np.any(taps < 0) or resampler.tap_count <= shift:
        return resampler.reference
    shared = np.minimum(taps[0, shift:], taps[0, : resampler.tap_count - shift])
    return int(shared.argmax()) + shift


def overshoot(resampler: Resampler, sums: np.dtype[Any], shift: int = 0) -> float:
    """Return the share by which taps must be made smaller, lest rounding carry an average out of its input's range.

    Parameters
    ----------
    sums
        float32 or float64.
    shift
        As for `reference_tap`.
    """
    taps = resampler.taps
    if np.any(taps < 0) or resampler.is_identity:
        return 0.0
    reference = reference_tap(resampler, shift)
    margin = min(taps[:, reference].min(), taps[:, reference - shift].min())
    return max(0.0, _worst_rounding(resampler.tap_count, sums) - float(margin))


class KernelReference(NamedTuple):
    """The weight of a 2-D kernel that lies over the reference.

    Parameters
    ----------
    row, column
        Of the weight, seen from the first output.
    is_shared
        Whether the output in the next row has the same reference, which lies under its weight in the row before.
    """

    row: int
    column: int
    is_shared: bool


def kernel_reference(weights: NDArray[np.float64], *, in_pairs: bool) -> KernelReference:
    """Choose the reference for a 2-D kernel.

    Parameters
    ----------
    in_pairs
        Whether outputs of two rows are to share it. Where no pixel has weight in both, as with a single row of taps,
        each output has its own all the same.
    """
    magnitudes = np.abs(weights)
    shared = np.minimum(magnitudes[1:], magnitudes[:-1])
    if in_pairs and shared.any():
        row, column = np.unravel_index(shared.argmax(), shared.shape)
        return KernelReference(int(row) + 1, int(column), True)
    row, column = np.unravel_index(magnitudes.argmax(), magnitudes.shape)
    return KernelReference(int(row), int(column), False)


def kernel_overshoot(weights: NDArray[np.float64], sums: np.dtype[Any], *, in_pairs: bool) -> float:
    """Return the share by which the weights of a 2-D kernel must be made smaller; see `overshoot`."""
    if weights.min() < 0 or exact_gain(weights) != 1.0:
        return 0.0
    reference = kernel_reference(weights, in_pairs=in_pairs)
    first, second = (
        weights[reference.row, reference.column],
        weights[reference.row - reference.is_shared, reference.column],
    )
    return max(0.0, _worst_rounding(int(np.count_nonzero(weights)), sums) - float(min(first, second)))


def _worst_rounding(tap_count: int, sums: np.dtype[Any]) -> float:
    """Return how far rounding may carry a sum of so many products, relative to the range of the differences."""
    return (tap_count + 4) * float(np.finfo(sums).eps)
