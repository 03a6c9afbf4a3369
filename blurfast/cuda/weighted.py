"""Colours weighted by their opacity, so that what nobody sees does not shine through.

Colours are multiplied by the opacity of their pixel, everything is filtered, and colours are divided by what has
become of the opacity. No filter needs to know of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from blurfast.cuda import programs
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import ALIGNMENT, Address, Device, Launch, Stream
from blurfast.cuda.memory import SPAN_PERIOD, row_pitch
from blurfast.cuda.panels import grid_over
from blurfast.cuda.tiles import DeviceImage, PaddedSource, TileOperator


class WeightedOperator:
    """Filters as another operator does, with colours weighted by their opacity.

    Parameters
    ----------
    operator
        Filters sums to sums; it is closed together with this, also if this cannot be made.
    pixel_dtype, target_dtype
        Of the pixels that are read and of those that are written.
    sums
        float32 or float64: what `operator` reads and writes.
    channels
        Interleaved channels.
    alpha
        The channel that the others are weighted by.
    """

    def __init__(
        self,
        operator: TileOperator,
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        channels: int,
        alpha: int,
    ) -> None:
        self._operator = operator
        self._sums = sums
        self._channels = channels
        self._alpha = alpha
        self._weight = Kernel("panel", "weight", pixel_dtype.name, sums.name, sums.name)
        self._unweight = Kernel("panel", "unweight", sums.name, target_dtype.name, sums.name)
        try:
            programs.obtain([self._weight, self._unweight], operator.device.properties.capability)
        except BaseException:
            operator.close()
            raise

    @property
    def device(self) -> Device:
        """See `tiles.TileOperator`."""
        return self._operator.device

    def row_span(self, start: int, stop: int) -> tuple[int, int]:
        """See `tiles.TileOperator`."""
        return self._operator.row_span(start, stop)

    def column_span(self, start: int, stop: int) -> tuple[int, int]:
        """See `tiles.TileOperator`."""
        return self._operator.column_span(start, stop)

    def scratch_bytes(self, rows: int, columns: int) -> int:
        """See `tiles.TileOperator`."""
        padded = _longest_span(self.row_span, rows), _longest_span(self.column_span, columns)
        return self._bytes(*padded) + self._bytes(rows, columns) + self._operator.scratch_bytes(rows, columns)

    def enqueue(
        self,
        source: PaddedSource,
        target: DeviceImage,
        position: tuple[int, int],
        scratch: Address,
        stream: Stream,
    ) -> None:
        """See `tiles.TileOperator`."""
        weighted = self._image(scratch, source.image)
        result = self._image(scratch + self._bytes(weighted.rows, weighted.columns), target)
        rest = result.address + self._bytes(result.rows, result.columns)
        if weighted.rows and weighted.columns:
            self._launch(self._weight, source.image, weighted, stream)
        self._operator.enqueue(source._replace(image=weighted), result, position, rest, stream)
        self._launch(self._unweight, result, target, stream)

    def close(self) -> None:
        """See `tiles.TileOperator`."""
        self._operator.close()

    def _launch(self, kernel: Kernel, source: DeviceImage, target: DeviceImage, stream: Stream) -> None:
        samples = target.columns * target.channels
        arguments: tuple[int | np.generic, ...] = (
            source.address,
            *map(np.uint32, (source.pitch, source.channels, self._alpha)),
            target.address,
            *map(np.uint32, (target.pitch, target.rows, samples)),
        )
        grid, block = grid_over(target.rows, samples)
        self.device.launch(Launch(kernel, grid, block, arguments), stream)

    def _image(self, address: Address, like: DeviceImage) -> DeviceImage:
        """Return sums in place of other pixels."""
        pitch = row_pitch(like.columns, like.channels, self._sums)
        return like._replace(address=address, pitch=pitch, dtype=self._sums)

    def _bytes(self, rows: int, columns: int) -> int:
        size = rows * row_pitch(columns, self._channels, self._sums) * self._sums.itemsize
        return -(-size // ALIGNMENT) * ALIGNMENT


def _longest_span(span: Callable[[int, int], tuple[int, int]], count: int) -> int:
    """Return the most positions that `count` results depend on, wherever they lie."""
    spans = (span(start, start + count) for start in range(SPAN_PERIOD))
    return max(stop - start for start, stop in spans)
