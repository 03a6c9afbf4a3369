"""The cases that libraries are compared on."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.scene import tissue


@dataclass(frozen=True)
class Case:
    """A Gaussian blur of a square image.

    Parameters
    ----------
    side
        Rows and columns.
    pixels
        ``float32``, ``uint8``, ``uint16`` or ``RGB uint8``.
    sigma
        Standard deviation in pixels.
    truncate
        Where the kernels are cut, in sigmas.
    """

    side: int
    pixels: str
    sigma: float
    truncate: float = 4.0

    @property
    def radius(self) -> int:
        """Pixels that the kernel reaches to each side."""
        return int(self.truncate * self.sigma + 0.5)

    @property
    def image(self) -> NDArray[Any]:
        """The image to filter."""
        return _image(self.side, self.pixels)


@functools.lru_cache(maxsize=1)
def _image(side: int, pixels: str) -> NDArray[Any]:
    size = (side, side)
    match pixels:
        case "float32":
            return (tissue(0, 0, side, side, size) / np.float32(65535)).astype(np.float32)
        case "RGB uint8":
            planes = [tissue(row, 0, side, side, (3 * side, side), np.uint8) for row in range(0, 3 * side, side)]
            return np.ascontiguousarray(np.stack(planes, axis=-1))
        case _:
            return tissue(0, 0, side, side, size, np.dtype(pixels))


def all_cases(side: int = 4096) -> list[Case]:
    """Return every case, grouped by image."""
    kinds = ("float32", "uint8", "uint16", "RGB uint8")
    return [Case(side, pixels, sigma) for pixels, sigma in itertools.product(kinds, (1.0, 2.0, 5.0, 10.0, 20.0, 50.0))]
