"""PngSuite by Willem van Schaik: its valid files are read as libpng reads them, its corrupt ones are refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from blurfast.errors import UnreadableError
from blurfast.files import filter_file
from blurfast.filters import Gaussian
from blurfast.io.registry import open_source
from blurfast.pixels import Window

SUITE = Path(__file__).parent / "pngsuite"
FILES = sorted(SUITE.glob("*.png"))
VALID = [path for path in FILES if not path.name.startswith("x")]
CORRUPT = {
    "xc1n0g08": "its header declares colour type 1",
    "xc9n2c08": "its header declares colour type 9",
    "xcrn0g04": "was changed in text mode",
    "xcsn0g01": "the checksum of its IDAT chunk is wrong",
    "xd0n2c08": "its header declares colour type 2 with 0 bits",
    "xd3n2c08": "its header declares colour type 2 with 3 bits",
    "xd9n2c08": "its header declares colour type 2 with 99 bits",
    "xdtn0g01": "it has no pixels",
    "xhdn0g08": "the checksum of its IHDR chunk is wrong",
    "xlfn0g04": "was changed in text mode",
    "xs1n0g01": "was changed in text mode",
    "xs2n0g01": "is not an image of a known format",
    "xs4n0g01": "is not an image of a known format",
    "xs7n0g01": "is not an image of a known format",
}


def read_whole(path: Path) -> np.ndarray:
    with contextlib.closing(open_source(path)) as source:
        (spec,) = source.images
        pixels = np.zeros((spec.height, spec.width, spec.channels), spec.dtype)
        for task in source.read_tasks(0, Window(0, spec.height, 0, spec.width), pixels):
            task()
    return pixels


def decode(path: Path, channels: int) -> np.ndarray:
    """Return what libpng makes of a file, with grey images shaped like all others."""
    decoded = imagecodecs.png_decode(path.read_bytes())
    return decoded.reshape(*decoded.shape[:2], channels)


def test_the_suite_is_complete() -> None:
    assert len(VALID) == 161
    assert {path.stem for path in FILES} - {path.stem for path in VALID} == set(CORRUPT)


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid_files_are_read_bit_by_bit(path: Path) -> None:
    pixels = read_whole(path)
    expected = decode(path, pixels.shape[2])
    assert pixels.dtype == expected.dtype
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid_files_pass_through_the_engine(tmp_path: Path, path: Path) -> None:
    filter_file(path, tmp_path / "out.png", Gaussian(0), alpha="independent")
    copied = imagecodecs.png_decode((tmp_path / "out.png").read_bytes())
    expected = imagecodecs.png_decode(path.read_bytes())
    assert copied.dtype == expected.dtype
    np.testing.assert_array_equal(copied, expected)


@pytest.mark.parametrize("name", CORRUPT)
def test_corrupt_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableError) as raised:
        filter_file(SUITE / f"{name}.png", tmp_path / "out.png", Gaussian(0))
    assert CORRUPT[name] in raised.value.fact
    assert raised.value.remedy
    assert list(tmp_path.iterdir()) == []
