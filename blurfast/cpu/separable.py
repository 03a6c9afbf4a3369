"""The separable filter on the CPU: one operator, which filters one padded tile at a time.

The arithmetic is in `separable_kernels`. This module owns what surrounds it: the taps in the precision of the
sums, the scratch memory of a thread, and the maps that stand for the image's edges.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.boundary import IndexMap, Mode, index_map, origins
from blurfast.cpu.catalogue import Kernel
from blurfast.rounding import exact_gain, overshoot, reference_tap
from blurfast.weights import Resampler

TILE_ROWS = 64
"""Rows of a tile that is transposed: as many samples as a kernel filters side by side where registers are widest.

Where rows are filtered as they are, tiles may have more.
"""

FEWEST_TILES_PER_THREAD = 4
"""Tiles of a window for each thread, so that none waits long for the others in the end."""

_CACHE_LINE = 64
_WIDEST_REGISTER = 64
_PANEL_BYTES = 192 * 1024
_COLUMNS_BYTES = 2048 * 1024
_CHUNK_BYTES = 48 * 1024
_ROWS_BYTES = 2048 * 1024
_MOST_TAPS_ALONG_ROWS = 57
_FEWEST_TILE_COLUMNS = 256
_NARROWEST_TILE = 256


@dataclass(frozen=True)
class Geometry:
    """The sizes of a tile's scratch arrays, in elements of the sums' dtype.

    Parameters
    ----------
    vertical, horizontal
        The two passes.
    channels
        Interleaved channels.
    itemsize
        Bytes of one sum.
    tile_rows
        Rows of a tile's result.
    weighted
        Whether colours are weighted by their opacity.
    """

    vertical: Resampler
    horizontal: Resampler
    channels: int
    itemsize: int
    tile_rows: int = TILE_ROWS
    weighted: bool = False

    @property
    def sums(self) -> np.dtype[Any]:
        """The dtype of the sums."""
        return np.dtype(f"float{8 * self.itemsize}")

    @property
    def is_along_rows(self) -> bool:
        """Whether the horizontal pass filters the rows as they are: few taps are not worth transposing for."""
        horizontal = self.horizontal
        is_filter = horizontal.up == horizontal.down == 1
        return is_filter and horizontal.tap_count <= _MOST_TAPS_ALONG_ROWS and not self.weighted

    def kernels(self, pixel_dtype: np.dtype[Any], target_dtype: np.dtype[Any]) -> list[Kernel]:
        """Return the kernels of the vertical and of the horizontal pass."""
        horizontal = "along_rows" if self.is_along_rows else "horizontal"
        return [
            Kernel("separable", "vertical", pixel_dtype.name, self.sums.name),
            Kernel("separable", horizontal, target_dtype.name, self.sums.name),
        ]

    @property
    def lanes(self) -> int:
        """Sums in the widest register; arrays are made for it, and fit all narrower ones."""
        return _WIDEST_REGISTER // self.itemsize

    @property
    def padded_rows(self) -> int:
        """Rows that a tile depends on."""
        return _most_inputs(self.vertical, self.tile_rows)

    @property
    def panel_width(self) -> int:
        """Elements of a row that the vertical pass filters at a time, so that all rows of the panel stay cached.

        Decimation takes many rows for a few results. It waits for the image rather than for the cache, and longer
        runs of each row are then worth a larger panel.
        """
        unit = 4 * self.lanes
        if self.weighted:  # a panel holds whole pixels, each with its opacity
            unit = math.lcm(unit, self.channels)
        fewest_units = 2 if self.vertical.down > 1 else 1
        return max(fewest_units, _PANEL_BYTES // (self.padded_rows * self.itemsize) // unit) * unit

    @property
    def panel_pitch(self) -> int:
        """Distance of a panel's rows."""
        return odd_pitch(self.panel_width, self.itemsize)

    @property
    def column_pitch(self) -> int:
        """Distance of the columns that are handed from the vertical to the horizontal pass."""
        return odd_pitch(TILE_ROWS, self.itemsize)

    @property
    def chunk_pixels(self) -> int:
        """Pixels of a row that the horizontal pass filters before it transposes them back."""
        fitting = _CHUNK_BYTES // (self.column_pitch * self.channels * self.itemsize)
        return max(1, fitting // self.lanes) * self.lanes

    @property
    def row_pitch(self) -> int:
        """Distance of the rows that a chunk is transposed back to; in pixels, which are no larger than sums."""
        return self.chunk_pixels * self.channels + self.lanes

    def tile_columns(self, width: int) -> int:
        """Return the columns of a tile (an even number) for a result of this width.

        Wide enough that the columns of the halo, which neighbouring tiles both filter, are few; narrow enough that
        the columns stay in the cache between the two passes.
        """
        overlap = self.horizontal.tap_count - 1
        if self.is_along_rows:
            cached = _ROWS_BYTES // (TILE_ROWS * self.channels * self.itemsize) - overlap
        else:
            cached = _COLUMNS_BYTES // (self.column_pitch * self.channels * self.itemsize) - overlap
        columns = max(_FEWEST_TILE_COLUMNS, cached, 2 * overlap) * self.horizontal.up // self.horizontal.down
        tiles = -(-width // columns)
        return even(-(-width // tiles))

    def shared_columns(self, rows: int, columns: int, threads: int) -> int:
        """Return a width of tiles that gives every thread a few, for a window of `rows` x `columns`."""
        widest = self.tile_columns(columns)
        if threads == 1:
            return widest
        row_tiles = -(-rows // self.tile_rows)
        tiles_per_row = -(-FEWEST_TILES_PER_THREAD * threads // row_tiles)
        narrowest = even(_NARROWEST_TILE // self.horizontal.down)
        return max(min(widest, narrowest), min(widest, even(-(-columns // tiles_per_row))))

    def workspace_shapes(self, tile_columns: int) -> dict[str, int]:
        """Return the number of elements of each scratch array for tiles of up to so many columns."""
        if self.is_along_rows:
            return {
                "panel": self.padded_rows * self.panel_pitch,
                "filtered": self.tile_rows * self.band_pitch(tile_columns),
                "tail": 4 * self.lanes,
            }
        padded_columns = self._padded_columns(tile_columns)
        return {
            "panel": self.padded_rows * self.panel_pitch,
            "filtered": TILE_ROWS * self.column_pitch,
            "columns": (padded_columns * self.channels + self.lanes) * self.column_pitch,
            "chunk": (self.chunk_pixels * self.channels + self.lanes) * self.column_pitch,
            "rows": TILE_ROWS * self.row_pitch,
        }

    def band_pitch(self, tile_columns: int) -> int:
        """Distance of the rows that the vertical pass leaves for a horizontal pass along them."""
        return odd_pitch(self._padded_columns(tile_columns) * self.channels + 4 * self.lanes, self.itemsize)

    def _padded_columns(self, tile_columns: int) -> int:
        return 2 * _most_inputs(self.horizontal, tile_columns)  # extra positions: see `origins`

    def workspace_bytes(self, tile_columns: int) -> int:
        """Return the memory of one thread's workspace."""
        shapes = self.workspace_shapes(tile_columns)
        return sum(shapes.values()) * self.itemsize + (len(shapes) + 1) * _CACHE_LINE


def odd_pitch(elements: int, itemsize: int) -> int:
    """Return a pitch for lines of so many elements that is an odd number of cache lines.

    With an even one, above all a power of two, the taps of a column fight for a few sets of the cache.
    """
    line = _CACHE_LINE // itemsize
    lines = -(-elements // line)
    return (lines + (lines % 2 == 0)) * line


def _most_inputs(resampler: Resampler, outputs: int) -> int:
    """Return the most inputs that so many outputs depend on, wherever they start."""
    return (even(outputs) + resampler.up - 1) // resampler.up * resampler.down + resampler.tap_count


def even(length: int) -> int:
    """Return `length`, or the next larger even number: two lines are filtered at a time."""
    return length + length % 2


class Workspace:
    """The scratch memory that one thread needs to filter tiles of up to `tile_columns` columns."""

    def __init__(self, geometry: Geometry, tile_columns: int) -> None:
        self._memory = np.zeros(geometry.workspace_bytes(tile_columns), dtype=np.uint8)
        self.tile_columns = tile_columns
        self.addresses: dict[str, int] = {}
        address = self._memory.ctypes.data
        for name, elements in geometry.workspace_shapes(tile_columns).items():
            address = -(-address // _CACHE_LINE) * _CACHE_LINE
            self.addresses[name] = address
            address += elements * geometry.itemsize


@dataclass(frozen=True)
class Pass:
    """One direction's resampler, as the kernels take it.

    Parameters
    ----------
    rounded
        Whether the pass ends in integers.
    """

    resampler: Resampler
    taps: NDArray[Any]
    gain: NDArray[Any]
    rounded: bool

    @classmethod
    def prepare(cls, resampler: Resampler, sums: np.dtype[Any], *, rounded: bool) -> Pass:
        """Round the taps to the precision of the sums without losing what makes a flat image stay flat."""
        taps = resampler.taps * (1.0 - overshoot(resampler, sums, pair_shift(resampler)))
        gain = exact_gain(resampler.taps[0])
        return cls(resampler, taps.astype(sums), np.array([gain], dtype=sums), rounded)

    def arguments(self, start: int) -> tuple[int, ...]:
        """Return what the kernels need to know for outputs from `start` on."""
        resampler = self.resampler
        return (
            self.taps.ctypes.data,
            resampler.tap_count,
            resampler.up,
            resampler.down,
            start % resampler.up,
            reference_tap(resampler, pair_shift(resampler)),
            self.gain.ctypes.data,
            int(self.rounded),
        )


def pair_shift(resampler: Resampler) -> int:
    """Return by how many lines the inputs of a pair's second output lie behind the first one's.

    Both share their reference. (Along rows every output has its own, which is no worse.)
    """
    return resampler.down if resampler.up == 1 else 0


@dataclass(frozen=True)
class ColumnPlan:
    """How the padded columns of a tile come from the image's: see `boundary.origins`.

    Parameters
    ----------
    column_start, column_stop
        The tile's columns.
    runs
        Half-open runs of positions to be filtered, each with the source column that it starts at.
    copies
        The positions that repeat others, and what they repeat, as two rows.
    """

    column_start: int
    column_stop: int
    runs: list[tuple[int, int, int]]
    copies: IndexMap

    @classmethod
    @functools.lru_cache(maxsize=256)  # the same tiles come up in every image of a size
    def of_span(cls, column_start: int, column_stop: int, span: tuple[int, int], width: int, mode: Mode) -> ColumnPlan:
        """Make the plan for a tile that depends on the columns in `span`, some of them outside the image."""
        origin, runs = origins(index_map(*span, width, mode))
        repeated = np.flatnonzero(origin != np.arange(origin.size))
        return cls(column_start, column_stop, runs, np.stack([repeated, origin[repeated]]))


class SeparableOperator:
    """Correlate, or resample, vertically and then horizontally.

    Parameters
    ----------
    vertical, horizontal
        The two passes. Positions of the result count from 0 at the image's first row and column.
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
    tile_rows
        Rows of a tile of the result: at most `TILE_ROWS`, or any number where the rows are filtered as they are.
    """

    def __init__(
        self,
        vertical: Resampler,
        horizontal: Resampler,
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        channels: int,
        mode: Mode = "reflect",
        cval: float = 0.0,
        alpha: int | None = None,
        tile_rows: int = TILE_ROWS,
    ) -> None:
        from blurfast.cpu import objects  # imports llvmlite, which planning does not need

        self.channels = channels
        self.sums = sums
        self.mode = mode
        weighted = alpha is not None
        self.geometry = Geometry(vertical, horizontal, channels, sums.itemsize, tile_rows, weighted)
        self._alpha = -1 if alpha is None else alpha
        to_integers = target_dtype.kind in "biu" and alpha is None  # with alpha, the division comes first
        self._vertical = Pass.prepare(vertical, sums, rounded=to_integers and horizontal.is_identity)
        self._horizontal = Pass.prepare(horizontal, sums, rounded=to_integers)
        with np.errstate(over="ignore"):  # a value beyond float32 is infinite there
            self._outside = np.array([cval], dtype=np.float64).astype(sums)
        self._outside_filtered = self._outside * self._vertical.gain
        self._panel = self.geometry.panel_width, self.geometry.panel_pitch
        self._vertical_kernel, self._horizontal_kernel = objects.load(self.geometry.kernels(pixel_dtype, target_dtype))

    @property
    def tile_rows(self) -> int:
        """Rows of a tile."""
        return self.geometry.tile_rows

    def workspace(self, tile_columns: int) -> Workspace:
        """Return the scratch memory for one thread."""
        return Workspace(self.geometry, tile_columns)

    def plan_columns(self, column_start: int, column_stop: int, width: int) -> ColumnPlan:
        """Prepare the columns of the tiles whose results span `column_start` (even) to `column_stop`."""
        span = self._horizontal.resampler.span(column_start, column_start + even(column_stop - column_start))
        return ColumnPlan.of_span(column_start, column_stop, span, width, self.mode)

    def row_map(self, row_start: int, row_stop: int, height: int) -> IndexMap:
        """Return the source rows that the results from `row_start` (even) to `row_stop` depend on."""
        span = self._vertical.resampler.span(row_start, row_start + even(row_stop - row_start))
        return index_map(*span, height, self.mode)

    def __call__(
        self,
        pixels: NDArray[Any],
        row_map: IndexMap,
        row_start: int,
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
            The row of `pixels` for each row that the tile depends on, or -1.
        row_start
            The tile's first row, an even number.
        columns
            The tile's columns, made by `plan_columns`.
        target
            Where the tile goes, shaped (rows, columns, channels), pixels and channels contiguous.
        """
        geometry, scratch = self.geometry, workspace.addresses
        row_count, pixel_count = target.shape[:2]
        lines, pitch = self._filter_vertically(
            pixels, row_map, row_start, columns, first_column, even(row_count), workspace
        )
        source = (lines, pitch, columns.copies.ctypes.data, columns.copies.shape[1], self.channels)
        destination = (target.ctypes.data, target.strides[0] // target.itemsize, row_count)
        horizontal = self._horizontal
        if geometry.is_along_rows:
            self._horizontal_kernel(
                *source,
                self._outside_filtered.ctypes.data,
                horizontal.taps.ctypes.data,
                horizontal.resampler.tap_count,
                reference_tap(horizontal.resampler, pair_shift(horizontal.resampler)),
                horizontal.gain.ctypes.data,
                int(horizontal.rounded),
                scratch["tail"],
                *destination,
                pixel_count * self.channels,
            )
        else:
            self._horizontal_kernel(
                *source,
                self._alpha,
                self._outside_filtered.ctypes.data,
                *horizontal.arguments(columns.column_start),
                scratch["chunk"],
                geometry.chunk_pixels,
                scratch["rows"],
                geometry.row_pitch,
                *destination,
                pixel_count,
            )

    def _filter_vertically(
        self,
        pixels: NDArray[Any],
        row_map: IndexMap,
        row_start: int,
        columns: ColumnPlan,
        first_column: int,
        row_count: int,
        workspace: Workspace,
    ) -> tuple[int, int]:
        """Run the vertical pass over all runs of columns; return the address of the results and their distance."""
        geometry, scratch = self.geometry, workspace.addresses
        if geometry.is_along_rows:
            lines, pitch = scratch["filtered"], geometry.band_pitch(workspace.tile_columns)
        else:
            lines, pitch = scratch["columns"], geometry.column_pitch
        assert row_map.max(initial=0) < pixels.shape[0], "a row that is not there"
        for start, stop, source_column in columns.runs:
            last_column = source_column + stop - start
            assert first_column <= source_column < last_column <= first_column + pixels.shape[1], "a missing column"
            self._vertical_kernel(
                pixels.ctypes.data,
                pixels.strides[0] // pixels.itemsize,
                row_map.ctypes.data,
                row_map.size,
                (source_column - first_column) * self.channels,
                (stop - start) * self.channels,
                self.channels,
                self._alpha,
                self._outside.ctypes.data,
                *self._vertical.arguments(row_start),
                row_count,
                scratch["panel"],
                scratch["filtered"],
                *self._panel,
                lines,
                pitch,
                start * self.channels,
                int(not geometry.is_along_rows),
            )
        return lines, pitch
