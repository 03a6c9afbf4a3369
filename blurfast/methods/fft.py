"""Any kernel by transforms of tiles, at a cost that hardly depends on the kernel's size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from blurfast.costs import Costs
from blurfast.cpu.catalogue import Kernel
from blurfast.cpu.fft import FftOperator
from blurfast.cpu.nonfinite import repair_bytes
from blurfast.cpu.panels import panel_kernels
from blurfast.cpu.tiles import Tiles
from blurfast.filters import Convolution
from blurfast.methods.base import Job, Sums, is_16_bit, operator_settings, rounding_error, usual_sums
from blurfast.resources import MEGABYTE, format_memory
from blurfast.transforms import Transform, choose_transform, transform_for
from blurfast.weights import Kernel2D
from blurfast.window_filter import WindowFilter

_TILES_PER_COLUMN = 4
_MOST_TRANSFORM_BYTES = 48 * MEGABYTE
# What loading FFTW, and its plans, take.
_FFTW_BYTES = 32 * MEGABYTE


@dataclass(frozen=True)
class FftMethod:
    """Transform tiles, multiply by the kernel's spectrum, and transform back."""

    job: Job
    kernel: Kernel2D
    name: ClassVar[str] = "fft"

    @classmethod
    def of(cls, job: Job) -> FftMethod | str:
        """See `Method`."""
        if isinstance(job.filter, Convolution) and job.filter.exact:
            return "exact allows no rounding"
        kernel = job.filter.matrix(*job.levels)
        if isinstance(kernel, str):
            return kernel
        if job.image.alpha is not None:
            return "colours are weighted by opacity, and where there is little of it, transforms are not exact enough"
        if job.mode == "constant" and not _is_like_pixels(job.cval, job.image.dtype):
            return "transforms round relative to the largest number, and cval is far from the pixels"
        method = cls(job, kernel)
        smallest = method.transform_of((2, 2))
        needed = sum(smallest.buffers.values())
        if needed > _MOST_TRANSFORM_BYTES:
            allowed = format_memory(_MOST_TRANSFORM_BYTES)
            return f"each transform would take {format_memory(needed)}, and may take {allowed}"
        return method

    @property
    def sums(self) -> Sums:
        """See `Method`."""
        chosen = usual_sums(self.job)
        if chosen.dtype == np.float32 and is_16_bit(self.job.target_dtype):
            return Sums(np.dtype(np.float64), "transforms in float32 are not exact enough for 16-bit pixels")
        return chosen

    @property
    def halo(self) -> tuple[int, int]:
        """See `Method`."""
        return self.kernel.halo

    @property
    def error(self) -> float:
        """See `Method`."""
        return rounding_error(self.sums, int(math.log2(self.transform.points)))

    @property
    def nature(self) -> str:
        """See `Method`."""
        transform = self.transform
        return f"transforms of {transform.rows} x {transform.columns}, {transform.lost_share:.0%} of them overlap"

    @property
    def transform(self) -> Transform:
        """The transform for the whole image."""
        return self._transform_for(self.job.image.height, self.job.image.width)

    def _transform_for(self, rows: int, columns: int) -> Transform:
        """Return the best transform for windows of this size, one that `of` has found to exist.

        It has some tiles to a column, whatever the number of threads, on which the result must not depend.
        """
        size = max(1, -(-rows // _TILES_PER_COLUMN)), max(1, columns)
        channels, itemsize = self.job.image.channels, self.sums.dtype.itemsize
        chosen = choose_transform(self.kernel.shape, channels, itemsize, size, _MOST_TRANSFORM_BYTES)
        assert chosen is not None, "a larger image allows no smaller transforms"
        return chosen

    def transform_of(self, tile: tuple[int, int]) -> Transform:
        """Return the transform that yields a tile."""
        return transform_for(tile, self.kernel.shape, self.job.image.channels, self.sums.dtype.itemsize)

    def seconds(self, costs: Costs) -> float:
        """See `Method`."""
        image, transform = self.job.image, self.transform
        transforms = transform.tile_count(image.height, image.width) * transform.effort()
        one = costs.fft_point * transforms + costs.fft_pixel * self.job.sample_count
        return 1e-9 * self.sums.slowness * one

    def tile(self, rows: int, columns: int, threads: int) -> tuple[int, int]:
        """See `Method`."""
        return self._transform_for(rows, columns).tile

    def least_rows(self, threads: int) -> int:
        """See `Method`: with low windows, the overlap would be most of each transform."""
        return min(self.job.image.height, self.transform.tile[0] * _TILES_PER_COLUMN)

    def memory(self, rows: int, columns: int, threads: int) -> int:
        """See `Method`."""
        transform = self._transform_for(rows, columns)
        repair = repair_bytes(transform) if self.job.image.dtype.kind == "f" else 0
        return _FFTW_BYTES + transform.memory(threads) + repair

    def kernels(self) -> list[Kernel]:
        """See `Method`."""
        return panel_kernels(*self.job.dtypes, self.sums.dtype)

    def window_filter(self, tile: tuple[int, int] | None, threads: int, window: tuple[int, int]) -> WindowFilter:
        """See `Method`."""
        assert tile is not None
        image = self.job.image
        settings = operator_settings(self.job, self.sums)
        operator = FftOperator(self.kernel, self.transform_of(tile), effort=self.job.fft_planning, **settings)
        return Tiles(operator, image.height, image.width, tile[1])


def _is_like_pixels(value: float, dtype: np.dtype[Any]) -> bool:
    """Return whether a value lies within the range of a dtype, or as far from it as it is wide."""
    if dtype.kind == "f":
        return math.isfinite(value)
    limits = np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
    width = float(limits.max) - float(limits.min)
    return limits.min - width <= value <= limits.max + width
