"""The numbers that filters are made of: taps of sampled Gaussians and of their derivatives."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Taps = NDArray[np.float64]
"""Weights of a one-dimensional correlation, of odd length; the middle one belongs to the output's own position."""

# Below this sigma, the nearest other sample of a Gaussian has no weight that float64 could tell from zero.
SMALLEST_SIGMA = 0.001

# Beyond 13 sigma the weights are too small for float32, where they would turn an infinite pixel into NaN.
_LAST_WEIGHT_SIGMAS = 13.0

# Beyond nine sigma a Gaussian has 1e-18 of its mass, less than float64 resolves.
_FARTHEST_SIGMAS = 9.0


def gaussian_taps(sigma: float, order: int = 0, *, truncate: float | None = None, tolerance: float = 1e-6) -> Taps:
    """Sample a Gaussian, or one of its derivatives, at the integers.

    Parameters
    ----------
    sigma
        Standard deviation in pixels, at least 0. Below `SMALLEST_SIGMA` the Gaussian is the identity.
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
    if sigma < SMALLEST_SIGMA:
        return np.ones(1)
    if truncate is not None:
        return _sampled(sigma, order, min(int(truncate * sigma + 0.5), math.ceil(_LAST_WEIGHT_SIGMAS * sigma)))
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


@dataclass(frozen=True, eq=False)
class Resampler:
    """A one-dimensional correlation that may keep few of its outputs, or interpolate between its inputs.

    Output ``i`` is the sum over the inputs from ``i // up * down - reference`` on, weighted by the taps of phase
    ``i % up``.

    Parameters
    ----------
    taps
        Shaped (up, taps of one phase).
    reference
        The tap that belongs to the output's own position.
    up, down
        Outputs per input, and inputs per output; one of them is 1. Above 1 they are even.
    """

    taps: NDArray[np.float64]
    reference: int
    up: int = 1
    down: int = 1

    @classmethod
    def filter(cls, taps: Taps) -> Resampler:
        """Return the ordinary correlation with an odd number of taps."""
        return cls.anchored(taps, taps.size // 2)

    @classmethod
    def anchored(cls, taps: Taps, anchor: int) -> Resampler:
        """Return the correlation with any number of taps, of which `anchor` belongs to the output's own position."""
        if taps.size == 1 and taps[0] != 1:
            return cls(np.pad(taps, 1).reshape(1, -1), anchor + 1)  # kernels take a single tap for the identity
        return cls(taps.reshape(1, -1), anchor)

    @property
    def halo(self) -> int:
        """How far the inputs of an output reach, to the farther side."""
        return max(self.reference, self.tap_count - 1 - self.reference)

    @property
    def tap_count(self) -> int:
        """Taps of one phase."""
        return int(self.taps.shape[1])

    @property
    def is_identity(self) -> bool:
        """Whether the output is the input."""
        return self.up == self.down == self.tap_count == 1

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Return the half-open range of inputs that the outputs from `start` to `stop` depend on."""
        first = start // self.up * self.down - self.reference
        return first, (stop - 1) // self.up * self.down - self.reference + self.tap_count


IDENTITY = Resampler.filter(np.ones(1))

SeparableTerm = tuple[Resampler, Resampler]
"""A vertical and a horizontal filter, one after the other."""


@dataclass(frozen=True, eq=False)
class Kernel2D:
    """The weights of a two-dimensional correlation.

    Parameters
    ----------
    shape
        Rows and columns.
    anchor
        Row and column of the weight that lies over the output's own pixel.
    make
        Returns the weights, which may be many; called when they are needed.
    """

    shape: tuple[int, int]
    anchor: tuple[int, int]
    make: Callable[[], NDArray[np.float64]]

    @property
    def weights(self) -> NDArray[np.float64]:
        """The weights."""
        return self.make()

    @property
    def halo(self) -> tuple[int, int]:
        """How far the inputs of an output reach, vertically and horizontally, to the farther side."""
        (rows, columns), (row, column) = self.shape, self.anchor
        return max(row, rows - 1 - row), max(column, columns - 1 - column)


@dataclass(frozen=True, eq=False)
class MultirateGaussian:
    """A Gaussian in three steps: blur a little and keep every `factor`-th sample, blur those, interpolate.

    Parameters
    ----------
    factor
        Of the decimation; 1 where there is none, and all work is done by `decimate`.
    decimate, blur, interpolate
        The steps. Their variances add up to that of the whole.
    error
        The largest error of any output against the ideal Gaussian, as a share of the input's range.

    Notes
    -----
    A Gaussian's spectrum falls so fast that decimation after a blur of about the sampling distance leaves no aliases
    worth mentioning, and interpolation by another such Gaussian removes the images of the spectrum. All supports are
    finite. P. J. Burt, "Fast filter transforms for image processing", 1981, has the idea.
    """

    factor: int
    decimate: Resampler
    blur: Resampler
    interpolate: Resampler
    error: float

    @classmethod
    def single_rate(cls, taps: Taps, error: float) -> MultirateGaussian:
        """Return an ordinary filter in this form: all is done by the first step."""
        return cls(1, Resampler.filter(taps), IDENTITY, IDENTITY, error)

    @property
    def radius(self) -> int:
        """How far the input reaches that is read for an output.

        It includes the few samples that are filtered along with those which the output depends on, since two are
        filtered at a time.
        """
        if self.factor == 1:
            return self.decimate.reference
        samples = self.blur.reference + self.interpolate.reference + 1
        return self.decimate.reference + (samples + _SAMPLES_ALONG) * self.factor


# Sigma of the first and the last step in units of the sampling distance, and where all kernels are cut, in sigmas;
# from fast to exact.
_DESIGNS = ((0.9, 4.5), (0.95, 4.8), (1.0, 5.1), (1.0, 5.5), (1.1, 5.8), (1.2, 6.2), (1.3, 6.6))
_FACTORS = (16, 8, 4, 2)
# Pairs start at even samples: each of two steps may begin one earlier and end one later.
_SAMPLES_ALONG = 3
# The blur of the kept samples has at least this sigma, or its own sampling would show.
_SMALLEST_COARSE_SIGMA = 1.25


@functools.lru_cache(maxsize=64)
def multirate_gaussian(sigma: float, tolerance: float) -> MultirateGaussian | None:
    """Design a multirate Gaussian whose error is at most `tolerance` times the range of its input.

    Returns None where sigma is too small or the tolerance too tight.

    Examples
    --------
    >>> design = multirate_gaussian(20.0, 1e-6)
    >>> design.factor, design.error < 1e-6
    (8, True)
    """
    for factor in _FACTORS:
        for share, cut in _DESIGNS:
            outer_sigma = share * factor
            coarse_variance = (sigma**2 - 2 * outer_sigma**2) / factor**2
            if coarse_variance < _SMALLEST_COARSE_SIGMA**2:
                continue
            design = _design(sigma, factor, outer_sigma, math.sqrt(coarse_variance), cut)
            if design.error <= tolerance:
                return design
    return None


def _design(sigma: float, factor: int, outer_sigma: float, coarse_sigma: float, cut: float) -> MultirateGaussian:
    decimating = _sampled(outer_sigma, 0, math.ceil(cut * outer_sigma))
    blurring = _sampled(coarse_sigma, 0, math.ceil(cut * coarse_sigma))
    reach = math.ceil(cut * outer_sigma / factor)
    # Phase p lies p / factor of the way from one kept sample to the next.
    offsets = np.arange(-reach, reach + 2) * factor - np.arange(factor)[:, np.newaxis]
    interpolating = np.exp(-0.5 * (offsets / outer_sigma) ** 2)
    interpolating /= interpolating.sum(axis=1, keepdims=True)
    return MultirateGaussian(
        factor,
        Resampler(decimating.reshape(1, -1), decimating.size // 2, down=factor),
        Resampler.filter(blurring),
        Resampler(interpolating, reach, up=factor),
        _largest_error(sigma, factor, decimating, blurring, interpolating),
    )


def _largest_error(sigma: float, factor: int, decimating: Taps, blurring: Taps, interpolating: NDArray[Any]) -> float:
    """Return the exact worst case: half the absolute difference between all weights and the ideal ones.

    Both sets of weights sum to one, so an image that does the worst has its maximum where the difference is positive
    and its minimum elsewhere, and is off by half the sum of the absolute differences.
    """
    worst = 0.0
    for phase, taps in enumerate(interpolating):
        coarse = np.convolve(taps, blurring)
        spread = np.zeros((coarse.size - 1) * factor + 1)
        spread[::factor] = coarse
        weights = np.convolve(spread, decimating)
        first = -(coarse.size // 2 - 1) * factor - decimating.size // 2 - phase
        x = np.arange(first, first + weights.size)
        ideal = np.exp(-0.5 * (x / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        worst = max(worst, 0.5 * float(np.abs(weights - ideal).sum() + max(0.0, 1 - ideal.sum())))
    return worst
