"""Kernels that are sums of a few products, on a GPU: each product is a separable filter, and the results add up."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from blurfast.cuda import programs
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import ALIGNMENT, Address, Device, Launch, Stream
from blurfast.cuda.memory import row_pitch
from blurfast.cuda.resident import ResidentOperator
from blurfast.cuda.separable import SeparableNeeds, common_radius
from blurfast.cuda.tiles import DeviceImage, PaddedSource
from blurfast.weights import SeparableTerm

_BLOCK = (32, 8)
LANES = 4


@dataclass(frozen=True)
class SeparableSumNeeds:
    """What a `SeparableSumOperator` needs for a tile.

    Parameters
    ----------
    terms, channels, sums
        As for the operator.
    """

    terms: tuple[SeparableTerm, ...]
    channels: int
    sums: np.dtype[Any]

    @property
    def each(self) -> list[SeparableNeeds]:
        """What the terms need; their padding is the same."""
        radius = common_radius(self.terms, self.channels, self.sums)
        return [SeparableNeeds(*term, self.channels, self.sums, radius) for term in self.terms]

    def row_span(self, start: int, stop: int) -> tuple[int, int]:
        """See `tiles.TileOperator.row_span`."""
        return self.each[0].row_span(start, stop)

    def column_span(self, start: int, stop: int) -> tuple[int, int]:
        """See `tiles.TileOperator.column_span`."""
        return self.each[0].column_span(start, stop)

    def scratch_bytes(self, rows: int, columns: int) -> int:
        """See `tiles.TileOperator.scratch_bytes`."""
        own = max(needs.scratch_bytes(rows, columns) for needs in self.each)
        return own + len(self.terms) * self.plane_bytes(rows, columns)

    def plane_bytes(self, rows: int, columns: int) -> int:
        """Return the memory that the results of one term take."""
        size = rows * row_pitch(columns, self.channels, self.sums) * self.sums.itemsize
        return -(-size // ALIGNMENT) * ALIGNMENT


class SeparableSumOperator(ResidentOperator[SeparableSumNeeds]):
    """Correlate with several separable kernels, and add the results.

    Parameters
    ----------
    device
        Where.
    terms
        The filters, all of the same extent.
    pixel_dtype, target_dtype, sums, channels, cval
        As for `separable.SeparableOperator`.
    """

    def __init__(
        self,
        device: Device,
        terms: Sequence[SeparableTerm],
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        channels: int,
        cval: float = 0.0,
    ) -> None:
        self._device = device
        self._needs = SeparableSumNeeds(tuple(terms), channels, sums)
        self._add_up = Kernel("separable", "add_up", sums.name, target_dtype.name, sums.name)
        with device.activate(), ExitStack() as resources:
            self._filters = [
                needs.filter(device, pixel_dtype=pixel_dtype, target_dtype=sums, cval=cval, resources=resources)
                for needs in self._needs.each
            ]
            kernels = [kernel for term in self._filters for kernel in term.kernels]
            programs.obtain([*kernels, self._add_up], device.properties.capability)
            self._resources = resources.pop_all()

    def enqueue(
        self, source: PaddedSource, target: DeviceImage, position: tuple[int, int], scratch: Address, stream: Stream
    ) -> None:
        """See `tiles.TileOperator`."""
        sums = self._needs.sums
        plane_bytes = self._needs.plane_bytes(target.rows, target.columns)
        pitch = row_pitch(target.columns, target.channels, sums)
        own_scratch = scratch + len(self._filters) * plane_bytes
        for number, term in enumerate(self._filters):
            plane = target._replace(address=scratch + number * plane_bytes, pitch=pitch, dtype=sums)
            term.enqueue(source, plane, position, own_scratch, stream)
        samples = target.columns * target.channels
        arguments: tuple[int | np.generic, ...] = (
            scratch,
            *map(np.uint32, (pitch, plane_bytes // sums.itemsize, len(self._filters))),
            target.address,
            *map(np.uint32, (target.pitch, target.rows, samples)),
        )
        grid = -(-samples // (_BLOCK[0] * LANES)) * -(-target.rows // _BLOCK[1]), 1, 1
        self._device.launch(Launch(self._add_up, grid, (*_BLOCK, 1), arguments), stream)
