"""The multirate Gaussian on the CPU: every sigma at about the price of a small one.

A window passes through three stages. The image is blurred a little and decimated (`SeparableOperator`); the few
samples that are left are blurred by what is missing (`SeparableOperator`); and the result is interpolated, first
along the rows and last of all down the columns, straight into the target.

The grid of the samples that are kept is anchored to the image: sample ``i`` lies at row or column ``i * factor``,
also outside the image. So the bytes of the result do not depend on how the image is cut.
"""

from __future__ import annotations

import functools
import queue
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.boundary import IndexMap, Mode
from blurfast.cpu.catalogue import Kernel
from blurfast.cpu.separable import (
    TILE_ROWS,
    ColumnPlan,
    Geometry,
    Pass,
    SeparableOperator,
    Workspace,
    even,
    odd_pitch,
)
from blurfast.cpu.tiles import Workspaces
from blurfast.parallel import Task
from blurfast.pixels import Pixels, Window
from blurfast.weights import IDENTITY, MultirateGaussian, Resampler
from blurfast.window_filter import RowTranslation

_MOST_PACKED_ROWS = 512
_BLURRED_TILE_ROWS = 128


class MultirateTiles:
    """Filters windows of an image of `height` x `width` pixels, one after the other.

    Parameters
    ----------
    vertical, horizontal
        The designs of the two directions.
    height, width, channels
        Of the image; channels are interleaved, each filtered by itself.
    pixel_dtype, target_dtype
        Of the pixels that are read and of those that are written.
    sums
        float32 or float64: the precision of the arithmetic.
    mode, cval
        What lies outside the image.
    threads
        How many tiles should be there at least.
    """

    def __init__(
        self,
        vertical: MultirateGaussian,
        horizontal: MultirateGaussian,
        *,
        height: int,
        width: int,
        channels: int,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        mode: Mode,
        cval: float,
        threads: int,
    ) -> None:
        from blurfast.cpu import objects  # imports llvmlite, which planning does not need

        self._vertical, self._horizontal = vertical, horizontal
        self._height, self._width, self._channels = height, width, channels
        self._sums = sums
        self._threads = threads
        operator = functools.partial(SeparableOperator, sums=sums, channels=channels)
        self._decimate = operator(
            vertical.decimate,
            horizontal.decimate,
            pixel_dtype=pixel_dtype,
            target_dtype=sums,
            mode=mode,
            cval=cval,
            tile_rows=_decimated_tile_rows(vertical),
        )
        self._blur = operator(
            vertical.blur,
            horizontal.blur,
            pixel_dtype=sums,
            target_dtype=sums,
            tile_rows=_geometries(vertical, horizontal, channels, sums.itemsize)[1].tile_rows,
        )
        self._expand = operator(IDENTITY, horizontal.interpolate, pixel_dtype=sums, target_dtype=sums)
        self._last = Pass.prepare(vertical.interpolate, sums, rounded=target_dtype.kind in "biu")
        (self._interpolate,) = objects.load([Kernel("multirate", "interpolate", target_dtype.name, sums.name)])
        self._decimated = _Rows(sums)

    def stages(
        self, window: Window, pixels: Pixels, first_column: int, rows: RowTranslation, target: Pixels
    ) -> Iterator[list[Task]]:
        """See `WindowFilter.stages`."""
        blurred = self._blurred_window(window)
        kept = Window(
            *_even_span(self._vertical.blur, blurred.row_start, blurred.row_stop),
            *_even_span(self._horizontal.blur, blurred.column_start, blurred.column_stop),
        )
        decimated, missing = self._decimated.hold(kept, self._channels)
        yield self._decimating_tasks(
            missing, pixels, first_column, rows, decimated[missing.row_start - kept.row_start :]
        )
        result = np.empty((blurred.rows, blurred.columns, self._channels), dtype=self._sums)
        yield self._blurring_tasks(blurred, kept, decimated, result)
        yield self._interpolating_tasks(window, blurred, result, target)

    def close(self) -> None:
        """See `WindowFilter.close`: all that is held goes with the object."""

    def _blurred_window(self, window: Window) -> Window:
        """Return which blurred samples a window depends on; it starts at even ones."""
        return Window(
            *_even_span(self._vertical.interpolate, window.row_start, window.row_stop),
            *_even_span(self._horizontal.interpolate, window.column_start, window.column_stop),
        )

    def _decimating_tasks(
        self, kept: Window, pixels: Pixels, first_column: int, rows: RowTranslation, target: Pixels
    ) -> list[Task]:
        if kept.rows == 0:
            return []
        tile_rows = self._decimate.geometry.tile_rows
        tile_columns = self._decimate.geometry.shared_columns(kept.rows, kept.columns, self._threads)
        workspaces = Workspaces(self._decimate, tile_columns)
        tasks: list[Task] = []
        for part in _tiles(kept, tile_rows, tile_columns):
            row_map = rows(self._decimate.row_map(part.row_start, part.row_stop, self._height))
            columns = self._decimate.plan_columns(part.column_start, part.column_stop, self._width)
            tile = _part(target, kept, part)
            tasks.append(
                functools.partial(workspaces.run, pixels, row_map, part.row_start, columns, first_column, tile)
            )
        return tasks

    def _blurring_tasks(self, blurred: Window, kept: Window, source: Pixels, target: Pixels) -> list[Task]:
        tile_columns = self._blur.geometry.shared_columns(blurred.rows, blurred.columns, self._threads)
        workspaces = Workspaces(self._blur, tile_columns)
        tasks: list[Task] = []
        for part in _tiles(blurred, self._blur.geometry.tile_rows, tile_columns):
            row_map = _plain_rows(self._vertical.blur, part, kept.row_start)
            columns = _plain_columns(self._horizontal.blur, part)
            tile = _part(target, blurred, part)
            tasks.append(
                functools.partial(workspaces.run, source, row_map, part.row_start, columns, kept.column_start, tile)
            )
        return tasks

    def _interpolating_tasks(self, window: Window, blurred: Window, source: Pixels, target: Pixels) -> list[Task]:
        tile_columns = self._expand.geometry.shared_columns(window.rows, window.columns, self._threads)
        tile_rows = _interpolated_tile_rows(self._vertical)
        free: queue.SimpleQueue[_Scratch] = queue.SimpleQueue()
        return [
            functools.partial(
                self._interpolate_tile, part, blurred, source, _part(target, window, part), tile_columns, free
            )
            for part in _tiles(window, tile_rows, tile_columns)
        ]

    def _interpolate_tile(
        self,
        part: Window,
        blurred: Window,
        source: Pixels,
        target: Pixels,
        tile_columns: int,
        free: queue.SimpleQueue[_Scratch],
    ) -> None:
        try:
            scratch = free.get_nowait()
        except queue.Empty:
            scratch = _Scratch(self._expand, tile_columns)
        row_map = _plain_rows(self._vertical.interpolate, part, blurred.row_start)
        columns = _plain_columns(self._horizontal.interpolate, part)
        expanded = scratch.rows[: row_map.size, : part.columns * self._channels]
        expanded = expanded.reshape(row_map.size, part.columns, self._channels)
        self._expand(source, row_map, 0, columns, blurred.column_start, expanded, scratch.workspace)
        self._interpolate(
            scratch.rows.ctypes.data,
            scratch.rows.strides[0] // scratch.rows.itemsize,
            part.columns * self._channels,
            *self._last.arguments(part.row_start),
            scratch.pair.ctypes.data,
            target.ctypes.data,
            target.strides[0] // target.itemsize,
            part.rows,
        )
        free.put(scratch)


def kernels(
    vertical: MultirateGaussian,
    horizontal: MultirateGaussian,
    pixel_dtype: np.dtype[Any],
    target_dtype: np.dtype[Any],
    sums: np.dtype[Any],
) -> list[Kernel]:
    """Return all kernels that `MultirateTiles` loads."""
    decimate, blur, expand = _geometries(vertical, horizontal, 1, sums.itemsize)
    needed = [*decimate.kernels(pixel_dtype, sums), *blur.kernels(sums, sums), *expand.kernels(sums, sums)]
    return list(dict.fromkeys([*needed, Kernel("multirate", "interpolate", target_dtype.name, sums.name)]))


def _geometries(
    vertical: MultirateGaussian, horizontal: MultirateGaussian, channels: int, itemsize: int
) -> tuple[Geometry, Geometry, Geometry]:
    """Return the geometries of decimation, blur, and interpolation along the rows."""
    blur = Geometry(vertical.blur, horizontal.blur, channels, itemsize)
    return (
        Geometry(vertical.decimate, horizontal.decimate, channels, itemsize, _decimated_tile_rows(vertical)),
        blur if not blur.is_along_rows else replace(blur, tile_rows=_BLURRED_TILE_ROWS),
        Geometry(IDENTITY, horizontal.interpolate, channels, itemsize),
    )


def memory_bytes(
    vertical: MultirateGaussian,
    horizontal: MultirateGaussian,
    window: Window,
    channels: int,
    itemsize: int,
    threads: int,
) -> int:
    """Return the memory that `MultirateTiles` needs for windows of this size."""
    blurred = Window(
        *_even_span(vertical.interpolate, 0, window.rows), *_even_span(horizontal.interpolate, 0, window.columns)
    )
    kept = Window(
        *_even_span(vertical.blur, blurred.row_start, blurred.row_stop),
        *_even_span(horizontal.blur, blurred.column_start, blurred.column_stop),
    )
    samples = 2 * kept.rows * kept.columns + blurred.rows * blurred.columns
    geometries = _geometries(vertical, horizontal, channels, itemsize)
    widths = [
        geometry.shared_columns(part.rows, part.columns, threads)
        for geometry, part in zip(geometries, (kept, blurred, window), strict=True)
    ]
    scratch = [geometry.workspace_bytes(width) for geometry, width in zip(geometries, widths, strict=True)]
    scratch[-1] += TILE_ROWS * _expanded_pitch(geometries[-1], widths[-1]) * itemsize
    return samples * channels * itemsize + threads * max(scratch)  # one step's scratch takes the place of another's


def _expanded_pitch(expand: Geometry, tile_columns: int) -> int:
    """Return the elements from row to row of a tile that is interpolated along its rows: whole groups of registers."""
    group = 4 * expand.lanes
    return odd_pitch(-(-even(tile_columns) * expand.channels // group) * group, expand.itemsize)


def _decimated_tile_rows(vertical: MultirateGaussian) -> int:
    """Return the rows of a decimated tile, few enough that the rows that it depends on fit into the cache."""
    fitting = _MOST_PACKED_ROWS // vertical.factor // 16 * 16
    return max(16, min(TILE_ROWS, fitting))


def _interpolated_tile_rows(vertical: MultirateGaussian) -> int:
    """Return the rows of an interpolated tile, whose blurred rows are at most `TILE_ROWS`, exactly."""
    resampler = vertical.interpolate
    return (TILE_ROWS - resampler.tap_count) * resampler.up if resampler.up > 1 else TILE_ROWS


def _even_span(resampler: Resampler, start: int, stop: int) -> tuple[int, int]:
    """Return the inputs of some outputs, from an even one on: kernels filter two lines at a time."""
    first, last = resampler.span(start, start + even(stop - start))
    return first - first % 2, last


def _tiles(window: Window, rows: int, columns: int) -> Iterator[Window]:
    for row in range(window.row_start, window.row_stop, rows):
        for column in range(window.column_start, window.column_stop, columns):
            yield Window(row, min(row + rows, window.row_stop), column, min(column + columns, window.column_stop))


def _part(array: Pixels, whole: Window, part: Window) -> Pixels:
    """Return the part of an array that holds the samples of `whole`."""
    rows = slice(part.row_start - whole.row_start, part.row_stop - whole.row_start)
    return array[rows, part.column_start - whole.column_start : part.column_stop - whole.column_start]


def _plain_rows(resampler: Resampler, part: Window, first_row: int) -> IndexMap:
    """Return the rows that a tile depends on, of an array that holds all of them from `first_row` on."""
    first, last = resampler.span(part.row_start, part.row_start + even(part.rows))
    return np.arange(first - first_row, last - first_row, dtype=np.int64)


def _plain_columns(resampler: Resampler, part: Window) -> ColumnPlan:
    """Return the columns of a tile whose source has all that it depends on."""
    first, last = resampler.span(part.column_start, part.column_start + even(part.columns))
    return ColumnPlan(part.column_start, part.column_stop, [(0, last - first, first)], np.empty((2, 0), dtype=np.int64))


class _Rows:
    """Decimated samples, of which consecutive windows share some rows."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._window = Window(0, 0, 0, 0)
        self._samples: NDArray[Any] = np.empty((0, 0, 0), dtype=dtype)

    def hold(self, window: Window, channels: int) -> tuple[Pixels, Window]:
        """Return an array for `window` with what is known of it, and the part of the window that is missing."""
        samples = np.empty((window.rows, window.columns, channels), dtype=self._samples.dtype)
        known = self._window
        first_missing = window.row_start
        same_columns = (known.column_start, known.column_stop) == (window.column_start, window.column_stop)
        if same_columns and known.row_start <= window.row_start < known.row_stop:
            first_missing = min(known.row_stop, window.row_stop)
            first_missing -= (first_missing - window.row_start) % 2
            count = first_missing - window.row_start
            offset = window.row_start - known.row_start
            samples[:count] = self._samples[offset : offset + count]
        self._window, self._samples = window, samples
        return samples, window._replace(row_start=first_missing)


class _Scratch:
    """What one thread needs to interpolate a tile."""

    def __init__(self, expand: SeparableOperator, tile_columns: int) -> None:
        self.workspace = Workspace(expand.geometry, tile_columns)
        self.rows = np.zeros((TILE_ROWS, _expanded_pitch(expand.geometry, tile_columns)), dtype=expand.sums)
        self.pair = np.zeros(8 * expand.geometry.lanes, dtype=expand.sums)
