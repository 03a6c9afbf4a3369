"""Pass windows of host pixels through a GPU, tile by tile.

While one tile is computed, the next is uploaded and the one before is downloaded: each goes on in a stream of its own.
Tiles take turns with a few slots of memory. An event stands for each step of a slot's tile. Before memory is read,
whoever reads it waits for the step that has written it; before it is written again, for the step that has read it:

================  ==================  ==================  ==============================
memory            written by          read by             written again after
================  ==================  ==================  ==============================
staged source     the host            the upload          `uploaded`, awaited by the host
source            the upload          the computation     `computed`
target            the computation     the download        `downloaded`
staged target     the download        the host            the host has collected it
================  ==================  ==================  ==============================
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from blurfast.boundary import OUTSIDE, IndexMap, Mode, index_map
from blurfast.cuda.device import Address, Device, DeviceError, DeviceMemoryError, Event, HostBytes, Stream
from blurfast.cuda.memory import DeviceJob, TilePlan, row_pitch
from blurfast.cuda.tiles import DeviceImage, PaddedSource, TileOperator
from blurfast.parallel import Task
from blurfast.pixels import Pixels, Window
from blurfast.window_filter import RowTranslation

logger = logging.getLogger("blurfast")

Handle = TypeVar("Handle")


class DeviceTiles:
    """Filters windows of an image on a device.

    Memory and streams are made with the first window, in whichever thread that runs, and serve all windows. Once a
    window has failed, all is given back, and no other window can be filtered.

    Parameters
    ----------
    operator
        Filters one tile; it is closed together with this.
    job
        The image.
    plans
        The tiles to cut windows into, and what to fall back to where the device has less memory than was thought, as
        `memory.plan_tiles` returns them.
    """

    def __init__(self, operator: TileOperator, job: DeviceJob, plans: Sequence[TilePlan]) -> None:
        self._operator, self._job, self._plans = operator, job, plans
        self._device = operator.device
        self._resources = ExitStack()
        self._resources.callback(operator.close)
        self._run: _TileRun | None = None
        self._finalizer = weakref.finalize(self, _give_back, self._device, self._resources, os.getpid())

    def stages(
        self, window: Window, pixels: Pixels, first_column: int, rows: RowTranslation, target: Pixels
    ) -> Iterator[list[Task]]:
        """Yield one list of one task, which has the device for itself; see `WindowFilter.stages`."""
        yield [functools.partial(self._filter, window, _HostPixels(pixels, first_column, rows), target)]

    def close(self) -> None:
        """Give all back, once no task runs any more. Happens by itself when nothing refers to this object."""
        self._run = None
        self._finalizer()

    def _filter(self, window: Window, source: _HostPixels, target: Pixels) -> None:
        with self._device.activate():
            try:
                if self._run is None:
                    self._run = self._set_up()
                self._run(window, source, target)
            except BaseException:
                with contextlib.suppress(DeviceError):  # it follows from the one that is on its way to the caller
                    self.close()
                raise

    def _set_up(self) -> _TileRun:
        """Take memory for the largest tiles that the device has room for."""
        if not self._finalizer.alive:
            raise ValueError("the tiles are closed")
        for plan, smaller in zip(self._plans, [*self._plans[1:], None], strict=True):
            try:
                with ExitStack() as resources:
                    buffers = _Buffers.allocate(self._device, plan, resources)
                    self._resources.push(resources.pop_all())
                    return _TileRun(self._operator, self._job, plan, buffers)
            except DeviceMemoryError as error:
                if smaller is None:
                    raise
                logger.warning(
                    "there is no room for tiles of %d x %d pixels, so they are made %d x %d pixels large: %s",
                    plan.rows,
                    plan.columns,
                    smaller.rows,
                    smaller.columns,
                    error,
                )
        raise ValueError("there is no plan for tiles")


def _give_back(device: Device, resources: ExitStack, process: int) -> None:
    """Give back all that was taken. A forked process must not: what it inherited belongs to the other."""
    if os.getpid() == process:
        with device.activate():
            resources.close()


class _HostPixels(NamedTuple):
    """Rows and columns of an image that are in host memory.

    Parameters
    ----------
    pixels
        What is there.
    first_column
        The column of the image that `pixels` starts at.
    translate_rows
        From rows of the image to rows of `pixels`.
    """

    pixels: Pixels
    first_column: int
    translate_rows: RowTranslation

    def copy(self, rows: IndexMap, columns: IndexMap, target: Pixels) -> None:
        """Copy the pixels where some rows and columns of the image cross."""
        row_runs = list(runs(self.translate_rows(rows)))
        column_runs = list(runs(columns - self.first_column))
        for (row_place, row_run), (column_place, column_run) in itertools.product(row_runs, column_runs):
            target[row_place, column_place] = self.pixels[row_run, column_run]


def runs(indices: IndexMap) -> Iterator[tuple[slice, slice]]:
    """Cut indices where they do not rise one by one; yield where each run lies, and the indices it consists of."""
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    bounds = [0, *breaks.tolist(), indices.size]
    for start, stop in itertools.pairwise(bounds):
        if stop > start:
            first = int(indices[start])
            yield slice(start, stop), slice(first, first + stop - start)


class Line(NamedTuple):
    """The rows, or the columns, that a tile depends on.

    Parameters
    ----------
    sources
        Rows of the image, each once, in rising order: what is uploaded.
    places
        For each padded row, the place in `sources` of the one that it repeats, or `OUTSIDE`.
    """

    sources: IndexMap
    places: NDArray[np.int32]

    @classmethod
    def of(cls, span: tuple[int, int], length: int, mode: Mode) -> Line:
        """Return what lies in a half-open range of positions on a line of this length."""
        padded = index_map(*span, length, mode)
        inside = padded != OUTSIDE
        sources, inverse = np.unique(padded[inside], return_inverse=True)
        places = np.full(padded.size, OUTSIDE, dtype=np.int32)
        places[inside] = inverse
        return cls(sources, places)


@dataclass
class _Slot:
    """The memory of one tile under way, on the host and on the device, and the events of its steps."""

    staged_source: HostBytes
    source: Address
    target: Address
    staged_target: HostBytes
    uploaded: Event
    computed: Event
    downloaded: Event
    result: tuple[Pixels, Pixels] | None = None  # downloaded pixels, and where they go


class _Buffers(NamedTuple):
    """All that a pipeline holds of a device."""

    uploading: Stream
    computing: Stream
    downloading: Stream
    scratch: Address
    slots: tuple[_Slot, ...]

    @classmethod
    def allocate(cls, device: Device, plan: TilePlan, resources: ExitStack) -> _Buffers:
        """Take memory for `plan`; `resources` gives back what has been taken, also where there is not enough."""

        def take(handle: Handle, give_back: Callable[[Handle], None]) -> Handle:
            resources.callback(give_back, handle)
            return handle

        def stream() -> Stream:
            return take(device.open_stream(), device.close_stream)

        def event() -> Event:
            return take(device.open_event(), device.close_event)

        def memory(count: int) -> Address:
            return take(device.allocate(count), device.release)

        def host_memory(count: int) -> HostBytes:
            return take(device.allocate_host(count), device.release_host)

        def slot() -> _Slot:
            source, target = plan.source.size, plan.target_bytes
            return _Slot(
                host_memory(source), memory(source), memory(target), host_memory(target), event(), event(), event()
            )

        scratch = memory(plan.scratch_bytes) if plan.scratch_bytes else Address(0)
        slots = tuple(slot() for _ in range(plan.depth))
        return cls(stream(), stream(), stream(), scratch, slots)

    def drain(self, device: Device) -> None:
        """Wait until the device has done all that is queued, or has failed."""
        for stream in (self.uploading, self.computing, self.downloading):
            with contextlib.suppress(DeviceError):  # it follows from the one that is on its way to the caller
                device.synchronize_stream(stream)


class _TileRun:
    """Cuts windows into tiles and queues what is to be done with each."""

    def __init__(self, operator: TileOperator, job: DeviceJob, plan: TilePlan, buffers: _Buffers) -> None:
        self._operator, self._job, self._plan, self._buffers = operator, job, plan, buffers
        self._device = operator.device

    def __call__(self, window: Window, source: _HostPixels, target: Pixels) -> None:
        """Filter one window."""
        try:
            slots = itertools.cycle(self._buffers.slots)
            for tile, rows, columns in self._cut(window):
                slot = next(slots)
                part = self._upload(slot, source, rows, columns)
                result = self._compute(slot, part, tile)
                self._collect(slot)
                self._download(slot, result, _place(target, window, tile))
            for slot in itertools.islice(slots, self._plan.depth):
                self._collect(slot)
        except BaseException:
            self._buffers.drain(self._device)
            raise

    def _cut(self, window: Window) -> Iterator[tuple[Window, Line, Line]]:
        """Yield tiles, and the rows and columns that each depends on."""
        operator, job, plan = self._operator, self._job, self._plan
        column_lines = [
            (start, stop, Line.of(operator.column_span(start, stop), job.width, job.mode))
            for start, stop in _ranges(window.column_start, window.column_stop, plan.columns)
        ]
        for row_start, row_stop in _ranges(window.row_start, window.row_stop, plan.rows):
            rows = Line.of(operator.row_span(row_start, row_stop), job.height, job.mode)
            for column_start, column_stop, columns in column_lines:
                yield Window(row_start, row_stop, column_start, column_stop), rows, columns

    def _upload(self, slot: _Slot, source: _HostPixels, rows: Line, columns: Line) -> PaddedSource:
        """Stage what a tile depends on, and queue its upload."""
        self._device.synchronize(slot.uploaded)
        part, count = self._stage(slot, source, rows, columns)
        self._device.wait(self._buffers.uploading, slot.computed)
        self._device.upload(slot.source, slot.staged_source[:count], self._buffers.uploading)
        self._device.record(slot.uploaded, self._buffers.uploading)
        return part

    def _stage(self, slot: _Slot, source: _HostPixels, rows: Line, columns: Line) -> tuple[PaddedSource, int]:
        """Fill the staging memory; return how the device will find it, and its size in bytes."""
        job, layout, staged = self._job, self._plan.source, slot.staged_source
        staged[: layout.column_map].view(np.int32)[: rows.places.size] = rows.places
        staged[layout.column_map : layout.pixels].view(np.int32)[: columns.places.size] = columns.places
        image = DeviceImage(
            slot.source + layout.pixels,
            row_pitch(columns.sources.size, job.channels, job.source_dtype),
            rows.sources.size,
            columns.sources.size,
            job.channels,
            job.source_dtype,
        )
        source.copy(rows.sources, columns.sources, _view(staged[layout.pixels :], image))
        part = PaddedSource(image, slot.source, slot.source + layout.column_map, rows.places.size, columns.places.size)
        return part, layout.pixels + _byte_count(image)

    def _compute(self, slot: _Slot, part: PaddedSource, tile: Window) -> DeviceImage:
        """Queue the computation of a tile."""
        job, stream = self._job, self._buffers.computing
        pitch = row_pitch(tile.columns, job.channels, job.target_dtype)
        result = DeviceImage(slot.target, pitch, tile.rows, tile.columns, job.channels, job.target_dtype)
        self._device.wait(stream, slot.uploaded)
        self._device.wait(stream, slot.downloaded)
        position = tile.row_start, tile.column_start
        self._operator.enqueue(part, result, position, self._buffers.scratch, stream)
        self._device.record(slot.computed, stream)
        return result

    def _collect(self, slot: _Slot) -> None:
        """Copy the slot's last result to its place, once it is there."""
        if slot.result is not None:
            self._device.synchronize(slot.downloaded)
            pixels, place = slot.result
            slot.result = None
            place[...] = pixels

    def _download(self, slot: _Slot, result: DeviceImage, place: Pixels) -> None:
        """Queue the download of a tile; `_collect` will put it into its place."""
        staged = slot.staged_target[: _byte_count(result)]
        self._device.wait(self._buffers.downloading, slot.computed)
        self._device.download(staged, slot.target, self._buffers.downloading)
        self._device.record(slot.downloaded, self._buffers.downloading)
        slot.result = _view(staged, result), place


def _ranges(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut a half-open range into parts of `size`, of which the last may be smaller."""
    for first in range(start, stop, size):
        yield first, min(first + size, stop)


def _place(target: Pixels, window: Window, tile: Window) -> Pixels:
    """Return the part of a window's pixels that a tile makes up."""
    rows = slice(tile.row_start - window.row_start, tile.row_stop - window.row_start)
    return target[rows, tile.column_start - window.column_start : tile.column_stop - window.column_start]


def _byte_count(image: DeviceImage) -> int:
    return image.rows * image.pitch * image.dtype.itemsize


def _view(staged: HostBytes, image: DeviceImage) -> Pixels:
    """Return the pixels of `image` in the staging memory that is copied to or from it."""
    samples = staged[: _byte_count(image)].view(image.dtype).reshape(image.rows, image.pitch)
    return samples[:, : image.columns * image.channels].reshape(image.rows, image.columns, image.channels)
