"""What methods move from and to a GPU's memory, and what its bandwidth allows: arithmetic, not measurement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

import blurfast
from blurfast.bench.cases import random_kernel
from blurfast.bench.markdown import table
from blurfast.cuda.fft import FftNeeds
from blurfast.cuda.passes import PassNeeds, Step
from blurfast.cuda.separable import SeparableNeeds
from blurfast.cuda.separable_sum import SeparableSumNeeds
from blurfast.filters import Filter
from blurfast.io.base import Grain, ImageSpec
from blurfast.methods import Job, Method, candidates
from blurfast.methods import device as on_device

BANDWIDTHS = (1000e9, 3350e9)
"""Bytes per second that the memory of a desktop's GPU has, about, and that of a computing centre's."""

# Passes of a 2-D transform over its data: along the rows and along the columns, each reads and writes.
_PASSES_OF_A_TRANSFORM = 4


def bytes_per_pixel(method: Method) -> float:
    """Return the least that a method's kernels read and write for each pixel of an image of one channel.

    What overlaps between the blocks of a kernel, and all maps and taps, are taken to come from the cache.

    Examples
    --------
    >>> bytes_per_pixel(method_for(blurfast.Gaussian(1), "separable", "float32"))  # reads and writes once
    8.0
    >>> bytes_per_pixel(method_for(blurfast.Gaussian(6), "separable", "uint8"))  # writes and reads sums in between
    10.0
    """
    job, sums = method.job, method.sums.dtype.itemsize
    pixel, target = (dtype.itemsize for dtype in job.dtypes)
    match on_device._needs(method):  # also known where there is no device
        case SeparableSumNeeds(each=terms):
            return sum(_separable_bytes(term, pixel, sums, sums) + sums for term in terms) + target
        case SeparableNeeds() as needs:
            return _separable_bytes(needs, pixel, target, sums)
        case PassNeeds(steps=steps):
            return _chain_bytes(steps, pixel, target, sums)
        case FftNeeds(transform=transform, tile=tile):
            # Packed, transformed, multiplied by the kernel's spectrum, transformed back, and read again.
            in_panel = (1 + _PASSES_OF_A_TRANSFORM + 3 + _PASSES_OF_A_TRANSFORM) * sums
            return (pixel + in_panel) * transform.points / (tile[0] * tile[1]) + sums + target
        case _:
            return float(pixel + target)


def _separable_bytes(needs: SeparableNeeds, pixel: int, target: int, sums: int) -> float:
    if needs.radius is not None:
        return float(pixel + target)
    return _chain_bytes(needs.passes.steps, pixel, target, sums)


def _chain_bytes(steps: Sequence[Step], pixel: int, target: int, sums: int) -> float:
    """Return what passes move that each read what the one before has written."""
    total, samples = 0.0, 1.0
    for number, (resampler, _) in enumerate(steps):
        total += samples * (sums if number else pixel)
        samples *= resampler.up / resampler.down
        total += samples * (target if number == len(steps) - 1 else sums)
    return total


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
