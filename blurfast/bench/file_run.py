"""Filter a TIFF file by one library, read and written: ``python -m blurfast.bench.file_run LIBRARY IN OUT ...``.

Every run is a process of its own, so that its peak memory is its own. Prints as JSON the seconds from opening the
input to the complete output, without the start of the process and imports, and the peak of the resident memory.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from blurfast.bench.cases import TRUNCATE
from blurfast.resources import peak_memory

Act = Callable[[], object]


def blurfast(source: Path, target: Path, sigma: float, threads: int, max_memory: str) -> Act:
    """Stream within a limit of memory; the output is flushed to the disk."""
    from blurfast.cpu import objects
    from blurfast.files import filter_file, plan_file
    from blurfast.filters import Gaussian

    filter = Gaussian(sigma)
    for plan in plan_file(source, filter, threads=threads):
        objects.load(plan.kernels())
    return lambda: filter_file(source, target, filter, threads=threads, max_memory=max_memory, overwrite=True)


def pyvips(source: Path, target: Path, sigma: float, threads: int, _max_memory: str) -> Act:
    """Stream, with sums in float."""
    import os

    os.environ["VIPS_CONCURRENCY"] = str(threads)
    import pyvips as vips

    from blurfast.bench.vips_runs import gaussian_weights

    weights = gaussian_weights(sigma, "float")

    def run() -> None:
        image = vips.Image.new_from_file(str(source), access="sequential")
        blurred = image.convsep(weights, precision="float").rint().cast(image.format)
        blurred.tiffsave(str(target), tile=True, tile_width=512, tile_height=512, bigtiff=True)

    return run


def opencv(source: Path, target: Path, sigma: float, threads: int, _max_memory: str) -> Act:
    """Read the whole image."""
    import cv2

    cv2.setNumThreads(threads)
    size = 2 * int(TRUNCATE * sigma + 0.5) + 1

    def run() -> None:
        image = cv2.imread(str(source), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise ValueError("OpenCV cannot read the image: it may be too large for it")
        blurred = cv2.GaussianBlur(image, (size, size), sigma, borderType=cv2.BORDER_REFLECT)
        if not cv2.imwrite(str(target), blurred, [cv2.IMWRITE_TIFF_COMPRESSION, 1]):
            raise ValueError("OpenCV cannot write the image")

    return run


def scipy(source: Path, target: Path, sigma: float, _threads: int, _max_memory: str) -> Act:
    """Read the whole image by tifffile, and filter it by scipy.ndimage in one thread."""
    import tifffile
    from scipy import ndimage

    def run() -> None:
        image = tifffile.imread(source)
        tifffile.imwrite(target, ndimage.gaussian_filter(image, sigma, truncate=TRUNCATE), bigtiff=True)

    return run


LIBRARIES = {"blurfast": blurfast, "OpenCV": opencv, "scipy": scipy, "pyvips": pyvips}
"""Who filters files, by the names that `blurfast.bench.libraries` has for them."""


def main(library: str, source: str, target: str, sigma: str, threads: str, max_memory: str) -> None:
    """Filter a file, and print what it took."""
    run = LIBRARIES[library](Path(source), Path(target), float(sigma), int(threads), max_memory)
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    sys.stdout.write(json.dumps({"seconds": seconds, "peak_memory": peak_memory()}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
