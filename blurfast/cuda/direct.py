"""The direct method on a GPU: every tap of a 2-D kernel.

The arithmetic is in `direct_kernels`. This module owns what surrounds it: the taps in the precision of the sums, cut
into chunks, and the size of a block of threads.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.cuda import programs
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import Address, Device, Launch, Stream
from blurfast.cuda.panels import KernelSpans, as_sum, cut, source_arguments
from blurfast.cuda.resident import ResidentOperator, keep
from blurfast.cuda.tiles import DeviceImage, PaddedSource
from blurfast.rounding import exact_gain, kernel_overshoot, kernel_reference
from blurfast.weights import Kernel2D

_WARP = 32
# Rows, and columns, of the results of a thread; as in `direct_kernels`.
_RESULTS = 4
_BLOCK_SAMPLES = _RESULTS * _WARP
# By the bytes of a sum. With these, a block shares 32 KB at most, and a multiprocessor has room for three.
_WARPS_PER_BLOCK = {4: 8, 8: 4}
_MOST_CHUNK_ROWS = {4: 16, 8: 8}
_MOST_CHUNK_SAMPLES = 32  # from the first to the last tap of a row
# A kernel that runs for seconds would be stopped where a display is attached to the GPU.
_MOST_PRODUCTS_PER_LAUNCH = 2**36


@dataclass(frozen=True)
class DirectNeeds(KernelSpans):
    """What a `DirectOperator` needs for a tile: nothing but its pixels."""

    def scratch_bytes(self, rows: int, columns: int) -> int:
        """See `tiles.TileOperator.scratch_bytes`."""
        return 0


@dataclass(frozen=True)
class DirectGeometry:
    """How taps are cut into chunks, and what a block of threads shares.

    Parameters
    ----------
    tap_rows, tap_columns
        Of the kernel.
    channels
        Interleaved channels.
    itemsize
        Bytes of one sum.
    """

    tap_rows: int
    tap_columns: int
    channels: int
    itemsize: int

    @property
    def block(self) -> tuple[int, int, int]:
        """Threads of a block."""
        return _WARP, _WARPS_PER_BLOCK[self.itemsize], 1

    @property
    def block_rows(self) -> int:
        """Rows of the results of a block."""
        return self.block[1] * _RESULTS

    @property
    def chunks(self) -> tuple[int, int]:
        """How many chunks of taps there are, down and across."""
        most_columns = max(1, _MOST_CHUNK_SAMPLES // self.channels)
        return -(-self.tap_rows // _MOST_CHUNK_ROWS[self.itemsize]), -(-self.tap_columns // most_columns)

    @property
    def chunk(self) -> tuple[int, int]:
        """Rows, a multiple of the results of a thread, and columns of a chunk."""
        down, across = self.chunks
        rows = -(-self.tap_rows // down)
        return -(-rows // _RESULTS) * _RESULTS, -(-self.tap_columns // across)

    @property
    def shared_bytes(self) -> int:
        """What a block shares: a chunk of taps, and the samples that it reaches."""
        rows, columns = self.chunk
        pitch = _BLOCK_SAMPLES + (columns - 1) * self.channels
        height = self.block_rows + rows - 1
        return (rows * columns + height * pitch) * self.itemsize

    def grid(self, rows: int, samples: int) -> tuple[int, int, int]:
        """Return the blocks for so many results."""
        return -(-samples // _BLOCK_SAMPLES) * -(-rows // self.block_rows), 1, 1

    def chunked(self, taps: NDArray[Any]) -> NDArray[Any]:
        """Return taps chunk by chunk, each column by column, with zeros where a chunk is larger than what is left."""
        (down, across), (rows, columns) = self.chunks, self.chunk
        padding = (0, down * rows - self.tap_rows), (0, across * columns - self.tap_columns)
        return np.pad(taps, padding).reshape(down, rows, across, columns).transpose(0, 2, 3, 1)


class DirectOperator(ResidentOperator[DirectNeeds]):
    """Correlate with a 2-D kernel.

    All taps that are zero are left out, so that a NaN or an infinity reaches exactly as far as the others. Images of
    integers and kernels of integers give exactly the integer that is right, as long as all sums are representable.

    Parameters
    ----------
    device
        Where.
    kernel
        The weights.
    pixel_dtype, target_dtype
        Of the pixels that are read and of those that are written.
    sums
        float32 or float64: the precision of the arithmetic.
    channels
        Interleaved channels, each filtered by itself.
    cval
        The value of positions outside the image.
    """

    def __init__(
        self,
        device: Device,
        kernel: Kernel2D,
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        channels: int,
        cval: float = 0.0,
    ) -> None:
        weights = kernel.weights
        self._device = device
        self._needs = DirectNeeds(kernel)
        self._geometry = DirectGeometry(*kernel.shape, channels, sums.itemsize)
        self._correlate = direct_kernel(pixel_dtype, target_dtype, sums)
        self._sums = sums
        self._outside = as_sum(cval, sums)
        taps = weights * (1.0 - kernel_overshoot(weights, sums, in_pairs=False))
        with np.errstate(over="ignore"):  # the pixels are then infinite
            taps = taps.astype(sums)
        with device.activate(), ExitStack() as resources:
            programs.obtain([self._correlate], device.properties.capability)
            address = keep(device, self._geometry.chunked(taps), resources)
            self._resources = resources.pop_all()
        reference = kernel_reference(weights, in_pairs=False)
        sizes = *self._geometry.chunk, *self._geometry.chunks, reference.row, reference.column * channels
        gain = as_sum(exact_gain(weights), sums)
        self._tap_arguments: tuple[int | np.generic, ...] = (address, *map(np.uint32, sizes), gain)

    def enqueue(
        self,
        source: PaddedSource,
        target: DeviceImage,
        position: tuple[int, int],
        scratch: Address,
        stream: Stream,
        condition: Address = 0,
    ) -> None:
        """See `tiles.TileOperator`.

        Parameters
        ----------
        source, target, position, scratch, stream
            As there.
        condition
            Of a uint32: where it is zero when the work is done, nothing is written. Address 0 sets no condition.
        """
        geometry, kernel = self._geometry, self._needs.kernel
        products_per_row = math.prod(kernel.shape) * target.columns * target.channels
        most_blocks = max(1, _MOST_PRODUCTS_PER_LAUNCH // (products_per_row * geometry.block_rows))
        for part, result in cut(source, target, kernel, (most_blocks * geometry.block_rows, target.columns)):
            samples = result.columns * result.channels
            arguments = (
                condition,
                *source_arguments(part),
                self._outside,
                *self._tap_arguments,
                result.address,
                *map(np.uint32, (result.pitch, result.rows, samples)),
            )
            grid = geometry.grid(result.rows, samples)
            self._device.launch(Launch(self._correlate, grid, geometry.block, arguments, geometry.shared_bytes), stream)


def direct_kernel(pixel_dtype: np.dtype[Any], target_dtype: np.dtype[Any], sums: np.dtype[Any]) -> Kernel:
    """Return the kernel that the operator queues."""
    return Kernel("direct", "correlate", pixel_dtype.name, target_dtype.name, sums.name)
