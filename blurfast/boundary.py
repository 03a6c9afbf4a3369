"""The five edge modes, each as a map from padded positions to positions in the image.

No kernel knows where an image ends: it reads padded rows and columns through these maps.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Mode = Literal["reflect", "mirror", "nearest", "wrap", "constant"]
MODES: tuple[Mode, ...] = get_args(Mode)

IndexMap = NDArray[np.int64]

OUTSIDE = -1
"""Marks a position that holds the constant value of mode ``constant``."""


def index_map(start: int, stop: int, length: int, mode: Mode) -> IndexMap:
    """Map the positions `start` to `stop` of a padded line to the line's own.

    Parameters
    ----------
    start, stop
        Half-open range of positions; those below 0 and from `length` on lie outside.
    length
        Number of pixels of the line, at least 1.
    mode
        What lies outside, in scipy's words: ``reflect`` (d c b a | a b c d | d c b a), ``mirror``
        (d c b | a b c d | c b a), ``nearest`` (a a a a | a b c d | d d d d), ``wrap`` (a b c d | a b c d | a b c d) or
        ``constant`` (k k k k | a b c d | k k k k).

    Returns
    -------
    IndexMap
        ``stop - start`` indices in ``[0, length)``, or `OUTSIDE`.

    Examples
    --------
    >>> index_map(-3, 6, 4, "reflect").tolist()
    [2, 1, 0, 0, 1, 2, 3, 3, 2]
    >>> index_map(-3, 6, 4, "constant").tolist()
    [-1, -1, -1, 0, 1, 2, 3, -1, -1]
    """
    positions = np.arange(start, stop, dtype=np.int64)
    match mode:
        case "nearest":
            return np.clip(positions, 0, length - 1)
        case "wrap":
            return positions % length
        case "constant":
            return np.where((positions < 0) | (positions >= length), OUTSIDE, positions)
        case "reflect":
            folded = positions % (2 * length)
            return np.minimum(folded, 2 * length - 1 - folded)
        case "mirror":
            period = max(2 * length - 2, 1)
            folded = positions % period
            return np.minimum(folded, period - folded) if length > 1 else np.zeros_like(positions)


def origins(sources: IndexMap) -> tuple[IndexMap, list[tuple[int, int]]]:
    """Find which positions of a padded line repeat others.

    Work on a repeated position would only repeat a result. Positions in their own place are preferred as the one
    that the others copy, so that the image itself stays one run.

    Parameters
    ----------
    sources
        An index map of one padded line.

    Returns
    -------
    origin
        For each position, the position that it repeats: itself where it is the first of its kind, `OUTSIDE` where it
        holds the constant.
    runs
        The positions that repeat nothing, as half-open runs along which the sources rise one by one.

    Examples
    --------
    >>> origins(index_map(-2, 5, 4, "reflect"))
    (array([3, 2, 2, 3, 4, 5, 5]), [(2, 6)])
    """
    positions = np.arange(sources.size, dtype=np.int64)
    shift = sources - positions
    inside = sources != OUTSIDE
    # The shift of the longest unbroken stretch is the image's own place.
    own_shift = np.bincount(shift[inside] - shift.min()).argmax() + shift.min() if inside.any() else 0
    first = np.full(int(sources.max(initial=0)) + 1, OUTSIDE, dtype=np.int64)
    first[sources[inside][::-1]] = positions[inside][::-1]
    own = inside & (shift == own_shift)
    first[sources[own]] = positions[own]
    origin = np.where(inside, first[sources], OUTSIDE)
    kept = np.flatnonzero(origin == positions)
    breaks = np.flatnonzero((np.diff(kept) != 1) | (np.diff(sources[kept]) != 1)) + 1
    runs = [(int(run[0]), int(run[-1]) + 1) for run in np.split(kept, breaks) if run.size]
    return origin, runs
