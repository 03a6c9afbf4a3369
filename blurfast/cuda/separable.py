"""The separable filter on a GPU: rows and columns in one kernel where the taps are few, else one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from blurfast.cuda import programs
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import Address, Device, Stream
from blurfast.cuda.fused import RADII, FusedFilter
from blurfast.cuda.passes import PassChain, PassNeeds, Step, active
from blurfast.cuda.resident import ResidentOperator
from blurfast.cuda.tiles import DeviceImage, PaddedSource
from blurfast.rounding import reference_tap
from blurfast.weights import Resampler, SeparableTerm


class Filter(Protocol):
    """What filters tiles in one of the two ways."""

    @property
    def kernels(self) -> list[Kernel]:
        """All kernels that it queues."""

    def enqueue(
        self, source: PaddedSource, target: DeviceImage, position: tuple[int, int], scratch: Address, stream: Stream
    ) -> None:
        """See `tiles.TileOperator.enqueue`."""


@dataclass(frozen=True)
class SeparableNeeds:
    """What a `SeparableOperator` needs for a tile.

    Parameters
    ----------
    vertical, horizontal, channels, sums
        As for the operator.
    radius
        Of the kernel that takes both directions at once, or None where there is none: see `common_radius`.
    """

    vertical: Resampler
    horizontal: Resampler
    channels: int
    sums: np.dtype[Any]
    radius: int | None

    @classmethod
    def of(cls, vertical: Resampler, horizontal: Resampler, channels: int, sums: np.dtype[Any]) -> SeparableNeeds:
        """Return what the operator with these parameters needs."""
        return cls(vertical, horizontal, channels, sums, common_radius([(vertical, horizontal)], channels, sums))

    @property
    def passes(self) -> PassNeeds:
        """What the two directions need where they are taken one after the other."""
        steps = Step(self.vertical, is_vertical=True), Step(self.horizontal, is_vertical=False)
        return PassNeeds(active(steps), self.channels, self.sums)

    def row_span(self, start: int, stop: int) -> tuple[int, int]:
        """See `tiles.TileOperator.row_span`."""
        return self.passes.row_span(start, stop) if self.radius is None else (start - self.radius, stop + self.radius)

    def column_span(self, start: int, stop: int) -> tuple[int, int]:
        """See `tiles.TileOperator.column_span`."""
        if self.radius is None:
            return self.passes.column_span(start, stop)
        return start - self.radius, stop + self.radius

    def scratch_bytes(self, rows: int, columns: int) -> int:
        """See `tiles.TileOperator.scratch_bytes`."""
        return self.passes.scratch_bytes(rows, columns) if self.radius is None else 0

    def filter(
        self,
        device: Device,
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        cval: float,
        resources: ExitStack,
    ) -> Filter:
        """Return what filters tiles; the parameters are those of `passes.PassChain`."""
        if self.radius is None:
            return PassChain(
                device,
                self.passes,
                pixel_dtype=pixel_dtype,
                target_dtype=target_dtype,
                cval=cval,
                resources=resources,
            )
        return FusedFilter(
            device,
            self.vertical,
            self.horizontal,
            self.radius,
            pixel_dtype=pixel_dtype,
            target_dtype=target_dtype,
            sums=self.sums,
            cval=cval,
            resources=resources,
        )


def common_radius(terms: Iterable[SeparableTerm], channels: int, sums: np.dtype[Any]) -> int | None:
    """Return the radius of the smallest kernel that takes both directions of all terms at once, or None."""
    directions = [direction for term in terms for direction in term]
    if channels > 1 or not all(map(_can_be_fused, directions)):
        return None
    halo = max(direction.halo for direction in directions)
    return next((radius for radius in RADII[sums.name] if halo <= radius), None)


def _can_be_fused(resampler: Resampler) -> bool:
    """Return whether a direction is a filter whose sums may be relative to the output's own pixel.

    They are for derivatives, and may be for averages if no other pixel has more weight.
    """
    if resampler.is_identity or resampler.up > 1 or resampler.down > 1:
        return False
    own, best = resampler.taps[0, [resampler.reference, reference_tap(resampler)]]
    return bool(np.any(resampler.taps < 0) or own >= best)


class SeparableOperator(ResidentOperator[SeparableNeeds]):
    """Correlate, or resample, vertically and then horizontally.

    Parameters
    ----------
    device
        Where.
    vertical, horizontal
        The two directions. Positions of the result count from 0 at the image's first row and column.
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
        vertical: Resampler,
        horizontal: Resampler,
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        channels: int,
        cval: float = 0.0,
    ) -> None:
        self._device = device
        self._needs = SeparableNeeds.of(vertical, horizontal, channels, sums)
        with device.activate(), ExitStack() as resources:
            self._filter = self._needs.filter(
                device, pixel_dtype=pixel_dtype, target_dtype=target_dtype, cval=cval, resources=resources
            )
            programs.obtain(self._filter.kernels, device.properties.capability)
            self._resources = resources.pop_all()

    def enqueue(
        self, source: PaddedSource, target: DeviceImage, position: tuple[int, int], scratch: Address, stream: Stream
    ) -> None:
        """See `tiles.TileOperator`."""
        self._filter.enqueue(source, target, position, scratch, stream)
