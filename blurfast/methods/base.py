"""What is asked of every method, and what several of them answer alike."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol

import numpy as np

from blurfast.boundary import Mode
from blurfast.costs import Costs
from blurfast.cpu.catalogue import Kernel
from blurfast.dtypes import sum_dtype
from blurfast.filters import Convolution, Filter
from blurfast.io.base import ImageSpec
from blurfast.transforms import PlanningEffort
from blurfast.window_filter import WindowFilter

# By how much taps may be made smaller for averages to stay in range; with more taps than these they must be by more.
LARGEST_OVERSHOOT = 1e-6
_LARGEST_WEIGHTS_IN_FLOAT32 = 1e30


class Job(NamedTuple):
    """One image, and what is to be done with it.

    Parameters
    ----------
    target_dtype
        Of what the filter returns.
    written_dtype
        Of what becomes of that in the end, where it is another one.
    """

    filter: Filter
    image: ImageSpec
    target_dtype: np.dtype[Any]
    mode: Mode
    cval: float
    fft_planning: PlanningEffort = "measure"
    written_dtype: np.dtype[Any] | None = None

    @property
    def dtypes(self) -> tuple[np.dtype[Any], np.dtype[Any]]:
        """Of the input and of the output."""
        return self.image.dtype, self.target_dtype

    @property
    def levels(self) -> tuple[np.dtype[Any], ...]:
        """All types of samples on the way; the finest says how exact the weights have to be."""
        return (*self.dtypes, *([] if self.written_dtype is None else [self.written_dtype]))

    @property
    def sample_count(self) -> int:
        """Pixels times channels."""
        return self.image.height * self.image.width * self.image.channels


class Sums(NamedTuple):
    """The precision of the arithmetic, and why."""

    dtype: np.dtype[Any]
    reason: str

    @property
    def slowness(self) -> int:
        """How many times as long as with float32 the arithmetic takes."""
        return self.dtype.itemsize // 4


class Method(Hashable, Protocol):
    """One way to carry out a job."""

    @property
    def name(self) -> str:
        """How it is asked for."""

    @property
    def job(self) -> Job:
        """What is to be done."""

    @property
    def sums(self) -> Sums:
        """The precision of the arithmetic."""

    @property
    def halo(self) -> tuple[int, int]:
        """Rows above and below, and columns left and right, that are read for a pixel."""

    @property
    def error(self) -> float:
        """About the largest error that the method adds, as a share of the range of the pixels and of the weights."""

    @property
    def nature(self) -> str:
        """What it does here, as a clause."""

    def seconds(self, costs: Costs) -> float:
        """Return the time that one core needs for the image."""

    def tile(self, rows: int, columns: int, threads: int) -> tuple[int, int] | None:
        """Return the rows and columns of a tile for windows of this size; None where there is not one size."""

    def least_rows(self, threads: int) -> int:
        """Return the rows of a window below which it wastes time, where the memory allows them."""

    def memory(self, rows: int, columns: int, threads: int) -> int:
        """Return the scratch memory in bytes for windows of this size."""

    def kernels(self) -> list[Kernel]:
        """Return what `window_filter` loads."""

    def window_filter(self, tile: tuple[int, int] | None, threads: int, window: tuple[int, int]) -> WindowFilter:
        """Return what does the arithmetic, in tiles of this size, for windows of up to `window` rows and columns."""


def usual_sums(job: Job) -> Sums:
    """Return the precision that a job needs for its pixels and weights alone, whatever the method."""
    sums = sum_dtype(*job.dtypes)
    if sums == np.float64:
        if job.written_dtype is not None and sum_dtype(job.image.dtype, job.written_dtype) == np.float32:
            return Sums(sums, f"float32 is too coarse to be rounded to {job.written_dtype.name}")
        wide = next(dtype.name for dtype in job.dtypes if sum_dtype(dtype) == np.float64)
        return Sums(sums, f"{wide} pixels do not fit into float32")
    if isinstance(job.filter, Convolution) and np.abs(job.filter.weights).sum() > _LARGEST_WEIGHTS_IN_FLOAT32:
        return Sums(np.dtype(np.float64), "the weights do not fit into float32")
    return Sums(sums, f"exact enough for {job.target_dtype.name} pixels")


def is_16_bit(dtype: np.dtype[Any]) -> bool:
    """Return whether pixels are integers of 16 bits."""
    return dtype.kind in "iu" and dtype.itemsize == 2


def rounding_error(sums: Sums, taps: int) -> float:
    """Return a large error of a sum of so many products, of rounding errors that do not know of each other."""
    return 4 * math.sqrt(taps) * float(np.finfo(sums.dtype).eps) / 2


def operator_settings(job: Job, sums: Sums) -> dict[str, Any]:
    """Return what all operators are made with."""
    return {
        "pixel_dtype": job.image.dtype,
        "target_dtype": job.target_dtype,
        "sums": sums.dtype,
        "channels": job.image.channels,
        "mode": job.mode,
        "cval": job.cval,
    }
