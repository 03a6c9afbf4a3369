"""What a filter should give, in float64 and unrounded: what the errors of all libraries are measured against."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blurfast.bench.cases import Case

Edges = Literal["reflect", "nearest", "constant"]
"""What a library takes to lie beyond the edges, in scipy's words; the constant is zero."""

CROP = 256
"""Rows and columns of the top left corner that errors are measured in."""

# Beyond so many sigmas a Gaussian is below the smallest difference of float64.
_SIGMAS = 8.5
_PADDING: dict[Edges, Any] = {"reflect": "symmetric", "nearest": "edge", "constant": "constant"}


def largest_error(case: Case, result: NDArray[Any], edges: Edges, image: NDArray[Any]) -> float:
    """Return by how much a result is off in the top left corner: in grey levels, or for floats as they are."""
    corner = np.atleast_3d(result[:CROP, :CROP]).astype(np.float64)
    return float(np.abs(corner - ideal_corner(case, edges, image)).max())


def reach(case: Case) -> int:
    """Return how many rows and columns of the image the corner depends on."""
    return CROP + (int(np.ceil(_SIGMAS * case.sigma)) if case.filter == "gaussian" else case.radius)


def ideal_corner(case: Case, edges: Edges, image: NDArray[Any]) -> NDArray[np.float64]:
    """Return the exact result in the top left corner, shaped (rows, columns, channels).

    Of a Gaussian, that is the one which is not cut.
    """
    halo = reach(case) - CROP
    seen = np.atleast_3d(image[: CROP + halo, : CROP + halo]).astype(np.float64)
    rows, columns = (min(CROP, length) for length in image.shape[:2])
    padded = np.pad(seen, ((halo, halo), (halo, halo), (0, 0)), mode=_PADDING[edges])
    # What was added on the far sides is used only where the image ends there.
    padded = padded[: rows + 2 * halo, : columns + 2 * halo]
    if case.filter == "gaussian":
        weights = np.exp(-0.5 * (np.arange(-halo, halo + 1) / max(case.sigma, 1e-9)) ** 2)
        weights /= weights.sum()
        return _along_first_axis(_along_first_axis(padded, weights).swapaxes(0, 1), weights).swapaxes(0, 1)
    planes = [_correlate(padded[..., channel], case.weights) for channel in range(padded.shape[2])]
    return np.stack(planes, axis=-1)


def _along_first_axis(padded: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    length = padded.shape[0] - weights.size + 1
    total = np.zeros((length, *padded.shape[1:]))
    for offset, weight in enumerate(weights):
        total += weight * padded[offset : offset + length]
    return total


def _correlate(padded: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the valid part of a correlation, by transforms in float64, whose errors are below all that is measured."""
    spectrum = np.fft.rfft2(padded) * np.conj(np.fft.rfft2(weights, padded.shape))
    rows, columns = (length - size + 1 for length, size in zip(padded.shape, weights.shape, strict=True))
    return np.fft.irfft2(spectrum, padded.shape)[:rows, :columns]
