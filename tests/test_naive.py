"""The oracle itself, against scipy and against hand-made cases."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from tests import naive

MODES = ["reflect", "mirror", "nearest", "wrap", "constant"]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).random(shape)


def test_imports_nothing_that_it_judges():
    tree = ast.parse(Path(naive.__file__).read_text())
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imported == {"__future__", "collections.abc", "math", "numpy", "numpy.typing", "typing"}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("reflect", "dcba|abcd|dcba"),
        ("mirror", "cdcb|abcd|cbab"),
        ("nearest", "aaaa|abcd|dddd"),
        ("wrap", "abcd|abcd|abcd"),
        ("constant", "----|abcd|----"),
    ],
)
def test_modes_as_drawn(mode, expected):
    letters = [naive.source_index(position, 4, mode) for position in range(-4, 8)]
    drawn = "".join("-" if letter is None else "abcd"[letter] for letter in letters)
    assert drawn == expected.replace("|", "")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (8, 1), (5, 7), (23, 30)])
@pytest.mark.parametrize("sigma", [0.4, (2.0, 0.7), (0, 6.0)])
def test_blur_equals_scipy(shape, sigma, mode):
    image = noise(*shape)
    expected = ndimage.gaussian_filter(image, sigma, mode=mode, cval=0.7, truncate=8)
    np.testing.assert_allclose(naive.gaussian(image, sigma, mode=mode, cval=0.7), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("order", [1, 2, 3, (0, 1), (2, 1), (3, 0)])
@pytest.mark.parametrize("mode", MODES[:4])  # scipy extends a derivative by cval once more
def test_derivatives_equal_scipy(order, mode):
    image = noise(13, 16)
    expected = ndimage.gaussian_filter(image, (1.5, 2.2), order=order, mode=mode, truncate=5)
    result = naive.gaussian(image, (1.5, 2.2), order=order, mode=mode, truncate=5)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("mode", MODES)
def test_separable_equals_direct(mode):
    image = noise(9, 11)
    vertical, horizontal = naive.weights(0.8, 1, 4), naive.weights(1.3, 2, 4)
    direct = naive.correlate_kernel(image, np.outer(vertical, horizontal), mode, cval=-0.5)
    np.testing.assert_allclose(
        naive.correlate(image, vertical, horizontal, mode, cval=-0.5), direct, rtol=0, atol=1e-14
    )


def allowed_origins(size: int) -> list[int]:
    """Return scipy's least, most and middle origin of a kernel of so many rows or columns."""
    return sorted({-(size // 2), 0, (size - 1) // 2})


@pytest.mark.parametrize("operation", ["correlate", "convolve"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kernel_shape", [(1, 1), (1, 2), (3, 3), (4, 3), (5, 6), (2, 9), (31, 24)])
def test_kernels_equal_scipy(kernel_shape, mode, operation):
    kernel = noise(*kernel_shape) - 0.3
    filtered = getattr(naive, f"{operation}_kernel")
    # The halos of the largest kernels are larger than these images, but not four times as large: from there on, scipy's
    # mode reflect reads what lies before the image in memory.
    for shape in [(1, 1), (8, 1), (9, 7), (13, 16)]:
        image = noise(*shape)
        for origin in itertools.product(*map(allowed_origins, kernel_shape)):
            expected = getattr(ndimage, operation)(image, kernel, mode=mode, cval=0.7, origin=origin)
            np.testing.assert_allclose(filtered(image, kernel, mode, 0.7, origin), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("operation", ["correlate", "convolve"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite_stay_within_the_kernel(value, operation):
    image = noise(9, 9)
    image[4, 5] = value
    kernel = np.array([[0.0, 1.0, 0.0, 2.0], [0.0, 0.0, -3.0, 0.0]])
    expected = getattr(ndimage, operation)(image, kernel, mode="constant")
    result = getattr(naive, f"{operation}_kernel")(image, kernel, "constant")
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-14)
    assert np.count_nonzero(~np.isfinite(result)) == 3


def test_weights_of_a_known_gaussian():
    raw = np.exp([-2.0, -0.5, 0.0, -0.5, -2.0])
    np.testing.assert_allclose(naive.weights(1, 0, 2), raw / raw.sum(), rtol=1e-15)
    assert naive.weights(0.1, 0, 1).tolist() == [1.0]


def test_rounding_is_half_to_even_and_saturates():
    exact = np.array([[0.5, 1.5, 2.5, -3.0, 254.5, 255.5, 300.0]])
    assert naive.as_pixels(exact, "uint8").tolist() == [[0, 2, 2, 0, 254, 255, 255]]
    assert naive.as_pixels(exact, "int8").tolist() == [[0, 2, 2, -3, 127, 127, 127]]
    assert naive.as_pixels(exact / 255, "bool").tolist() == [[False] * 4 + [True] * 3]
