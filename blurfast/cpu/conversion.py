"""Filtered samples as those of another type, with a count of what is lost by that."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from blurfast.cpu.catalogue import Kernel
from blurfast.pixels import Pixels


class Mapping(NamedTuple):
    """A linear map: ``(value - origin) * factor + base``."""

    origin: float = 0.0
    factor: float = 1.0
    base: float = 0.0


class Losses(NamedTuple):
    """How many samples could not be stored as they were.

    Parameters
    ----------
    outside
        Those outside the range of the type: integers saturate, floats become infinite.
    undefined
        Those that were NaN, which becomes zero where there are integers only.
    """

    outside: int
    undefined: int


def conversion_kernel(filtered: np.dtype[Any], target: np.dtype[Any]) -> Kernel:
    """Return the kernel that `convert` runs on float32 or float64 samples."""
    return Kernel("conversion", "convert", target.name, filtered.name)


def convert(samples: Pixels, target: Pixels, mapping: Mapping, channel: int | None = None) -> Losses:
    """Map samples and store them as those of another type: integers rounded half to even, and saturated.

    Parameters
    ----------
    samples, target
        Both shaped (rows, columns, channels), with pixels and channels contiguous; `samples` are float32 or float64.
    channel
        The only one to be converted; by default all are.

    Examples
    --------
    >>> stored = np.empty((1, 1, 3), np.uint8)
    >>> convert(np.array([[[-9.0, 2.5, np.nan]]]), stored, Mapping(factor=2.0)), stored.tolist()
    (Losses(outside=1, undefined=1), [[[0, 5, 0]]])
    """
    from blurfast.cpu import objects  # imports llvmlite, which planning does not need

    (run,) = objects.load([conversion_kernel(samples.dtype, target.dtype)])
    rows, columns, channels = samples.shape
    offset, step = (0, 1) if channel is None else (channel, channels)
    numbers = np.array([*mapping, *_limits(target.dtype, samples.dtype)], dtype=samples.dtype)
    counts = np.zeros(2, dtype=np.int64)
    run(
        samples.ctypes.data + offset * samples.itemsize, samples.strides[0] // samples.itemsize,
        target.ctypes.data + offset * target.itemsize, target.strides[0] // target.itemsize,
        rows, columns * channels - offset, step, numbers.ctypes.data, counts.ctypes.data,
    )  # fmt: skip
    return Losses(*counts.tolist())


def _limits(dtype: np.dtype[Any], filtered: np.dtype[Any]) -> tuple[float, float]:
    """Return the smallest and the largest number that can be stored, of floats those that do not become infinite."""
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        return float(limits.min), float(limits.max)
    largest = np.finfo(dtype).max
    if dtype == filtered:
        return -float(largest), float(largest)
    # From half a step beyond the largest number on, numbers are rounded to infinity; float16 are made of float32.
    wider = np.float32 if dtype == np.float16 else np.float64
    half_step = (wider(largest) - wider(np.nextafter(largest, dtype.type(0)))) / 2
    limit = float(np.nextafter(wider(largest) + half_step, wider(0)))
    return -limit, limit
