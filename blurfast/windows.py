"""The part of a source that is in memory while windows of the output are computed one after the other.

`RowRing` keeps rows, each decoded once, and forgets those that no later window needs. `Blocks` reads every window with
its own halo, for images whose bands of full width are too large.
"""

from __future__ import annotations

import functools
import math
from typing import Protocol

import numpy as np

from blurfast.boundary import OUTSIDE, IndexMap
from blurfast.io.base import Source
from blurfast.parallel import Task
from blurfast.pixels import Pixels, Window
from blurfast.planning import Plan


class Store(Protocol):
    """Pixels of the source, read window by window."""

    def read_tasks(self, window: Window) -> list[Task]:
        """Return tasks that bring in what the output `window` depends on, beyond what is there already.

        While they run, the pixels of the previous window may still be read.
        """

    def pixels(self, window: Window) -> tuple[Pixels, int]:
        """Return the pixels that `window` depends on, and the image's column that theirs start at."""

    def rows(self, window: Window, row_map: IndexMap) -> IndexMap:
        """Translate rows of the image to rows of `pixels`."""


def open_store(plan: Plan, source: Source, image: int) -> Store:
    """Return the store that `plan` asks for."""
    assert plan.bands is not None
    return RowRing(plan, source, image) if plan.bands.ring_rows else Blocks(plan, source, image)


class RowRing:
    """Rows in a ring: row ``y`` of the image lies in row ``y % capacity``, from the first column that is needed on.

    With mode ``wrap`` the first rows depend on the last ones; where the ring does not hold the whole image, the rows
    at both ends are kept beside it. Rows of a sequential image that come before a region pass through the ring.
    """

    def __init__(self, plan: Plan, source: Source, image: int) -> None:
        assert plan.bands is not None
        spec = plan.image
        self._source, self._image, self._spec = source, image, spec
        self._capacity = plan.bands.ring_rows
        self._halo = plan.halo[0]
        self._reach, wraps = plan.reach
        self._is_whole = wraps and self._capacity >= spec.height
        self._next = 0 if self._is_whole else self._reach.row_start
        grain, halo = spec.grain.rows, self._halo
        self._top = self._bottom = 0
        if wraps and not self._is_whole:
            self._top = min(-(-(halo + 1) // grain) * grain, spec.height)
            self._bottom = max(0, spec.height - halo) // grain * grain
        border_rows = self._top + (spec.height - self._bottom if self._top else 0)
        self._has_border = border_rows == 0
        self._pixels = np.empty((self._capacity + border_rows, self._reach.columns, spec.channels), dtype=spec.dtype)

    def read_tasks(self, window: Window) -> list[Task]:
        """See `Store.read_tasks`."""
        spec, grain = self._spec, self._spec.grain.rows
        tasks: list[Task] = []
        if not self._has_border:
            tasks += self._read(0, self._top, self._capacity)
            if self._bottom < spec.height:
                tasks += self._read(self._bottom, spec.height, self._capacity + self._top)
            self._has_border = True
        needed = spec.height if self._is_whole else window.row_stop + 1 + self._halo
        stop = min(-(-needed // grain) * grain, spec.height)
        while self._next < stop:
            slot = self._next % self._capacity
            piece_stop = min(stop, self._next + self._capacity - slot)
            tasks += self._read(self._next, piece_stop, slot)
            self._next = piece_stop
        return [functools.partial(_run_in_order, tasks)] if spec.sequential and tasks else tasks

    def _read(self, row_start: int, row_stop: int, slot: int) -> list[Task]:
        target = self._pixels[slot : slot + row_stop - row_start]
        rows = self._reach._replace(row_start=row_start, row_stop=row_stop)
        return self._source.read_tasks(self._image, rows, target)

    def pixels(self, window: Window) -> tuple[Pixels, int]:
        """See `Store.pixels`."""
        return self._pixels, self._reach.column_start

    def rows(self, window: Window, row_map: IndexMap) -> IndexMap:
        """See `Store.rows`."""
        slots = np.where(row_map == OUTSIDE, OUTSIDE, row_map % self._capacity)
        if self._top:
            above = row_map > window.row_stop + self._halo
            below = (row_map < window.row_start - 1 - self._halo) & (row_map != OUTSIDE)
            slots[above] = self._capacity + self._top + row_map[above] - self._bottom
            slots[below] = self._capacity + row_map[below]
        return slots


def _run_in_order(tasks: list[Task]) -> None:
    for task in tasks:
        task()


class Blocks:
    """Two rectangles of pixels, one in use while the other is read."""

    def __init__(self, plan: Plan, source: Source, image: int) -> None:
        assert plan.bands is not None
        self._source, self._image, self._spec = source, image, plan.image
        self._margins = plan.halo[0] + 1, plan.halo[1] + 1  # the halo, and one more for windows of odd size
        rows = min(plan.image.height, plan.bands.rows + 2 * self._margins[0])
        columns = min(plan.image.width, plan.bands.columns + 2 * self._margins[1])
        # Allocated once: blocks differ in size, and what grew with them would leave holes in the heap.
        self._memory = np.empty((2, rows * columns * plan.image.channels), dtype=plan.image.dtype)
        self._turn = 0
        self._regions: dict[Window, tuple[Window, Pixels]] = {}

    def read_tasks(self, window: Window) -> list[Task]:
        """See `Store.read_tasks`."""
        region = self._region(window)
        shape = (region.rows, region.columns, self._spec.channels)
        self._turn = 1 - self._turn
        pixels = self._memory[self._turn][: math.prod(shape)].reshape(shape)
        while len(self._regions) > 1:  # all but the previous window's have served
            self._regions.pop(next(iter(self._regions)))
        self._regions[window] = region, pixels
        return self._source.read_tasks(self._image, region, pixels)

    def _region(self, window: Window) -> Window:
        """Return what to read for `window`."""
        rows, columns = self._margins
        return Window(
            max(0, window.row_start - rows),
            min(self._spec.height, window.row_stop + rows),
            max(0, window.column_start - columns),
            min(self._spec.width, window.column_stop + columns),
        )

    def pixels(self, window: Window) -> tuple[Pixels, int]:
        """See `Store.pixels`."""
        region, pixels = self._regions[window]
        return pixels, region.column_start

    def rows(self, window: Window, row_map: IndexMap) -> IndexMap:
        """See `Store.rows`."""
        region, _ = self._regions[window]
        return np.where(row_map == OUTSIDE, OUTSIDE, row_map - region.row_start)
