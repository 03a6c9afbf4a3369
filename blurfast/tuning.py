"""Measure what filtering costs on this machine, for the choice of a method: `blurfast tune`."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import numpy as np

from blurfast.arrays import apply
from blurfast.costs import Costs
from blurfast.cpu.fft import FftWorkspace
from blurfast.filters import Convolution
from blurfast.io.array import describe
from blurfast.methods import FftMethod, Job, candidates
from blurfast.transforms import Transform

_SIDE = 2048
_REPEATS = 9
_FFT_SIDE = 512
_KERNEL_SIDE = 31
_SMALLEST_COST = 1e-3


def measure_costs() -> Costs:
    """Return the costs of this machine, measured on one core in some seconds; other work on it disturbs the result.

    Each method is timed with a small and with a large kernel, which tells what a tap costs and what a pixel costs.
    """
    separable = _line({2 * side: _time_filter(side, "separable") for side in (3, 51)})
    direct = _line({(side + 1) * side: _time_filter(side, "direct") for side in (3, 17)})
    point = _time_point()
    return Costs(
        separable_pixel=separable[0],
        separable_tap=separable[1],
        direct_pixel=direct[0],
        direct_tap=direct[1],
        fft_pixel=max(_SMALLEST_COST, _time_filter(_KERNEL_SIDE, "fft") - point * _fft_effort()),
        fft_point=point,
    )


def _line(times: dict[int, float]) -> tuple[float, float]:
    """Return the intercept and the slope of the times, in nanoseconds, of two numbers of taps."""
    (few, fast), (many, slow) = times.items()
    slope = max(_SMALLEST_COST, (slow - fast) / (many - few))
    return max(_SMALLEST_COST, fast - slope * few), slope


def _time_filter(side: int, method: str) -> float:
    """Return the nanoseconds per pixel of a filter with a square kernel, on one core."""
    image = np.random.default_rng(0).random((_SIDE, _SIDE), dtype=np.float32)
    out = np.empty_like(image)
    filter = Convolution(np.full((side, side), 1 / side**2))
    return _median(lambda: apply(filter, image, method=method, out=out, threads=1)) / image.size


def _time_point() -> float:
    """Return the nanoseconds of a transform there and back, per point and doubling of their number."""
    transform = Transform(_FFT_SIDE, _FFT_SIDE, 1, 1, 1, 4)
    workspace = FftWorkspace(transform, "measure")
    workspace.tile[:] = 1

    def transform_tile() -> None:
        workspace.forward.execute()
        np.multiply(workspace.spectrum, np.float32(1 / transform.points), out=workspace.spectrum)
        workspace.backward.execute()

    return _median(transform_tile) / (transform.points * math.log2(transform.points))


def _fft_effort() -> float:
    """Return the effort of the transforms that `_time_filter` runs, per pixel."""
    image = np.empty((_SIDE, _SIDE, 1), dtype=np.float32)
    filter = Convolution(np.full((_KERNEL_SIDE, _KERNEL_SIDE), 1.0))
    method = candidates(Job(filter, describe(image), image.dtype, "reflect", 0.0))["fft"]
    assert isinstance(method, FftMethod)
    transform = method.transform
    return transform.effort() * transform.tile_count(_SIDE, _SIDE) / image.size


def _median(run: Callable[[], object]) -> float:
    """Return the median time of several runs after a first one, in nanoseconds."""
    run()
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return 1e9 * statistics.median(times)
