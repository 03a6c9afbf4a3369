"""The main job on a large image, from the shell: what ``make demo`` runs.

Writes a procedural micrograph of several hundred megapixels, blurs it through the command line in little memory,
checks a part of the result against the float64 oracle of the tests, and leaves a picture to look at.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from blurfast.bench.scene import tissue
from tests import naive

TILE = 512
CROP = 320


def main() -> int:
    """Run the demonstration; return 0 if the result is right and the memory was kept to."""
    arguments = _arguments()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    source, target = folder / "tissue.tif", folder / "tissue-blurred.tif"
    size = (arguments.side, arguments.side)
    megapixels = size[0] * size[1] / 1e6
    needed = 2 * size[0] * size[1] * 2 * 1.1
    if shutil.disk_usage(folder).free < needed:
        print(f"{folder} has no room for {needed / 1e9:.1f} GB; make room, or give a smaller --side", file=sys.stderr)
        return 1

    print(f"1. making a micrograph of {megapixels:.0f} megapixels, 16 bit, in tiles: {source}")
    started = time.perf_counter()
    tifffile.imwrite(
        source, _tiles(size), shape=size, dtype=np.uint16, tile=(TILE, TILE), photometric="minisblack", bigtiff=True
    )
    print(f"   {time.perf_counter() - started:.1f} s, {source.stat().st_size / 1e6:.0f} MB")

    command = ["gaussian", str(source), str(target), "--sigma", f"{arguments.sigma:g}"]
    command += ["--max-memory", arguments.max_memory, "--overwrite"]
    print(f"2. blurfast {' '.join(command)}")
    finished = subprocess.run(
        [sys.executable, "-m", "blurfast", *command, "--json"], stdout=subprocess.PIPE, text=True, check=False
    )
    if finished.returncode != 0:
        return finished.returncode
    report = json.loads(finished.stdout)
    print(
        f"   {report['seconds']:.1f} s, {report['megapixels_per_second']:.0f} megapixels per second, "
        f"peak memory {report['peak_memory'] / 1e6:.0f} MB of {arguments.max_memory}"
    )

    print("3. checking parts against the float64 oracle")
    with tifffile.TiffFile(source) as before, tifffile.TiffFile(target) as after:
        worst = max(_error(before.pages[0], after.pages[0], arguments.sigma, corner) for corner in _corners(size))
        picture = folder / "before-after.png"
        _write_picture(before.pages[0], after.pages[0], picture)
    print(f"   largest difference: {worst} grey level{'s' * (worst != 1)} of 65535")

    print(f"4. before and after, to look at: {picture}")
    return 0 if worst <= 1 else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("build/demo"))
    parser.add_argument("--side", type=int, default=20_000, help="rows and columns of the image")
    parser.add_argument("--sigma", type=float, default=5.0)
    parser.add_argument("--max-memory", default="400MB")
    return parser.parse_args()


def _tiles(size: tuple[int, int]) -> Iterator[NDArray[Any]]:
    for row in range(0, size[0], TILE):
        for column in range(0, size[1], TILE):
            yield tissue(row, column, TILE, TILE, size)


def _corners(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the corners of the image, and a crop across the seams of tiles in the middle."""
    last_row, last_column = size[0] - CROP, size[1] - CROP
    middle = size[0] // 2 // TILE * TILE - CROP // 2, size[1] // 2 // TILE * TILE - CROP // 2
    return [(0, 0), (0, last_column), (last_row, 0), (last_row, last_column), middle]


def _crop(page: Any, row: int, column: int, height: int, width: int) -> NDArray[Any]:
    """Read a rectangle of a tiled page, cut off at the page's edges."""
    row_stop, column_stop = min(row + height, page.imagelength), min(column + width, page.imagewidth)
    crop = np.empty((row_stop - row, column_stop - column), dtype=page.dtype)
    across = -(-page.imagewidth // TILE)
    for tile_row in range(row // TILE, -(-row_stop // TILE)):
        for tile_column in range(column // TILE, -(-column_stop // TILE)):
            index = tile_row * across + tile_column
            page.parent.filehandle.seek(page.dataoffsets[index])
            data = page.parent.filehandle.read(page.databytecounts[index])
            tile = page.decode(data, index)[0][0, :, :, 0]
            top, left = tile_row * TILE - row, tile_column * TILE - column
            part = crop[max(0, top) : top + TILE, max(0, left) : left + TILE]
            part[...] = tile[max(0, -top) :, max(0, -left) :][: part.shape[0], : part.shape[1]]
    return crop


def _error(before: Any, after: Any, sigma: float, corner: tuple[int, int]) -> int:
    """Return the largest difference between the result and the oracle in a square at `corner`."""
    row, column = corner
    halo = int(np.ceil(8 * sigma))
    top, left = max(0, row - halo), max(0, column - halo)
    surrounded = _crop(before, top, left, row + CROP + halo - top, column + CROP + halo - left)
    exact = naive.gaussian(surrounded, sigma)[row - top :, column - left :][:CROP, :CROP]
    result = _crop(after, row, column, CROP, CROP)
    return int(np.abs(np.rint(exact) - result).max())


def _write_picture(before: Any, after: Any, path: Path) -> None:
    row, column = before.imagelength // 2, before.imagewidth // 2
    halves = [_crop(page, row, column, 480, 480) for page in (before, after)]
    brightest = float(np.percentile(halves[0], 99.5))
    pixels = np.clip(np.hstack(halves) * (255 / brightest), 0, 255).astype(np.uint8)
    pixels[:, 479:481] = 255
    Image.fromarray(pixels).save(path)


if __name__ == "__main__":
    sys.exit(main())
