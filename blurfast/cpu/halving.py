"""Images at half their size, for the levels of pyramids."""

from __future__ import annotations

from typing import Any

import numpy as np

from blurfast.cpu.catalogue import Kernel
from blurfast.pixels import Pixels


def halving_kernel(dtype: np.dtype[Any]) -> Kernel:
    """Return the kernel that `halve` runs on pixels of `dtype`.

    Sums of four numbers are exact in float64 for all integers but those of 64 bits.
    """
    return Kernel("halving", "halve", dtype.name, "float64")


def halve(pixels: Pixels, target: Pixels, alpha: int | None = None) -> None:
    """Average blocks of 2 x 2 pixels.

    Integers are rounded half to even. NaN does not count, unless all pixels of a block are NaN. Where the last row or
    column has no partner, it stands for itself.

    Parameters
    ----------
    pixels, target
        Shaped (rows, columns, channels) and (rows / 2, columns / 2, channels), rounded up, with pixels and channels
        contiguous.
    alpha
        The channel whose opacity the others are weighted by. Where nothing is opaque, they become zero.

    Examples
    --------
    >>> half = np.empty((1, 2, 1), np.uint8)
    >>> halve(np.array([[1, 3, 9], [1, 5, 8]], np.uint8)[..., np.newaxis], half)
    >>> half[..., 0].tolist()
    [[2, 8]]
    """
    from blurfast.cpu import objects  # imports llvmlite, which nothing else of a sink needs

    (run,) = objects.load([halving_kernel(pixels.dtype)])
    rows, columns, channels = pixels.shape
    pitch, target_pitch = (array.strides[0] // array.itemsize for array in (pixels, target))
    sums = np.empty(1)
    run(
        pixels.ctypes.data, pitch, rows, columns, channels, -1 if alpha is None else alpha, target.ctypes.data,
        target_pitch, sums.ctypes.data,
    )  # fmt: skip
