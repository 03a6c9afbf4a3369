"""Tiles in the memory of a GPU, and what an operator is that filters them."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from blurfast.cuda.device import Address, Device, Stream


class DeviceImage(NamedTuple):
    """Pixels of one image or of a part of it, rows one after the other, channels interleaved.

    Parameters
    ----------
    address
        Of the first sample.
    pitch
        Samples from the start of one row to that of the next.
    rows, columns, channels, dtype
        Of the pixels.
    """

    address: Address
    pitch: int
    rows: int
    columns: int
    channels: int
    dtype: np.dtype[Any]


class PaddedSource(NamedTuple):
    """The pixels that a tile depends on: an image, and where each row and column of the padded tile lies in it.

    Parameters
    ----------
    image
        What the maps point into.
    row_map, column_map
        Addresses of one int32 for each padded row and column: a row and a column of `image`, or -1 for outside.
    rows, columns
        How many padded rows and columns there are.
    """

    image: DeviceImage
    row_map: Address
    column_map: Address
    rows: int
    columns: int


class TileOperator(Protocol):
    """Filters one padded tile at a time.

    An operator holds memory of its device (taps, spectra) from its making until `close`.
    """

    @property
    def device(self) -> Device:
        """Where it computes."""

    def row_span(self, start: int, stop: int) -> tuple[int, int]:
        """Return the half-open range of rows that the results in rows `start` to `stop` depend on."""

    def column_span(self, start: int, stop: int) -> tuple[int, int]:
        """Return the half-open range of columns that the results in columns `start` to `stop` depend on."""

    def scratch_bytes(self, rows: int, columns: int) -> int:
        """Return the device memory that a tile of this size needs besides its source and target."""

    def enqueue(
        self,
        source: PaddedSource,
        target: DeviceImage,
        position: tuple[int, int],
        scratch: Address,
        stream: Stream,
    ) -> None:
        """Queue the work for one tile.

        Parameters
        ----------
        source
            The padded pixels: the rows and columns of `row_span` and `column_span` for this tile.
        target
            Where the tile goes.
        position
            Row and column, in the whole result, of the tile's first pixel.
        scratch
            `scratch_bytes` of device memory, aligned to `device.ALIGNMENT`, that nothing else uses meanwhile.
        """

    def close(self) -> None:
        """Give back the memory that the operator holds."""
