"""The numbers that filters are made of: taps of sampled Gaussians and of their derivatives."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Taps = NDArray[np.float64]
"""Weights of a one-dimensional correlation, of odd length; the middle one belongs to the output's own position."""

# Beyond nine sigma a Gaussian has 1e-18 of its mass, less than float64 resolves.
_FARTHEST_SIGMAS = 9.0


def gaussian_taps(sigma: float, order: int = 0, *, truncate: float | None = None, tolerance: float = 1e-6) -> Taps:
    """Sample a Gaussian, or one of its derivatives, at the integers.

    Parameters
    ----------
    sigma
        Standard deviation in pixels, at least 0. At 0 the Gaussian is the identity.
    order
        Of the derivative, 0 to 3.
    truncate
        Cut at this many sigmas, rounded to whole pixels, as ``scipy.ndimage.gaussian_filter1d`` does.
    tolerance
        Without `truncate`: cut where the weights that are left out sum to at most this share of all, in absolute
        value. The error of a filtered image is then at most `tolerance` times the image's range (and, for a
        derivative, the sum of the absolute weights).

    Returns
    -------
    Taps
        In the order of a correlation: the tap at index ``radius + k`` multiplies the pixel ``k`` to the right. They
        sum to one at order 0.

    Examples
    --------
    >>> gaussian_taps(0.5, truncate=4).round(4).tolist()
    [0.0003, 0.1065, 0.7866, 0.1065, 0.0003]
    >>> gaussian_taps(0).tolist()
    [1.0]
    """
    if sigma == 0:
        return np.ones(1) if order == 0 else np.zeros(1)
    if truncate is not None:
        return _sampled(sigma, order, int(truncate * sigma + 0.5))
    taps = _sampled(sigma, order, math.ceil(_FARTHEST_SIGMAS * sigma))
    weights = np.abs(taps[taps.size // 2 :])
    left_out = 2 * (np.cumsum(weights[::-1])[::-1] - weights)  # by the cut after each radius
    total = 2 * weights.sum() - weights[0]
    radius = int(np.argmax(left_out <= tolerance * total))
    return _sampled(sigma, order, radius)


def _sampled(sigma: float, order: int, radius: int) -> Taps:
    """Sample the derivative of a Gaussian that is normalised to one over the samples.

    Differentiating ``exp(-x^2 / (2 sigma^2))`` once multiplies it by ``-x / sigma^2``. Repeated, this gives the
    Hermite polynomials, by the recurrence ``h[n+1] = -(x h[n] + n h[n-1]) / sigma^2``.
    """
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    gaussian = np.exp(-0.5 * (x / sigma) ** 2)
    gaussian /= gaussian.sum()
    previous, polynomial = np.zeros_like(x), np.ones_like(x)
    for n in range(order):
        previous, polynomial = polynomial, -(x * polynomial + n * previous) / sigma**2
    # Mirrored: a convolution's kernel, as a correlation reads it.
    return np.ascontiguousarray((polynomial * gaussian)[::-1])
