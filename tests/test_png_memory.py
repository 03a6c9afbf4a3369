"""Large PNG files within their budgets, each in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blurfast.arrays import gaussian
from tests.png_files import png_of_samples, read_file, write_file
from tests.test_streaming import needs_rusage, scene, stream

BUDGET = 190_000_000


@needs_rusage
@pytest.mark.parametrize("level", [0, 2])
def test_wide_files_of_more_pixels_than_the_budget(tmp_path: Path, level: int) -> None:
    """A buffer for the rows of the whole file, or a queue without a limit, would not fit beside the process."""
    band = scene(200, 30_000, 3, "uint8")
    pixels = np.tile(band, (12, 1, 1))
    assert pixels.nbytes > BUDGET
    write_file(tmp_path / "in.png", pixels, 400, level=level)
    stream(tmp_path / "in.png", tmp_path / "out.png", 5.0, BUDGET)
    result = read_file(tmp_path / "out.png", 400)
    rows = slice(1000, 1100)
    expected = gaussian(pixels[900:1200], 5.0, channel_axis=-1)[100:200]
    np.testing.assert_array_equal(result[rows], expected)


@needs_rusage
def test_interlaced_files_take_their_pixels_and_little_more(tmp_path: Path) -> None:
    pixels = scene(3000, 4000, 3)
    file = png_of_samples(pixels, 16, 2, [0], interlaced=True)
    (tmp_path / "in.png").write_bytes(file)
    memory = stream(tmp_path / "in.png", tmp_path / "out.png", 2.0, 300_000_000)
    assert memory["predicted"] > pixels.nbytes
    np.testing.assert_array_equal(read_file(tmp_path / "out.png"), gaussian(pixels, 2.0, channel_axis=-1))


@needs_rusage
def test_palettes_are_expanded_band_by_band(tmp_path: Path) -> None:
    indices = np.random.default_rng(0).integers(0, 2, (8000, 9000), np.uint8)
    image = Image.fromarray(indices, mode="P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.save(tmp_path / "in.png", bits=1, compress_level=1)
    assert 3 * indices.nbytes > BUDGET
    stream(tmp_path / "in.png", tmp_path / "out.png", 0.0, BUDGET)
    result = read_file(tmp_path / "out.png", 400)
    np.testing.assert_array_equal(result[:, :, 2], 255 * indices)
    np.testing.assert_array_equal(result[:, :, 0], 255 - 255 * indices)
