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


def origins(sources: IndexMap) -> tuple[IndexMap, list[tuple[int, int, int]]]:
    """Find which positions of a padded line repeat others.

    Work on a repeated position would only repeat a result. What lies in its own place is one run; sources that occur
    only elsewhere (the far end of a line in mode ``wrap``) are given extra positions behind the padded ones.

    Parameters
    ----------
    sources
        An index map of one padded line.

    Returns
    -------
    origin
        For each position, the one that it repeats: itself in its own place, an extra position, or `OUTSIDE` where it
        holds the constant.
    runs
        The positions that repeat nothing: half-open runs along which the sources rise one by one, and the source at
        the start of each. Their positions rise, since kernels overrun one by some pixels and then write the next.

    Examples
    --------
    >>> origins(index_map(-2, 5, 4, "reflect"))
    (array([3, 2, 2, 3, 4, 5, 5]), [(2, 6, 0)])
    >>> origins(index_map(-2, 2, 4, "wrap"))
    (array([4, 5, 2, 3]), [(2, 4, 0), (4, 6, 2)])
    """
    positions = np.arange(sources.size, dtype=np.int64)
    inside = sources != OUTSIDE
    if not inside.any():
        return np.full_like(positions, OUTSIDE), []
    shift = (sources - positions)[inside]
    own_shift = np.bincount(shift - shift.min()).argmax() + shift.min()
    own = inside & (sources - positions == own_shift)
    first = np.full(int(sources.max()) + 1, OUTSIDE, dtype=np.int64)
    first[sources[own]] = positions[own]
    is_missing = np.zeros(first.size, dtype=bool)
    is_missing[sources[inside & (first[sources] == OUTSIDE)]] = True
    missing = np.flatnonzero(is_missing)  # np.unique would import numpy.ma, which takes 6 ms
    first[missing] = sources.size + np.arange(missing.size)
    origin = np.where(inside, first[sources], OUTSIDE)
    return origin, [*_runs(positions[own], sources[own]), *_runs(first[missing], missing)]


def _runs(positions: IndexMap, sources: IndexMap) -> list[tuple[int, int, int]]:
    """Cut rising positions where they or their sources do not rise by one."""
    breaks = np.flatnonzero((np.diff(positions) != 1) | (np.diff(sources) != 1)) + 1
    starts = np.concatenate(([0], breaks))
    stops = np.concatenate((breaks, [positions.size]))
    return [
        (int(positions[start]), int(positions[stop - 1]) + 1, int(sources[start]))
        for start, stop in zip(starts, stops, strict=True)
        if stop > start
    ]
