"""What methods move from and to a GPU's memory, and what its bandwidth allows: arithmetic, not measurement."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

import blurfast
from blurfast.bench.cases import random_kernel
from blurfast.bench.markdown import table
from blurfast.filters import Filter
from blurfast.io.base import Grain, ImageSpec
from blurfast.methods import Job, Method, candidates
from blurfast.methods.device import device_needs
from blurfast.methods.device_traffic import bytes_per_sample

BANDWIDTHS = (1000e9, 3350e9)
"""Bytes per second that the memory of a desktop's GPU has, about, and that of a computing centre's."""


def bytes_per_pixel(method: Method) -> float:
    """Return what a method's kernels move for each pixel of an image of one channel; see `bytes_per_sample`.

    Examples
    --------
    >>> bytes_per_pixel(method_for(blurfast.Gaussian(1), "separable", "float32"))  # reads and writes once
    8.0
    >>> bytes_per_pixel(method_for(blurfast.Gaussian(6), "separable", "uint8"))  # writes and reads sums in between
    10.0
    """
    pixel, target = (dtype.itemsize for dtype in method.job.dtypes)
    return bytes_per_sample(device_needs(method), pixel, target, method.sums.dtype.itemsize)


def megapixels_per_second(moved: float, bandwidth: float) -> float:
    """Return how many megapixels a second a memory of this bandwidth allows, with so many bytes moved for each pixel.

    Examples
    --------
    >>> megapixels_per_second(8.0, 1000e9)
    125000.0
    """
    return bandwidth / moved / 1e6


def method_for(filter: Filter, name: str, pixels: str, side: int = 8192) -> Method:
    """Return the method of this name for a square image of one channel."""
    image = ImageSpec(side, side, 1, np.dtype(pixels), Grain(1, side))
    method = candidates(Job(filter, image, image.dtype, "reflect", 0.0))[name]
    assert not isinstance(method, str), method
    return method


def arithmetic(bandwidths: Iterable[float] = BANDWIDTHS) -> str:
    """Return a table of what each method moves, and what bandwidths allow, as Markdown."""
    bandwidths = list(bandwidths)
    rows = []
    for title, filter, name in (
        ("Gaussian, sigma 1", blurfast.Gaussian(1), "separable"),
        ("Gaussian, sigma 5", blurfast.Gaussian(5), "separable"),
        ("Gaussian, sigma 20", blurfast.Gaussian(20), "multirate"),
        ("7 x 7 weights", blurfast.Convolution(random_kernel(7, None)), "direct"),
        ("31 x 31 weights", blurfast.Convolution(random_kernel(31, None)), "fft"),
        ("127 x 127 weights", blurfast.Convolution(random_kernel(127, None)), "fft"),
    ):
        for pixels in ("float32", "uint8"):
            moved = bytes_per_pixel(method_for(filter, name, pixels))
            allowed = (f"{megapixels_per_second(moved, bandwidth):.0f}" for bandwidth in bandwidths)
            rows.append([title, name, pixels, f"{moved:.1f}", *allowed])
    header = ["filter", "method", "pixels", "bytes per pixel", *(f"MP/s at {rate / 1e9:g} GB/s" for rate in bandwidths)]
    return (
        "Arithmetic, not measurement: the bytes that the kernels have to move for each pixel, and the megapixels per "
        "second that the bandwidth of the memory allows if nothing else takes time. (Many taps do, and so do transfers "
        "between host and device.)\n\n" + table(header, rows)
    )
