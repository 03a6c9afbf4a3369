"""Files read in blocks, which need a part of each row: the result is that of an image in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from blurfast import Gaussian, filter_file, gaussian, planning

SHAPE = 90, 75


@pytest.fixture(autouse=True)
def _smallest_windows(monkeypatch):
    candidate_bands = planning._candidate_bands
    monkeypatch.setattr(planning, "_candidate_bands", lambda *arguments: candidate_bands(*arguments)[-1:])


def filtered(path: Path) -> tuple[np.ndarray, planning.Bands]:
    target = path.with_name("out.tif")
    (plan,) = filter_file(path, target, Gaussian(1.5), threads=2, tile=(16, 16), compression="none").plans
    assert plan.bands is not None
    return tifffile.imread(target), plan.bands


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "layout",
    [
        {"rowsperstrip": 7},
        {"rowsperstrip": 1000},
        {"rowsperstrip": 7, "compression": "zlib"},
        {"tile": (32, 48)},
        {"tile": (16, 128), "compression": "lzw", "predictor": True},
    ],
    ids=str,
)
def test_tiff(tmp_path, layout, order):
    image = np.random.default_rng(0).integers(0, 60_000, SHAPE, np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", image, byteorder=order, metadata=None, **layout)
    result, bands = filtered(tmp_path / "in.tif")
    assert bands.ring_rows == 0
    np.testing.assert_array_equal(result, gaussian(image, 1.5))


def test_few_bits(tmp_path):
    image = np.random.default_rng(0).integers(0, 4000, SHAPE, np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", image, bitspersample=12, rowsperstrip=7, metadata=None)
    result, bands = filtered(tmp_path / "in.tif")
    assert bands.ring_rows == 0
    np.testing.assert_array_equal(result, gaussian(image, 1.5))


def test_images_that_are_read_whole_are_not_read_in_blocks(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    Image.fromarray(image).save(tmp_path / "in.bmp")
    result, bands = filtered(tmp_path / "in.bmp")
    assert bands.ring_rows == SHAPE[0]
    np.testing.assert_array_equal(result, gaussian(image, 1.5))
