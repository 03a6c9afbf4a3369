"""The decisions of a plan: which backend, method, precision and number of threads, each with its reason."""

from __future__ import annotations

import numbers
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from blurfast.boundary import MODES
from blurfast.dtypes import sum_dtype
from blurfast.errors import UnsupportedError
from blurfast.filters import Gaussian
from blurfast.io.base import ImageSpec
from blurfast.weights import MultirateGaussian, Taps

Backend = Literal["auto", "cpu", "cuda"]
Method = Literal["auto", "separable", "multirate"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
METHODS: tuple[Method, ...] = get_args(Method)

# What the multirate method costs by its factor, in taps of a separable filter (the sum of both directions).
_MULTIRATE_COST_IN_TAPS = {2: 180, 4: 85, 8: 85, 16: 85}
# What a pixel costs beside its taps, and how many pixels times taps take as long as starting a thread, a few times.
_OVERHEAD_IN_TAPS = 40
_WORK_WORTH_A_THREAD = 20_000_000
# A pass averages the errors of the other if the squares of its weights sum to less, and the image is not shorter.
_WEIGHT_TO_AVERAGE = 0.5
_LENGTH_TO_AVERAGE = 8


class Choice(NamedTuple):
    """One candidate of a decision, and why it was taken or left."""

    subject: str
    candidate: str
    taken: bool
    reason: str


def check_options(mode: object, cval: object, backend: object, method: object) -> None:
    """Raise a ValueError or TypeError that names the argument which is wrong."""
    if not isinstance(cval, numbers.Real):
        raise TypeError(f"cval is {cval!r}; it must be a number")
    for argument, value, allowed in (
        ("mode", mode, MODES),
        ("backend", backend, BACKENDS),
        ("method", method, METHODS),
    ):
        if value not in allowed:
            raise ValueError(f"{argument} is {value!r}; it must be one of {', '.join(allowed)}")


def choose_backend(backend: str) -> list[Choice]:
    """Choose what computes; raise an UnsupportedError if it cannot be had."""
    if backend == "cuda":
        raise UnsupportedError("this version has no CUDA backend", remedy="use the cpu backend")
    reason = "asked for" if backend == "cpu" else "the only backend of this version"
    return [Choice("backend", "cpu", True, reason)]


def choose_method(
    method: str, filter: Gaussian, image: ImageSpec, target_dtype: np.dtype[Any]
) -> tuple[str, list[Choice]]:
    """Choose how to compute; raise an UnsupportedError if the method that is asked for cannot serve."""
    obstacle = _multirate_obstacle(filter, image, target_dtype)
    if method == "multirate":
        if obstacle is not None:
            raise UnsupportedError(
                f"the multirate method cannot serve: {obstacle}", remedy="use the method separable or auto"
            )
        return method, [Choice("method", method, True, "asked for")]
    if method == "separable":
        return method, [Choice("method", method, True, "asked for")]
    if obstacle is not None:
        return "separable", [
            Choice("method", "separable", True, "a Gaussian is the product of a column and a row"),
            Choice("method", "multirate", False, obstacle),
        ]
    factors = [design.factor for design in multirate_designs(filter, image, target_dtype)]
    taps = sum(axis.size for axis in filter.taps(image.dtype, target_dtype))
    equivalent = _MULTIRATE_COST_IN_TAPS[max(factors)]
    if taps <= equivalent:
        return "separable", [
            Choice("method", "separable", True, f"it takes only {taps} taps"),
            Choice("method", "multirate", False, f"it would cost as much as {equivalent} taps"),
        ]
    return "multirate", [
        Choice(
            "method", "multirate", True, f"at 1/{max(factors)} of the resolution it costs as much as {equivalent} taps"
        ),
        Choice("method", "separable", False, f"it would take {taps} taps"),
    ]


def _multirate_obstacle(filter: Gaussian, image: ImageSpec, target_dtype: np.dtype[Any]) -> str | None:
    if image.alpha is not None:
        return "colours are weighted by opacity"
    designs = filter.multirate(image.dtype, target_dtype)
    return designs if isinstance(designs, str) else None


def multirate_designs(
    filter: Gaussian, image: ImageSpec, target_dtype: np.dtype[Any]
) -> tuple[MultirateGaussian, MultirateGaussian]:
    """Return the designs of the multirate method, once it has been chosen."""
    designs = filter.multirate(image.dtype, target_dtype)
    assert not isinstance(designs, str)
    return designs


def halo_of(filter: Gaussian, image: ImageSpec, target_dtype: np.dtype[Any], method: str) -> tuple[int, int]:
    """Return the rows above and below, and the columns left and right, that a method reads for a pixel."""
    if method == "multirate":
        vertical, horizontal = multirate_designs(filter, image, target_dtype)
        return vertical.radius, horizontal.radius
    return filter.halo(image.dtype, target_dtype)


def choose_threads(threads: int, image: ImageSpec, taps: tuple[Taps, Taps]) -> tuple[int, list[Choice]]:
    """Leave threads out that would take longer to start than they save."""
    work = image.height * image.width * image.channels * (taps[0].size + taps[1].size + _OVERHEAD_IN_TAPS)
    worthwhile = max(1, work // _WORK_WORTH_A_THREAD)
    if worthwhile >= threads:
        return threads, []
    return worthwhile, [Choice("threads", str(worthwhile), True, "the image is too small for more")]


def choose_sums(filter: Gaussian, image: ImageSpec, target_dtype: np.dtype[Any]) -> tuple[np.dtype[Any], Choice]:
    """Choose the precision of the sums.

    Sums in float32 round a 16-bit pixel of the full range wrong in 2 of 1000 cases, but the second pass averages
    the errors of the first. Where it hardly averages, float64 is needed to keep them below 1 of 1000.
    """
    sums = sum_dtype(image.dtype, target_dtype)
    if sums == np.float64:
        return sums, Choice("sums", "float64", True, f"{image.dtype.name} pixels do not fit into float32")
    taps = filter.taps(image.dtype, target_dtype)
    averages = max(float(np.square(axis).sum()) for axis in taps) < _WEIGHT_TO_AVERAGE
    if target_dtype.kind in "iu" and target_dtype.itemsize == 2:
        if not averages:
            return np.dtype(np.float64), Choice("sums", "float64", True, "one direction is hardly blurred")
        if min(image.height, image.width) < _LENGTH_TO_AVERAGE:
            return np.dtype(np.float64), Choice("sums", "float64", True, "the image is only a few pixels wide")
        if image.alpha is not None:
            return np.dtype(np.float64), Choice("sums", "float64", True, "16-bit colours are weighted by opacity")
    return sums, Choice("sums", "float32", True, f"exact enough for {target_dtype.name} pixels")
