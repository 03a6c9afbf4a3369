"""The sum over all taps of any kernel: as it is defined, and exact where integers allow it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from blurfast.costs import Costs
from blurfast.cpu.catalogue import Kernel
from blurfast.cpu.direct import TILE_ROWS, DirectGeometry, DirectOperator
from blurfast.cpu.tiles import Tiles
from blurfast.filters import Convolution
from blurfast.methods.base import LARGEST_OVERSHOOT, Job, Sums, is_16_bit, operator_settings, rounding_error, usual_sums
from blurfast.rounding import kernel_overshoot
from blurfast.weights import Kernel2D
from blurfast.window_filter import WindowFilter

_MOST_TAPS_IN_FLOAT32 = 2500
# Beyond these, making an operator takes next to none of the time, and it would hold much memory.
_MOST_TAPS_KEPT = 2500


@dataclass(frozen=True)
class DirectMethod:
    """Every tap of the kernel, for every pixel."""

    job: Job
    kernel: Kernel2D
    name: ClassVar[str] = "direct"

    @classmethod
    def of(cls, job: Job) -> DirectMethod | str:
        """See `Method`."""
        kernel = job.filter.matrix(*job.levels)
        if isinstance(kernel, str):
            return kernel
        method = cls(job, kernel)
        if isinstance(job.filter, Convolution) and job.filter.exact and not method.is_exact:
            return "exact needs an integer image, integer weights, and sums below 2**53"
        return method

    @property
    def sums(self) -> Sums:
        """See `Method`."""
        largest = self._largest_integer_sum
        if largest is not None and largest <= 2**24:
            return Sums(np.dtype(np.float32), "all sums are integers below 2**24, so it is exact")
        if largest is not None and largest <= 2**53:
            return Sums(np.dtype(np.float64), "all sums are integers below 2**53, so it is exact")
        chosen = usual_sums(self.job)
        if chosen.dtype == np.float32 and is_16_bit(self.job.target_dtype):
            return Sums(np.dtype(np.float64), "no second pass averages the errors of 16-bit pixels")
        if chosen.dtype == np.float32 and self._would_round_much:
            return Sums(np.dtype(np.float64), "the rounding errors of so many taps would add up")
        return chosen

    @property
    def _would_round_much(self) -> bool:
        if math.prod(self.kernel.shape) > _MOST_TAPS_IN_FLOAT32:
            return True
        return kernel_overshoot(self.kernel.weights, np.dtype(np.float32), in_pairs=True) > LARGEST_OVERSHOOT

    @property
    def is_exact(self) -> bool:
        """Whether pixels and weights are integers, and all their sums representable."""
        largest = self._largest_integer_sum
        return largest is not None and largest <= 2**53

    @property
    def _largest_integer_sum(self) -> float | None:
        """The largest number that the arithmetic can meet, or None if it meets other numbers than integers."""
        image, filter = self.job.image, self.job.filter
        is_integer = image.dtype.kind in "biu" and isinstance(filter, Convolution) and filter.has_integer_weights
        is_constant = self.job.mode == "constant"
        if not is_integer or image.alpha is not None or (is_constant and not float(self.job.cval).is_integer()):
            return None
        limits = (0, 1) if image.dtype.kind == "b" else (np.iinfo(image.dtype).min, np.iinfo(image.dtype).max)
        values = [*map(float, limits), *([self.job.cval] if is_constant else [])]
        # Differences from the reference are as large as the range, and the reference's own share comes on top.
        magnitude = max(values) - min(values) + max(map(abs, values))
        return float(np.abs(self.kernel.weights).sum()) * magnitude

    @property
    def halo(self) -> tuple[int, int]:
        """See `Method`."""
        return self.kernel.halo

    @property
    def error(self) -> float:
        """See `Method`."""
        return 0.0 if self.is_exact else rounding_error(self.sums, math.prod(self.kernel.shape))

    @property
    def nature(self) -> str:
        """See `Method`."""
        rows, columns = self.kernel.shape
        return f"{rows} x {columns} taps"

    def seconds(self, costs: Costs) -> float:
        """See `Method`."""
        rows, columns = self.kernel.shape
        one = costs.direct_pixel + costs.direct_tap * (rows + 1) * columns
        return 1e-9 * self.job.sample_count * self.sums.slowness * float(one)

    @property
    def _geometry(self) -> DirectGeometry:
        image, (rows, columns) = self.job.image, self.kernel.shape
        return DirectGeometry(rows, columns, image.channels, self.sums.dtype.itemsize, image.alpha is not None)

    def tile(self, rows: int, columns: int, threads: int) -> tuple[int, int]:
        """See `Method`."""
        return TILE_ROWS, self._geometry.tile_columns(rows, columns, threads)

    def least_rows(self, threads: int) -> int:
        """See `Method`."""
        return 1

    def memory(self, rows: int, columns: int, threads: int) -> int:
        """See `Method`."""
        return threads * self._geometry.workspace_bytes(self.tile(rows, columns, threads)[1])

    def kernels(self) -> list[Kernel]:
        """See `Method`."""
        return self._geometry.kernels(*self.job.dtypes)

    def window_filter(self, tile: tuple[int, int] | None, threads: int, window: tuple[int, int]) -> WindowFilter:
        """See `Method`."""
        assert tile is not None
        make = _operator if math.prod(self.kernel.shape) <= _MOST_TAPS_KEPT else _operator.__wrapped__
        return Tiles(make(self), self.job.image.height, self.job.image.width, tile[1])


@functools.lru_cache(maxsize=32)  # images of one kind come again and again, and operators are small beside them
def _operator(method: DirectMethod) -> DirectOperator:
    settings = operator_settings(method.job, method.sums)
    return DirectOperator(method.kernel.weights, method.kernel.anchor, alpha=method.job.image.alpha, **settings)
