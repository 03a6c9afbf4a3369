"""How libvips runs: from an array in memory to an array in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.bench.cases import TRUNCATE, Case
from blurfast.bench.prepared import Prepared

_FORMATS = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}


def gaussian_weights(sigma: float, precision: str) -> Any:
    """Return a Gaussian that is cut where the other libraries cut it, for ``convsep``.

    libvips' own ``gaussblur`` consists of the same two steps, but refuses to keep weights below 0.1% of the largest
    one, which cuts the kernel at 3.7 sigma at most.
    """
    import pyvips

    radius = int(TRUNCATE * sigma + 0.5)
    # Weights are kept while they exceed this share of the largest: half a pixel beyond the last one.
    smallest = math.exp(-0.5 * ((radius + 0.5) / sigma) ** 2)
    return pyvips.Image.gaussmat(sigma, smallest, separable=True, precision=precision)


def prepared(case: Case, operation: Callable[[Any], Any]) -> Prepared:
    """Return a case that applies an operation to a libvips image.

    The image lies in memory, and libvips shares it. It computes when it is asked for pixels, in `write_to_memory`,
    which allocates the result as part of the time.
    """
    import pyvips

    pyvips.concurrency_set(case.threads)
    pyvips.cache_set_max(0)  # no result of an earlier run may answer for a later one
    image, pixel_format = case.image, _FORMATS[case.image.dtype.name]
    channels = image.shape[2] if image.ndim == 3 else 1
    source = pyvips.Image.new_from_memory(image.data, image.shape[1], image.shape[0], channels, pixel_format)

    def run() -> NDArray[Any]:
        result = operation(source)
        if result.format != pixel_format:
            if pixel_format != "float":
                result = result.rint()
            result = result.cast(pixel_format)
        return np.frombuffer(result.write_to_memory(), dtype=image.dtype).reshape(image.shape)

    return Prepared(run, "nearest")
