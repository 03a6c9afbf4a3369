"""Tiles as panels: the padded pixels of a tile in scratch memory, and what becomes of the sums made from them.

The kernels are in `panel_kernels`. The methods that work on whole padded tiles share this module: `direct`, `fft`,
and sums of several separable terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.boundary import OUTSIDE, IndexMap, Mode, index_map
from blurfast.cpu.catalogue import Kernel
from blurfast.pixels import Pixels

CACHE_LINE = 64
WIDEST_REGISTER = 64


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return zeros that begin at a cache line."""
    count = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(count + CACHE_LINE, dtype=np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + count].view(dtype).reshape(shape)


def padded_sources(start: int, stop: int, anchor: int, tap_count: int, length: int, mode: Mode) -> IndexMap:
    """Return the source rows, or columns, that a tile's results from `start` to `stop` depend on.

    Parameters
    ----------
    anchor
        The tap, of `tap_count`, that lies over the output's own position.
    length, mode
        Of the image in this direction, and what lies beyond.
    """
    return index_map(start - anchor, stop - anchor + tap_count - 1, length, mode)


@dataclass(frozen=True)
class PanelColumns:
    """Where the padded columns of a tile come from.

    Parameters
    ----------
    column_start, column_stop
        The tile's columns.
    runs
        Position, source column and length of each run along which both rise one by one, shaped (runs, 3).
    singles
        Position and source column, or `boundary.OUTSIDE`, of all others, shaped (singles, 2).
    """

    column_start: int
    column_stop: int
    runs: IndexMap
    singles: IndexMap

    @classmethod
    def of_sources(cls, column_start: int, column_stop: int, sources: IndexMap) -> PanelColumns:
        """Make the columns of a tile whose padded columns are `sources` of the image.

        Examples
        --------
        >>> columns = PanelColumns.of_sources(0, 3, np.array([1, 0, 0, 1, 2, 2, 1]))
        >>> columns.runs.tolist()
        [[2, 0, 3]]
        >>> columns.singles.tolist()
        [[0, 1], [1, 0], [5, 2], [6, 1]]
        """
        breaks = np.flatnonzero((np.diff(sources) != 1) | (sources[:-1] == OUTSIDE)) + 1
        starts = np.concatenate(([0], breaks))
        lengths = np.diff(np.concatenate((starts, [sources.size])))
        spans = np.stack([starts, sources[starts], lengths], axis=1).astype(np.int64)
        is_run = lengths > 1
        return cls(column_start, column_stop, spans[is_run], np.ascontiguousarray(spans[~is_run, :2]))

    @property
    def count(self) -> int:
        """The number of padded columns."""
        return int(self.runs[:, 2].sum()) + len(self.singles)


class Panels:
    """Packs the pixels of tiles into panels, and finishes sums to pixels.

    Parameters
    ----------
    pixel_dtype, target_dtype
        Of the pixels that are read and of those that are written.
    sums
        float32 or float64: the precision of the arithmetic.
    channels
        Interleaved channels.
    alpha
        The channel that the others are weighted by, or None.
    cval
        The value of positions outside the image.
    surveyed
        Whether `pack` looks for NaN, infinity, and what may overflow.
    """

    def __init__(
        self,
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        channels: int,
        alpha: int | None,
        cval: float,
        surveyed: bool = False,
    ) -> None:
        from blurfast.cpu import objects  # imports llvmlite, which planning does not need

        self.channels = channels
        self._alpha = -1 if alpha is None else alpha
        with np.errstate(over="ignore"):  # a value beyond float32 is infinite there
            self._outside = np.array([cval], dtype=np.float64).astype(sums)
        self._is_surveyed = surveyed and (pixel_dtype.kind == "f" or not np.isfinite(self._outside[0]))
        self._lanes = WIDEST_REGISTER // sums.itemsize
        self._pack, self._finish = objects.load(panel_kernels(pixel_dtype, target_dtype, sums))

    def pack(
        self, pixels: Pixels, row_map: IndexMap, columns: PanelColumns, first_column: int, panel: NDArray[Any]
    ) -> bool:
        """Pack the padded pixels of a tile; return whether the survey found NaN, infinity, or what may overflow.

        Parameters
        ----------
        pixels
            The source, shaped (rows, columns, channels), pixels and channels contiguous; its first column is
            the image's column `first_column`.
        row_map
            The row of `pixels` for each row of the panel, or `boundary.OUTSIDE`.
        panel
            Shaped (rows, elements). Each row has room for the padded columns and, if it is surveyed, for a register
            more.
        """
        assert row_map.max(initial=0) < pixels.shape[0], "a row that is not there"
        assert row_map.size <= panel.shape[0], "more rows than the panel has"
        whole_registers = -(-columns.count * self.channels // self._lanes) * self._lanes
        written = whole_registers if self._is_surveyed else columns.count * self.channels
        assert written <= panel.shape[1], "more columns than the panel has"
        marks = np.empty(self._lanes, dtype=panel.dtype)
        shifted = first_column * self.channels * pixels.itemsize
        pitch = panel.strides[0] // panel.itemsize
        self._pack(
            pixels.ctypes.data - shifted,
            pixels.strides[0] // pixels.itemsize,
            row_map.ctypes.data,
            row_map.size,
            columns.runs.ctypes.data,
            len(columns.runs),
            columns.singles.ctypes.data,
            len(columns.singles),
            columns.count,
            self.channels,
            self._alpha,
            self._outside.ctypes.data,
            panel.ctypes.data,
            pitch,
            int(self._is_surveyed),
            marks.ctypes.data,
        )
        return bool(marks.any())

    def finish(self, sums: NDArray[Any], target: Pixels) -> None:
        """Add up the tiles of `sums`, shaped (tiles, rows, elements), and write them as pixels."""
        rows, columns = target.shape[:2]
        assert rows <= sums.shape[1], "fewer rows of sums than of pixels"
        assert columns * self.channels <= sums.shape[2], "fewer columns of sums than of pixels"
        self._finish(
            sums.ctypes.data,
            sums.strides[1] // sums.itemsize,
            sums.strides[0] // sums.itemsize,
            sums.shape[0],
            self.channels,
            self._alpha,
            target.ctypes.data,
            target.strides[0] // target.itemsize,
            rows,
            columns,
        )


def panel_kernels(pixel_dtype: np.dtype[Any], target_dtype: np.dtype[Any], sums: np.dtype[Any]) -> list[Kernel]:
    """Return the kernels that `Panels` loads."""
    return [
        Kernel("panel", "pack", pixel_dtype.name, sums.name),
        Kernel("panel", "finish", target_dtype.name, sums.name),
    ]
