"""Filters along one direction, one after the other, through scratch memory.

The arithmetic is in `separable_kernels`. This module owns what surrounds it: the taps in the precision of the sums,
the shapes of grids and blocks, and the images in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import ALIGNMENT, Address, Device, Launch, Stream
from blurfast.cuda.memory import row_pitch
from blurfast.cuda.panels import as_sum
from blurfast.cuda.resident import keep
from blurfast.cuda.tiles import DeviceImage, PaddedSource
from blurfast.rounding import exact_gain, overshoot, reference_tap
from blurfast.weights import Resampler

# As in `separable_kernels`, which only the compiler imports.
WARP = 32
LANES = 4
ROWS_PER_THREAD = 8
RESULTS_PER_THREAD = 9
ROWS_PER_BLOCK = 4
RESAMPLED_ROWS = 4

_WARPS_PER_BLOCK = 8
# What every device has for a block that does not ask for more.
_MOST_SHARED_BYTES = 48 * 1024
# Of a block of `horizontal`, in one row.
_FEWEST_WARPS_PER_ROW = 2
_MOST_WARPS_PER_ROW = 4
_IN_PLACE = Address(0)


class Step(NamedTuple):
    """A resampler, and the direction that it works in."""

    resampler: Resampler
    is_vertical: bool


class Extent(NamedTuple):
    """The rows and columns of an image, as half-open ranges."""

    rows: tuple[int, int]
    columns: tuple[int, int]


def active(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps that do something; if none does, the last one, which then copies."""
    return tuple(step for step in steps if not step.resampler.is_identity) or (steps[-1],)


@dataclass(frozen=True)
class PassNeeds:
    """What a chain of steps needs for a tile.

    Parameters
    ----------
    steps
        See `active`.
    channels
        Interleaved channels.
    sums
        float32 or float64: what images in between are made of.
    """

    steps: tuple[Step, ...]
    channels: int
    sums: np.dtype[Any]

    def row_span(self, start: int, stop: int) -> tuple[int, int]:
        """See `tiles.TileOperator.row_span`."""
        return self.extents(Extent((start, stop), (0, 1)))[0].rows

    def column_span(self, start: int, stop: int) -> tuple[int, int]:
        """See `tiles.TileOperator.column_span`."""
        return self.extents(Extent((0, 1), (start, stop)))[0].columns

    def scratch_bytes(self, rows: int, columns: int) -> int:
        """See `tiles.TileOperator.scratch_bytes`."""
        return sum(self.buffer_sizes(rows, columns))

    def extents(self, results: Extent) -> list[Extent]:
        """Return what each step's results have to be, those of the last one given, and before them the source."""
        extents = [results]
        for resampler, is_vertical in reversed(self.steps):
            rows, columns = extents[-1]
            extents.append(
                Extent(resampler.span(*rows), columns) if is_vertical else Extent(rows, resampler.span(*columns))
            )
        return extents[::-1]

    def buffer_sizes(self, rows: int, columns: int) -> tuple[int, int]:
        """Return the bytes of two buffers that images in between take by turns, wherever the results lie."""
        sizes = []
        for resampler, is_vertical in reversed(self.steps[1:]):
            if is_vertical:
                rows = _most_inputs(resampler, rows)
            else:
                columns = _most_inputs(resampler, columns)
            size = rows * row_pitch(columns, self.channels, self.sums) * self.sums.itemsize
            sizes.append(-(-size // ALIGNMENT) * ALIGNMENT)
        sizes.reverse()
        return max(sizes[::2], default=0), max(sizes[1::2], default=0)


def _most_inputs(resampler: Resampler, outputs: int) -> int:
    """Return the most inputs that so many outputs depend on, wherever they start."""
    return (outputs + resampler.up - 2) // resampler.up * resampler.down + resampler.tap_count


# --------------------------------------------------------------------------------------------------- launches


@dataclass(frozen=True)
class PassShape:
    """How a pass is cut into blocks of threads.

    Parameters
    ----------
    function
        The kernel's entry point.
    block
        Threads of a block along x and y.
    rows, samples
        Results of a block.
    shared_bytes
        What the threads of a block share.
    source_arguments, target_arguments
        What the kernel gets in addition to what all take.
    """

    function: str
    block: tuple[int, int]
    rows: int
    samples: int
    shared_bytes: int = 0
    source_arguments: tuple[int, ...] = ()
    target_arguments: tuple[int, ...] = ()

    @classmethod
    def of(cls, step: Step, channels: int, itemsize: int) -> PassShape:
        """Return the shape for a step, with sums of `itemsize` bytes."""
        is_filter = step.resampler.up == step.resampler.down == 1
        if step.is_vertical:
            rows = _WARPS_PER_BLOCK * (ROWS_PER_THREAD if is_filter else 1)
            function = "vertical" if is_filter else "resample_vertical"
            return cls(function, (WARP, _WARPS_PER_BLOCK), rows, WARP * LANES)
        shape = cls._horizontal(step.resampler.tap_count, channels, itemsize) if is_filter else None
        return shape or cls(
            "resample_horizontal",
            (WARP, _WARPS_PER_BLOCK),
            _WARPS_PER_BLOCK * RESAMPLED_ROWS,
            WARP,
            source_arguments=(channels,),
        )

    @classmethod
    def _horizontal(cls, tap_count: int, channels: int, itemsize: int) -> PassShape | None:
        """Return the shape of `horizontal`, or None where its block would be too large."""
        side_by_side = min(channels & -channels, WARP)
        warps = max(_FEWEST_WARPS_PER_ROW, channels // side_by_side)
        threads = warps * WARP
        samples = threads * RESULTS_PER_THREAD
        segment_pitch = _aligned(samples + (tap_count - 1) * channels)
        shared_bytes = (_aligned(tap_count) + ROWS_PER_BLOCK * segment_pitch) * itemsize
        if warps > _MOST_WARPS_PER_ROW or shared_bytes > _MOST_SHARED_BYTES:
            return None
        return cls(
            "horizontal",
            (threads, ROWS_PER_BLOCK),
            ROWS_PER_BLOCK,
            samples,
            shared_bytes,
            source_arguments=(channels, side_by_side),
            target_arguments=(segment_pitch,),
        )

    @property
    def is_filter(self) -> bool:
        """Whether the kernel takes filters only."""
        return self.function in ("vertical", "horizontal")

    def grid(self, rows: int, samples: int) -> tuple[int, int, int]:
        """Return the blocks for so many results."""
        return -(-samples // self.samples) * -(-rows // self.rows), 1, 1


def _aligned(elements: int) -> int:
    """Return a number of elements after which others can be loaded four at a time."""
    return -(-elements // LANES) * LANES


class Pass:
    """A step, ready to be queued.

    Parameters
    ----------
    device
        Where; it is active.
    step
        What.
    pixel_dtype, target_dtype
        Of the image that is read and of the one that is written.
    sums
        float32 or float64: the precision of the arithmetic.
    channels
        Interleaved channels.
    outside
        The value of rows or columns that lie outside.
    resources
        Gives the taps' memory back when it is closed.
    """

    def __init__(
        self,
        device: Device,
        step: Step,
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        channels: int,
        outside: np.generic,
        resources: ExitStack,
    ) -> None:
        resampler = step.resampler
        taps = resampler.taps * (1.0 - overshoot(resampler, sums))
        self._device = device
        self._resampler, self._is_vertical = step
        self._shape = PassShape.of(step, channels, sums.itemsize)
        self.kernel = Kernel("separable", self._shape.function, pixel_dtype.name, target_dtype.name, sums.name)
        self._taps = keep(device, taps.astype(sums), resources)
        self._outside = outside
        self._gain = as_sum(exact_gain(resampler.taps[0]), sums)

    def enqueue(self, source: DeviceImage, positions: Address, target: DeviceImage, start: int, stream: Stream) -> None:
        """Queue the step.

        Parameters
        ----------
        source
            The rows or columns that the results depend on, found through a map. Rows begin at multiples of four
            samples here and in the target.
        positions
            Address of the map, or 0 where all rows or columns lie in order.
        target
            Where the results go.
        start
            The position of the first result among all.
        """
        shape, resampler = self._shape, self._resampler
        if self._is_vertical:
            assert source.columns == target.columns, "a column that is missing, or there twice"
        else:
            assert source.rows == target.rows, "a row that is missing, or there twice"
        samples = target.columns * target.channels
        rates = () if shape.is_filter else (resampler.up, resampler.down, start % resampler.up)
        arguments: tuple[int | np.generic, ...] = (
            source.address,
            np.uint32(source.pitch),
            positions,
            self._outside,
            *map(np.uint32, shape.source_arguments),
            self._taps,
            *map(np.uint32, (resampler.tap_count, *rates, reference_tap(resampler))),
            self._gain,
            target.address,
            *map(np.uint32, (target.pitch, target.rows, samples, *shape.target_arguments)),
        )
        grid = shape.grid(target.rows, samples)
        self._device.launch(Launch(self.kernel, grid, (*shape.block, 1), arguments, shape.shared_bytes), stream)


class PassChain:
    """Steps, one after the other, from pixels to pixels.

    Rows are found by the first vertical step, and columns by the first horizontal one; so no row and no column is
    computed twice because it occurs twice in the padding. Where all steps go in one direction, the results' own rows
    (or columns) are all that there are of the source's, in their order.

    Parameters
    ----------
    device, pixel_dtype, target_dtype
        As for `separable.SeparableOperator`.
    needs
        The steps, and what images in between are.
    cval
        The value of positions outside the image.
    resources
        Gives the memory of the taps back when it is closed.
    """

    def __init__(
        self,
        device: Device,
        needs: PassNeeds,
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        cval: float,
        resources: ExitStack,
    ) -> None:
        self._needs = needs
        self._passes: list[Pass] = []
        outside = cval
        for number, step in enumerate(needs.steps):
            self._passes.append(
                Pass(
                    device,
                    step,
                    pixel_dtype=needs.sums if number else pixel_dtype,
                    target_dtype=target_dtype if number == len(needs.steps) - 1 else needs.sums,
                    sums=needs.sums,
                    channels=needs.channels,
                    outside=as_sum(outside, needs.sums),
                    resources=resources,
                )
            )
            outside *= exact_gain(step.resampler.taps[0])

    @property
    def kernels(self) -> list[Kernel]:
        """All kernels that `enqueue` queues."""
        return [step.kernel for step in self._passes]

    def enqueue(
        self, source: PaddedSource, target: DeviceImage, position: tuple[int, int], scratch: Address, stream: Stream
    ) -> None:
        """See `tiles.TileOperator.enqueue`."""
        needs = self._needs
        rows, columns = position
        results = Extent((rows, rows + target.rows), (columns, columns + target.columns))
        buffers = scratch, scratch + needs.buffer_sizes(target.rows, target.columns)[0]
        image = source.image
        row_map, column_map = source.row_map, source.column_map
        for number, (step, extent) in enumerate(zip(needs.steps, needs.extents(results)[1:], strict=True)):
            is_last = number == len(needs.steps) - 1
            result = target if is_last else self._between(image, step, extent, buffers[number % 2])
            if step.is_vertical:
                self._passes[number].enqueue(image, row_map, result, extent.rows[0], stream)
                row_map = _IN_PLACE
            else:
                self._passes[number].enqueue(image, column_map, result, extent.columns[0], stream)
                column_map = _IN_PLACE
            image = result

    def _between(self, image: DeviceImage, step: Step, extent: Extent, address: Address) -> DeviceImage:
        """Return the image that a step makes of another one."""
        rows, columns = image.rows, image.columns
        if step.is_vertical:
            rows = extent.rows[1] - extent.rows[0]
        else:
            columns = extent.columns[1] - extent.columns[0]
        pitch = row_pitch(columns, image.channels, self._needs.sums)
        return DeviceImage(address, pitch, rows, columns, image.channels, self._needs.sums)
