"""`gaussian` on arrays: any memory layout, any output, the same bytes whatever the tiles and threads, clear errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blurfast
from blurfast import UnsupportedError, gaussian
from blurfast.boundary import MODES
from blurfast.engine import filter_array
from blurfast.filters import Gaussian
from blurfast.io.array import describe
from blurfast.planning import plan_array
from tests import naive, tolerances
from tests.pictures import DTYPES, noise
from tests.tolerances import assert_exact

# ------------------------------------------------------------------------------------------- layouts, channels, out


@pytest.mark.parametrize("sigma", [2.0, (0, 3.0), 0])
def test_any_memory_layout_gives_the_same_bytes(sigma):
    image = noise((51, 70), "float32")
    expected = gaussian(image, sigma)
    spaced = np.zeros((153, 210), "float32")
    spaced[::3, ::3] = image
    unaligned = np.frombuffer(b"x" + image.tobytes(), offset=1, dtype="float32").reshape(image.shape)
    layouts = {
        "Fortran": np.asfortranarray(image),
        "spaced": spaced[::3, ::3],
        "flipped rows": image[::-1].copy()[::-1],
        "flipped columns": image[:, ::-1].copy()[:, ::-1],
        "flipped twice": np.rot90(image, 2).copy()[::-1, ::-1],
        "byte-swapped": image.astype(">f4"),
        "read-only": np.broadcast_to(image, image.shape),
        "part of rows": np.pad(image, 9)[9:-9, 9:-9],
        "unaligned": unaligned,
        "list": image.tolist(),
    }
    for name, layout in layouts.items():
        result = gaussian(layout, sigma)
        if name == "list":
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
        else:
            assert result.tobytes() == expected.tobytes(), name
            assert result.flags.c_contiguous
            assert result.dtype == np.dtype("float32")


@pytest.mark.parametrize("shape", [(40, 30), (1, 30), (40, 1)])
def test_broadcast_input(shape):
    line = noise((1, shape[1]), "uint8")
    repeated = np.broadcast_to(line, shape)
    np.testing.assert_array_equal(gaussian(repeated, 2.0), gaussian(repeated.copy(), 2.0))
    column = np.broadcast_to(noise((shape[0], 1), "uint8"), shape)
    np.testing.assert_array_equal(gaussian(column, 2.0), gaussian(column.copy(), 2.0))


@pytest.mark.parametrize("channel_axis", [-3, -2, -1, 0, 1, 2])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 33])
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_channels_are_filtered_apart(channel_axis, channels, dtype):
    planes = [noise((34, 53), dtype, seed) for seed in range(channels)]
    image = np.stack(planes, axis=channel_axis)
    for mode in ("mirror", "constant"):
        result = gaussian(image, (1.0, 2.5), mode=mode, cval=8, channel_axis=channel_axis)
        expected = np.stack([gaussian(plane, (1.0, 2.5), mode=mode, cval=8) for plane in planes], axis=channel_axis)
        assert result.tobytes() == expected.tobytes()


def test_wide_image_with_channels_and_strides():
    image = noise((66, 2100, 3), "uint16")
    expected = np.stack([gaussian(image[:, :, channel].copy(), 4.0) for channel in range(3)], axis=-1)
    np.testing.assert_array_equal(gaussian(image, 4.0, channel_axis=-1), expected)
    mirrored = image[:, ::-1, ::-1].copy()[:, ::-1, ::-1]
    np.testing.assert_array_equal(gaussian(mirrored, 4.0, channel_axis=2), expected)


@pytest.mark.parametrize("layout", ["same", "Fortran", "flipped", "swapped", "spaced", "float64", "int16"])
def test_out_of_any_layout(layout):
    image = noise((61, 85), "float32")
    out = {
        "same": np.empty((61, 85), "float32"),
        "Fortran": np.empty((61, 85), "float32", order="F"),
        "flipped": np.empty((61, 85), "float32")[::-1, ::-1],
        "swapped": np.empty((61, 85), ">f4"),
        "spaced": np.empty((122, 170), "float32")[::2, 1::2],
        "float64": np.empty((61, 85), "float64"),
        "int16": np.empty((61, 85), "int16"),
    }[layout]
    assert gaussian(image, 2.0, out=out) is out
    exact = naive.gaussian(image, 2.0)
    if layout == "int16":
        assert tolerances.count_wrong(out, naive.as_pixels(exact, "int16")) <= 10
    else:
        tolerances.assert_near(out.astype(out.dtype.newbyteorder("=")), exact, 255)


@pytest.mark.parametrize("out_dtype", [name for name in DTYPES if name != "float16"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_out_of_another_dtype(dtype, out_dtype):
    image = noise((24, 40), dtype)
    exact = naive.gaussian(image, 1.5)
    result = gaussian(image, 1.5, out=np.empty(image.shape, out_dtype))
    if result.dtype.kind == "f":
        spread = max(tolerances.spread(image), np.abs(exact).max() if out_dtype == "float32" else 0)
        tolerances.assert_near(result, exact, spread)
    else:
        assert_exact(result, exact, 0)


# The other dtypes into float16, where a process may die of a missing symbol, are in test_objects.
@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int8", "int16", "float16", "float32"])
def test_out_of_float16(dtype):
    image = noise((24, 40), dtype).clip(0, 100).astype(dtype)
    out = gaussian(image, 1.5, out=np.empty(image.shape, "float16"))
    tolerances.assert_near(out, naive.gaussian(image, 1.5), 100)


@pytest.mark.parametrize("shape", [(300, 200), (1, 50), (50, 1), (257, 31)])
@pytest.mark.parametrize("mode", MODES)
def test_in_place(shape, mode):
    for dtype in ("uint8", "float64"):
        image = noise(shape, dtype)
        expected = gaussian(image, 3.0, mode=mode)
        assert gaussian(image, 3.0, mode=mode, out=image) is image
        np.testing.assert_array_equal(image, expected)


def test_in_place_larger_than_a_band():
    image = noise((2600, 1500), "float32")
    expected = gaussian(image, (30.0, 2.0), mode="wrap")
    gaussian(image, (30.0, 2.0), mode="wrap", out=image)
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("threads", [1, 16, 64, 256])
def test_in_place_on_machines_with_many_processors(threads):
    image = noise((400, 3000), "uint8")
    expected = gaussian(image, 5.0)
    gaussian(image, 5.0, out=image, threads=threads)
    np.testing.assert_array_equal(image, expected)


def overlapping(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return an image larger than the bands of a stream, and a view of the same memory."""
    memory = noise((3600, 1500), "float64")
    square = memory[:1500]
    return {
        "one row down": (memory[:-1], memory[1:]),
        "one row up": (memory[1:], memory[:-1]),
        "many rows down": (memory[:2000], memory[1600:]),
        "many rows up": (memory[1600:], memory[:2000]),
        "columns": (memory[:, :-9], memory[:, 9:]),
        "upside down": (memory, memory[::-1]),
        "transposed": (square, square.T),
    }[name]


@pytest.mark.parametrize(
    "name", ["one row down", "one row up", "many rows down", "many rows up", "columns", "upside down", "transposed"]
)
def test_out_that_overlaps_the_image(name):
    image, out = overlapping(name)
    expected = gaussian(image.copy(), (3.0, 1.0))
    gaussian(image, (3.0, 1.0), out=out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("channel_axis", [0, 1, 2])
@pytest.mark.parametrize("shift", [1, -1])
def test_out_that_overlaps_other_channels(channel_axis, shift):
    memory = np.moveaxis(noise((4, 40, 50), "float64"), 0, channel_axis)
    lower, upper = (np.moveaxis(np.moveaxis(memory, channel_axis, 0)[part], 0, channel_axis) for part in
                    (slice(0, 3), slice(1, 4)))  # fmt: skip
    image, out = (lower, upper) if shift == 1 else (upper, lower)
    expected = gaussian(image.copy(), 2.0, channel_axis=channel_axis)
    gaussian(image, 2.0, channel_axis=channel_axis, out=out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (0, 5, 3), (5, 0, 3), (5, 4, 0)])
def test_empty_images(shape, threads):
    channel_axis = -1 if len(shape) == 3 else None
    result = gaussian(np.empty(shape, "uint8"), 2.0, channel_axis=channel_axis, threads=threads)
    assert result.shape == shape
    assert result.dtype == np.uint8


def test_input_is_left_alone():
    image = noise((90, 80), "uint8")
    before = image.copy()
    gaussian(image, 3.0)
    np.testing.assert_array_equal(image, before)


def test_neighbours_of_out_are_left_alone():
    memory = np.full((64 + 2, 90 + 2), 7, "uint8")
    gaussian(noise((64, 90), "uint8"), 2.0, out=memory[1:-1, 1:-1])
    memory[1:-1, 1:-1] = 7
    assert (memory == 7).all()


# ------------------------------------------------------------------------------------------------- the same bytes


def filtered_by(plan, image):
    out = np.zeros(image.shape, plan.target_dtype)
    filter_array(plan, image[:, :, np.newaxis], out[:, :, np.newaxis])
    return out


@given(
    shape=st.tuples(st.integers(1, 200), st.integers(1, 700)),
    dtype=st.sampled_from(["bool", "uint8", "uint16", "float32", "float64"]),
    sigma=st.tuples(st.just(0.0) | st.floats(0.05, 9), st.just(0.0) | st.floats(0.05, 9)),
    mode=st.sampled_from(MODES),
    threads=st.integers(1, 4),
    half_tile=st.integers(1, 400),
)
def test_same_bytes_for_every_tile_and_thread_count(shape, dtype, sigma, mode, threads, half_tile):
    image = noise(shape, dtype)
    plan = plan_array(
        Gaussian(sigma), describe(image[:, :, np.newaxis]), image.dtype, threads, mode=mode, cval=float(image[0, 0])
    )
    expected = gaussian(image, sigma, mode=mode, cval=float(image[0, 0]), threads=1)
    tiled = filtered_by(dataclasses.replace(plan, tile=plan.tile and (plan.tile[0], 2 * half_tile)), image)
    assert tiled.tobytes() == expected.tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 50])
def test_same_bytes_for_every_number_of_threads(threads):
    image = noise((517, 1301, 3), "float32")
    expected = gaussian(image, 3.0, channel_axis=-1, threads=1)
    assert gaussian(image, 3.0, channel_axis=-1, threads=threads).tobytes() == expected.tobytes()


@given(
    rows=st.tuples(st.integers(0, 150), st.integers(1, 60)),
    columns=st.tuples(st.integers(0, 150), st.integers(1, 60)),
    dtype=st.sampled_from(["uint16", "float32"]),
)
def test_a_part_is_filtered_like_the_whole(rows, columns, dtype):
    """Cut out with its halo, a part gives the same result where the halo suffices."""
    image = noise((420, 420), dtype)
    halo_rows, halo_columns = Gaussian(2.0).halo(image.dtype)
    top, left = 2 * (rows[0] // 2), 2 * (columns[0] // 2)
    bottom, right = top + rows[1] + 2 * halo_rows, left + columns[1] + 2 * halo_columns
    part = gaussian(image[top:bottom, left:right], 2.0)
    inner = part[halo_rows : part.shape[0] - halo_rows, halo_columns : part.shape[1] - halo_columns]
    whole = gaussian(image, 2.0)[top + halo_rows : bottom - halo_rows, left + halo_columns : right - halo_columns]
    np.testing.assert_allclose(inner.astype(float), whole.astype(float), rtol=0, atol=1 if dtype == "uint16" else 1e-4)


# ------------------------------------------------------------------------------------------------------- arguments


IMAGE = np.zeros((6, 7))
COLOURS = np.zeros((6, 7, 3))

WRONG = [
    ({"image": np.zeros((3, 3), object)}, TypeError, "image .*object.*allowed.*uint8"),
    ({"image": np.zeros((3, 3), complex)}, TypeError, "image .*complex128.*allowed"),
    ({"image": np.zeros((3, 3), "uint64")}, TypeError, "image .*uint64.*allowed"),
    ({"image": np.zeros((3, 3), "datetime64[s]")}, TypeError, "image .*allowed"),
    ({"image": np.zeros((3, 3), "i4,i4")}, TypeError, "image .*allowed"),
    ({"image": [["a", "b"]]}, TypeError, "image .*allowed"),
    ({"image": None}, TypeError, "image "),
    ({"image": np.float64(3)}, ValueError, "image has 0 dimensions.*2"),
    ({"image": np.zeros(5)}, ValueError, "image has 1 dimensions.*2"),
    ({"image": COLOURS}, ValueError, "image has 3 dimensions.*2.*channel_axis=-1"),
    ({"image": np.zeros((2, 3, 4, 5)), "channel_axis": 0}, ValueError, "image has 4 dimensions.*3"),
    ({"channel_axis": -1}, ValueError, "image has 2 dimensions.*3"),
    ({"sigma": -1}, ValueError, "sigma is -1.*0 to 10000"),
    ({"sigma": "big"}, TypeError, "sigma is 'big'.*number"),
    ({"sigma": (1, 2, 3)}, ValueError, "sigma has 3 values"),
    ({"order": 4}, ValueError, "order is 4.*0 to 3"),
    ({"order": 0.5}, TypeError, "order is 0.5.*integer"),
    ({"mode": "Reflect"}, ValueError, "mode is 'Reflect'.*reflect, mirror, nearest, wrap, constant"),
    ({"mode": None}, ValueError, "mode is None"),
    ({"mode": 3}, ValueError, "mode is 3"),
    ({"mode": ["reflect", "wrap"]}, ValueError, "mode is "),
    ({"cval": None}, TypeError, "cval is None.*number"),
    ({"cval": "3"}, TypeError, "cval is '3'.*number"),
    ({"cval": 1j}, TypeError, "cval is 1j.*number"),
    ({"cval": [1, 2]}, TypeError, r"cval is \[1, 2\].*number"),
    ({"truncate": -1}, ValueError, "truncate is -1"),
    ({"truncate": "4"}, TypeError, "truncate is '4'"),
    ({"tolerance": 2}, ValueError, "tolerance is 2.*0 to 1"),
    ({"tolerance": "small"}, TypeError, "tolerance is 'small'"),
    ({"truncate": 4, "tolerance": 1e-3}, ValueError, "truncate and tolerance"),
    ({"image": COLOURS, "channel_axis": 3}, ValueError, "channel_axis is 3.*-3 to 2"),
    ({"image": COLOURS, "channel_axis": -4}, ValueError, "channel_axis is -4.*-3 to 2"),
    ({"image": COLOURS, "channel_axis": "last"}, TypeError, "channel_axis is 'last'"),
    ({"image": COLOURS, "channel_axis": 1.0}, TypeError, "channel_axis is 1.0"),
    ({"image": COLOURS, "channel_axis": True}, TypeError, "channel_axis is True"),
    ({"method": "spectral"}, ValueError, "method is 'spectral'.*auto, separable"),
    ({"backend": "gpu"}, ValueError, "backend is 'gpu'.*auto, cpu, cuda"),
    ({"backend": "cuda"}, UnsupportedError, "driver.*or use the cpu backend"),
    ({"out": [[0.0]]}, TypeError, "out is of type list"),
    ({"out": np.zeros((7, 6))}, ValueError, r"out has the shape \(7, 6\).*\(6, 7\)"),
    ({"out": np.zeros((6, 7), complex)}, TypeError, "out .*complex128.*allowed"),
    ({"out": np.broadcast_to(np.zeros((1, 7)), (6, 7))}, ValueError, "out is read-only"),
    ({"threads": 0}, ValueError, "threads is 0.*1"),
    ({"threads": -3}, ValueError, "threads is -3"),
    ({"threads": 1.5}, TypeError, "threads is 1.5.*integer"),
    ({"threads": "all"}, TypeError, "threads is 'all'"),
    ({"threads": True}, TypeError, "threads is True"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        gaussian(**{"image": IMAGE, "sigma": 1.0} | arguments)


def test_a_wrong_call_leaves_out_alone():
    out = np.full(IMAGE.shape, 5.0)
    with pytest.raises(ValueError, match="mode"):
        gaussian(IMAGE, 1.0, mode="none", out=out)
    assert (out == 5).all()


def test_apply_is_gaussian():
    image = noise((20, 30), "uint8")
    np.testing.assert_array_equal(blurfast.apply(Gaussian(2.0), image, mode="wrap"), gaussian(image, 2.0, mode="wrap"))


def test_the_public_names_exist():
    assert set(dir(blurfast)) == set(blurfast.__all__)
    assert all(getattr(blurfast, name) is not None for name in blurfast.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = blurfast.no_such_name
