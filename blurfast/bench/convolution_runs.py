"""Convolutions of other libraries, with kernels that are not flipped."""

from __future__ import annotations

from typing import Any

import numpy as np

from blurfast.bench import cupy_runs, torch_runs, vips_runs
from blurfast.bench.cases import Case
from blurfast.bench.prepared import Prepared, is_too_long

# Per second.
_VIPS_PRODUCTS = 4e8
_TORCH_PRODUCTS = 2e9


def opencv(case: Case) -> Prepared:
    """OpenCV's filter2D, with BORDER_REFLECT. It has one thread for floats."""
    import cv2

    cv2.setNumThreads(case.threads)
    image, weights = case.image, case.weights.astype(np.float32)
    out = np.empty_like(image)
    return Prepared(lambda: cv2.filter2D(image, -1, weights, dst=out, borderType=cv2.BORDER_REFLECT))


def scipy_overlap_add(case: Case) -> Prepared | None:
    """scipy.signal.oaconvolve, for one channel of floats, with zeros beyond the edges, in one thread."""
    return _scipy(case, "oaconvolve")


def scipy_fft(case: Case) -> Prepared | None:
    """scipy.signal.fftconvolve: likewise, with one transform of the whole image."""
    return _scipy(case, "fftconvolve")


def _scipy(case: Case, function: str) -> Prepared | None:
    if case.image.dtype != np.float32:
        return None
    from scipy import signal

    image, kernel = case.image, case.weights[::-1, ::-1].astype(np.float32)
    convolve = getattr(signal, function)
    return Prepared(lambda: convolve(image, kernel, mode="same"), "constant")


def pyvips(case: Case) -> Prepared | None:
    """Run the conv of libvips, with sums in float; integers are rounded inside, as part of the time."""
    if is_too_long(case, _VIPS_PRODUCTS):
        return None
    import pyvips as vips

    weights = vips.Image.new_from_array(case.weights.tolist())
    return vips_runs.prepared(case, lambda source: source.conv(weights, precision="float"))


def torch(case: Case) -> Prepared | None:
    """PyTorch's conv2d, in float32."""
    return None if is_too_long(case, _TORCH_PRODUCTS) else torch_runs.prepared(case, (case.weights.astype(np.float32),))


def cupy(case: Case) -> Prepared | None:
    """cupyx.scipy.signal.oaconvolve, with the copies to the GPU and back."""
    if case.image.dtype != np.float32:
        return None
    weights = case.weights[::-1, ::-1].astype(np.float32)

    def convolve(signal: Any, image: Any) -> Any:
        import cupy as gpu

        return signal.oaconvolve(image, gpu.asarray(weights), mode="same")

    return cupy_runs.prepared(case, "cupyx.scipy.signal", convolve, "constant")
