"""Which of the machine's ceilings a case comes up against, and how near it gets.

The traffic is the least that a filter can have: the image read once and the result written once. The operations are
those of the method: two for each tap that is used, and for transforms the usual count of 2.5 N log2 N for N real
points. What a kernel does beside them is overhead, and shows as such.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from blurfast.bench.blurfast_runs import plan_case
from blurfast.bench.cases import Case
from blurfast.bench.ceilings import Ceilings
from blurfast.methods import DirectMethod, FftMethod, Method, MultirateMethod, SeparableMethod
from blurfast.weights import MultirateGaussian, Resampler

_FLOPS_PER_TAP = 2
_FLOPS_PER_TRANSFORM = 2 * 2.5
_FLOPS_PER_PRODUCT = 6 / 2  # one complex product for each two real points


@dataclass(frozen=True)
class Work:
    """What a filter has to do.

    Parameters
    ----------
    method
        How blurfast does it.
    bytes
        Moved from and to memory.
    flops
        Multiplications and additions.
    itemsize
        Bytes of a sum: 4, or 8 where the processor does half as many at a time.
    """

    method: str
    bytes: int
    flops: float
    itemsize: int = 4


@dataclass(frozen=True)
class Attained:
    """What a case reaches of the ceilings.

    Parameters
    ----------
    method
        How blurfast filters it.
    bytes, flops
        Reached, per second.
    bytes_share, flops_share
        The same as shares of the ceilings.
    bound
        The ceiling that it would meet first.
    """

    method: str
    bytes: float
    flops: float
    bytes_share: float
    flops_share: float
    bound: Literal["memory", "arithmetic"]


def work_of(case: Case) -> Work:
    """Return what blurfast, with its default accuracy, has to do on the CPU for a case."""
    operation = plan_case(case).operation
    job = operation.job
    pixel_bytes = job.image.dtype.itemsize + job.target_dtype.itemsize
    flops = _flops(operation)
    return Work(operation.name, job.sample_count * pixel_bytes, flops, operation.sums.dtype.itemsize)


def _flops(operation: Method) -> float:
    job = operation.job
    match operation:
        case SeparableMethod():
            taps = sum(resampler.tap_count for term in operation.terms for resampler in term)
            return _FLOPS_PER_TAP * taps * job.sample_count
        case DirectMethod():
            return _FLOPS_PER_TAP * math.prod(operation.kernel.shape) * job.sample_count
        case MultirateMethod():
            designs = job.filter.multirate(*job.dtypes)
            assert not isinstance(designs, str), designs
            return job.image.channels * multirate_flops(*designs, job.image.height, job.image.width)
        case FftMethod():
            transform = operation.transform
            tiles = transform.tile_count(job.image.height, job.image.width)
            per_point = _FLOPS_PER_TRANSFORM * math.log2(transform.points) + _FLOPS_PER_PRODUCT
            return tiles * transform.points * per_point
        case _:
            raise ValueError(f"the operations of the method {operation.name} are not known")


def attain(work: Work, seconds: float, ceilings: Ceilings) -> Attained:
    """Return how near to the ceilings work came that took so many seconds."""
    bytes_rate, flops_rate = work.bytes / seconds, work.flops / seconds
    peak = ceilings.flops * np.dtype(np.float32).itemsize / work.itemsize
    bytes_share, flops_share = bytes_rate / ceilings.bytes, flops_rate / peak
    bound: Literal["memory", "arithmetic"] = "memory" if bytes_share >= flops_share else "arithmetic"
    return Attained(work.method, bytes_rate, flops_rate, bytes_share, flops_share, bound)


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
