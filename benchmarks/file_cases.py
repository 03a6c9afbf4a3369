"""Whole files that are filtered end to end: which ones, how they are made, and what blurfast is to reach with them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.bench.scene import tissue

VIPS_INTEGER, VIPS_FLOAT = "libvips, integer", "libvips, float"
VIPS_INTEGER_LONGEST, VIPS_FLOAT_LONGEST = f"{VIPS_INTEGER}, longest kernel", f"{VIPS_FLOAT}, longest kernel"

MOST_COPIES = 2.5
"""How many times as long as a plain copy of a file blurfast is to take at most."""

STRIP_ROWS = 128
"""Rows of a strip: what libvips writes, and cannot do otherwise but for tiles."""

TILE = 256
_QUICK_SIDE = 700  # no multiple of a tile or a strip


@dataclass(frozen=True)
class Case:
    """A Gaussian for a square image of 8-bit pixels in a file.

    Parameters
    ----------
    name
        What it is called in options.
    side
        Rows and columns.
    channels
        One, or three for RGB.
    suffix
        ``.tif`` or ``.png``.
    compression
        Of the TIFF file and of TIFF outputs: ``none``, in strips, or ``deflate``, in tiles of differences.
    sigma
        Standard deviation in pixels.
    least_ratios
        For some contestants, how many times as long as blurfast they are to take at least.
    """

    name: str
    side: int
    channels: int
    suffix: str
    compression: str
    sigma: float
    least_ratios: Mapping[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The case in words.

        Examples
        --------
        >>> CASES[0].title
        '16384 x 16384 uint8, uncompressed TIFF in strips, sigma 5'
        """
        pixels = "uint8" if self.channels == 1 else "RGB uint8"
        tiff = "TIFF in deflated tiles" if self.has_deflated_tiles else "uncompressed TIFF in strips"
        file = "PNG" if self.is_png else tiff
        return f"{self.side} x {self.side} {pixels}, {file}, sigma {self.sigma:g}"

    @property
    def is_png(self) -> bool:
        """Whether the files are PNG files."""
        return self.suffix == ".png"

    @property
    def has_deflated_tiles(self) -> bool:
        """Whether the files are TIFF files in deflated tiles."""
        return not self.is_png and self.compression == "deflate"

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the pixels when nothing compresses them."""
        return self.side**2 * self.channels

    def input_in(self, folder: Path) -> Path:
        """Return where the input is kept. Cases that differ in sigma share it."""
        return folder / f"tissue-{self.compression}-{self.side}x{self.channels}{self.suffix}"

    def quick(self) -> Case:
        """Return a small version."""
        return dataclasses.replace(self, side=_QUICK_SIDE)


def _least_ratios(*, vips_integer: float | None = None, vips_float: float) -> dict[str, float]:
    """Return the same goals against libvips with its own kernel and with the longest one."""
    ratios = {VIPS_FLOAT: vips_float, VIPS_FLOAT_LONGEST: vips_float}
    if vips_integer is not None:
        ratios = {VIPS_INTEGER: vips_integer, VIPS_INTEGER_LONGEST: vips_integer, **ratios}
    return ratios


CASES = (
    Case("uncompressed-5", 16384, 1, ".tif", "none", 5, _least_ratios(vips_integer=2, vips_float=8)),
    Case("uncompressed-20", 16384, 1, ".tif", "none", 20, _least_ratios(vips_integer=12, vips_float=50)),
    Case("deflate-5", 12000, 3, ".tif", "deflate", 5, _least_ratios(vips_float=6)),
    Case("png-5", 8000, 3, ".png", "deflate", 5, _least_ratios(vips_float=4)),
)
"""What is measured."""


def make_input(case: Case, folder: Path) -> Path:
    """Write the image of a case, unless it is there, and return its path."""
    path = case.input_in(folder)
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_stem(f"unfinished-{path.stem}")
    if case.is_png:
        _write_png(case, unfinished)
    else:
        _write_tiff(case, unfinished)
    return unfinished.replace(path)


def read_image(path: Path) -> NDArray[Any]:
    """Read a whole file, by no code of blurfast."""
    if path.suffix == ".png":
        import imagecodecs

        image: NDArray[Any] = imagecodecs.png_decode(path.read_bytes())
        return image
    import tifffile

    return np.asarray(tifffile.imread(path))


def _write_png(case: Case, path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.concatenate(list(_bands(case, STRIP_ROWS)))).save(path)


def _write_tiff(case: Case, path: Path) -> None:
    import tifffile

    options: dict[str, Any] = {"rowsperstrip": STRIP_ROWS}
    segments = _bands(case, STRIP_ROWS)
    if case.has_deflated_tiles:
        options = {"tile": (TILE, TILE), "compression": "adobe_deflate", "predictor": True}
        segments = itertools.chain.from_iterable(map(_tiles, _bands(case, TILE)))
    shape = (case.side, case.side) + (case.channels,) * (case.channels > 1)
    photometric = "rgb" if case.channels > 1 else "minisblack"
    tifffile.imwrite(path, segments, shape=shape, dtype=np.uint8, photometric=photometric, metadata=None, **options)


def _bands(case: Case, rows: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the image from top to bottom. The channels are parts of one scene that lie below each other."""
    side, channels = case.side, case.channels
    scene = (channels * side, side)
    for row in range(0, side, rows):
        height = min(rows, side - row)
        planes = [tissue(channel * side + row, 0, height, side, scene, np.uint8) for channel in range(channels)]
        yield planes[0] if channels == 1 else np.stack(planes, axis=-1)


def _tiles(band: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield whole tiles from left to right."""
    rows, columns = band.shape[:2]
    padded = np.pad(band, ((0, TILE - rows), (0, -columns % TILE), (0, 0)), mode="edge")
    for column in range(0, columns, TILE):
        yield np.ascontiguousarray(padded[:, column : column + TILE])
