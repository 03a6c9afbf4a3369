"""Runs operators on arrays: through the pipeline, on a device of tests."""

from __future__ import annotations

import numpy as np

from blurfast.cuda.memory import DeviceJob, plan_tile
from blurfast.cuda.pipeline import DeviceTiles
from blurfast.cuda.tiles import TileOperator
from blurfast.pixels import Window
from blurfast.weights import Kernel2D
from tests import naive


def filtered(
    operator: TileOperator,
    pixels: np.ndarray,
    *,
    mode: str = "reflect",
    target: str | None = None,
    tile: tuple[int, int] | None = None,
) -> np.ndarray:
    """Filter pixels shaped (rows, columns) or (rows, columns, channels), in tiles; the operator is closed."""
    image = pixels if pixels.ndim == 3 else pixels[..., np.newaxis]
    height, width, channels = image.shape
    target_dtype = np.dtype(target or pixels.dtype)
    job = DeviceJob(height, width, channels, pixels.dtype, target_dtype, mode, (height, width))
    tiles = DeviceTiles(operator, job, [plan_tile(operator, job, *(tile or (height, width)), 2)])
    result = np.zeros(image.shape, target_dtype)
    try:
        for tasks in tiles.stages(Window(0, height, 0, width), image, 0, lambda rows: rows, result):
            for task in tasks:
                task()
    finally:
        tiles.close()
    return result.reshape(pixels.shape)


def kernel_of(weights: np.ndarray, anchor: tuple[int, int] | None = None) -> Kernel2D:
    """Return a kernel whose anchor is the middle unless told."""
    rows, columns = weights.shape
    return Kernel2D(weights.shape, anchor or (rows // 2, columns // 2), lambda: weights)


def exact_result(pixels: np.ndarray, kernel: Kernel2D, mode: str = "reflect", cval: float = 0.0) -> np.ndarray:
    """Return what the oracle makes of each channel, in float64."""
    image = pixels if pixels.ndim == 3 else pixels[..., np.newaxis]
    origin = [anchor - size // 2 for anchor, size in zip(kernel.anchor, kernel.shape, strict=True)]
    channels = [
        naive.correlate_kernel(image[..., channel].astype(np.float64), kernel.weights, mode, cval, origin)
        for channel in range(image.shape[2])
    ]
    return np.stack(channels, axis=2).reshape(pixels.shape)
