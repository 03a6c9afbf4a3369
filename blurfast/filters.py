"""The filters, as data: what is to be done, not how. The functions, the commands and the docs are made from them."""

from __future__ import annotations

import functools
import math
import numbers
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from blurfast.dtypes import default_tolerance
from blurfast.weights import SMALLEST_SIGMA, MultirateGaussian, Taps, gaussian_taps, multirate_gaussian

MAX_SIGMA = 10_000.0
MAX_ORDER = 3
MAX_RADIUS = 100_000


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian blur, or a derivative of one.

    Parameters
    ----------
    sigma
        Standard deviation in pixels, 0 to 10000; one number, or one for the rows' direction (vertical) and one for
        the columns' (horizontal). 0 leaves that direction as it is.
    order
        Of the derivative, 0 to 3, likewise. 0 blurs.
    truncate
        Cut the Gaussian at this many sigmas, exactly as scipy does.
    tolerance
        Largest error against the Gaussian that is not cut, as a share of the range of the pixels. The default
        depends on the dtype: see `blurfast.dtypes.default_tolerance`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or outside its range, or `truncate` and `tolerance` are both given.

    Notes
    -----
    The weights are samples of the Gaussian at the integers, divided by their sum, as in scipy.ndimage.

    Examples
    --------
    >>> Gaussian(2)
    Gaussian(sigma=(2.0, 2.0), order=(0, 0), truncate=None, tolerance=None)
    >>> Gaussian((0, 5)).halo(np.dtype("uint8"))
    (0, 22)
    """

    sigma: float | tuple[float, float]
    order: int | tuple[int, int] = 0
    truncate: float | None = None
    tolerance: float | None = None

    name: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        """Check the arguments and bring them into their full form."""
        object.__setattr__(self, "sigma", _per_axis("sigma", self.sigma, 0.0, MAX_SIGMA))
        object.__setattr__(self, "order", tuple(map(int, _per_axis("order", self.order, 0, MAX_ORDER, integer=True))))
        if self.truncate is not None:
            object.__setattr__(self, "truncate", _number("truncate", self.truncate, 0.0, math.inf))
        if self.tolerance is not None:
            object.__setattr__(self, "tolerance", _number("tolerance", self.tolerance, 0.0, 1.0))
            if self.truncate is not None:
                raise ValueError("truncate and tolerance both say where to cut the Gaussian; give one of them")
        for sigma, order in zip(self.sigmas, self.orders, strict=True):
            if order and sigma < SMALLEST_SIGMA:
                raise ValueError(
                    f"order is {order} where sigma is {sigma:g}; a derivative needs a sigma from {SMALLEST_SIGMA} on"
                )
            if self.truncate is not None and self.truncate * sigma > MAX_RADIUS:
                raise ValueError(
                    f"truncate is {self.truncate:g} with a sigma of {sigma:g}; together they must reach at most "
                    f"{MAX_RADIUS} pixels"
                )

    @property
    def sigmas(self) -> tuple[float, float]:
        """Sigma in the vertical and in the horizontal direction."""
        assert isinstance(self.sigma, tuple)
        return self.sigma

    @property
    def orders(self) -> tuple[int, int]:
        """The order of the derivative in the vertical and in the horizontal direction."""
        assert isinstance(self.order, tuple)
        return self.order

    def taps(self, *dtypes: np.dtype[Any]) -> tuple[Taps, Taps]:
        """Return the vertical and the horizontal taps for images (input and output) of these dtypes."""
        return _gaussian_taps(self, dtypes)

    def multirate(self, *dtypes: np.dtype[Any]) -> tuple[MultirateGaussian, MultirateGaussian] | str:
        """Return the designs of the two directions for the multirate method, or why there are none."""
        if self.truncate is not None:
            return "truncate asks for a kernel that is cut, which it only approximates"
        if any(self.orders):
            return "it has no derivatives"
        tolerance = _axis_tolerance(self, dtypes)
        designs = [multirate_gaussian(sigma, tolerance) for sigma in self.sigmas]
        if not any(designs):
            return f"sigma is too small for an error of {tolerance:.1g} of the range"
        vertical, horizontal = (
            design or MultirateGaussian.single_rate(taps, tolerance)
            for design, taps in zip(designs, self.taps(*dtypes), strict=True)
        )
        return vertical, horizontal

    def halo(self, *dtypes: np.dtype[Any]) -> tuple[int, int]:
        """Return how many rows above and below, and columns left and right, a pixel's result depends on."""
        vertical, horizontal = self.taps(*dtypes)
        return vertical.size // 2, horizontal.size // 2


@functools.lru_cache(maxsize=64)
def _gaussian_taps(gaussian: Gaussian, dtypes: tuple[np.dtype[Any], ...]) -> tuple[Taps, Taps]:
    tolerance = _axis_tolerance(gaussian, dtypes)
    vertical, horizontal = (
        gaussian_taps(sigma, order, truncate=gaussian.truncate, tolerance=tolerance)
        for sigma, order in zip(gaussian.sigmas, gaussian.orders, strict=True)
    )
    for taps in (vertical, horizontal):
        taps.flags.writeable = False  # they are shared
    return vertical, horizontal


def _axis_tolerance(gaussian: Gaussian, dtypes: tuple[np.dtype[Any], ...]) -> float:
    tolerance = gaussian.tolerance if gaussian.tolerance is not None else min(map(default_tolerance, dtypes))
    return tolerance / max(1, sum(sigma > 0 for sigma in gaussian.sigmas))  # the errors of the two directions add up


def _number(argument: str, value: object, low: float, high: float, *, integer: bool = False) -> float:
    kind = numbers.Integral if integer else numbers.Real
    if isinstance(value, bool | np.bool) or not isinstance(value, kind):
        raise TypeError(f"{argument} is {value!r}; it must be {'an integer' if integer else 'a number'}")
    number = float(value)
    if not low <= number <= high or (math.isinf(number)):
        limits = f"from {low:g} to {high:g}" if math.isfinite(high) else f"finite and at least {low:g}"
        raise ValueError(f"{argument} is {value!r}; it must be {limits}")
    return number


def _per_axis(argument: str, value: object, low: float, high: float, *, integer: bool = False) -> tuple[float, float]:
    if isinstance(value, str | bytes) or not np.iterable(value):
        number = _number(argument, value, low, high, integer=integer)
        return number, number
    values = tuple(value)
    if len(values) != 2:
        raise ValueError(f"{argument} has {len(values)} values; it must be one number or one for each of the two axes")
    vertical, horizontal = (_number(argument, item, low, high, integer=integer) for item in values)
    return vertical, horizontal
