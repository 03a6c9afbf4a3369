"""What the engine hands windows of an image to, whatever computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from blurfast.boundary import IndexMap
from blurfast.parallel import Task
from blurfast.pixels import Pixels, Window

RowTranslation = Callable[[IndexMap], IndexMap]
"""From rows of the image to rows of an array that holds some of them; `boundary.OUTSIDE` stays."""


class WindowFilter(Protocol):
    """Filters windows of an image, one after the other, in raster order."""

    def stages(
        self, window: Window, pixels: Pixels, first_column: int, rows: RowTranslation, target: Pixels
    ) -> Iterator[list[Task]]:
        """Yield lists of tasks: those of one list may run at the same time, and end before the next list begins.

        Parameters
        ----------
        window
            What to filter; it starts at an even row and column.
        pixels, first_column
            The source, and the column of the image that it starts at.
        rows
            Translates rows of the image to rows of `pixels`.
        target
            Where the window goes.
        """

    def close(self) -> None:
        """Give back what is held for further windows."""
