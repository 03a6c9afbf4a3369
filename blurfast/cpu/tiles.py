"""Cut a window into tiles, for any operator that filters one padded tile at a time."""

from __future__ import annotations

import functools
import queue
from collections.abc import Iterator
from typing import Any, Protocol

from blurfast.boundary import IndexMap
from blurfast.parallel import Task
from blurfast.pixels import Pixels, Window
from blurfast.window_filter import RowTranslation


class TileOperator(Protocol):
    """Filters one padded tile at a time, and may do so in several threads.

    What `plan_columns` and `workspace` return is the operator's own affair.
    """

    @property
    def tile_rows(self) -> int:
        """Rows of a tile."""

    def plan_columns(self, column_start: int, column_stop: int, width: int) -> Any:
        """Prepare the columns of the tiles whose results span `column_start` (even) to `column_stop`."""

    def row_map(self, row_start: int, row_stop: int, height: int) -> IndexMap:
        """Return the source rows that the results from `row_start` (even) to `row_stop` depend on."""

    def workspace(self, tile_columns: int) -> Any:
        """Return the scratch memory that one thread needs for tiles of up to so many columns."""

    def __call__(
        self,
        pixels: Pixels,
        row_map: IndexMap,
        row_start: int,
        columns: Any,
        first_column: int,
        target: Pixels,
        workspace: Any,
    ) -> None:
        """Filter one tile; see `separable.SeparableOperator`."""


class Workspaces:
    """Scratch memory for whichever thread takes a tile; there are as many as threads work at the same time."""

    def __init__(self, operator: TileOperator, tile_columns: int) -> None:
        self._operator = operator
        self._tile_columns = tile_columns
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(
        self,
        pixels: Pixels,
        row_map: IndexMap,
        row_start: int,
        columns: Any,
        first_column: int,
        target: Pixels,
    ) -> None:
        """Filter a tile, as the operator does."""
        try:
            workspace = self._free.get_nowait()
        except queue.Empty:
            workspace = self._operator.workspace(self._tile_columns)
        self._operator(pixels, row_map, row_start, columns, first_column, target, workspace)
        self._free.put(workspace)


class Tiles:
    """The tiles of an image of `height` x `width` pixels, `tile_columns` (even) wide."""

    def __init__(self, operator: TileOperator, height: int, width: int, tile_columns: int) -> None:
        self._operator = operator
        self._height, self._width = height, width
        self._tile_columns = tile_columns
        self._workspaces = Workspaces(operator, tile_columns)
        self._columns: dict[tuple[int, int], Any] = {}

    def stages(
        self, window: Window, pixels: Pixels, first_column: int, rows: RowTranslation, target: Pixels
    ) -> Iterator[list[Task]]:
        """See `WindowFilter.stages`."""
        tasks: list[Task] = []
        tile_rows = self._operator.tile_rows
        for row in range(window.row_start, window.row_stop, tile_rows):
            row_stop = min(row + tile_rows, window.row_stop)
            row_map = rows(self._operator.row_map(row, row_stop, self._height))
            target_rows = target[row - window.row_start : row_stop - window.row_start]
            for column in range(window.column_start, window.column_stop, self._tile_columns):
                column_stop = min(column + self._tile_columns, window.column_stop)
                columns = self._plan_columns(column, column_stop)
                tile = target_rows[:, column - window.column_start : column_stop - window.column_start]
                tasks.append(functools.partial(self._workspaces.run, pixels, row_map, row, columns, first_column, tile))
        yield tasks

    def close(self) -> None:
        """See `WindowFilter.close`: all that is held goes with the object."""

    def _plan_columns(self, column_start: int, column_stop: int) -> Any:
        key = column_start, column_stop
        if key not in self._columns:
            self._columns[key] = self._operator.plan_columns(column_start, column_stop, self._width)
        return self._columns[key]
