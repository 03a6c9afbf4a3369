"""The filters, as data: what is to be done, not how. The functions, the commands and the docs are made from them."""

from __future__ import annotations

import functools
import math
import numbers
import os
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blurfast.dtypes import default_tolerance
from blurfast.kernel_files import load_kernel
from blurfast.kernel_shapes import LARGEST_SIDE
from blurfast.low_rank import split
from blurfast.weights import (
    SMALLEST_SIGMA,
    Kernel2D,
    MultirateGaussian,
    Resampler,
    SeparableTerm,
    Taps,
    gaussian_taps,
    multirate_gaussian,
)

MAX_SIGMA = 10_000.0
MAX_ORDER = 3
MAX_RADIUS = 100_000

# No sum of products can be told to be nearer to a kernel than this share of its weights.
_FINEST_SPLIT = 1e-14


class Filter(Protocol):
    """What every filter can say of itself to the methods that may carry it out, for images of some dtypes.

    Where a method cannot serve, the answer is the reason, as a clause.
    """

    @property
    def name(self) -> str:
        """The name of its command."""

    @property
    def is_average(self) -> bool:
        """Whether the weights sum to one, so that colours may be weighted by their opacity."""

    @property
    def is_difference(self) -> bool:
        """Whether the weights sum to zero or less, so that results are as usually negative as positive."""

    @property
    def memory(self) -> int:
        """What the filter itself holds, in bytes."""

    def separable(self, *dtypes: np.dtype[Any]) -> tuple[SeparableTerm, ...] | str:
        """Return pairs of a vertical and a horizontal filter, whose results add up."""

    def matrix(self, *dtypes: np.dtype[Any]) -> Kernel2D | str:
        """Return the whole kernel."""

    def multirate(self, *dtypes: np.dtype[Any]) -> tuple[MultirateGaussian, MultirateGaussian] | str:
        """Return the designs of the two directions for the multirate method."""


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

    def separable(self, *dtypes: np.dtype[Any]) -> tuple[SeparableTerm, ...] | str:
        """Return the one pair of a vertical and a horizontal filter that it is."""
        vertical, horizontal = map(Resampler.filter, self.taps(*dtypes))
        return ((vertical, horizontal),)

    def matrix(self, *dtypes: np.dtype[Any]) -> Kernel2D | str:
        """Return the whole kernel, or why there is none."""
        vertical, horizontal = self.taps(*dtypes)
        if max(vertical.size, horizontal.size) > LARGEST_SIDE:
            return f"the kernel has {vertical.size} x {horizontal.size} taps; it may have {LARGEST_SIDE} a side"
        shape, anchor = (vertical.size, horizontal.size), (vertical.size // 2, horizontal.size // 2)
        return Kernel2D(shape, anchor, functools.partial(np.outer, vertical, horizontal))

    @property
    def is_average(self) -> bool:
        """Whether the weights sum to one, so that colours may be weighted by their opacity."""
        return not any(self.orders)

    @property
    def is_difference(self) -> bool:
        """Whether the weights sum to zero, as those of all derivatives do."""
        return any(self.orders)

    @property
    def memory(self) -> int:
        """What the filter itself holds, in bytes."""
        return 0

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


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution, or a correlation, with a kernel of any size.

    Parameters
    ----------
    kernel
        Weights, a column to a column of the image: an array, or ``disk:7``, or a .npy, .csv, .png or .tif file.
    origin
        How many rows and columns the kernel's centre lies behind its middle, as in scipy. The middle of an even side
        is behind its half.
    correlate
        Do not flip the kernel: a correlation, as OpenCV's filter2D.
    normalize
        Divide the weights by their sum, so that the brightness stays.
    exact
        Allow only what gives the exact sum: integer images and weights, and no method that rounds.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or outside its range.
    BlurfastError
        If the kernel's file cannot be read.

    Notes
    -----
    A convolution multiplies the pixel above with the weight below. With a kernel that has its weight at the right, it
    shifts the image to the right, and a correlation shifts it to the left.

    Examples
    --------
    >>> to_the_right = Convolution([[0, 0, 1]])
    >>> to_the_right.weights.tolist()
    [[1.0, 0.0, 0.0]]
    >>> Convolution("box:3").weights.sum().round(12).item()
    1.0
    """

    kernel: ArrayLike
    origin: int | tuple[int, int] = 0
    correlate: bool = False
    normalize: bool = False
    exact: bool = False

    weights: NDArray[np.float64] = field(init=False, repr=False)
    anchor: tuple[int, int] = field(init=False, repr=False)

    name: ClassVar[str] = "convolve"

    def __post_init__(self) -> None:
        """Check the arguments, and turn the kernel into the weights of a correlation."""
        weights = _checked_kernel(self.kernel)
        if self.normalize:
            weights = weights / max(np.abs(weights).max(), np.finfo(np.float64).tiny)  # lest the sum overflow
            total = weights.sum()
            if abs(total) <= 1e-12 * np.abs(weights).sum():
                raise ValueError("normalize is True, but the kernel's weights sum to zero")
            weights = weights / total
        rows, columns = weights.shape
        lows, highs = (-(rows // 2), -(columns // 2)), ((rows - 1) // 2, (columns - 1) // 2)
        down, right = map(int, _per_axis("origin", self.origin, -LARGEST_SIDE, LARGEST_SIDE, integer=True))
        if not (lows[0] <= down <= highs[0] and lows[1] <= right <= highs[1]):
            raise ValueError(
                f"origin is {self.origin!r}; it must lie inside the kernel, from {lows[0]},{lows[1]} to "
                f"{highs[0]},{highs[1]}"
            )
        anchor = rows // 2 + down, columns // 2 + right
        if not self.correlate:
            weights = np.ascontiguousarray(weights[::-1, ::-1])
            # Counted from the other end; that is where scipy's centre lies, too.
            anchor = rows - 1 - anchor[0], columns - 1 - anchor[1]
        weights.flags.writeable = False
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "anchor", anchor)

    @property
    def is_average(self) -> bool:
        """Whether the weights are shares of one, so that colours may be weighted by their opacity."""
        return bool(self.weights.min() >= 0 and abs(self.weights.sum() - 1) <= 1e-9)

    @property
    def is_difference(self) -> bool:
        """Whether the weights sum to zero or less, so that results are as usually negative as positive."""
        return bool(self.weights.min() < 0 and self.weights.sum() <= 1e-9 * np.abs(self.weights).sum())

    @property
    def memory(self) -> int:
        """What the filter itself holds, in bytes."""
        return self.weights.nbytes

    @property
    def has_integer_weights(self) -> bool:
        """Whether all weights are integers."""
        return bool((self.weights == np.rint(self.weights)).all())

    def separable(self, *dtypes: np.dtype[Any]) -> tuple[SeparableTerm, ...] | str:
        """Return pairs of a vertical and a horizontal filter, whose results add up, or why there are none."""
        if self.exact:
            return "exact allows no decomposition of the kernel"
        return self._terms(_split_tolerance(dtypes))

    @functools.lru_cache(maxsize=4)  # noqa: B019 - a handful of kernels may live as long as the process
    def _terms(self, tolerance: float) -> tuple[SeparableTerm, ...] | str:
        found = split(self.weights, tolerance)
        if found is None:
            return f"the kernel is not a sum of three products, to within {tolerance:.1g} of its weights"
        terms = found.terms
        if self.is_average and len(terms) == 1:  # then both factors are averages too, and a flat image stays flat
            column, row = terms[0]
            terms = ((column / column.sum(), row * column.sum()),)
        return tuple(
            (Resampler.anchored(column, self.anchor[0]), Resampler.anchored(row, self.anchor[1]))
            for column, row in terms
        )

    def matrix(self, *dtypes: np.dtype[Any]) -> Kernel2D | str:
        """Return the whole kernel."""
        rows, columns = self.weights.shape
        return Kernel2D((rows, columns), self.anchor, lambda: self.weights)

    def multirate(self, *dtypes: np.dtype[Any]) -> tuple[MultirateGaussian, MultirateGaussian] | str:
        """Return why there is no design for the multirate method."""
        return "it is for Gaussians only"


def _checked_kernel(kernel: ArrayLike) -> NDArray[np.float64]:
    if isinstance(kernel, str | os.PathLike):
        return load_kernel(kernel)
    try:
        array = np.asarray(kernel)
    except ValueError as error:
        raise ValueError("kernel has rows of different lengths; they must be equally long") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"kernel has the dtype {array.dtype}; it must have real numbers")
    if array.ndim != 2 or array.size == 0 or max(array.shape) > LARGEST_SIDE:
        raise ValueError(f"kernel has the shape {array.shape}; it must be 2-D, with 1 to {LARGEST_SIDE} a side")
    with np.errstate(over="ignore"):  # what is beyond float64 is refused below
        weights = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(weights).all():
        raise ValueError("kernel has weights that are not finite; all must be")
    return weights


def _split_tolerance(dtypes: tuple[np.dtype[Any], ...]) -> float:
    """Return how far a sum of products may be from the kernel, as a share of its weights.

    A tenth of the default accuracy: most kernels either are such a sum or are far from it.
    """
    return max(_FINEST_SPLIT, 0.1 * min(map(default_tolerance, dtypes)))


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
