"""Colours weighted by their opacity."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile

import blurfast
from tests import naive


def weighted(pixels: np.ndarray, sigma: float, alpha: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact colours (with the opacity in its place), and the opacity."""
    exact = pixels.astype(np.float64)
    opacity = exact[..., alpha].copy()
    weights = naive.gaussian(opacity, sigma)
    result = np.empty_like(exact)
    for channel in range(exact.shape[2]):
        if channel == alpha:
            result[..., channel] = weights
        else:
            product = naive.gaussian(exact[..., channel] * opacity, sigma)
            result[..., channel] = product / np.maximum(weights, 1e-12)
    return result, weights


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_colours_count_by_their_opacity(tmp_path, channels, dtype):
    random = np.random.default_rng(1)
    pixels = random.integers(0, np.iinfo(dtype).max, (60, 90, channels), endpoint=True).astype(dtype)
    pixels[10:30, 20:60, -1] = 0
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(pixels))
    blurfast.filter_file(tmp_path / "in.png", tmp_path / "out.png", blurfast.Gaussian(2))
    result = imagecodecs.png_decode((tmp_path / "out.png").read_bytes())
    exact, weights = weighted(pixels, 2, channels - 1)
    visible = weights > np.iinfo(dtype).max / 100
    assert np.abs(result - np.rint(exact))[visible].max() <= 1


@pytest.mark.parametrize("samples", [3, 4, 5, 6])
def test_tiff_with_any_number_of_samples_wider_than_a_panel(tmp_path, samples):
    random = np.random.default_rng(2)
    pixels = random.integers(1, 256, (70, 900, samples)).astype(np.uint8)
    colours = 1 if samples < 4 else 3
    extra = ["unspecified"] * (samples - colours - 1) + ["unassalpha"]
    photometric = "minisblack" if colours == 1 else "rgb"
    tifffile.imwrite(tmp_path / "in.tif", pixels, photometric=photometric, extrasamples=extra, planarconfig="contig")
    blurfast.filter_file(tmp_path / "in.tif", tmp_path / "out.tif", blurfast.Gaussian(2))
    exact, _ = weighted(pixels, 2, samples - 1)
    assert np.abs(tifffile.imread(tmp_path / "out.tif") - np.rint(exact)).max() <= 1


def test_independent_channels_on_request(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (40, 50, 4)).astype(np.uint8)
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(pixels))
    blurfast.filter_file(tmp_path / "in.png", tmp_path / "out.png", blurfast.Gaussian(2), alpha="independent")
    result = imagecodecs.png_decode((tmp_path / "out.png").read_bytes())
    np.testing.assert_array_equal(result, blurfast.gaussian(pixels, 2, channel_axis=-1))


def test_what_is_invisible_does_not_bleed(tmp_path):
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[10:30, 10:30] = (200, 100, 50, 255)
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(pixels))
    blurfast.filter_file(tmp_path / "in.png", tmp_path / "out.png", blurfast.Gaussian(3))
    result = imagecodecs.png_decode((tmp_path / "out.png").read_bytes())
    visible = result[..., 3] > 0
    assert (result[visible][:, :3] == (200, 100, 50)).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_colours_without_opacity_stay_where_nothing_is_filtered(tmp_path, name):
    pixels = np.random.default_rng(4).integers(0, 256, (40, 50, 4)).astype(np.uint8)
    pixels[:20, :, 3] = 0
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(pixels))
    blurfast.filter_file(tmp_path / "in.png", tmp_path / name, blurfast.Gaussian(0))
    data = (tmp_path / name).read_bytes()
    result = imagecodecs.png_decode(data) if name == "a.png" else tifffile.imread(tmp_path / name)
    np.testing.assert_array_equal(result, pixels)
