"""The direct method on the CPU: every tap of a 2-D kernel, one padded tile at a time.

The arithmetic is in `direct_kernels`. This module owns what surrounds it: the taps in the precision of the sums, the
scratch memory of a thread, and the maps that stand for the image's edges.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.boundary import IndexMap, Mode
from blurfast.cpu.catalogue import Kernel
from blurfast.cpu.panels import WIDEST_REGISTER, PanelColumns, Panels, aligned_zeros, padded_sources, panel_kernels
from blurfast.cpu.separable import even, odd_pitch
from blurfast.pixels import Pixels
from blurfast.rounding import exact_gain, kernel_overshoot, kernel_reference

TILE_ROWS = 256

_PANEL_BYTES = 2048 * 1024
_NARROWEST_TILE = 128
_REGISTERS_PER_LINE = 4


@dataclass(frozen=True)
class DirectGeometry:
    """The sizes of a tile and of its scratch arrays.

    Parameters
    ----------
    tap_rows, tap_columns
        Of the kernel.
    channels
        Interleaved channels.
    itemsize
        Bytes of one sum.
    weighted
        Whether colours are weighted by their opacity.
    """

    tap_rows: int
    tap_columns: int
    channels: int
    itemsize: int
    weighted: bool = False

    @property
    def panel_rows(self) -> int:
        """Padded rows of a tile."""
        return TILE_ROWS + self.tap_rows

    def panel_pitch(self, tile_columns: int) -> int:
        """Distance of a panel's rows, with room for what the registers of the last group read beyond a row."""
        group = _REGISTERS_PER_LINE * WIDEST_REGISTER // self.itemsize
        return odd_pitch((tile_columns + self.tap_columns) * self.channels + group, self.itemsize)

    def tile_columns(self, rows: int, columns: int, threads: int) -> int:
        """Return the columns of a tile for a window: few enough for the cache, and for every thread to have some."""
        fitting = _PANEL_BYTES // (self.panel_rows * self.channels * self.itemsize) - self.tap_columns
        row_tiles = -(-rows // TILE_ROWS)
        shared = columns * row_tiles // (4 * threads)
        wanted = max(_NARROWEST_TILE, 2 * self.tap_columns, min(fitting, shared))
        return even(-(-columns // -(-columns // wanted)))

    def workspace_bytes(self, tile_columns: int) -> int:
        """Return the memory of one thread's workspace."""
        rows = self.panel_rows + (TILE_ROWS if self.weighted else 0)
        return rows * self.panel_pitch(tile_columns) * self.itemsize

    def kernels(self, pixel_dtype: np.dtype[Any], target_dtype: np.dtype[Any]) -> list[Kernel]:
        """Return the kernels that the operator loads."""
        sums = np.dtype(f"float{8 * self.itemsize}")
        stored = sums if self.weighted else target_dtype
        return [
            *panel_kernels(pixel_dtype, target_dtype, sums),
            Kernel("direct", "correlate", stored.name, sums.name),
            Kernel("direct", "correlate_carefully", stored.name, sums.name),
        ]


class DirectWorkspace:
    """The scratch memory that one thread needs for tiles of up to `tile_columns` columns."""

    def __init__(self, geometry: DirectGeometry, tile_columns: int) -> None:
        dtype = np.dtype(f"float{8 * geometry.itemsize}")
        pitch = geometry.panel_pitch(tile_columns)
        self.panel = aligned_zeros((geometry.panel_rows, pitch), dtype)
        self.sums = aligned_zeros((1, TILE_ROWS if geometry.weighted else 0, pitch), dtype)


class DirectOperator:
    """Correlate with a 2-D kernel.

    Parameters
    ----------
    weights
        The kernel, shaped (rows, columns).
    anchor
        Row and column of the weight that lies over the output's own pixel.
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

    tile_rows = TILE_ROWS

    def __init__(
        self,
        weights: NDArray[np.float64],
        anchor: tuple[int, int],
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        channels: int,
        mode: Mode = "reflect",
        cval: float = 0.0,
        alpha: int | None = None,
    ) -> None:
        from blurfast.cpu import objects  # imports llvmlite, which planning does not need

        rows, columns = weights.shape
        self.geometry = DirectGeometry(rows, columns, channels, sums.itemsize, alpha is not None)
        self._anchor = anchor
        self._mode = mode
        self._panels = Panels(
            pixel_dtype=pixel_dtype,
            target_dtype=target_dtype,
            sums=sums,
            channels=channels,
            alpha=alpha,
            cval=cval,
            surveyed=True,
        )
        self._weighted = alpha is not None
        self._rounded = int(target_dtype.kind in "biu" and not self._weighted)
        self._reference = kernel_reference(weights, in_pairs=True)
        taps = weights * (1.0 - kernel_overshoot(weights, sums, in_pairs=True))
        with np.errstate(over="ignore"):  # the pixels are then infinite
            self._gain = np.array([exact_gain(weights)]).astype(sums)
            self._taps = np.pad(taps, ((1, 1), (0, 0))).astype(sums)
        stored = sums if self._weighted else target_dtype
        self._spare = functools.partial(aligned_zeros, (2 * _REGISTERS_PER_LINE * WIDEST_REGISTER,), stored)
        self._correlate, self._correlate_carefully = objects.load(self.geometry.kernels(pixel_dtype, target_dtype)[-2:])

    def plan_columns(self, column_start: int, column_stop: int, width: int) -> PanelColumns:
        """Prepare the columns of the tiles that span `column_start` to `column_stop`."""
        sources = padded_sources(
            column_start, column_stop, self._anchor[1], self.geometry.tap_columns, width, self._mode
        )
        return PanelColumns.of_sources(column_start, column_stop, sources)

    def row_map(self, row_start: int, row_stop: int, height: int) -> IndexMap:
        """Return the source rows that the results from `row_start` (even) to `row_stop` depend on."""
        return padded_sources(row_start, row_stop, self._anchor[0], self.geometry.tap_rows, height, self._mode)

    def workspace(self, tile_columns: int) -> DirectWorkspace:
        """Return the scratch memory for one thread."""
        return DirectWorkspace(self.geometry, tile_columns)

    def __call__(
        self,
        pixels: Pixels,
        row_map: IndexMap,
        row_start: int,
        columns: PanelColumns,
        first_column: int,
        target: Pixels,
        workspace: DirectWorkspace,
    ) -> None:
        """Filter one tile; the arguments are those of `separable.SeparableOperator`."""
        is_extreme = self._panels.pack(pixels, row_map, columns, first_column, workspace.panel)
        if not self._weighted:
            self._filter(workspace, is_extreme, target)
            return
        rows, tile_columns, channels = target.shape
        sums = workspace.sums[0, :rows, : tile_columns * channels]
        self._filter(workspace, is_extreme, sums.reshape(rows, tile_columns, channels))
        self._panels.finish(workspace.sums, target)

    def _filter(self, workspace: DirectWorkspace, is_extreme: bool, target: Pixels) -> None:
        geometry = self.geometry
        pitch = workspace.panel.strides[0] // workspace.panel.itemsize
        row_count, pixel_count, channels = target.shape
        reference = self._reference.row * pitch + self._reference.column * channels
        spare = self._spare()
        source = (
            workspace.panel.ctypes.data,
            pitch,
            channels,
            self._taps.ctypes.data,
            geometry.tap_rows,
            geometry.tap_columns,
        )
        destination = (
            self._gain.ctypes.data,
            self._rounded,
            spare.ctypes.data,
            target.ctypes.data,
            target.strides[0] // target.itemsize,
            row_count,
            pixel_count * channels,
        )
        if self._reference.is_shared and not is_extreme:
            self._correlate(*source, reference, *destination)
        else:
            second = reference - pitch if self._reference.is_shared else reference
            self._correlate_carefully(*source, reference, second, *destination)
