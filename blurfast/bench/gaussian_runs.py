"""Gaussians of other libraries, all cut at the same radius.

What lies beyond the edges is reflected, edge pixels included, where a library can do so: blurfast, OpenCV
(``BORDER_REFLECT``), scipy, scikit-image and CuPy (``reflect``) all mean the same by it. Pillow, libvips and PyTorch
repeat the edge pixel; their errors are measured against an ideal that does likewise, once. (Pillow does so before each
of its boxes, which makes it less exact along the edges.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.bench import cupy_runs, torch_runs, vips_runs
from blurfast.bench.cases import TRUNCATE, Case
from blurfast.bench.prepared import Prepared


def opencv(case: Case) -> Prepared:
    """OpenCV's GaussianBlur, with BORDER_REFLECT and an explicit kernel size."""
    import cv2

    cv2.setNumThreads(case.threads)
    image, size = case.image, 2 * case.radius + 1
    out = np.empty_like(image)
    return Prepared(lambda: cv2.GaussianBlur(image, (size, size), case.sigma, dst=out, borderType=cv2.BORDER_REFLECT))


def scipy(case: Case) -> Prepared:
    """scipy.ndimage.gaussian_filter, which has one thread."""
    from scipy import ndimage

    image = case.image
    out = np.empty_like(image)
    sigma = (case.sigma, case.sigma) + (0,) * (image.ndim - 2)

    def run() -> object:
        ndimage.gaussian_filter(image, sigma, output=out, truncate=TRUNCATE)
        return out

    return Prepared(run)


def scikit_image(case: Case) -> Prepared:
    """skimage.filters.gaussian, which is scipy's filter, with its cut and its edges, but always gives floats.

    Integers are converted to float64 inside, which is part of the time, and the result is not rounded back to
    integers, which is not. It has one thread.
    """
    from skimage import filters

    image = case.image
    out = np.empty(image.shape, dtype=np.float32 if image.dtype == np.float32 else np.float64)
    return Prepared(
        lambda: filters.gaussian(
            image,
            case.sigma,
            mode="reflect",
            preserve_range=True,
            truncate=TRUNCATE,
            channel_axis=case.channel_axis,
            out=out,
        )
    )


def pillow(case: Case) -> Prepared | None:
    """Pillow's GaussianBlur: three box blurs instead of a Gaussian, for 8 bits only, in one thread.

    The array is converted to an image, and the result back, outside the time; a new result is allocated inside.
    """
    if case.image.dtype != np.uint8:
        return None
    from PIL import Image, ImageFilter

    picture = Image.fromarray(case.image)
    blur = ImageFilter.GaussianBlur(case.sigma)
    return Prepared(lambda: picture.filter(blur), "nearest")


def pyvips_float(case: Case) -> Prepared:
    """Run libvips with sums in float; integers are rounded inside, as part of the time."""
    return _vips(case, "float")


def pyvips_integer(case: Case) -> Prepared | None:
    """Run libvips with small integers for weights, its default for integers: fast for 8 bits, but inexact."""
    return _vips(case, "integer") if case.image.dtype.kind == "u" else None


def _vips(case: Case, precision: str) -> Prepared:
    weights = vips_runs.gaussian_weights(case.sigma, precision)
    return vips_runs.prepared(case, lambda source: source.convsep(weights, precision=precision))


def _cut_weights(case: Case) -> NDArray[np.float32]:
    weights = np.exp(-0.5 * (np.arange(-case.radius, case.radius + 1) / case.sigma) ** 2)
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def torch(case: Case) -> Prepared:
    """PyTorch's conv2d, a column and then a row: what torchvision's gaussian_blur does, in float32."""
    weights = _cut_weights(case)
    return torch_runs.prepared(case, (weights[:, np.newaxis], weights[np.newaxis, :]))


def cupy(case: Case) -> Prepared:
    """cupyx.scipy.ndimage.gaussian_filter, with the copies to the GPU and back."""
    sigma = (case.sigma, case.sigma) + (0,) * (case.image.ndim - 2)

    def blur(ndimage: Any, image: Any) -> Any:
        return ndimage.gaussian_filter(image, sigma, truncate=TRUNCATE)

    return cupy_runs.prepared(case, "cupyx.scipy.ndimage", blur, "reflect")
