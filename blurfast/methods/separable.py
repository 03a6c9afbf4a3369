"""Filters that are a column and a row, and sums of a few of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from blurfast.costs import Costs
from blurfast.cpu.catalogue import Kernel
from blurfast.cpu.panels import panel_kernels
from blurfast.cpu.separable import FEWEST_TILES_PER_THREAD, TILE_ROWS, Geometry, SeparableOperator, pair_shift
from blurfast.cpu.separable_sum import SeparableSumOperator, sum_workspace_bytes
from blurfast.cpu.tiles import TileOperator, Tiles
from blurfast.methods.base import LARGEST_OVERSHOOT, Job, Sums, is_16_bit, operator_settings, rounding_error, usual_sums
from blurfast.rounding import overshoot
from blurfast.weights import SeparableTerm
from blurfast.window_filter import WindowFilter

_MOST_TILE_ROWS = 256
# A pass averages the errors of the other if the squares of its weights sum to less, and the image is not shorter.
_WEIGHT_TO_AVERAGE = 0.5
_LENGTH_TO_AVERAGE = 8


@dataclass(frozen=True)
class SeparableMethod:
    """Columns and then rows; or the sum of a few such filters."""

    job: Job
    terms: tuple[SeparableTerm, ...]
    name: ClassVar[str] = "separable"

    @classmethod
    def of(cls, job: Job) -> SeparableMethod | str:
        """See `Method`."""
        terms = job.filter.separable(*job.levels)
        if isinstance(terms, str):
            return terms
        if len(terms) > 1 and job.image.alpha is not None:
            return "colours are weighted by opacity, which a sum of products cannot do"
        return cls(job, terms)

    @property
    def sums(self) -> Sums:
        """See `Method`.

        Sums in float32 round a 16-bit pixel of the full range wrong in 2 of 1000 cases, but the second pass averages
        the errors of the first. Where it hardly averages, float64 is needed to keep them below 1 of 1000.
        """
        usual, image = usual_sums(self.job), self.job.image
        resamplers = [resampler for term in self.terms for resampler in term]
        weight = max(float(np.square(resampler.taps).sum()) for resampler in resamplers)
        to_16_bits = is_16_bit(self.job.target_dtype)
        reasons = {
            "the rounding errors of so many taps would add up": max(
                overshoot(resampler, usual.dtype, pair_shift(resampler)) for resampler in resamplers
            )
            > LARGEST_OVERSHOOT,
            "several 16-bit sums add up": to_16_bits and len(self.terms) > 1,
            "one direction is hardly blurred": to_16_bits and weight >= _WEIGHT_TO_AVERAGE,
            "the image is only a few pixels wide": to_16_bits and min(image.height, image.width) < _LENGTH_TO_AVERAGE,
            "16-bit colours are weighted by opacity": to_16_bits and image.alpha is not None,
        }
        for reason, holds in reasons.items():
            if holds and usual.dtype == np.float32:
                return Sums(np.dtype(np.float64), reason)
        return usual

    @property
    def halo(self) -> tuple[int, int]:
        """See `Method`."""
        vertical, horizontal = self.terms[0]
        return vertical.halo, horizontal.halo

    @property
    def error(self) -> float:
        """See `Method`."""
        return rounding_error(self.sums, self._taps)

    @property
    def nature(self) -> str:
        """See `Method`."""
        vertical, horizontal = self.terms[0]
        size = f"{vertical.tap_count} + {horizontal.tap_count} taps"
        return size if len(self.terms) == 1 else f"{len(self.terms)} products of {size}"

    @property
    def _taps(self) -> int:
        vertical, horizontal = self.terms[0]
        return len(self.terms) * (vertical.tap_count + horizontal.tap_count)

    def seconds(self, costs: Costs) -> float:
        """See `Method`."""
        one = costs.separable_pixel * len(self.terms) + costs.separable_tap * self._taps
        return 1e-9 * self.job.sample_count * self.sums.slowness * one

    def _geometry(self, tile_rows: int = TILE_ROWS) -> Geometry:
        image = self.job.image
        vertical, horizontal = self.terms[0]
        itemsize = self.sums.dtype.itemsize
        return Geometry(vertical, horizontal, image.channels, itemsize, tile_rows, image.alpha is not None)

    def tile(self, rows: int, columns: int, threads: int) -> tuple[int, int]:
        """See `Method`.

        Where the rows are filtered as they are, tiles may be high; that keeps the threads from waiting for each other
        between tiles.
        """
        geometry = self._geometry()
        if geometry.is_along_rows and len(self.terms) == 1:
            share = -(-rows // (FEWEST_TILES_PER_THREAD * threads * TILE_ROWS)) * TILE_ROWS
            geometry = replace(geometry, tile_rows=min(_MOST_TILE_ROWS, share))
        return geometry.tile_rows, geometry.shared_columns(rows, columns, threads)

    def least_rows(self, threads: int) -> int:
        """See `Method`."""
        return 1

    def memory(self, rows: int, columns: int, threads: int) -> int:
        """See `Method`."""
        tile_rows, tile_columns = self.tile(rows, columns, threads)
        geometry = self._geometry(tile_rows)
        if len(self.terms) == 1:
            return threads * geometry.workspace_bytes(tile_columns)
        return threads * sum_workspace_bytes(geometry, len(self.terms), tile_columns)

    def kernels(self) -> list[Kernel]:
        """See `Method`."""
        pixels, target = self.job.dtypes
        if len(self.terms) == 1:
            return self._geometry().kernels(pixels, target)
        sums = self.sums.dtype
        return [*self._geometry().kernels(pixels, sums), *panel_kernels(sums, target, sums)]

    def window_filter(self, tile: tuple[int, int] | None, threads: int, window: tuple[int, int]) -> WindowFilter:
        """See `Method`."""
        assert tile is not None
        return Tiles(_operator(self, tile[0]), self.job.image.height, self.job.image.width, tile[1])


@functools.lru_cache(maxsize=32)  # images of one kind come again and again, and an operator holds little but taps
def _operator(method: SeparableMethod, tile_rows: int) -> TileOperator:
    settings = operator_settings(method.job, method.sums)
    if len(method.terms) > 1:
        return SeparableSumOperator(method.terms, **settings)
    return SeparableOperator(*method.terms[0], tile_rows=tile_rows, alpha=method.job.image.alpha, **settings)
