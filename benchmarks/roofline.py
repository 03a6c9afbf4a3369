"""Which of the machine's ceilings each float32 case comes up against, and how near it gets.

The traffic is the least that a filter can have: the image read once and the result written once. The operations are
those of the taps that are used, two for each; what a kernel does beside them is overhead, and shows as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

import blurfast
from benchmarks.cases import Case
from benchmarks.ceilings import Ceilings
from blurfast.io.array import describe
from blurfast.planning import plan_array
from blurfast.weights import MultirateGaussian, Resampler

_FLOPS_PER_TAP = 2


@dataclass(frozen=True)
class Work:
    """What a filter has to do.

    Parameters
    ----------
    method
        ``separable`` or ``multirate``.
    bytes
        Moved from and to memory.
    flops
        Multiplications and additions.
    """

    method: str
    bytes: int
    flops: int


@dataclass(frozen=True)
class Attained:
    """What a case reaches of the ceilings.

    Parameters
    ----------
    sigma, method, seconds
        The case, how blurfast filters it, and how long that takes.
    bytes, flops
        Reached, per second.
    bytes_share, flops_share
        The same as shares of the ceilings.
    bound
        The ceiling that it would meet first.
    """

    sigma: float
    method: str
    seconds: float
    bytes: float
    flops: float
    bytes_share: float
    flops_share: float
    bound: Literal["memory", "arithmetic"]


def work_of(case: Case, threads: int) -> Work:
    """Return what blurfast, with its default accuracy, has to do for a case.

    Raises
    ------
    ValueError
        If blurfast chooses a method whose operations are not known here.
    """
    image = describe(np.atleast_3d(case.image))
    gaussian = blurfast.Gaussian(case.sigma)
    method = plan_array(gaussian, image, image.dtype, threads).method
    if method == "multirate":
        designs = gaussian.multirate(image.dtype)
        assert not isinstance(designs, str), designs
        flops = multirate_flops(*designs, image.height, image.width)
    elif method == "separable":
        flops = _FLOPS_PER_TAP * image.height * image.width * sum(taps.size for taps in gaussian.taps(image.dtype))
    else:
        raise ValueError(f"the operations of the method {method} are not known")
    return Work(method, 2 * image.height * image.row_bytes, image.channels * flops)


def attain(case: Case, work: Work, seconds: float, ceilings: Ceilings) -> Attained:
    """Return how near to the ceilings a case came that took so many seconds."""
    bytes_rate, flops_rate = work.bytes / seconds, work.flops / seconds
    bytes_share, flops_share = bytes_rate / ceilings.bytes, flops_rate / ceilings.flops
    bound: Literal["memory", "arithmetic"] = "memory" if bytes_share >= flops_share else "arithmetic"
    return Attained(case.sigma, work.method, seconds, bytes_rate, flops_rate, bytes_share, flops_share, bound)


def multirate_flops(vertical: MultirateGaussian, horizontal: MultirateGaussian, height: int, width: int) -> int:
    """Return the operations of the six passes of a multirate Gaussian over one channel."""
    kept_rows, kept_columns = -(-height // vertical.factor), -(-width // horizontal.factor)
    results_of_passes = (
        (vertical.decimate, kept_rows * width),
        (horizontal.decimate, kept_rows * kept_columns),
        (vertical.blur, kept_rows * kept_columns),
        (horizontal.blur, kept_rows * kept_columns),
        (horizontal.interpolate, kept_rows * width),
        (vertical.interpolate, height * width),
    )
    return sum(_pass_flops(resampler, results) for resampler, results in results_of_passes)


def _pass_flops(resampler: Resampler, results: int) -> int:
    return 0 if resampler.is_identity else _FLOPS_PER_TAP * resampler.tap_count * results
