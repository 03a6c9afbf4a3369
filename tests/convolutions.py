"""Kernels to convolve with, and how near to the oracle a convolution must be."""

from __future__ import annotations

import numpy as np

from tests import tolerances


def weights(shape, seed=0):
    """Return weights of both signs, without any symmetry, whose magnitudes sum to two at most."""
    kernel = np.random.default_rng(seed).uniform(-1, 1, shape)
    return 2 * kernel / max(2.0, np.abs(kernel).sum())


def average(shape, seed=0):
    """Return weights that are not negative, without any symmetry, which sum to one."""
    kernel = np.random.default_rng(seed).uniform(0, 1, shape)
    return kernel / kernel.sum()


def assert_like(result, exact, image, kernel, mode="reflect", cval=0.0):
    """Assert that a result is as near to the exact one as the weights and its dtype demand."""
    if result.dtype.kind == "f":
        reach = tolerances.spread(image.astype(float), mode, cval) * max(1.0, np.abs(kernel).sum())
        reach += 1e-6 * np.abs(image).max().astype(float)  # of a single pixel, the range is nothing
        tolerances.assert_near(result, exact, reach)
    else:
        tolerances.assert_exact(result, exact, 0)
