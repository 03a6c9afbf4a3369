"""Tiles for a GPU: how large they are, what memory they take there and on the host, and about how long they take.

A tile waits for its pixels, is computed, and waits to be fetched. So that a GPU does all three at once, there is
memory for a few tiles, and an image is cut into some more. Larger tiles share more of their halo; beyond some size
that saves nothing any more and only takes memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from blurfast.boundary import Mode
from blurfast.cuda.device import ALIGNMENT
from blurfast.errors import MemoryBudgetError, UnsupportedError
from blurfast.resources import MEGABYTE, format_memory

DEPTH = 2
"""Tiles that have memory at the same time, unless told otherwise."""

SHARE_OF_FREE_MEMORY = 0.9
"""Of the free memory of a device, what may be used: drivers and displays take some without notice."""

ROW_ALIGNMENT = 128
"""Rows of pixels on the device begin at multiples of this many bytes: a line of its cache."""

SPAN_PERIOD = 64
"""Where spans depend on the position of a tile, they repeat after so many rows and columns, or a part of them."""

UNIT = (16, 64)
"""Rows and columns that tiles are multiples of, where they are larger, so that blocks of threads are full."""

BUS_BANDWIDTH = 12e9
"""Bytes per second each way between host and device. Assumed: page-locked memory and 16 lanes of PCIe 3.0."""

HOST_BANDWIDTH = 8e9
"""Bytes per second that one core copies into page-locked memory and out of it. Assumed."""

SHARE_OF_BANDWIDTH = 0.75
"""Of the bandwidth of a device's memory, what kernels that only stream through it achieve. Assumed."""

_FEWEST_TILES = 4
# Smaller tiles take less time than it takes to queue them; larger ones no longer make copies more efficient.
_LEAST_TILE_BYTES = 1 * MEGABYTE
_MOST_TILE_BYTES = 32 * MEGABYTE
# A tile should be this many times as high and as wide as its halo on both sides together.
_HALOS_PER_TILE = 2
# Each row of a tile is a copy of its own on the host, which takes as long as copying so many bytes more.
_BYTES_WORTH_A_ROW = 512
MOST_SAMPLES = 2**31 - 1
"""Of a padded tile: kernels count samples in 32 bits, and some of them with a sign."""


class TileNeeds(Protocol):
    """What a `TileOperator` needs for a tile; also known where there is none yet.

    A larger tile never needs less. Where a span begins depends on `start` alone, where it ends on `stop` alone; both
    repeat after `SPAN_PERIOD`.
    """

    def row_span(self, start: int, stop: int) -> tuple[int, int]:
        """See `TileOperator.row_span`."""

    def column_span(self, start: int, stop: int) -> tuple[int, int]:
        """See `TileOperator.column_span`."""

    def scratch_bytes(self, rows: int, columns: int) -> int:
        """See `TileOperator.scratch_bytes`."""


class DeviceJob(NamedTuple):
    """An image that a device filters, window by window.

    Parameters
    ----------
    height, width, channels
        Of the image.
    source_dtype, target_dtype
        Of the pixels that are read and of those that are written.
    mode
        What lies beyond the edges.
    window
        Rows and columns of the largest window: what is cut into tiles at a time.
    """

    height: int
    width: int
    channels: int
    source_dtype: np.dtype[Any]
    target_dtype: np.dtype[Any]
    mode: Mode
    window: tuple[int, int]

    @property
    def pixel_bytes(self) -> int:
        """The size of a pixel of the source and one of the target."""
        return self.channels * (self.source_dtype.itemsize + self.target_dtype.itemsize)


class SourceLayout(NamedTuple):
    """Where what is uploaded for a tile lies, in bytes: the map of the rows first, then that of the columns, pixels.

    Parameters
    ----------
    column_map, pixels
        Where they begin.
    size
        Where the memory ends.
    """

    column_map: int
    pixels: int
    size: int


class Traffic(NamedTuple):
    """What passes over the bus for an image, at most."""

    uploaded: int
    downloaded: int
    tiles: int


@dataclass(frozen=True)
class TilePlan:
    """The size of tiles, and the memory that goes with it.

    Parameters
    ----------
    rows, columns
        Of the largest tile.
    depth
        How many tiles have memory at the same time.
    source
        What is uploaded for a tile.
    target_bytes
        What is downloaded for a tile.
    scratch_bytes
        What the operator needs; only one tile is computed at a time.
    most_samples
        Of what a kernel may count through: the padded tile.
    """

    rows: int
    columns: int
    depth: int
    source: SourceLayout
    target_bytes: int
    scratch_bytes: int
    most_samples: int

    @property
    def parts(self) -> dict[str, int]:
        """The memory of the device in bytes, by what it is for."""
        return {
            "source": self.depth * self.source.size,
            "target": self.depth * self.target_bytes,
            "scratch": self.scratch_bytes,
        }

    @property
    def memory(self) -> int:
        """All memory of the device, in bytes."""
        return sum(self.parts.values())

    @property
    def host_memory(self) -> int:
        """Page-locked memory of the host, in bytes."""
        return self.depth * (self.source.size + self.target_bytes)

    def traffic(self, job: DeviceJob) -> Traffic:
        """Return what passes over the bus for an image, with its tiles counted as if all were of full size."""
        tiles = -(-job.height // self.rows) * -(-job.width // self.columns)
        return Traffic(tiles * self.source.size, tiles * self.target_bytes, tiles)

    def explain(self) -> str:
        """Return the plan as text."""
        parts = ", ".join(f"{name} {format_memory(count)}" for name, count in self.parts.items())
        return (
            f"tiles of {self.rows} x {self.columns} pixels, {self.depth} at a time; {format_memory(self.memory)} "
            f"of the device's memory: {parts}; {format_memory(self.host_memory)} page-locked"
        )


def row_pitch(columns: int, channels: int, dtype: np.dtype[Any]) -> int:
    """Return the samples from the start of one row to that of the next, in memory of a device."""
    return _aligned(columns * channels * dtype.itemsize, ROW_ALIGNMENT) // dtype.itemsize


def available_memory(free: int, limit: int | None = None) -> int:
    """Return how much of the `free` memory of a device may be used, in bytes.

    Parameters
    ----------
    free
        What the device has, in bytes.
    limit
        What the user allows (``--device-memory``), in bytes.
    """
    share = int(free * SHARE_OF_FREE_MEMORY)
    return share if limit is None else min(share, limit)


def plan_tiles(
    needs: TileNeeds,
    job: DeviceJob,
    free: int,
    limit: int | None = None,
    *,
    depth: int = DEPTH,
    unit: tuple[int, int] = UNIT,
) -> tuple[TilePlan, ...]:
    """Plan tiles that fit into a device.

    Parameters
    ----------
    needs
        The operator, or what is known of it.
    free, limit
        See `available_memory`.
    depth
        How many tiles have memory at the same time, at least 1; two are enough to keep a device busy.
    unit
        Rows and columns that larger tiles are multiples of.

    Returns
    -------
    tuple of TilePlan
        The plan to take, and those to fall back to where the device turns out to have less memory, from large to small.

    Raises
    ------
    MemoryBudgetError
        If not even tiles of one pixel fit. The message gives the least that would do.
    UnsupportedError
        If one pixel depends on more pixels than kernels can count.
    """
    spans = _Spans.of(needs)
    candidates = [_plan_tile(needs, spans, job, size, depth) for size in _sizes(spans, job, unit)]
    countable = [plan for plan in candidates if plan.most_samples <= MOST_SAMPLES]
    if not countable:
        raise UnsupportedError(
            f"a pixel depends on {candidates[-1].most_samples} samples, more than kernels can count",
            remedy="use a smaller filter, or the cpu backend",
        )
    available = available_memory(free, limit)
    fitting = tuple(plan for plan in countable if plan.memory <= available)
    if not fitting:
        raise _too_little(min(plan.memory for plan in countable), available, limit)
    return fitting


def _too_little(least: int, available: int, limit: int | None) -> MemoryBudgetError:
    """Return the error for a device, or a user, that does not give the least memory that would do."""
    fact = f"no tile fits into {format_memory(available)} of device memory"
    if available == limit:
        return MemoryBudgetError(fact, remedy=f"use --device-memory {math.ceil(least / MEGABYTE)}MB or more")
    free = format_memory(math.ceil(least / SHARE_OF_FREE_MEMORY))
    return MemoryBudgetError(fact, remedy=f"free device memory until there are {free}, or use the cpu backend")


def plan_tile(needs: TileNeeds, job: DeviceJob, rows: int, columns: int, depth: int) -> TilePlan:
    """Plan tiles of a given size, whether they fit or not; see `plan_tiles`."""
    return _plan_tile(needs, _Spans.of(needs), job, (rows, columns), depth)


def _plan_tile(needs: TileNeeds, spans: _Spans, job: DeviceJob, size: tuple[int, int], depth: int) -> TilePlan:
    rows, columns = size
    padded_rows, padded_columns = spans.rows.longest(rows), spans.columns.longest(columns)
    # No row and no column is uploaded twice, so there are no more of them than in the image.
    source_pitch = row_pitch(min(padded_columns, job.width), job.channels, job.source_dtype)
    column_map = _aligned(padded_rows * 4)
    pixels = column_map + _aligned(padded_columns * 4)
    pixel_bytes = min(padded_rows, job.height) * source_pitch * job.source_dtype.itemsize
    target_bytes = rows * row_pitch(columns, job.channels, job.target_dtype) * job.target_dtype.itemsize
    return TilePlan(
        rows=rows,
        columns=columns,
        depth=depth,
        source=SourceLayout(column_map, pixels, pixels + _aligned(pixel_bytes)),
        target_bytes=_aligned(target_bytes),
        scratch_bytes=_aligned(needs.scratch_bytes(rows, columns)),
        most_samples=padded_rows * _aligned(padded_columns * job.channels, ROW_ALIGNMENT),
    )


class LongestSpans:
    """How many positions results depend on along one axis, at most, wherever they lie.

    Parameters
    ----------
    span
        See `TileNeeds`. It is asked for one period, which tells all: plans are made for many sizes of tiles.

    Examples
    --------
    >>> every_fourth = LongestSpans(lambda start, stop: (start // 4 * 4, -(-stop // 4) * 4))
    >>> every_fourth.longest(1), every_fourth.longest(2), every_fourth.longest(4)
    (4, 8, 8)
    """

    def __init__(self, span: Callable[[int, int], tuple[int, int]]) -> None:
        positions = np.arange(SPAN_PERIOD)
        spans = np.array([span(start, start + SPAN_PERIOD) for start in range(SPAN_PERIOD)])
        self._before = positions - spans[:, 0]
        self._after = spans[:, 1] - (positions + SPAN_PERIOD)  # also of results that end at `positions`

    def longest(self, count: int) -> int:
        """Return the most positions that `count` results side by side depend on."""
        return count + int((self._before + np.roll(self._after, -count % SPAN_PERIOD)).max())


class _Spans(NamedTuple):
    """Of both axes."""

    rows: LongestSpans
    columns: LongestSpans

    @classmethod
    def of(cls, needs: TileNeeds) -> _Spans:
        return cls(LongestSpans(needs.row_span), LongestSpans(needs.column_span))


def _sizes(spans: _Spans, job: DeviceJob, unit: tuple[int, int]) -> list[tuple[int, int]]:
    """Return rows and columns of tiles, from the largest that is useful down to one pixel."""
    rows, columns = (min(side, whole) for side, whole in zip(job.window, unit, strict=True))
    halo = spans.rows.longest(rows) - rows, spans.columns.longest(columns) - columns
    sizes = {_shape(area, halo, job, unit) for area in _areas(halo, job)}
    return sorted(sizes, key=math.prod, reverse=True)


def _areas(halo: tuple[int, int], job: DeviceJob) -> Iterator[int]:
    """Yield areas of tiles in pixels, each half of the one before."""
    window_area = math.prod(job.window)
    useful = min(window_area // _FEWEST_TILES, _MOST_TILE_BYTES // job.pixel_bytes)
    least = max(_LEAST_TILE_BYTES // job.pixel_bytes, _HALOS_PER_TILE**2 * math.prod(halo))
    area = max(1, min(window_area, max(useful, least)))
    while area:
        yield area
        area //= 2


def _shape(area: int, halo: tuple[int, int], job: DeviceJob, unit: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of tiles of at most `area` pixels whose halos cost the least."""
    window_rows, window_columns = job.window

    def effort(shape: tuple[int, int]) -> float:
        row_bytes = min(shape[1] + halo[1], job.width) * job.pixel_bytes + _BYTES_WORTH_A_ROW
        return min(shape[0] + halo[0], job.height) * row_bytes / math.prod(shape)

    shapes = []
    parts = 1
    while parts < 2 * window_columns:
        columns = min(-(-window_columns // parts), area)
        rows = min(area // columns, window_rows)
        shapes.append((_evened(rows, window_rows, unit[0]), _evened(columns, window_columns, unit[1])))
        parts *= 2
    return min(shapes, key=effort)


def _evened(count: int, whole: int, unit: int) -> int:
    """Return at most `count` so that parts of `whole` are about equal, and multiples of `unit` where they are larger.

    Examples
    --------
    >>> _evened(900, 1000, 64), _evened(1000, 1000, 64), _evened(40, 1000, 64)
    (512, 1000, 40)
    """
    if count >= whole or count < unit:
        return min(count, whole)
    count = count // unit * unit
    return _aligned(-(-whole // -(-whole // count)), unit)


def _aligned(count: int, alignment: int = ALIGNMENT) -> int:
    return -(-count // alignment) * alignment


def transfer_seconds(count: int, bandwidth: float = BUS_BANDWIDTH) -> float:
    """Return the time that `count` bytes take over the bus, one way."""
    return count / bandwidth


def kernel_seconds(count: int, bandwidth: float) -> float:
    """Return the time of kernels that move `count` bytes in a memory of this bandwidth, and wait for nothing else."""
    return count / (SHARE_OF_BANDWIDTH * bandwidth)


def overlapped_seconds(stages: Sequence[float], tiles: int) -> float:
    """Return the time of an image whose tiles pass through several stages, each busy with another tile.

    Parameters
    ----------
    stages
        The seconds that each stage takes for the whole image.
    tiles
        Into how many parts it is cut.

    Examples
    --------
    >>> overlapped_seconds([3.0, 1.0, 2.0], 1), overlapped_seconds([3.0, 1.0, 2.0], 6)
    (6.0, 3.5)
    """
    longest = max(stages)
    return longest + (sum(stages) - longest) / tiles


def pipeline_seconds(
    job: DeviceJob, tile: TilePlan, kernel_bytes: int, bandwidth: float, bus_bandwidth: float = BUS_BANDWIDTH
) -> float:
    """Return the time of an image on a device, from host memory to host memory.

    Parameters
    ----------
    kernel_bytes
        What the kernels read and write in the device's memory, for the whole image.
    bandwidth
        Of the device's memory, in bytes per second: `DeviceProperties.bandwidth`.
    bus_bandwidth
        Between host and device, in bytes per second each way.
    """
    traffic = tile.traffic(job)
    stages = [
        (traffic.uploaded + traffic.downloaded) / HOST_BANDWIDTH,
        transfer_seconds(traffic.uploaded, bus_bandwidth),
        kernel_seconds(kernel_bytes, bandwidth),
        transfer_seconds(traffic.downloaded, bus_bandwidth),
    ]
    return overlapped_seconds(stages, traffic.tiles)
