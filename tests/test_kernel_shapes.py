"""Kernels by name: their weights against independent definitions, and what happens to names that are wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blurfast.kernel_shapes import LARGEST_SIDE, SHAPES, is_shape_name, parse_shape
from blurfast.weights import gaussian_taps

AVERAGES = ["box:5", "box:4x7", "disk:0.5", "disk:7", "disk:7.5", "motion:21,30deg", "motion:4,90", "gaussian:3,1.5"]
EXAMPLES = [*AVERAGES, "emboss", "identity", "laplacian", "sharpen", "sharpen:0.3", "sobel-x", "sobel-y"]


def positions(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x to the right and y upwards of each weight of a kernel of odd size, from its middle."""
    rows, columns = (np.arange(size) - size // 2 for size in kernel.shape)
    return np.broadcast_to(columns, kernel.shape), np.broadcast_to(-rows[:, np.newaxis], kernel.shape)


def test_every_name_has_an_example():
    assert {text.partition(":")[0] for text in EXAMPLES} == set(SHAPES)


@pytest.mark.parametrize("text", EXAMPLES)
def test_kernels_are_plain_arrays(text):
    kernel = parse_shape(text)
    assert kernel.ndim == 2
    assert kernel.dtype == np.float64
    assert kernel.flags.c_contiguous
    assert kernel.flags.owndata
    assert np.isfinite(kernel).all()
    assert not np.signbit(kernel[kernel == 0]).any()


@pytest.mark.parametrize("text", AVERAGES)
def test_averages_sum_to_one(text):
    kernel = parse_shape(text)
    assert math.fsum(kernel.ravel()) == pytest.approx(1, abs=1e-14)
    assert kernel.min() >= 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("identity", [[1]]),
        ("laplacian", [[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
        ("emboss", [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]),
        ("sobel-x", [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
        ("sobel-y", [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
        ("sharpen", [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
        ("sharpen:1", [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
        ("sharpen:0.5", [[0, -0.5, 0], [-0.5, 3, -0.5], [0, -0.5, 0]]),
        ("sharpen:0", [[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
        ("box:2", [[0.25, 0.25], [0.25, 0.25]]),
        ("box:1x2", [[0.5, 0.5]]),
        ("box:4x1", [[0.25]] * 4),
        ("disk:0.5", [[1]]),
        ("motion:1,77", [[1]]),
        ("gaussian:0", [[1]]),
    ],
)
def test_kernels_as_written_down(text, expected):
    np.testing.assert_array_equal(parse_shape(text), expected)


@pytest.mark.parametrize(("text", "sigmas"), [("gaussian:3", (3, 3)), ("gaussian:3,1.5", (3, 1.5))])
def test_gaussian_is_the_product_of_its_taps(text, sigmas):
    vertical, horizontal = (gaussian_taps(sigma, tolerance=1e-6) for sigma in sigmas)
    np.testing.assert_allclose(parse_shape(text), np.outer(vertical, horizontal), rtol=1e-14)


@given(radius=st.floats(0.5, 60))
def test_disk_has_the_symmetry_of_a_square(radius):
    kernel = parse_shape(f"disk:{radius!r}")
    assert kernel.shape == (2 * math.ceil(radius - 0.5) + 1,) * 2
    for other in (kernel.T, kernel[::-1], kernel[:, ::-1]):
        np.testing.assert_array_equal(kernel, other)


@pytest.mark.parametrize("radius", [0.6, 0.75, 1, 1.5, 2.2, 4.5, 7, 7.5])
def test_disk_has_the_areas_of_its_pixels(radius):
    kernel = parse_shape(f"disk:{radius}")
    samples = 200
    inside = (np.arange(kernel.shape[0] * samples) + 0.5) / samples - kernel.shape[0] / 2
    is_inside = inside[:, np.newaxis] ** 2 + inside**2 <= radius**2
    areas = is_inside.reshape(kernel.shape[0], samples, kernel.shape[1], samples).mean(axis=(1, 3))
    np.testing.assert_allclose(kernel * math.pi * radius**2, areas, rtol=0, atol=2e-3)


@pytest.mark.parametrize("radius", [1, 7.5, 123.4, 1999.9])
def test_disk_has_equal_weights_inside_and_none_outside(radius):
    kernel = parse_shape(f"disk:{radius}") * math.pi * radius**2
    x, y = (np.abs(offsets) for offsets in positions(kernel))
    np.testing.assert_allclose(kernel[np.hypot(x + 0.5, y + 0.5) <= radius], 1, rtol=1e-12)
    assert not kernel[np.hypot(np.maximum(x - 0.5, 0), np.maximum(y - 0.5, 0)) >= radius].any()
    assert kernel.max() <= 1 + 1e-12


@pytest.mark.parametrize("angle", [0, 10, 30, 45, 60, 89, 90, 91, 120, 135, 179, 180, -30, 270, 360])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8.5, 21, 100])
def test_motion_is_an_antialiased_line(length, angle):
    kernel = parse_shape(f"motion:{length},{angle}deg")
    assert kernel.shape[0] % 2 == kernel.shape[1] % 2 == 1
    np.testing.assert_array_equal(kernel, kernel[::-1, ::-1])
    x, y = positions(kernel)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    across, along = np.abs(y * cosine - x * sine), np.abs(x * cosine + y * sine)
    half = (length - 1) / 2
    assert half * abs(cosine) <= x.max() + 1e-9 < half * abs(cosine) + 1
    assert half * abs(sine) <= y.max() + 1e-9 < half * abs(sine) + 1
    assert not kernel[(across >= 1) | (along >= half + 1)].round(12).any()
    assert (kernel[(across < 0.99) & (np.hypot(x, y) < half)] > 0).all()
    on_line = kernel[(across < 1e-9) & (along <= half)]
    np.testing.assert_allclose(on_line, kernel.max(), rtol=1e-9)


@pytest.mark.parametrize(("length", "angle"), [(21, 30), (50, 75), (35, 120), (99, -10)])
def test_motion_has_its_direction_and_length(length, angle):
    kernel = parse_shape(f"motion:{length},{angle}")
    x, y = positions(kernel)
    moments = [(kernel * product).sum() for product in (x * x, x * y, y * y)]
    values, vectors = np.linalg.eigh([[moments[0], moments[1]], [moments[1], moments[2]]])
    measured = math.degrees(math.atan2(vectors[1, 1], vectors[0, 1])) % 180
    assert measured == pytest.approx(angle % 180, abs=0.3)
    assert math.sqrt(12 * values[1]) == pytest.approx(length, rel=0.03)  # of a uniform line
    assert values[0] < 0.3


def test_motion_along_the_axes_is_a_box():
    np.testing.assert_array_equal(parse_shape("motion:9"), parse_shape("box:1x9"))
    np.testing.assert_array_equal(parse_shape("motion:9,90deg"), parse_shape("box:9x1"))
    np.testing.assert_allclose(parse_shape("motion:4"), np.array([[0.5, 1, 1, 1, 0.5]]) / 4, rtol=1e-15)


def test_motion_has_the_weights_of_fspecial():
    """Those of ``fspecial('motion', 5, 45)``, to the four digits that MATLAB prints."""
    expected = [
        [0, 0, 0, 0.0501, 0.0304],
        [0, 0, 0.0519, 0.1771, 0.0501],
        [0, 0.0519, 0.1771, 0.0519, 0],
        [0.0501, 0.1771, 0.0519, 0, 0],
        [0.0304, 0.0501, 0, 0, 0],
    ]
    np.testing.assert_allclose(parse_shape("motion:5,45"), expected, rtol=0, atol=5.1e-5)


def test_motion_goes_counter_clockwise():
    kernel = parse_shape("motion:21,30deg")
    assert kernel.shape[1] > kernel.shape[0]
    assert kernel[0, -1] > kernel[0, 0] == 0


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("box:4001x2", (4001, 2)),
        ("box:1x4001", (1, 4001)),
        ("disk:2000", (4001, 4001)),
        ("motion:4001", (1, 4001)),
        ("motion:4000.5,90", (4001, 1)),
    ],
)
def test_largest_kernels(text, shape):
    assert parse_shape(text).shape == shape


def test_largest_gaussian_is_within_bounds():
    assert 3000 < parse_shape("gaussian:400,0").shape[0] <= LARGEST_SIDE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("box", "it must be box:HEIGHT[xWIDTH], with HEIGHT a whole number from 1 to 4001 and WIDTH a whole number"),
        ("box:", "it must be box:"),
        ("box:0", "it must be box:"),
        ("box:-3", "it must be box:"),
        ("box:2.5", "it must be box:"),
        ("box:4002", "it must be box:"),
        ("box:3x4x5", "it must be box:"),
        ("box:3,4", "it must be box:"),
        ("disk", "it must be disk:RADIUS, with RADIUS a number from 0.5 to 2000"),
        ("disk:x", "it must be disk:RADIUS"),
        ("disk:nan", "it must be disk:RADIUS"),
        ("disk:inf", "it must be disk:RADIUS"),
        ("disk:0.49", "it must be disk:RADIUS"),
        ("disk:2000.1", "it must be disk:RADIUS"),
        ("disk:7:7", "it must be disk:RADIUS"),
        ("motion:21,", "it must be motion:LENGTH[,ANGLEdeg]"),
        ("motion:21,deg", "it must be motion:"),
        ("motion:21,361deg", "it must be motion:"),
        ("motion:0.5", "it must be motion:"),
        ("gaussian:-1", "it must be gaussian:SIGMA[,HORIZONTAL_SIGMA]"),
        ("gaussian:1,401", "it must be gaussian:"),
        ("sharpen:a", "it must be sharpen[:AMOUNT], with AMOUNT a number from 0 to 1000"),
        ("sharpen:", "it must be sharpen[:AMOUNT]"),
        ("sobel-x:3", "it must be sobel-x"),
        ("laplacian:", "it must be laplacian"),
        ("", "it must be one of box, disk, emboss"),
        ("dsik:7", "did you mean 'disk'?"),
        ("Gaussian:3", "did you mean 'gaussian'?"),
        ("sobelx", "did you mean 'sobel-x'?"),
    ],
)
def test_wrong_texts_are_refused(text, message):
    with pytest.raises(ValueError, match="kernel is") as refusal:
        parse_shape(text)
    assert str(refusal.value).startswith(f"kernel is {text!r}; it must be ")
    assert message in str(refusal.value)


@given(text=st.text(max_size=30) | st.builds("{}:{}".format, st.sampled_from(sorted(SHAPES)), st.text(max_size=10)))
def test_any_text_is_a_kernel_or_a_value_error(text):
    try:
        kernel = parse_shape(text)
    except ValueError as error:
        message = str(error)
    else:
        assert is_shape_name(text)
        assert max(kernel.shape) <= LARGEST_SIDE
        return
    assert message.startswith(f"kernel is {text!r}; it must be ")


def test_names_and_paths_are_told_apart():
    assert all(is_shape_name(name) and is_shape_name(f"{name}:5") for name in SHAPES)
    assert not any(is_shape_name(path) for path in ["./disk", "disk.png", "/disk:7", "C:\\disk", "", ":7"])


@pytest.mark.parametrize("name", SHAPES)
def test_spelling_names_the_parameters(name):
    shape = SHAPES[name]
    assert shape.spelling.startswith(name)
    assert all(parameter.name in shape.spelling for parameter in shape.parameters)
    assert shape.description
