"""Both directions of a separable filter in one kernel.

The arithmetic is in `fused_kernels`. This module owns what surrounds it: the taps as the kernels take them, and how
the image is cut into strips.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import Address, Device, Launch, Stream
from blurfast.cuda.panels import as_sum
from blurfast.cuda.resident import keep
from blurfast.cuda.tiles import DeviceImage, PaddedSource
from blurfast.rounding import exact_gain, overshoot
from blurfast.weights import Resampler

# As in `fused_kernels`, which only the compiler imports.
RADII = {"float32": (4, 8, 12, 16), "float64": (4, 8)}
ROWS_AT_A_TIME = 2
MOST_THREADS = 128

_LANES = 4
_WARP = 32
_PLACE_BYTES = 4

# So many blocks for each multiprocessor keep a GPU busy. With more, strips are lower and share less of their padding.
_BLOCKS_PER_MULTIPROCESSOR = 4
# In units of the padding above and below a strip.
_LEAST_STRIP_HEIGHT = 2
_MOST_STRIP_ROWS = 1024


class FusedFilter:
    """Correlate in both directions.

    Parameters
    ----------
    device
        Where; it is active.
    vertical, horizontal
        Filters that reach no farther than `radius`, whose sums may be relative to the output's own pixel.
    radius
        One of `RADII` for the sums; the padding is so wide.
    pixel_dtype, target_dtype, sums, cval
        As for `separable.SeparableOperator`.
    resources
        Gives the memory of the taps back when it is closed.
    """

    def __init__(
        self,
        device: Device,
        vertical: Resampler,
        horizontal: Resampler,
        radius: int,
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        cval: float,
        resources: ExitStack,
    ) -> None:
        self._device = device
        self._radius = radius
        self._kernel = Kernel("fused", f"fused{radius}", pixel_dtype.name, target_dtype.name, sums.name)
        self._outside = as_sum(cval, sums)
        directions = horizontal, vertical
        taps = np.concatenate([arranged_taps(direction, radius, sums) for direction in directions])
        self._tap_count = taps.size
        self._itemsize = sums.itemsize
        self._tap_arguments: list[int | np.generic] = [keep(device, taps, resources)]
        for direction in directions:
            reaches = direction.reference, direction.tap_count - 1 - direction.reference
            self._tap_arguments += [*map(np.uint32, reaches), as_sum(exact_gain(direction.taps), sums)]

    @property
    def kernels(self) -> list[Kernel]:
        """All kernels that `enqueue` queues."""
        return [self._kernel]

    def enqueue(
        self, source: PaddedSource, target: DeviceImage, position: tuple[int, int], scratch: Address, stream: Stream
    ) -> None:
        """See `tiles.TileOperator.enqueue`."""
        threads = min(MOST_THREADS, -(-target.columns // (_WARP * _LANES)) * _WARP)
        across = -(-target.columns // (threads * _LANES))
        strip_rows = self._strip_rows(target.rows, across)
        line_length = threads * _LANES + 2 * self._radius
        places_start = (self._tap_count + 2 * ROWS_AT_A_TIME * line_length) * self._itemsize // _PLACE_BYTES
        shared_bytes = (places_start + strip_rows + 2 * self._radius + ROWS_AT_A_TIME) * _PLACE_BYTES
        arguments = (
            source.image.address,
            np.uint32(source.image.pitch),
            source.row_map,
            source.column_map,
            self._outside,
            *self._tap_arguments,
            target.address,
            *map(np.uint32, (target.pitch, target.rows, target.columns, strip_rows, places_start)),
        )
        grid = across, -(-target.rows // strip_rows), 1
        self._device.launch(Launch(self._kernel, grid, (threads, 1, 1), arguments, shared_bytes), stream)

    def _strip_rows(self, rows: int, across: int) -> int:
        """Return the height of the strips that blocks take, where there are so many side by side."""
        wanted = -(-self._device.properties.multiprocessors * _BLOCKS_PER_MULTIPROCESSOR // across)
        least = _LEAST_STRIP_HEIGHT * 2 * self._radius
        return min(max(least, -(-rows // wanted)), _MOST_STRIP_ROWS)


def arranged_taps(resampler: Resampler, radius: int, sums: np.dtype[Any]) -> NDArray[Any]:
    """Return the taps of one direction as the kernels take them: see `fused_kernels.taps_length`."""
    taps = (resampler.taps[0] * (1.0 - overshoot(resampler, sums))).astype(sums)
    middle = resampler.reference
    arranged = np.zeros(2 * radius + _LANES, dtype=sums)
    arranged[:middle] = taps[:middle][::-1]
    arranged[radius : radius + taps.size - 1 - middle] = taps[middle + 1 :]
    arranged[2 * radius] = taps[middle]
    return arranged
