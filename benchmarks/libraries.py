"""The libraries that are compared: each turns a case into a callable that only filters, with set-up outside.

What lies beyond the edges is reflected, edge pixels included, where a library can do so: blurfast, OpenCV
(``BORDER_REFLECT``), scipy and scikit-image (``reflect``) all mean the same by it. Pillow and libvips repeat the edge
pixel and have no choice of it; their errors are measured against an ideal that does likewise, once. (Pillow does so
before each of its boxes, which makes it less exact along the edges.)
"""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

import blurfast
from benchmarks.cases import Case

Run = Callable[[], Any]
"""Filters once. What it returns becomes an array by ``numpy.asarray``, which is not timed."""


class Prepare(Protocol):
    """Prepares a case. Returns None where the library has no such filter."""

    def __call__(self, case: Case, image: NDArray[Any], threads: int) -> Run | None:
        """Return the callable to be timed."""


@dataclass(frozen=True)
class Library:
    """A contestant.

    Parameters
    ----------
    prepare
        Makes the callable to be timed.
    module
        What must be importable for it.
    edges
        What it takes to lie beyond the edges, in scipy's words.
    """

    prepare: Prepare
    module: str
    edges: Literal["reflect", "nearest"] = "reflect"


def blurfast_gaussian(case: Case, image: NDArray[Any], threads: int) -> Run | None:
    """Use the same kernel size as the others."""
    out = np.empty_like(image)
    return lambda: blurfast.gaussian(
        image, case.sigma, truncate=case.truncate, channel_axis=_channel_axis(image), out=out, threads=threads
    )


def blurfast_default(case: Case, image: NDArray[Any], threads: int) -> Run | None:
    """Use the default accuracy, whose kernel is larger."""
    out = np.empty_like(image)
    return lambda: blurfast.gaussian(image, case.sigma, channel_axis=_channel_axis(image), out=out, threads=threads)


def opencv(case: Case, image: NDArray[Any], threads: int) -> Run | None:
    """OpenCV's GaussianBlur, with BORDER_REFLECT and an explicit kernel size."""
    import cv2

    cv2.setNumThreads(threads)
    size = 2 * case.radius + 1
    out = np.empty_like(image)
    return lambda: cv2.GaussianBlur(image, (size, size), case.sigma, dst=out, borderType=cv2.BORDER_REFLECT)


def scipy(case: Case, image: NDArray[Any], threads: int) -> Run | None:  # noqa: ARG001 - it has only one
    """scipy.ndimage.gaussian_filter, which has one thread."""
    from scipy import ndimage

    out = np.empty_like(image)
    sigma = (case.sigma, case.sigma) + (0,) * (image.ndim - 2)

    def run() -> NDArray[Any]:
        ndimage.gaussian_filter(image, sigma, output=out, truncate=case.truncate)
        return out

    return run


def scikit_image(case: Case, image: NDArray[Any], threads: int) -> Run | None:  # noqa: ARG001 - it has only one
    """skimage.filters.gaussian, which is scipy's filter, with its cut and its edges, but always gives floats.

    Integers are converted to float64 inside, which is part of the time, and the result is not rounded back to
    integers, which is not. It has one thread.
    """
    from skimage import filters

    out = np.empty(image.shape, dtype=np.float32 if image.dtype == np.float32 else np.float64)
    return lambda: filters.gaussian(
        image,
        case.sigma,
        mode="reflect",
        preserve_range=True,
        truncate=case.truncate,
        channel_axis=_channel_axis(image),
        out=out,
    )


def pillow(case: Case, image: NDArray[Any], threads: int) -> Run | None:  # noqa: ARG001 - it has only one
    """Pillow's GaussianBlur: three box blurs instead of a Gaussian, for 8 bits only, in one thread.

    The array is converted to an image, and the result back, outside the time; a new result is allocated inside.
    """
    if image.dtype != np.uint8:
        return None
    from PIL import Image, ImageFilter

    picture = Image.fromarray(image)
    blur = ImageFilter.GaussianBlur(case.sigma)
    return lambda: picture.filter(blur)


def pyvips_float(case: Case, image: NDArray[Any], threads: int) -> Run | None:
    """libvips with sums in float; integers are rounded inside, as part of the time."""
    return _vips_run(case, image, threads, "float")


def pyvips_integer(case: Case, image: NDArray[Any], threads: int) -> Run | None:
    """libvips with small integers for weights, its default for integers: fast for 8 bits, but inexact."""
    return _vips_run(case, image, threads, "integer") if image.dtype.kind == "u" else None


def _vips_run(case: Case, image: NDArray[Any], threads: int, precision: str) -> Run:
    """Return a run of the two steps that libvips' ``gaussblur`` consists of, so that the kernel can be chosen.

    ``gaussblur`` refuses to keep weights below 0.1% of the largest one, which cuts the kernel at 3.7 sigma. The image
    lies in memory, and the array shares it. libvips computes when it is asked for pixels, in `write_to_memory`,
    which allocates the result as part of the time.
    """
    import pyvips

    pyvips.concurrency_set(threads)
    pyvips.cache_set_max(0)  # no result of an earlier run may answer for a later one
    height, width = image.shape[:2]
    channels = image.shape[2] if image.ndim == 3 else 1
    pixel_format = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}[image.dtype.name]
    source = pyvips.Image.new_from_memory(image.data, width, height, channels, pixel_format)
    # Weights are kept while they exceed this share of the largest: half a pixel beyond the last one.
    smallest = math.exp(-0.5 * ((case.radius + 0.5) / case.sigma) ** 2)
    weights = pyvips.Image.gaussmat(case.sigma, smallest, separable=True, precision=precision)

    def run() -> NDArray[Any]:
        blurred = source.convsep(weights, precision=precision)
        if blurred.format != pixel_format:
            blurred = blurred.rint().cast(pixel_format)
        return np.frombuffer(blurred.write_to_memory(), dtype=image.dtype).reshape(image.shape)

    return run


def _channel_axis(image: NDArray[Any]) -> int | None:
    return -1 if image.ndim == 3 else None


LIBRARIES: dict[str, Library] = {
    "blurfast": Library(blurfast_gaussian, "blurfast"),
    "blurfast, default": Library(blurfast_default, "blurfast"),
    "OpenCV": Library(opencv, "cv2"),
    "scipy": Library(scipy, "scipy.ndimage"),
    "scikit-image": Library(scikit_image, "skimage.filters"),
    "Pillow": Library(pillow, "PIL.ImageFilter", edges="nearest"),
    "pyvips": Library(pyvips_float, "pyvips", edges="nearest"),
    "pyvips, integer": Library(pyvips_integer, "pyvips", edges="nearest"),
}
"""What is compared. The first is what the ratios are about."""

DISTRIBUTIONS = ("opencv-python-headless", "scipy", "scikit-image", "pillow", "pyvips", "pyvips-binary")
"""The packages that the libraries come in."""


def installed_libraries(threads: int) -> dict[str, Library]:
    """Import the libraries and return those that are there; name the others on stderr.

    A library that reads its number of threads when it is imported gets it here.
    """
    os.environ["VIPS_CONCURRENCY"] = str(threads)
    installed = {}
    for name, library in LIBRARIES.items():
        try:
            importlib.import_module(library.module)
        except (ImportError, OSError) as error:  # OSError: the package is there, the library that it wraps is not
            print(f"{name} is left out: {error}", file=sys.stderr)
        else:
            installed[name] = library
    return installed
