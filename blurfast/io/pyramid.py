"""Smaller versions of an image, made tile by tile while the image passes.

Each level has half the rows and columns of the one before. A part of the image is halved into the tile of the first
level that it belongs to; whichever part completes a tile has it encoded, and halves it into a tile of the next level.
So all work is done in the tasks that bring the parts, and no more is in memory than about one row of tiles per level.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from blurfast.cpu.halving import halve
from blurfast.io.tiff_levels import halved
from blurfast.io.tiff_readers import slices
from blurfast.pixels import Pixels, Window

EncodedT = TypeVar("EncodedT")


@dataclass
class _Tile:
    """A tile that is being filled."""

    window: Window
    pixels: Pixels
    missing: int


class PyramidBuilder(Generic[EncodedT]):
    """Makes the levels of one image.

    Parameters
    ----------
    shape, dtype
        Rows, columns and channels of the image, and the type of its samples.
    alpha
        The channel that colours are weighted by, or None.
    tile
        Rows and columns of the levels' tiles: even numbers.
    encoders
        The levels that are wanted, each with what encodes a tile of it: ``encode(window, pixels)``. The key says how
        often the image is halved.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        alpha: int | None,
        tile: tuple[int, int],
        encoders: Mapping[int, Callable[[Window, Pixels], list[EncodedT]]],
    ) -> None:
        self._height, self._width, self._channels = shape
        self._dtype = dtype
        self._alpha = alpha
        self._tile_rows, self._tile_columns = tile
        self._encoders = encoders
        self._depth = max(encoders)
        self._tiles: dict[tuple[int, int, int], _Tile] = {}
        self._lock = threading.Lock()

    def tasks(self, window: Window, pixels: Pixels) -> list[Callable[[], list[EncodedT]]]:
        """Return tasks that take in the pixels of `window`, and return the tiles that this completes.

        The window starts at an even row and column, and ends at such, or at the edge of the image.
        """
        rows, columns = 2 * self._tile_rows, 2 * self._tile_columns
        parts = [
            Window(
                max(row, window.row_start), min(row + rows, window.row_stop),
                max(column, window.column_start), min(column + columns, window.column_stop),
            )
            for row in range(window.row_start // rows * rows, window.row_stop, rows)
            for column in range(window.column_start // columns * columns, window.column_stop, columns)
        ]  # fmt: skip
        return [partial(self._take_in, part, pixels[slices(part, window)]) for part in parts]

    def _take_in(self, part: Window, pixels: Pixels) -> list[EncodedT]:
        encoded: list[EncodedT] = []
        for exponent in range(1, self._depth + 1):
            half = Window(*(halved(side, 1) for side in part))
            tile = self._open_tile(exponent, half)
            halve(pixels, tile.pixels[slices(half, tile.window)], self._alpha)
            if not self._completes(exponent, half, tile):
                break
            if exponent in self._encoders:
                encoded += self._encoders[exponent](tile.window, tile.pixels)
            part, pixels = tile.window, tile.pixels
        return encoded

    def _open_tile(self, exponent: int, part: Window) -> _Tile:
        """Return the tile that a part of a level lies in."""
        key = exponent, part.row_start // self._tile_rows, part.column_start // self._tile_columns
        with self._lock:
            if key not in self._tiles:
                _, row, column = key
                window = Window(
                    row * self._tile_rows,
                    min((row + 1) * self._tile_rows, halved(self._height, exponent)),
                    column * self._tile_columns,
                    min((column + 1) * self._tile_columns, halved(self._width, exponent)),
                )
                pixels = np.empty((window.rows, window.columns, self._channels), self._dtype)
                self._tiles[key] = _Tile(window, pixels, window.rows * window.columns)
            return self._tiles[key]

    def _completes(self, exponent: int, part: Window, tile: _Tile) -> bool:
        """Return whether a tile is complete now that `part` of it has been filled, and forget it if so."""
        with self._lock:
            tile.missing -= part.rows * part.columns
            if tile.missing:
                return False
            del self._tiles[exponent, part.row_start // self._tile_rows, part.column_start // self._tile_columns]
            return True

    @property
    def held_bytes(self) -> int:
        """The memory of the tiles that are being filled: about a row of them per level."""
        pixel_bytes = self._channels * self._dtype.itemsize
        return sum(
            min(self._tile_rows, halved(self._height, exponent)) * halved(self._width, exponent) * pixel_bytes
            for exponent in range(1, self._depth + 1)
        )

    @property
    def is_complete(self) -> bool:
        """Whether all tiles that were begun are complete."""
        return not self._tiles
