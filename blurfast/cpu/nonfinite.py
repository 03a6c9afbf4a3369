"""What NaN and infinite pixels do to the results of a transform, which would spread them over the whole tile.

They are taken out before the transform. Which results they reach is found by transforms of their own, of masks, and
put in afterwards. So they reach exactly as far as the weights that are not zero, as in a sum over the kernel.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.transforms import Transform

# Counts are whole numbers, but for the rounding of the transforms.
_ONE_AT_LEAST = 0.5

# Two complex spectra of half the points, and masks.
_BYTES_PER_POINT = 23
_ROWS_AT_A_TIME = 64

# These transforms take several times the memory of the tile's own, so threads take turns.
_one_at_a_time = threading.Lock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_one_at_a_time.acquire,
        after_in_parent=_one_at_a_time.release,
        after_in_child=_one_at_a_time.release,
    )


def repair_bytes(transform: Transform) -> int:
    """Return the memory that `Contributions` needs, in bytes; threads take turns."""
    return _BYTES_PER_POINT * transform.points


class Contributions:
    """Finds what NaN and infinite pixels of a tile contribute to the results of a correlation."""

    def __init__(self, weights: NDArray[np.float64], transform: Transform) -> None:
        self._weights = weights
        self._transform = transform

    def of(self, tile: NDArray[Any]) -> NDArray[Any]:
        """Return NaN or an infinity where a result has one, and zero elsewhere, for all points of the transform."""
        with _one_at_a_time:
            return self._find(tile)

    def _find(self, tile: NDArray[Any]) -> NDArray[Any]:
        positive, negative = self._weights > 0, self._weights < 0
        upwards, downwards = tile == np.inf, tile == -np.inf
        reached_up = self._reach((upwards, positive), (downwards, negative))
        reached_down = self._reach((upwards, negative), (downwards, positive))
        reached_by_nan = self._reach((np.isnan(tile), positive | negative))
        special = np.zeros(reached_up.shape, dtype=tile.dtype)
        special[reached_up] = np.inf
        special[reached_down] = -np.inf
        special[reached_by_nan | (reached_up & reached_down)] = np.nan
        return special

    def _reach(self, *pairs: tuple[NDArray[np.bool], NDArray[np.bool]]) -> NDArray[np.bool]:
        """Return which results any of the pixels reaches by any of the weights that it is paired with."""
        reached = np.zeros((self._transform.rows, self._transform.columns), dtype=np.bool)
        for pixels, weights in pairs:
            if pixels.any() and weights.any():
                spectrum = self._spectrum(self._spread(weights))
                np.conjugate(spectrum, out=spectrum)
                spectrum *= self._spectrum(pixels)
                np.fft.ifft(spectrum, axis=0, out=spectrum)
                for rows in _pieces(len(spectrum)):
                    reached[rows] |= np.fft.irfft(spectrum[rows], n=self._transform.columns) > _ONE_AT_LEAST
        return reached

    def _spread(self, weights: NDArray[np.bool]) -> NDArray[np.bool]:
        """Put the weights as far apart as the pixels of a channel are."""
        transform = self._transform
        spread = np.zeros((transform.rows, transform.columns), dtype=np.bool)
        spread[: weights.shape[0], : weights.shape[1] * transform.channels : transform.channels] = weights
        return spread

    def _spectrum(self, mask: NDArray[np.bool]) -> NDArray[np.complex128]:
        columns = self._transform.columns
        spectrum = np.zeros((self._transform.rows, columns // 2 + 1), dtype=np.complex128)
        for rows in _pieces(len(mask)):
            np.fft.rfft(mask[rows].astype(np.float64), n=columns, out=spectrum[rows])
        np.fft.fft(spectrum, axis=0, out=spectrum)
        return spectrum


def _pieces(row_count: int) -> Iterator[slice]:
    """Yield rows that are transformed together: few, since real numbers take more memory than masks."""
    for row in range(0, row_count, _ROWS_AT_A_TIME):
        yield slice(row, min(row + _ROWS_AT_A_TIME, row_count))
