"""A procedural micrograph of a tissue: cells with bright walls and nuclei, uneven light, shot noise.

Any rectangle of it can be made on its own, so a scene can be written that is larger than memory.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERIOD = 2048
"""Side of the square of cells that the scene is paved with."""

_SPACING = 32


@functools.cache
def _cells(period: int) -> NDArray[np.float32]:
    """Return a square of cells in [0, 1] that can be laid side by side: Worley's cellular noise."""
    random = np.random.default_rng(20)
    sites = period // _SPACING
    jitter = random.uniform(0.18, 0.82, (sites, sites, 2)).astype(np.float32)
    brightness = random.uniform(0.4, 1.0, (sites, sites)).astype(np.float32)
    y, x = np.mgrid[:period, :period].astype(np.float32) / _SPACING
    row, column = y.astype(np.int64), x.astype(np.int64)
    nearest = np.full((period, period), np.inf, dtype=np.float32)
    second = nearest.copy()
    own = np.zeros_like(nearest)
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            site = (row + down) % sites, (column + across) % sites
            distance = np.hypot(row + down + jitter[site][..., 0] - y, column + across + jitter[site][..., 1] - x)
            own = np.where(distance < nearest, brightness[site], own)
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
    walls = np.exp(-(((second - nearest) / 0.07) ** 2))
    nuclei = 1 / (1 + np.exp((nearest - 0.22) / 0.02))
    return np.asarray(np.clip(0.25 * own + 0.45 * walls + 0.6 * nuclei * own, 0, 1), dtype=np.float32)


@functools.cache
def _noise(period: int) -> NDArray[np.float32]:
    noise: NDArray[np.float32] = np.random.default_rng(21).standard_normal((period, period), dtype=np.float32)
    return noise


def tissue(
    row: int, column: int, height: int, width: int, size: tuple[int, int], dtype: Any = np.uint16
) -> NDArray[Any]:
    """Return a rectangle of a scene of `size` pixels (height, width), as integers that fill most of the range."""
    y = np.arange(row, row + height)
    x = np.arange(column, column + width)
    cells = _cells(PERIOD)[np.ix_(y % PERIOD, x % PERIOD)]
    light_y = np.sin(np.pi * (0.15 + 0.7 * y / size[0])).astype(np.float32)
    light_x = np.sin(np.pi * (0.1 + 0.75 * x / size[1])).astype(np.float32)
    signal = (0.06 + 0.85 * cells) * (light_y[:, None] * light_x)
    shift = 977  # the noise repeats with another phase than the cells
    noise = _noise(PERIOD)[np.ix_((y + y // PERIOD * shift) % PERIOD, (x + x // PERIOD * shift) % PERIOD)]
    signal += 0.02 * np.sqrt(signal) * noise
    return (np.clip(signal, 0, 1) * np.iinfo(dtype).max).astype(dtype)
