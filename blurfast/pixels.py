"""Pixels in memory, and rectangles of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

Pixels = NDArray[Any]
"""Pixels of one image or of a part of it, shaped (rows, columns, channels)."""


class Window(NamedTuple):
    """A rectangle of pixels: half-open ranges of rows and columns."""

    row_start: int
    row_stop: int
    column_start: int
    column_stop: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.row_stop - self.row_start

    @property
    def columns(self) -> int:
        """The number of columns."""
        return self.column_stop - self.column_start
