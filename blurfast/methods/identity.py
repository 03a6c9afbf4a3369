"""Filters that leave every pixel as it is, such as a Gaussian with a sigma of 0: a copy."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from blurfast.costs import Costs
from blurfast.cpu.catalogue import Kernel
from blurfast.methods.base import Job, Sums
from blurfast.parallel import Task
from blurfast.pixels import Pixels, Window
from blurfast.window_filter import RowTranslation, WindowFilter

_TASK_BYTES = 1 << 20
# What a byte that is read or written costs, of what other methods spend on a sample beside its taps. Measured: 0.05 to
# 0.07 with one thread, in images that are larger than the caches.
_COST_OF_A_BYTE = 0.06


@dataclass(frozen=True)
class IdentityMethod:
    """Copy the pixels, so that negative zeros, the bits of NaN, and colours without opacity stay, too."""

    job: Job
    name: ClassVar[str] = "identity"

    @classmethod
    def of(cls, job: Job) -> IdentityMethod | str:
        """See `Method`."""
        kernel = job.filter.matrix(*job.levels)
        if isinstance(kernel, str) or kernel.shape != (1, 1) or kernel.weights[0, 0] != 1:
            return "the filter changes pixels"
        if not np.can_cast(job.image.dtype, job.target_dtype):
            return f"pixels are rounded to {job.target_dtype.name}"
        return cls(job)

    @property
    def sums(self) -> Sums:
        """See `Method`."""
        return Sums(self.job.target_dtype, "nothing is added up")

    @property
    def halo(self) -> tuple[int, int]:
        """See `Method`."""
        return 0, 0

    @property
    def error(self) -> float:
        """See `Method`."""
        return 0.0

    @property
    def nature(self) -> str:
        """See `Method`."""
        return "a copy of the pixels"

    def seconds(self, costs: Costs) -> float:
        """See `Method`."""
        sample_bytes = sum(dtype.itemsize for dtype in self.job.dtypes)
        return 1e-9 * self.job.sample_count * sample_bytes * _COST_OF_A_BYTE * costs.separable_pixel

    def tile(self, rows: int, columns: int, threads: int) -> None:
        """See `Method`: any number of rows will do."""
        return

    def least_rows(self, threads: int) -> int:
        """See `Method`."""
        return 1

    def memory(self, rows: int, columns: int, threads: int) -> int:
        """See `Method`."""
        return 0

    def kernels(self) -> list[Kernel]:
        """See `Method`."""
        return []

    def window_filter(self, tile: tuple[int, int] | None, threads: int, window: tuple[int, int]) -> WindowFilter:
        """See `Method`."""
        return _Copies()


class _Copies:
    """Copies windows, a few rows at a time."""

    def stages(
        self, window: Window, pixels: Pixels, first_column: int, rows: RowTranslation, target: Pixels
    ) -> Iterator[list[Task]]:
        """See `WindowFilter.stages`."""
        source = pixels[:, window.column_start - first_column : window.column_stop - first_column]
        places = rows(np.arange(window.row_start, window.row_stop, dtype=np.int64))
        gaps = np.flatnonzero(np.diff(places) != 1) + 1  # where the memory of a stream begins anew
        step = max(1, _TASK_BYTES // (target.shape[1] * target.shape[2] * target.itemsize))
        bounds = sorted({*range(0, window.rows, step), *gaps.tolist(), window.rows})
        yield [
            functools.partial(
                np.copyto, target[start:stop], source[places[start] : places[start] + stop - start], casting="safe"
            )
            for start, stop in itertools.pairwise(bounds)
        ]

    def close(self) -> None:
        """See `WindowFilter.close`: nothing is held."""
