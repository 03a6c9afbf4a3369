"""The cases that libraries are compared on: which filter, on which image, with how many threads."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from blurfast.bench.scene import tissue

FilterName = Literal["gaussian", "convolve"]
FILTERS: tuple[FilterName, ...] = get_args(FilterName)

PIXELS = ("float32", "uint8", "uint16", "RGB uint8")
"""The kinds of pixels."""

TRUNCATE = 4.0
"""Where Gaussians are cut, in sigmas, by all libraries and by blurfast where it is to do the same."""


@dataclass(frozen=True)
class Case:
    """One filter for a square image.

    Parameters
    ----------
    filter
        ``gaussian`` or ``convolve``.
    side
        Rows and columns.
    pixels
        One of `PIXELS`.
    sigma
        Of a Gaussian, in pixels.
    kernel_side
        Rows and columns of the kernel of a convolution.
    rank
        Of how many products of a column and a row that kernel is the sum; None for one that is no such sum.
    threads
        That every library may use.
    backend
        ``cpu`` or ``cuda``.
    source
        ``memory``, or ``file``: the image is read from a file and the result is written to one.
    """

    filter: FilterName
    side: int
    pixels: str
    sigma: float = 0.0
    kernel_side: int = 0
    rank: int | None = None
    threads: int = 1
    backend: str = "cpu"
    source: str = "memory"

    @property
    def radius(self) -> int:
        """Pixels that the kernel reaches to each side, where it is cut."""
        return int(TRUNCATE * self.sigma + 0.5) if self.filter == "gaussian" else self.kernel_side // 2

    @property
    def weights(self) -> NDArray[np.float64]:
        """The kernel of a convolution, not to be flipped."""
        return random_kernel(self.kernel_side, self.rank)

    @property
    def image(self) -> NDArray[Any]:
        """The image to filter, (rows, columns) or (rows, columns, channels)."""
        return _image(self.side, self.pixels)

    @property
    def channel_axis(self) -> int | None:
        """The axis of the channels, if the image has any."""
        return -1 if self.pixels.startswith("RGB") else None

    @property
    def sample_count(self) -> int:
        """Pixels times channels."""
        return self.side**2 * (3 if self.pixels.startswith("RGB") else 1)

    @property
    def title(self) -> str:
        """The case in words.

        Examples
        --------
        >>> Case("gaussian", 1024, "uint8", sigma=2.5, threads=2).title
        'gaussian, sigma 2.5, 1024 x 1024 uint8'
        """
        parameter = f"sigma {self.sigma:g}" if self.filter == "gaussian" else f"{self.kernel_side} x {self.kernel_side}"
        kind = "" if self.rank is None else f" of rank {self.rank}"
        file = ", from file to file" if self.source == "file" else ""
        backend = "" if self.backend == "cpu" else f", {self.backend}"
        return f"{self.filter}, {parameter}{kind}, {self.side} x {self.side} {self.pixels}{file}{backend}"


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


@functools.lru_cache(maxsize=8)
def random_kernel(side: int, rank: int | None) -> NDArray[np.float64]:
    """Return positive weights that sum to one: a sum of `rank` products, or none that is simpler than itself."""
    random = np.random.default_rng(side)
    weights = random.random((side, side)) if rank is None else random.random((side, rank)) @ random.random((rank, side))
    return np.asarray(weights / weights.sum())
