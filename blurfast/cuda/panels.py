"""Tiles as panels: the padded pixels of a tile in scratch memory, for methods that work on whole padded tiles.

The kernels are in `panel_kernels`. A panel has one plane per channel, since a transform takes channels apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import Address, Device, Launch, Stream
from blurfast.cuda.tiles import DeviceImage, PaddedSource
from blurfast.weights import Kernel2D

_PLACE_BYTES = 4  # of each entry of a map
_THREADS = 256
# As in `panel_kernels`.
_ROWS_PER_THREAD = 4
_PIXELS_LOOKED_AT = 256


@dataclass(frozen=True)
class KernelSpans:
    """The pixels that results depend on which are sums over a 2-D kernel."""

    kernel: Kernel2D

    def row_span(self, start: int, stop: int) -> tuple[int, int]:
        """See `tiles.TileOperator.row_span`."""
        return self._span(0, start, stop)

    def column_span(self, start: int, stop: int) -> tuple[int, int]:
        """See `tiles.TileOperator.column_span`."""
        return self._span(1, start, stop)

    def _span(self, axis: int, start: int, stop: int) -> tuple[int, int]:
        anchor = self.kernel.anchor[axis]
        return start - anchor, stop - anchor + self.kernel.shape[axis] - 1


def cut(
    source: PaddedSource, target: DeviceImage, kernel: Kernel2D, shape: tuple[int, int]
) -> Iterator[tuple[PaddedSource, DeviceImage]]:
    """Cut a tile into parts of at most `shape` pixels, each with the padded pixels that it depends on."""
    most_rows, most_columns = shape
    for row, column in itertools.product(range(0, target.rows, most_rows), range(0, target.columns, most_columns)):
        rows, columns = min(most_rows, target.rows - row), min(most_columns, target.columns - column)
        start = target.address + (row * target.pitch + column * target.channels) * target.dtype.itemsize
        part = PaddedSource(
            source.image,
            source.row_map + row * _PLACE_BYTES,
            source.column_map + column * _PLACE_BYTES,
            rows + kernel.shape[0] - 1,
            columns + kernel.shape[1] - 1,
        )
        yield part, target._replace(address=start, rows=rows, columns=columns)


def source_arguments(source: PaddedSource) -> tuple[int | np.generic, ...]:
    """Return how kernels are told of a padded source: where it is, its maps, and its size in samples."""
    image = source.image
    sizes = map(np.uint32, (source.rows, source.columns * image.channels, image.channels))
    return image.address, np.uint32(image.pitch), source.row_map, source.column_map, *sizes


def as_sum(value: float, sums: np.dtype[Any]) -> np.generic:
    """Return a number in the precision of the sums; what is too large for that is infinite."""
    with np.errstate(over="ignore"):
        rounded: np.generic = np.float64(value).astype(sums)
    return rounded


class Panel(NamedTuple):
    """Sums in the memory of a device, one plane per channel, one row after the other.

    Parameters
    ----------
    address
        Of the first element.
    planes, rows, pitch
        How many there are, and elements from the start of one row to that of the next.
    """

    address: Address
    planes: int
    rows: int
    pitch: int


class Panels:
    """Queues what fills panels, changes them, and makes pixels of them.

    Parameters
    ----------
    device
        Where.
    pixel_dtype, target_dtype
        Of the pixels that are read and of those that are written.
    sums
        float32 or float64: the elements of panels.
    cval
        The value of positions outside the image.
    """

    def __init__(
        self,
        device: Device,
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        cval: float,
    ) -> None:
        self._device = device
        self._sums = sums
        self._outside = as_sum(cval, sums)
        pixel, target, total = pixel_dtype.name, target_dtype.name, sums.name
        self._find_references = Kernel("panel", "find_references", pixel, total, total)
        self._pack = Kernel("panel", "pack", pixel, total, total)
        self._multiply = Kernel("panel", "multiply", total, total, total)
        self._finish = Kernel("panel", "finish", total, target, total)

    @property
    def kernels(self) -> list[Kernel]:
        """All kernels that are queued."""
        return [self._find_references, self._pack, self._multiply, self._finish]

    def find_references(self, source: PaddedSource, references: Address, stream: Stream) -> None:
        """Write for each channel a value that is typical of it, and the very value where it is flat."""
        grid = source.image.channels, 1, 1
        arguments = *source_arguments(source), self._outside, references
        shared_bytes = _PIXELS_LOOKED_AT * self._sums.itemsize
        block = _PIXELS_LOOKED_AT, 1, 1
        self._device.launch(Launch(self._find_references, grid, block, arguments, shared_bytes), stream)

    def pack(
        self,
        source: PaddedSource,
        panel: Panel,
        references: Address,
        most: float,
        extreme_count: Address,
        stream: Stream,
    ) -> None:
        """Fill a panel with what the pixels differ from the references by, and with zeros beyond them.

        Parameters
        ----------
        most
            What the magnitude of pixels should be below.
        extreme_count
            Of a uint32, to which is added how many pixels are NaN or not below `most`.
        """
        padded = *source_arguments(source), self._outside
        sizes = map(np.uint32, (panel.rows, panel.pitch))
        arguments = *padded, references, as_sum(most, self._sums), extreme_count, panel.address, *sizes
        self._launch_over(self._pack, panel.rows, panel.pitch * panel.planes, arguments, stream)

    def multiply(self, panel: Panel, spectrum: Address, stream: Stream) -> None:
        """Multiply the spectra that lie in a panel by one spectrum."""
        count = panel.rows * panel.pitch // 2
        grid = -(-count // _THREADS), 1, 1
        arguments = panel.address, spectrum, np.uint32(count), np.uint32(panel.planes)
        self._device.launch(Launch(self._multiply, grid, (_THREADS, 1, 1), arguments), stream)

    def finish(self, panel: Panel, references: Address, gain: float, target: DeviceImage, stream: Stream) -> None:
        """Add `gain` times the references to the beginning of a panel, and write it as pixels."""
        samples = target.columns * target.channels
        sums = panel.address, np.uint32(panel.rows), np.uint32(panel.pitch), references, as_sum(gain, self._sums)
        sizes = map(np.uint32, (target.pitch, target.channels, target.rows, samples))
        self._launch_over(self._finish, target.rows, samples, (*sums, target.address, *sizes), stream)

    def _launch_over(
        self, kernel: Kernel, rows: int, samples: int, arguments: Sequence[int | np.generic], stream: Stream
    ) -> None:
        self._device.launch(Launch(kernel, *grid_over(rows, samples), arguments), stream)


def grid_over(rows: int, samples: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return the grid and the block of a kernel whose threads take some rows of one sample each."""
    return (-(-samples // _THREADS) * -(-rows // _ROWS_PER_THREAD), 1, 1), (_THREADS, 1, 1)
