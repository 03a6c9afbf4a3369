"""What NaN and infinite pixels do to the results of a transform, which would spread them over the whole tile.

They are taken out before the transform. Which results they reach is found by transforms of their own, of masks, and
put in afterwards. So they reach exactly as far as the weights that are not zero, as in a sum over the kernel.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.transforms import Transform

# Counts are whole numbers, but for the rounding of the transforms.
_ONE_AT_LEAST = 0.5

# These transforms take several times the memory of the tile's own, so threads take turns.
_one_at_a_time = threading.Lock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_one_at_a_time.acquire,
        after_in_parent=_one_at_a_time.release,
        after_in_child=_one_at_a_time.release,
    )


class Contributions:
    """Finds what NaN and infinite pixels of a tile contribute to the results of a correlation."""

    def __init__(self, weights: NDArray[np.float64], transform: Transform) -> None:
        self._weights = weights
        self._transform = transform

    @property
    def _masks(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The spectra of where the weights are positive, and where they are negative."""
        return self._spectrum_of(self._weights > 0), self._spectrum_of(self._weights < 0)

    def _spectrum_of(self, mask: NDArray[np.bool]) -> NDArray[Any]:
        transform = self._transform
        spread = np.zeros((transform.rows, transform.columns))
        spread[: mask.shape[0], : mask.shape[1] * transform.channels : transform.channels] = mask
        return np.fft.rfft2(spread).conj()

    def of(self, tile: NDArray[Any]) -> NDArray[Any]:
        """Return NaN or an infinity where a result has one, and zero elsewhere, for all points of the transform."""
        with _one_at_a_time:
            return self._find(tile)

    def _find(self, tile: NDArray[Any]) -> NDArray[Any]:
        positive, negative = self._masks
        upwards, downwards, unknown = (
            self._spectrum(mask) for mask in (tile == np.inf, tile == -np.inf, np.isnan(tile))
        )
        reached_up = self._is_reached(upwards * positive + downwards * negative)
        reached_down = self._is_reached(upwards * negative + downwards * positive)
        reached_by_nan = self._is_reached(unknown * (positive + negative))
        special = np.zeros(reached_up.shape, dtype=tile.dtype)
        special[reached_up] = np.inf
        special[reached_down] = -np.inf
        special[reached_by_nan | (reached_up & reached_down)] = np.nan
        return special

    def _spectrum(self, mask: NDArray[np.bool]) -> NDArray[Any]:
        return np.fft.rfft2(mask.astype(np.float64), s=(self._transform.rows, self._transform.columns))

    def _is_reached(self, spectrum: NDArray[Any]) -> NDArray[np.bool]:
        counts = np.fft.irfft2(spectrum, s=(self._transform.rows, self._transform.columns))
        return np.asarray(counts > _ONE_AT_LEAST)
