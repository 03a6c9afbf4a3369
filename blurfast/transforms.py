"""Overlap-save transforms: which size is best for a kernel, what memory it takes, and the spectrum of the kernel.

Overlap-save cuts an image into tiles. A tile is transformed together with its halo, multiplied by the kernel's
spectrum, and transformed back; the halo's part of the result is wrong, since the transform is periodic, and is thrown
away (A. V. Oppenheim and R. W. Schafer, "Discrete-Time Signal Processing", section 8.7.3).

Interleaved channels need no care: a row of pixels with C channels is one row of C times as many elements, and the
taps of the kernel lie C elements apart.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

PlanningEffort = Literal["estimate", "measure", "patient"]
"""How long the first planning of a size of transforms may take: not at all, up to a second, or up to a minute."""

PLANNING_EFFORTS: tuple[PlanningEffort, ...] = get_args(PlanningEffort)

_PRIMES = (2, 3, 5, 7)
# How much longer a transform takes for each odd prime factor of a side, and where a side is no multiple of 16.
_SLOWNESS = {3: 1.08, 5: 1.02, 7: 1.2}
_SLOWNESS_UNALIGNED = 1.1
# Beyond this, a transform and its spectrum leave the cache, and every point costs more.
_CACHED_BYTES = 12 * 1024 * 1024
_SLOWNESS_UNCACHED = 1.25
# What a tile costs beside its transforms, as so many points times doublings.
_TILE_EFFORT = 800_000
# The spectrum of a kernel is computed so many columns at a time, since that takes up to four times their own memory.
_COLUMNS_AT_A_TIME = 64


@functools.cache
def good_sizes(largest: int) -> tuple[int, ...]:
    """Return all even sizes up to `largest` whose prime factors are 2, 3, 5 and 7, which FFTs are fast at.

    Examples
    --------
    >>> good_sizes(30)
    (2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 24, 28, 30)
    """
    sizes = {2}
    for prime in _PRIMES:
        for size in sorted(sizes):
            multiple = size * prime
            while multiple <= largest:
                sizes.add(multiple)
                multiple *= prime
    return tuple(sorted(size for size in sizes if size <= largest))


@dataclass(frozen=True)
class Transform:
    """One transform, as it serves every tile of an image.

    Parameters
    ----------
    rows, columns
        Its size, in elements.
    kernel_rows, kernel_columns
        The kernel's size, in pixels.
    channels
        Interleaved channels.
    itemsize
        Bytes of one real element.
    """

    rows: int
    columns: int
    kernel_rows: int
    kernel_columns: int
    channels: int
    itemsize: int

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns, in pixels, of the result that one transform yields; the columns are an even number."""
        columns = self.columns // self.channels - self.kernel_columns + 1
        return (self.rows - self.kernel_rows + 1) // 2 * 2, columns // 2 * 2

    @property
    def points(self) -> int:
        """The elements that are transformed."""
        return self.rows * self.columns

    @property
    def lost_share(self) -> float:
        """The share of the points that yields no pixel: the overlap."""
        rows, columns = self.tile
        return 1 - rows * columns * self.channels / self.points

    @property
    def buffers(self) -> dict[str, int]:
        """What each thread needs, in bytes: the tile, which also takes the result, and its spectrum."""
        return {"tile": self.points * self.itemsize, "spectrum": self.spectrum_bytes}

    @property
    def spectrum_bytes(self) -> int:
        """The size of a spectrum: complex, and half of it, since that of a real tile is symmetric."""
        return self.rows * (self.columns // 2 + 1) * 2 * self.itemsize

    def memory(self, threads: int) -> int:
        """Return the memory for so many threads, which share the kernel's spectrum, in bytes."""
        return threads * sum(self.buffers.values()) + self.spectrum_bytes

    def effort(self) -> float:
        """Return what a tile costs: its points times the doublings of their number, and more for slow sizes."""
        return float(_effort(np.array([self.rows]), np.array([self.columns]), self.itemsize)[0])

    def tile_count(self, rows: int, columns: int) -> int:
        """Return how many tiles an image of so many pixels takes."""
        tile_rows, tile_columns = self.tile
        return -(-rows // tile_rows) * -(-columns // tile_columns)


def _effort(rows: NDArray[np.int64], columns: NDArray[np.int64], itemsize: int) -> NDArray[np.float64]:
    points = rows * columns
    slowness = np.where(2 * points * itemsize <= _CACHED_BYTES, 1.0, _SLOWNESS_UNCACHED)
    slowness = slowness * np.sqrt(_slowness(rows) * _slowness(columns))
    return np.asarray(slowness * points * np.log2(points) + _TILE_EFFORT)


def _slowness(sides: NDArray[np.int64]) -> NDArray[np.float64]:
    slowness = np.where(sides % 16 == 0, 1.0, _SLOWNESS_UNALIGNED)
    for prime, factor in _SLOWNESS.items():
        power = prime
        while power <= sides.max():
            slowness = np.where(sides % power == 0, slowness * factor, slowness)
            power *= prime
    return slowness


def transform_for(tile: tuple[int, int], kernel: tuple[int, int], channels: int, itemsize: int) -> Transform:
    """Return the fastest transform that yields a tile of at least so many rows and columns."""
    rows, columns = tile[0] + kernel[0] - 1, (tile[1] + kernel[1] - 1) * channels
    return Transform(_fast_size(rows), _fast_size(columns), *kernel, channels, itemsize)


@functools.lru_cache(maxsize=4096)
def _fast_size(least: int) -> int:
    """Return the size from `least` on that takes the least time, which need not be the next."""
    largest = 2 * least + 2
    sizes, times = _sizes_and_times(largest.bit_length())
    first, end = np.searchsorted(sizes, (least, largest + 1))
    return int(sizes[first + np.argmin(times[first:end])])


@functools.cache
def _sizes_and_times(bits: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the good sizes up to 2 to the power of `bits`, and in proportion the time that each takes per row."""
    sizes = np.array(good_sizes(1 << bits), dtype=np.int64)
    return sizes, np.sqrt(_slowness(sizes)) * sizes


@functools.lru_cache(maxsize=64)
def choose_transform(
    kernel: tuple[int, int], channels: int, itemsize: int, image: tuple[int, int], most_bytes: int
) -> Transform | None:
    """Return the transform that takes the least effort for an image, or None if none fits.

    Parameters
    ----------
    kernel, image
        Rows and columns, in pixels.
    channels
        Interleaved channels.
    itemsize
        Bytes of one real element.
    most_bytes
        That one thread's buffers may take.

    Examples
    --------
    >>> transform = choose_transform((31, 31), 1, 4, (2048, 2048), 2**23)
    >>> transform.rows - 30 >= transform.tile[0], transform.lost_share < 0.2
    (True, True)
    """
    rows = _candidate_sizes(kernel[0], image[0], 1)[:, np.newaxis]
    columns = _candidate_sizes(kernel[1], image[1], channels)
    points = rows * columns
    tile_rows = (rows - kernel[0] + 1) // 2 * 2
    tile_columns = (columns // channels - kernel[1] + 1) // 2 * 2
    tile_count = -(-image[0] // tile_rows) * -(-image[1] // tile_columns)
    effort = _effort(rows, columns, itemsize) * tile_count
    effort[points * itemsize + rows * (columns // 2 + 1) * 2 * itemsize > most_bytes] = np.inf
    row, column = np.unravel_index(effort.argmin(), effort.shape)
    if not np.isfinite(effort[row, column]):
        return None
    return Transform(int(rows[row, 0]), int(columns[column]), *kernel, channels, itemsize)


def _candidate_sizes(kernel_side: int, image_side: int, channels: int) -> NDArray[np.int64]:
    """Return the sizes worth trying along one side: those that `transform_for` has for tiles up to all of the image."""
    enough = image_side + image_side % 2
    tiles = {min(enough, max(2, size - size % 2)) for size in good_sizes(2 * enough)}
    fast = {_fast_size((tile + kernel_side - 1) * channels) for tile in tiles}
    # A size may have room for more than the tile that it was found for.
    rooms = ((size // channels - kernel_side + 1) // 2 * 2 for size in fast)
    return np.array(sorted({_fast_size((room + kernel_side - 1) * channels) for room in rooms}), dtype=np.int64)


def largest_transform(
    kernel: tuple[int, int], channels: int, itemsize: int, memory: int, work_spectra: int = 0
) -> Transform | None:
    """Return the largest, about square, transform whose buffers and kernel spectrum fit into a memory.

    Parameters
    ----------
    memory
        In bytes.
    work_spectra
        The work area that the library needs beside the buffers, in spectra: 0 for FFTW, whose work area is small;
        1 for cuFFT, as a model.

    Examples
    --------
    >>> largest_transform((31, 31), 1, 4, 8 * 2**30, work_spectra=1).rows
    23040
    """
    sizes = good_sizes(2 * int(math.sqrt(memory / itemsize)) + 2)
    for size in reversed(sizes):
        transform = Transform(size, size, *kernel, channels, itemsize)
        needed = transform.memory(1) + work_spectra * transform.spectrum_bytes
        if needed <= memory and min(transform.tile) >= 1:
            return transform
    return None


def kernel_spectrum(weights: NDArray[np.float64], transform: Transform) -> NDArray[Any]:
    """Return the spectrum that a tile's is multiplied by.

    It is conjugated, which makes a correlation of the product, and divided by the number of points, which FFTW and
    cuFFT leave to their callers.

    Parameters
    ----------
    weights
        Of the kernel.
    transform
        The size of the tile.

    Returns
    -------
    ndarray
        Shaped (rows, columns // 2 + 1), in the precision of the transform; computed in float64.

    Examples
    --------
    >>> kernel_spectrum(np.ones((1, 1)), Transform(2, 4, 1, 1, 1, 4)).real
    array([[0.125, 0.125, 0.125],
           [0.125, 0.125, 0.125]], dtype=float32)
    """
    taps = weights
    if transform.channels > 1:
        taps = np.zeros((weights.shape[0], weights.shape[1] * transform.channels))
        taps[:, :: transform.channels] = weights
    spectra_of_rows = np.fft.rfft(taps, n=transform.columns)
    shape = transform.rows, spectra_of_rows.shape[1]
    spectrum = np.empty(shape, np.complex64 if transform.itemsize == 4 else np.complex128)
    for start in range(0, shape[1], _COLUMNS_AT_A_TIME):
        columns = slice(start, start + _COLUMNS_AT_A_TIME)
        exact = np.fft.fft(spectra_of_rows[:, columns], n=transform.rows, axis=0)
        np.conjugate(exact, out=exact)
        exact /= transform.points
        spectrum[:, columns] = exact
    return spectrum
