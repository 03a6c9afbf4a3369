"""Kernels that are sums of a few products, on the CPU: each product is a separable filter, and the results add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blurfast.boundary import IndexMap, Mode
from blurfast.cpu.panels import Panels, aligned_zeros
from blurfast.cpu.separable import TILE_ROWS, ColumnPlan, Geometry, SeparableOperator, Workspace, even, odd_pitch
from blurfast.pixels import Pixels
from blurfast.weights import SeparableTerm


class SumWorkspace:
    """The scratch memory that one thread needs for tiles of up to `tile_columns` columns."""

    def __init__(self, geometry: Geometry, term_count: int, tile_columns: int) -> None:
        self.filter = Workspace(geometry, tile_columns)
        self.sums = aligned_zeros((term_count, TILE_ROWS, _pitch(geometry, tile_columns)), geometry.sums)


class SeparableSumOperator:
    """Correlate with several separable kernels, and add the results; the parameters are `SeparableOperator`'s."""

    tile_rows = TILE_ROWS

    def __init__(
        self,
        terms: Sequence[SeparableTerm],
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        channels: int,
        mode: Mode = "reflect",
        cval: float = 0.0,
    ) -> None:
        self._channels = channels
        self._operators = [
            SeparableOperator(
                *term, pixel_dtype=pixel_dtype, target_dtype=sums, sums=sums, channels=channels, mode=mode, cval=cval
            )
            for term in terms
        ]
        self._panels = Panels(
            pixel_dtype=sums, target_dtype=target_dtype, sums=sums, channels=channels, alpha=None, cval=cval
        )

    def plan_columns(self, column_start: int, column_stop: int, width: int) -> ColumnPlan:
        """See `tiles.TileOperator`; all terms have the same extent, so one plan serves them all."""
        return self._operators[0].plan_columns(column_start, column_stop, width)

    def row_map(self, row_start: int, row_stop: int, height: int) -> IndexMap:
        """See `tiles.TileOperator`."""
        return self._operators[0].row_map(row_start, row_stop, height)

    def workspace(self, tile_columns: int) -> SumWorkspace:
        """See `tiles.TileOperator`."""
        return SumWorkspace(self._operators[0].geometry, len(self._operators), tile_columns)

    def __call__(
        self,
        pixels: Pixels,
        row_map: IndexMap,
        row_start: int,
        columns: ColumnPlan,
        first_column: int,
        target: Pixels,
        workspace: SumWorkspace,
    ) -> None:
        """Filter one tile; the arguments are those of `SeparableOperator`."""
        rows, tile_columns = target.shape[:2]
        for operator, sums in zip(self._operators, workspace.sums, strict=True):
            tile = sums[:rows, : tile_columns * self._channels].reshape(rows, tile_columns, self._channels)
            operator(pixels, row_map, row_start, columns, first_column, tile, workspace.filter)
        self._panels.finish(workspace.sums, target)


def sum_workspace_bytes(geometry: Geometry, term_count: int, tile_columns: int) -> int:
    """Return the memory of one thread's workspace."""
    sums = term_count * TILE_ROWS * _pitch(geometry, tile_columns) * geometry.itemsize
    return geometry.workspace_bytes(tile_columns) + sums


def _pitch(geometry: Geometry, tile_columns: int) -> int:
    return odd_pitch(even(tile_columns) * geometry.channels + geometry.lanes, geometry.itemsize)
