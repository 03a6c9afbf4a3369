"""Wide Gaussians at a fraction of the resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from blurfast.costs import Costs
from blurfast.cpu import multirate
from blurfast.cpu.catalogue import Kernel
from blurfast.methods.base import Job, Sums, operator_settings
from blurfast.methods.separable import SeparableMethod
from blurfast.pixels import Window
from blurfast.weights import MultirateGaussian, SeparableTerm
from blurfast.window_filter import WindowFilter

# What the method costs by its factor, in taps of a separable filter (the sum of both directions).
_COST_IN_TAPS = {2: 180, 4: 85, 8: 85, 16: 85}


@dataclass(frozen=True)
class MultirateMethod:
    """Blur a little, keep few samples, blur those, interpolate."""

    job: Job
    designs: tuple[MultirateGaussian, MultirateGaussian]
    terms: tuple[SeparableTerm, ...]
    name: ClassVar[str] = "multirate"

    @classmethod
    def of(cls, job: Job) -> MultirateMethod | str:
        """See `Method`."""
        designs = job.filter.multirate(*job.levels)
        if isinstance(designs, str):
            return designs
        if job.image.alpha is not None:
            return "colours are weighted by opacity"
        terms = job.filter.separable(*job.levels)
        assert not isinstance(terms, str), "a Gaussian is separable"
        return cls(job, designs, terms)

    @property
    def sums(self) -> Sums:
        """See `Method`."""
        return SeparableMethod(self.job, self.terms).sums

    @property
    def halo(self) -> tuple[int, int]:
        """See `Method`."""
        vertical, horizontal = self.designs
        return vertical.radius, horizontal.radius

    @property
    def error(self) -> float:
        """See `Method`."""
        return sum(design.error for design in self.designs)

    @property
    def _factor(self) -> int:
        return max(design.factor for design in self.designs)

    @property
    def nature(self) -> str:
        """See `Method`."""
        return f"at 1/{self._factor} of the resolution, which costs as much as {self._taps} taps"

    @property
    def _taps(self) -> int:
        return _COST_IN_TAPS[self._factor]

    def seconds(self, costs: Costs) -> float:
        """See `Method`."""
        one = costs.separable_pixel + costs.separable_tap * self._taps
        return 1e-9 * self.job.sample_count * self.sums.slowness * one

    def tile(self, rows: int, columns: int, threads: int) -> None:
        """See `Method`: its three steps have tiles of their own."""
        return

    def least_rows(self, threads: int) -> int:
        """See `Method`."""
        return 1

    def memory(self, rows: int, columns: int, threads: int) -> int:
        """See `Method`."""
        window = Window(0, rows, 0, columns)
        return multirate.memory_bytes(*self.designs, window, self.job.image.channels, self.sums.dtype.itemsize, threads)

    def kernels(self) -> list[Kernel]:
        """See `Method`."""
        return multirate.kernels(*self.designs, *self.job.dtypes, self.sums.dtype)

    def window_filter(self, tile: tuple[int, int] | None, threads: int, window: tuple[int, int]) -> WindowFilter:
        """See `Method`."""
        image = self.job.image
        settings = operator_settings(self.job, self.sums)
        return multirate.MultirateTiles(
            *self.designs, height=image.height, width=image.width, threads=threads, **settings
        )
