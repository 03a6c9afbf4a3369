"""The libraries that are compared: each turns a case into a callable that only filters, with set-up outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import blurfast
from benchmarks.cases import Case

Run = Callable[[], NDArray[Any]]


class Library(Protocol):
    """Prepares a case. Returns None where the library has no such filter."""

    def __call__(self, case: Case, image: NDArray[Any], threads: int) -> Run | None:
        """Return the callable to be timed."""


def blurfast_gaussian(case: Case, image: NDArray[Any], threads: int) -> Run | None:
    """Use the same kernel size as the others."""
    out = np.empty_like(image)
    channel_axis = -1 if image.ndim == 3 else None
    return lambda: blurfast.gaussian(
        image, case.sigma, truncate=case.truncate, channel_axis=channel_axis, out=out, threads=threads
    )


def blurfast_default(case: Case, image: NDArray[Any], threads: int) -> Run | None:
    """Use the default accuracy, whose kernel is larger."""
    out = np.empty_like(image)
    channel_axis = -1 if image.ndim == 3 else None
    return lambda: blurfast.gaussian(image, case.sigma, channel_axis=channel_axis, out=out, threads=threads)


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


LIBRARIES: dict[str, Library] = {
    "blurfast": blurfast_gaussian,
    "blurfast, default": blurfast_default,
    "OpenCV": opencv,
    "scipy": scipy,
}
"""What is compared. The first is what the ratios are about."""
