"""What users of other libraries write: ``python -m benchmarks.file_scripts LIBRARY IN OUT SIGMA THREADS DEFLATE``.

Each reads a file, blurs it with the library's own edges and cut of the kernel, and writes it. DEFLATE is 1 where a TIFF
output is to be deflated, in tiles where the library writes any, else 0.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from benchmarks.file_cases import STRIP_ROWS, TILE

LEAST_WEIGHT = 0.001
"""The least share of the largest weight at which libvips can cut a Gaussian: at 3.7 sigma."""


def opencv(source: str, target: str, sigma: float, threads: int, *, deflate: bool) -> None:
    """Blur by OpenCV, which reads the whole image and writes no tiles."""
    import cv2

    cv2.setNumThreads(threads)
    image = cv2.imread(source, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise SystemExit("OpenCV cannot read the image")
    options = []
    if target.endswith(".tif"):
        options = [cv2.IMWRITE_TIFF_COMPRESSION, 8 if deflate else 1, cv2.IMWRITE_TIFF_PREDICTOR, 2 if deflate else 1]
    if not cv2.imwrite(target, cv2.GaussianBlur(image, (0, 0), sigma), options):
        raise SystemExit("OpenCV cannot write the image")


def scikit_image(source: str, target: str, sigma: float, threads: int, *, deflate: bool) -> None:
    """Blur by scikit-image, whose filter has one thread."""
    import numpy as np
    from skimage import filters, io

    image = io.imread(source)
    channel_axis = -1 if image.ndim == 3 else None
    blurred = filters.gaussian(image, sigma, preserve_range=True, channel_axis=channel_axis)
    options: dict[str, Any] = {}
    if target.endswith(".tif"):
        options = {"rowsperstrip": STRIP_ROWS}
    if deflate:
        options = {"compression": "adobe_deflate", "predictor": True, "tile": (TILE, TILE), "maxworkers": threads}
    io.imsave(target, np.rint(blurred).astype(image.dtype), check_contrast=False, **options)


def pyvips(source: str, target: str, sigma: float, threads: int, *, deflate: bool) -> None:
    """Blur by libvips with sums in float, the longest kernel that it allows, and a result of the input's type."""
    os.environ["VIPS_CONCURRENCY"] = str(threads)
    import pyvips as vips

    image = vips.Image.new_from_file(source, access="sequential")
    blurred = image.gaussblur(sigma, precision="float", min_ampl=LEAST_WEIGHT).rint().cast(image.format)
    options: dict[str, Any] = {}
    if deflate:
        options = {"compression": "deflate", "predictor": "horizontal"}
        options |= {"tile": True, "tile_width": TILE, "tile_height": TILE}
    elif target.endswith(".png"):
        options = {"compression": 1, "filter": "paeth"}
    blurred.write_to_file(target, **options)


SCRIPTS = {"opencv": opencv, "scikit-image": scikit_image, "pyvips": pyvips}


def main(library: str, source: str, target: str, sigma: str, threads: str, deflate: str) -> None:
    """Blur a file."""
    SCRIPTS[library](source, target, float(sigma), int(threads), deflate=deflate == "1")


if __name__ == "__main__":
    main(*sys.argv[1:])
