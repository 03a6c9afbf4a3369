"""By how much filtered files are off, against sums in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests import naive

CROP = 192
"""Rows and columns of the crops that are checked."""

Image = NDArray[Any]


class Oracle:
    """What a Gaussian gives in two corners, at two edges and in the middle of an image.

    Parameters
    ----------
    image
        The whole image, (rows, columns) or (rows, columns, channels).
    sigma
        Of the Gaussian, which is not cut.
    """

    def __init__(self, image: Image, sigma: float) -> None:
        self._image = image
        self._sigma = sigma
        bottom, right = (max(0, length - CROP) for length in image.shape[:2])
        self._corners = [(0, 0), (bottom, right), (bottom // 2, 0), (0, right // 2), (bottom // 2, right // 2)]
        self._exact: dict[str, list[NDArray[np.float64]]] = {}

    def largest_error(self, result: Image, edges: str) -> float:
        """Return by how many grey levels a result is off at most, given what lies beyond the edges for its maker."""
        if result.shape != self._image.shape:
            raise ValueError(f"the result is shaped {result.shape}, the image {self._image.shape}")
        if edges not in self._exact:
            self._exact[edges] = [self._exact_crop(row, column, edges) for row, column in self._corners]
        crops = [np.atleast_3d(result[row : row + CROP, column : column + CROP]) for row, column in self._corners]
        return max(float(np.abs(crop - exact).max()) for crop, exact in zip(crops, self._exact[edges], strict=True))

    def _exact_crop(self, row: int, column: int, edges: str) -> NDArray[np.float64]:
        """Filter a crop with its halo. Where the image goes on, what is beyond the halo changes nothing."""
        halo = int(np.ceil(naive.SIGMAS * self._sigma))
        top, left = max(0, row - halo), max(0, column - halo)
        seen = np.atleast_3d(self._image[top : row + CROP + halo, left : column + CROP + halo])
        channels = [naive.gaussian(seen[..., channel], self._sigma, mode=edges) for channel in range(seen.shape[2])]
        return np.stack(channels, axis=-1)[row - top :, column - left :][:CROP, :CROP]
