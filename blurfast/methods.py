"""The methods that may carry a filter out on an image: what each needs, costs and gives.

Each class answers the same questions (`Method`), and none touches a pixel. `candidates` lists all of them for a
filter, with the reason where one cannot serve. Which is taken is decided in `choices`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from blurfast.boundary import Mode
from blurfast.costs import Costs
from blurfast.cpu.catalogue import Kernel
from blurfast.cpu.direct import TILE_ROWS as DIRECT_TILE_ROWS
from blurfast.cpu.direct import DirectGeometry, DirectOperator
from blurfast.cpu.fft import FftOperator
from blurfast.cpu.multirate import MultirateTiles
from blurfast.cpu.multirate import kernels as multirate_kernels
from blurfast.cpu.multirate import memory_bytes as multirate_memory
from blurfast.cpu.panels import panel_kernels
from blurfast.cpu.separable import FEWEST_TILES_PER_THREAD, TILE_ROWS, Geometry, SeparableOperator, pair_shift
from blurfast.cpu.separable_sum import SeparableSumOperator, sum_workspace_bytes
from blurfast.cpu.tiles import Tiles, WindowFilter
from blurfast.dtypes import sum_dtype
from blurfast.filters import Convolution, Filter
from blurfast.io.base import ImageSpec
from blurfast.pixels import Window
from blurfast.resources import MEGABYTE, format_memory
from blurfast.rounding import kernel_overshoot, overshoot
from blurfast.transforms import Transform, choose_transform, transform_for
from blurfast.weights import Kernel2D, MultirateGaussian, SeparableTerm

# What the multirate method costs by its factor, in taps of a separable filter (the sum of both directions).
_MULTIRATE_COST_IN_TAPS = {2: 180, 4: 85, 8: 85, 16: 85}
_MOST_TILE_ROWS = 256
# By how much taps may be made smaller for averages to stay in range; with more taps than these they must be by more.
_LARGEST_OVERSHOOT = 1e-6
_TILES_PER_COLUMN = 4
_MOST_TAPS_IN_FLOAT32 = 2500
_LARGEST_WEIGHTS_IN_FLOAT32 = 1e30
# What loading FFTW, and its plans, take.
_FFTW_BYTES = 32 * MEGABYTE
_MOST_TRANSFORM_BYTES = 48 * MEGABYTE
# A pass averages the errors of the other if the squares of its weights sum to less, and the image is not shorter.
_WEIGHT_TO_AVERAGE = 0.5
_LENGTH_TO_AVERAGE = 8


class Job(NamedTuple):
    """One image, and what is to be done with it."""

    filter: Filter
    image: ImageSpec
    target_dtype: np.dtype[Any]
    mode: Mode
    cval: float

    @property
    def dtypes(self) -> tuple[np.dtype[Any], np.dtype[Any]]:
        """Of the input and of the output."""
        return self.image.dtype, self.target_dtype

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


class Method(Protocol):
    """One way to carry out a job."""

    name: ClassVar[str]

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

    def window_filter(self, tile: tuple[int, int] | None, threads: int) -> WindowFilter:
        """Return what does the arithmetic, in tiles of this size."""


@dataclass(frozen=True)
class SeparableMethod:
    """Columns and then rows; or the sum of a few such filters."""

    job: Job
    terms: tuple[SeparableTerm, ...]
    name: ClassVar[str] = "separable"

    @property
    def sums(self) -> Sums:
        """See `Method`.

        Sums in float32 round a 16-bit pixel of the full range wrong in 2 of 1000 cases, but the second pass averages
        the errors of the first. Where it hardly averages, float64 is needed to keep them below 1 of 1000.
        """
        usual, image = _usual_sums(self.job), self.job.image
        resamplers = [resampler for term in self.terms for resampler in term]
        weight = max(float(np.square(resampler.taps).sum()) for resampler in resamplers)
        is_16_bit = _is_16_bit(self.job.target_dtype)
        reasons = {
            "the rounding errors of so many taps would add up": max(
                overshoot(resampler, usual.dtype, pair_shift(resampler)) for resampler in resamplers
            )
            > _LARGEST_OVERSHOOT,
            "several 16-bit sums add up": is_16_bit and len(self.terms) > 1,
            "one direction is hardly blurred": is_16_bit and weight >= _WEIGHT_TO_AVERAGE,
            "the image is only a few pixels wide": is_16_bit and min(image.height, image.width) < _LENGTH_TO_AVERAGE,
            "16-bit colours are weighted by opacity": is_16_bit and image.alpha is not None,
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
        return _rounding_error(self.sums, self._taps)

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

    def window_filter(self, tile: tuple[int, int] | None, threads: int) -> WindowFilter:
        """See `Method`."""
        assert tile is not None
        image = self.job.image
        settings = _operator_settings(self.job, self.sums)
        if len(self.terms) > 1:
            return Tiles(SeparableSumOperator(self.terms, **settings), image.height, image.width, tile[1])
        operator = SeparableOperator(*self.terms[0], tile_rows=tile[0], alpha=image.alpha, **settings)
        return Tiles(operator, image.height, image.width, tile[1])


@dataclass(frozen=True)
class MultirateMethod:
    """Blur a little, keep few samples, blur those, interpolate."""

    job: Job
    designs: tuple[MultirateGaussian, MultirateGaussian]
    terms: tuple[SeparableTerm, ...]
    name: ClassVar[str] = "multirate"

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
        return _MULTIRATE_COST_IN_TAPS[self._factor]

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
        return multirate_memory(*self.designs, window, self.job.image.channels, self.sums.dtype.itemsize, threads)

    def kernels(self) -> list[Kernel]:
        """See `Method`."""
        return multirate_kernels(*self.designs, *self.job.dtypes, self.sums.dtype)

    def window_filter(self, tile: tuple[int, int] | None, threads: int) -> WindowFilter:
        """See `Method`."""
        image = self.job.image
        settings = _operator_settings(self.job, self.sums)
        return MultirateTiles(*self.designs, height=image.height, width=image.width, threads=threads, **settings)


@dataclass(frozen=True)
class DirectMethod:
    """Every tap of the kernel, for every pixel."""

    job: Job
    kernel: Kernel2D
    name: ClassVar[str] = "direct"

    @property
    def sums(self) -> Sums:
        """See `Method`."""
        largest = self._largest_integer_sum
        if largest is not None and largest <= 2**24:
            return Sums(np.dtype(np.float32), "all sums are integers below 2**24, so it is exact")
        if largest is not None and largest <= 2**53:
            return Sums(np.dtype(np.float64), "all sums are integers below 2**53, so it is exact")
        chosen = _usual_sums(self.job)
        if chosen.dtype == np.float32 and _is_16_bit(self.job.target_dtype):
            return Sums(np.dtype(np.float64), "no second pass averages the errors of 16-bit pixels")
        if chosen.dtype == np.float32 and self._would_round_much:
            return Sums(np.dtype(np.float64), "the rounding errors of so many taps would add up")
        return chosen

    @property
    def _would_round_much(self) -> bool:
        if math.prod(self.kernel.shape) > _MOST_TAPS_IN_FLOAT32:
            return True
        return kernel_overshoot(self.kernel.weights, np.dtype(np.float32), in_pairs=True) > _LARGEST_OVERSHOOT

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
        return 0.0 if self.is_exact else _rounding_error(self.sums, math.prod(self.kernel.shape))

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
        return DIRECT_TILE_ROWS, self._geometry.tile_columns(rows, columns, threads)

    def least_rows(self, threads: int) -> int:
        """See `Method`."""
        return 1

    def memory(self, rows: int, columns: int, threads: int) -> int:
        """See `Method`."""
        return threads * self._geometry.workspace_bytes(self.tile(rows, columns, threads)[1])

    def kernels(self) -> list[Kernel]:
        """See `Method`."""
        return self._geometry.kernels(*self.job.dtypes)

    def window_filter(self, tile: tuple[int, int] | None, threads: int) -> WindowFilter:
        """See `Method`."""
        assert tile is not None
        image = self.job.image
        settings = _operator_settings(self.job, self.sums)
        operator = DirectOperator(self.kernel.weights, self.kernel.anchor, alpha=image.alpha, **settings)
        return Tiles(operator, image.height, image.width, tile[1])


@dataclass(frozen=True)
class FftMethod:
    """Transform tiles, multiply by the kernel's spectrum, and transform back."""

    job: Job
    kernel: Kernel2D
    name: ClassVar[str] = "fft"

    @property
    def sums(self) -> Sums:
        """See `Method`."""
        chosen = _usual_sums(self.job)
        if chosen.dtype == np.float32 and _is_16_bit(self.job.target_dtype):
            return Sums(np.dtype(np.float64), "transforms in float32 are not exact enough for 16-bit pixels")
        return chosen

    @property
    def halo(self) -> tuple[int, int]:
        """See `Method`."""
        return self.kernel.halo

    @property
    def error(self) -> float:
        """See `Method`."""
        return _rounding_error(self.sums, int(math.log2(self.transform.points)))

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

    @classmethod
    def of(cls, job: Job, kernel: Kernel2D) -> FftMethod | str:
        """Return the method, or why it cannot serve."""
        method = cls(job, kernel)
        if job.image.alpha is not None:
            return "colours are weighted by opacity, and where there is little of it, transforms are not exact enough"
        if job.mode == "constant" and not _is_like_pixels(job.cval, job.image.dtype):
            return "transforms round relative to the largest number, and cval is far from the pixels"
        smallest = method.transform_of((2, 2))
        needed = sum(smallest.buffers.values())
        if needed > _MOST_TRANSFORM_BYTES:
            allowed = format_memory(_MOST_TRANSFORM_BYTES)
            return f"each transform would take {format_memory(needed)}, and may take {allowed}"
        return method

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
        return _FFTW_BYTES + self._transform_for(rows, columns).memory(threads)

    def kernels(self) -> list[Kernel]:
        """See `Method`."""
        return panel_kernels(*self.job.dtypes, self.sums.dtype)

    def window_filter(self, tile: tuple[int, int] | None, threads: int) -> WindowFilter:
        """See `Method`."""
        assert tile is not None
        image = self.job.image
        settings = _operator_settings(self.job, self.sums)
        operator = FftOperator(self.kernel, self.transform_of(tile), **settings)
        return Tiles(operator, image.height, image.width, tile[1])


Candidates = dict[str, Method | str]
"""Every method by its name, or why it cannot serve."""


def candidates(job: Job) -> Candidates:
    """Return all methods for a job; the earlier ones are taken where the cost is equal."""
    return {"separable": _separable(job), "multirate": _multirate(job), "direct": _direct(job), "fft": _fft(job)}


def _separable(job: Job) -> Method | str:
    terms = job.filter.separable(*job.dtypes)
    if isinstance(terms, str):
        return terms
    if len(terms) > 1 and job.image.alpha is not None:
        return "colours are weighted by opacity, which a sum of products cannot do"
    return SeparableMethod(job, terms)


def _multirate(job: Job) -> Method | str:
    designs = job.filter.multirate(*job.dtypes)
    if isinstance(designs, str):
        return designs
    if job.image.alpha is not None:
        return "colours are weighted by opacity"
    terms = job.filter.separable(*job.dtypes)
    assert not isinstance(terms, str), "a Gaussian is separable"
    return MultirateMethod(job, designs, terms)


def _direct(job: Job) -> Method | str:
    kernel = job.filter.matrix(*job.dtypes)
    if isinstance(kernel, str):
        return kernel
    method = DirectMethod(job, kernel)
    if isinstance(job.filter, Convolution) and job.filter.exact and not method.is_exact:
        return "exact needs an integer image, integer weights, and sums below 2**53"
    return method


def _fft(job: Job) -> Method | str:
    if isinstance(job.filter, Convolution) and job.filter.exact:
        return "exact allows no rounding"
    kernel = job.filter.matrix(*job.dtypes)
    return kernel if isinstance(kernel, str) else FftMethod.of(job, kernel)


def _operator_settings(job: Job, sums: Sums) -> dict[str, Any]:
    """Return what all operators are made with."""
    return {
        "pixel_dtype": job.image.dtype,
        "target_dtype": job.target_dtype,
        "sums": sums.dtype,
        "channels": job.image.channels,
        "mode": job.mode,
        "cval": job.cval,
    }


def _is_like_pixels(value: float, dtype: np.dtype[Any]) -> bool:
    """Return whether a value lies within the range of a dtype, or as far from it as it is wide."""
    if dtype.kind == "f":
        return math.isfinite(value)
    limits = np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
    width = float(limits.max) - float(limits.min)
    return limits.min - width <= value <= limits.max + width


def _usual_sums(job: Job) -> Sums:
    sums = sum_dtype(*job.dtypes)
    if sums == np.float64:
        return Sums(sums, f"{job.image.dtype.name} pixels do not fit into float32")
    if isinstance(job.filter, Convolution) and np.abs(job.filter.weights).sum() > _LARGEST_WEIGHTS_IN_FLOAT32:
        return Sums(np.dtype(np.float64), "the weights do not fit into float32")
    return Sums(sums, f"exact enough for {job.target_dtype.name} pixels")


def _is_16_bit(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" and dtype.itemsize == 2


def _rounding_error(sums: Sums, taps: int) -> float:
    """Return a large error of a sum of so many products, of rounding errors that do not know of each other."""
    return 4 * math.sqrt(taps) * float(np.finfo(sums.dtype).eps) / 2
