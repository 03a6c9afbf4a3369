"""The order in which a PNG file stores its pixels: row by row, or interlaced, as seven images of growing size.

Interlaced files follow Adam7: the first pass holds every eighth pixel of every eighth row, each further one fills
gaps, and the last one holds every other row (https://www.w3.org/TR/png-3/#8Interlace).
"""

from __future__ import annotations

from typing import NamedTuple

from blurfast.io.png_chunks import Header

_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, and the steps between rows and between columns."""


class Pass(NamedTuple):
    """Pixels that are stored together, as if they were an image.

    Parameters
    ----------
    row_start, column_start, row_step, column_step
        Where in the image they belong.
    height, width
        How many rows and columns they are.
    """

    row_start: int
    column_start: int
    row_step: int
    column_step: int
    height: int
    width: int

    def rows(self, first: int, count: int) -> slice:
        """Return the rows of the image that `count` rows from the `first` one on belong to."""
        start = self.row_start + first * self.row_step
        return slice(start, start + (count - 1) * self.row_step + 1, self.row_step)

    @property
    def columns(self) -> slice:
        """The columns of the image that the pixels belong to."""
        return slice(self.column_start, None, self.column_step)


def passes_of(header: Header) -> list[Pass]:
    """Return the passes that hold any pixels, in order; one of all pixels where the image is not interlaced.

    Examples
    --------
    >>> [(part.height, part.width) for part in passes_of(Header(5, 3, 8, 0, interlaced=True))]
    [(1, 1), (1, 1), (1, 1), (1, 3), (2, 2), (1, 5)]
    """
    if not header.interlaced:
        return [Pass(0, 0, 1, 1, header.height, header.width)]
    parts = []
    for top, left, down, across in _ADAM7:
        part = Pass(top, left, down, across, -(-(header.height - top) // down), -(-(header.width - left) // across))
        if part.height > 0 and part.width > 0:
            parts.append(part)
    return parts


def scanline_bytes(header: Header, part: Pass) -> int:
    """Return the size of a row of a pass, with the byte before it that names its filter."""
    return 1 + header.row_bytes(part.width)
