"""The separable filter on the CPU: one operator, which filters one padded tile at a time.

The arithmetic is in `separable_kernels`. This module owns what surrounds it: the taps in the precision of the
sums, the scratch memory of a thread, and the maps that stand for the image's edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.boundary import IndexMap, Mode, index_map, origins
from blurfast.weights import Taps

TILE_ROWS = 64
"""Rows of a tile: as many samples as a kernel filters side by side (4 registers) where registers are widest."""

_CACHE_LINE = 64
_WIDEST_REGISTER = 64
_PANEL_BYTES = 192 * 1024
_COLUMNS_BYTES = 2048 * 1024
_CHUNK_BYTES = 48 * 1024
_FEWEST_TILE_COLUMNS = 256


@dataclass(frozen=True)
class Geometry:
    """The sizes of a tile's scratch arrays, in elements of the sums' dtype.

    Parameters
    ----------
    taps
        Number of vertical and of horizontal taps.
    channels
        Interleaved channels.
    itemsize
        Bytes of one sum.
    """

    taps: tuple[int, int]
    channels: int
    itemsize: int

    @property
    def lanes(self) -> int:
        """Sums in the widest register; arrays are made for it, and fit all narrower ones."""
        return _WIDEST_REGISTER // self.itemsize

    @property
    def panel_width(self) -> int:
        """Elements of a row that the vertical pass filters at a time, so that all rows of the panel stay cached."""
        fitting = _PANEL_BYTES // ((TILE_ROWS + self.taps[0]) * self.itemsize)
        group = 4 * self.lanes
        return max(1, fitting // group) * group

    @property
    def panel_pitch(self) -> int:
        """Distance of a panel's rows."""
        return self._odd_pitch(self.panel_width)

    @property
    def column_pitch(self) -> int:
        """Distance of the columns that are handed from the vertical to the horizontal pass."""
        return self._odd_pitch(TILE_ROWS)

    @property
    def chunk_pixels(self) -> int:
        """Pixels of a row that the horizontal pass filters before it transposes them back."""
        fitting = _CHUNK_BYTES // (self.column_pitch * self.channels * self.itemsize)
        return max(1, fitting // self.lanes) * self.lanes

    @property
    def row_pitch(self) -> int:
        """Distance of the rows that a chunk is transposed back to; in pixels, which are no larger than sums."""
        return self.chunk_pixels * self.channels + self.lanes

    def _odd_pitch(self, elements: int) -> int:
        """Return a pitch for lines of so many elements that is an odd number of cache lines.

        With an even one, above all a power of two, the taps of a column fight for a few sets of the cache.
        """
        line = _CACHE_LINE // self.itemsize
        lines = -(-elements // line)
        return (lines + (lines % 2 == 0)) * line

    def tile_columns(self, width: int) -> int:
        """Return the columns of a tile (an even number) for an image of this width.

        Wide enough that the columns of the halo, which neighbouring tiles both filter, are few; narrow enough that
        the columns stay in the cache between the two passes.
        """
        overlap = self.taps[1] - 1
        cached = _COLUMNS_BYTES // (self.column_pitch * self.channels * self.itemsize) - overlap
        columns = max(_FEWEST_TILE_COLUMNS, cached, 2 * overlap)
        tiles = -(-width // columns)
        return even(-(-width // tiles))

    def workspace_shapes(self, tile_columns: int) -> dict[str, int]:
        """Return the number of elements of each scratch array for tiles of up to so many columns."""
        padded_rows = TILE_ROWS + self.taps[0] - 1
        padded_columns = even(tile_columns) + self.taps[1] - 1
        return {
            "panel": padded_rows * self.panel_pitch,
            "filtered": TILE_ROWS * self.column_pitch,
            "columns": (padded_columns * self.channels + self.lanes) * self.column_pitch,
            "chunk": (self.chunk_pixels * self.channels + self.lanes) * self.column_pitch,
            "rows": TILE_ROWS * self.row_pitch,
        }

    def workspace_bytes(self, tile_columns: int) -> int:
        """Return the memory of one thread's workspace."""
        shapes = self.workspace_shapes(tile_columns)
        return sum(shapes.values()) * self.itemsize + (len(shapes) + 1) * _CACHE_LINE


def even(length: int) -> int:
    """Return `length`, or the next larger even number: two lines are filtered at a time."""
    return length + length % 2


class Workspace:
    """The scratch memory that one thread needs to filter tiles of up to `tile_columns` columns."""

    def __init__(self, geometry: Geometry, tile_columns: int) -> None:
        self._memory = np.zeros(geometry.workspace_bytes(tile_columns), dtype=np.uint8)
        self.addresses: dict[str, int] = {}
        address = self._memory.ctypes.data
        for name, elements in geometry.workspace_shapes(tile_columns).items():
            address = -(-address // _CACHE_LINE) * _CACHE_LINE
            self.addresses[name] = address
            address += elements * geometry.itemsize


@dataclass(frozen=True)
class _Pass:
    """One direction's taps, as the kernels take them."""

    taps: NDArray[Any]
    reference: int
    gain: NDArray[Any]
    rounded: int
    """1 where the pass ends in integers, else 0."""

    @classmethod
    def prepare(cls, taps: Taps, sums: np.dtype[Any], *, rounded: bool) -> _Pass:
        """Round the taps to the precision of the sums without losing what makes a flat image stay flat.

        A non-negative filter must not leave the range of its input. Its sums are relative to a reference pixel,
        whose own tap therefore adds nothing. That margin is wider than all rounding errors together, unless the
        reference has next to no weight; then the taps are made smaller by as much.
        """
        gain = round(float(taps.sum()), 9)
        middle = taps.size // 2
        if np.all(taps >= 0):
            margin = taps[max(0, middle - 1) : middle + 1].min() if taps.size > 1 else 1.0
            worst_rounding = (taps.size + 4) * float(np.finfo(sums).eps)
            taps = taps * (1.0 - max(0.0, worst_rounding - margin))
        return cls(taps.astype(sums), middle, np.array([gain], dtype=sums), int(rounded))


@dataclass(frozen=True)
class ColumnPlan:
    """How the padded columns of a tile come from the image's: see `boundary.origins`."""

    column_start: int
    column_stop: int
    origin: IndexMap
    runs: list[tuple[int, int, int]]
    """Half-open runs of positions to be filtered, each with the source column that it starts at."""


class SeparableOperator:
    """Correlate with vertical taps, then with horizontal ones.

    Parameters
    ----------
    vertical, horizontal
        Taps of odd length.
    pixel_dtype, target_dtype
        Of the pixels that are read and of those that are written.
    sums
        float32 or float64: the precision of the arithmetic.
    channels
        Interleaved channels, each filtered by itself.
    mode, cval
        What lies outside the image.
    alpha
        The channel that the others are weighted by, or None.
    """

    def __init__(
        self,
        vertical: Taps,
        horizontal: Taps,
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        channels: int,
        mode: Mode,
        cval: float,
        alpha: int | None = None,
    ) -> None:
        self.sums = sums
        self._alpha = -1 if alpha is None else alpha
        self.channels = channels
        self.mode = mode
        to_integers = target_dtype.kind in "biu" and alpha is None  # with alpha, the division comes first
        self._vertical = _Pass.prepare(vertical, self.sums, rounded=to_integers and horizontal.size == 1)
        self._horizontal = _Pass.prepare(horizontal, self.sums, rounded=to_integers)
        self._outside = np.array([cval], dtype=self.sums)
        self._outside_filtered = self._outside * self._vertical.gain
        self.geometry = Geometry((vertical.size, horizontal.size), channels, sums.itemsize)
        from blurfast.cpu import objects  # imports llvmlite, which planning does not need

        self._vertical_kernel, self._horizontal_kernel = objects.load(
            objects.Kernel("separable", function, dtype.name, self.sums.name)
            for function, dtype in (("vertical", pixel_dtype), ("horizontal", target_dtype))
        )

    @property
    def halo(self) -> tuple[int, int]:
        """Rows above and below, and columns left and right, that a pixel's result depends on."""
        return self._vertical.reference, self._horizontal.reference

    def plan_columns(self, column_start: int, column_stop: int, width: int) -> ColumnPlan:
        """Prepare the columns of the tiles that span `column_start` (even) to `column_stop`."""
        halo = self._horizontal.reference
        padded_stop = column_start + even(column_stop - column_start) + halo
        sources = index_map(column_start - halo, padded_stop, width, self.mode)
        origin, runs = origins(sources)
        return ColumnPlan(column_start, column_stop, origin, [(a, b, int(sources[a])) for a, b in runs])

    def row_map(self, row_start: int, row_stop: int, height: int) -> IndexMap:
        """Return the source rows of the padded tile that spans `row_start` (even) to `row_stop`."""
        halo = self._vertical.reference
        return index_map(row_start - halo, row_start + even(row_stop - row_start) + halo, height, self.mode)

    def __call__(
        self,
        pixels: NDArray[Any],
        row_map: IndexMap,
        columns: ColumnPlan,
        first_column: int,
        target: NDArray[Any],
        workspace: Workspace,
    ) -> None:
        """Filter one tile.

        Parameters
        ----------
        pixels
            The source, shaped (rows, columns, channels), pixels and channels contiguous; its first column is
            the image's column `first_column`.
        row_map
            For each row of the padded tile, the row of `pixels`, or -1.
        columns
            The tile's columns, made by `plan_columns`.
        target
            Where the tile goes, shaped (rows, columns, channels), pixels and channels contiguous.
        """
        row_count = target.shape[0]
        scratch, geometry = workspace.addresses, self.geometry
        for start, stop, source_column in columns.runs:
            self._vertical_kernel(
                pixels.ctypes.data,
                pixels.strides[0] // pixels.itemsize,
                row_map.ctypes.data,
                even(row_count),
                (source_column - first_column) * self.channels,
                (stop - start) * self.channels,
                self.channels,
                self._alpha,
                self._outside.ctypes.data,
                self._vertical.taps.ctypes.data,
                self._vertical.taps.size,
                self._vertical.reference,
                self._vertical.gain.ctypes.data,
                self._vertical.rounded,
                scratch["panel"],
                scratch["filtered"],
                geometry.panel_width,
                geometry.panel_pitch,
                scratch["columns"],
                geometry.column_pitch,
                start * self.channels,
            )
        self._horizontal_kernel(
            scratch["columns"],
            geometry.column_pitch,
            columns.origin.ctypes.data,
            columns.origin.size,
            self.channels,
            self._alpha,
            self._outside_filtered.ctypes.data,
            self._horizontal.taps.ctypes.data,
            self._horizontal.taps.size,
            self._horizontal.reference,
            self._horizontal.gain.ctypes.data,
            self._horizontal.rounded,
            scratch["chunk"],
            geometry.chunk_pixels,
            scratch["rows"],
            geometry.row_pitch,
            target.ctypes.data,
            target.strides[0] // target.itemsize,
            row_count,
            target.shape[1],
        )
