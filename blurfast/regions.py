"""Which pixels a part of an image depends on, and from where on it is computed."""

from __future__ import annotations

from typing import NamedTuple

from blurfast.boundary import Mode
from blurfast.io.base import ImageSpec
from blurfast.pixels import Window


class Reach(NamedTuple):
    """The pixels of an image that a part of it depends on.

    Parameters
    ----------
    window
        Whole segments of the image; from its first row on, where rows are read in order only.
    wraps
        Whether rows at both ends of the image are needed beside: with mode ``wrap``, where the part is near an end.
    """

    window: Window
    wraps: bool


def reach(area: Window, image: ImageSpec, halo: tuple[int, int], mode: Mode) -> Reach:
    """Return what of an image the pixels of `area` depend on."""
    # One more on each side, since windows are computed from even positions to even ones.
    rows = area.row_start - 1 - halo[0], area.row_stop + 1 + halo[0]
    columns = area.column_start - 1 - halo[1], area.column_stop + 1 + halo[1]
    if mode == "wrap" and not 0 <= columns[0] < columns[1] <= image.width:
        columns = 0, image.width
    window = Window(
        *_whole_segments(*rows, image.grain.rows, image.height),
        *_whole_segments(*columns, image.grain.columns, image.width),
    )
    if image.sequential:
        window = window._replace(row_start=0)
    return Reach(window, mode == "wrap" and not 0 <= rows[0] < rows[1] <= image.height)


def _whole_segments(start: int, stop: int, grain: int, length: int) -> tuple[int, int]:
    return max(0, start) // grain * grain, min(-(-stop // grain) * grain, length)


def even_window(window: Window, image: ImageSpec) -> Window:
    """Return the window that is computed for the sake of `window`: kernels filter rows and columns in pairs.

    The pairs are those of the whole image, so that the same pixel has the same bytes in every window.
    """
    return Window(
        window.row_start - window.row_start % 2,
        min(window.row_stop + window.row_stop % 2, image.height),
        window.column_start - window.column_start % 2,
        min(window.column_stop + window.column_stop % 2, image.width),
    )
