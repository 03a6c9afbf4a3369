"""Filters as data: what they accept, what they refuse, and what they know."""

from __future__ import annotations

import dataclasses
import math
import pickle
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from blurfast.arrays import apply
from blurfast.cuda.device import DeviceProperties
from blurfast.engine import filter_copied
from blurfast.files import filter_file
from blurfast.filters import Convolution, Gaussian
from blurfast.io.array import ArraySink, ArraySource
from blurfast.methods import Gpu, Job, candidates, on_device
from blurfast.planning import Bands, plan_array
from tests import naive

UINT8 = np.dtype("uint8")


@pytest.mark.parametrize("sigma", [0, 2, 2.5, np.float32(2.5), np.int16(2), Fraction(5, 2), -0.0])
def test_one_sigma_serves_both_directions(sigma):
    assert Gaussian(sigma).sigmas == (float(sigma), float(sigma))


@pytest.mark.parametrize("pair", [(1, 2.5), [1, 2.5], np.array([1, 2.5])])
def test_a_sigma_for_each_direction(pair):
    assert Gaussian(pair).sigmas == (1.0, 2.5)


WRONG_SIGMAS = [
    (-1, ValueError),
    (math.nan, ValueError),
    (math.inf, ValueError),
    (10_001, ValueError),
    ((1, -1), ValueError),
    ((1, 2, 3), ValueError),
    ((), ValueError),
    (None, TypeError),
    ("2", TypeError),
    (b"2", TypeError),
    (True, TypeError),
    (np.True_, TypeError),
    (2 + 0j, TypeError),
    (Decimal(2), TypeError),
    ((1, None), TypeError),
    ((1, "2"), TypeError),
    ("12", TypeError),
]


@pytest.mark.parametrize(("sigma", "error"), WRONG_SIGMAS)
def test_wrong_sigma(sigma, error):
    with pytest.raises(error, match=r"^sigma "):
        Gaussian(sigma)


@pytest.mark.parametrize(
    ("order", "error"),
    [
        (-1, ValueError),
        (4, ValueError),
        ((0, 4), ValueError),
        ((0, 0, 0), ValueError),
        (1.0, TypeError),
        ("1", TypeError),
        (True, TypeError),
        (None, TypeError),
        ((0, 1.5), TypeError),
    ],
)
def test_wrong_order(order, error):
    with pytest.raises(error, match=r"^order "):
        Gaussian(2, order)


@pytest.mark.parametrize("sigma", [0, (0, 3), (3, 0)])
def test_a_derivative_needs_a_sigma(sigma):
    with pytest.raises(ValueError, match="sigma is 0"):
        Gaussian(sigma, 1)
    assert Gaussian((0, 3), (0, 1)).orders == (0, 1)


@pytest.mark.parametrize("argument", ["truncate", "tolerance"])
@pytest.mark.parametrize(
    ("value", "error"),
    [(-1, ValueError), (math.nan, ValueError), (math.inf, ValueError), ("4", TypeError), (True, TypeError)],
)
def test_wrong_truncate_and_tolerance(argument, value, error):
    with pytest.raises(error, match=rf"^{argument} "):
        Gaussian(2, **{argument: value})


def test_truncate_and_tolerance_exclude_each_other():
    with pytest.raises(ValueError, match="truncate and tolerance"):
        Gaussian(2, truncate=4, tolerance=1e-3)
    with pytest.raises(ValueError, match=r"^tolerance "):
        Gaussian(2, tolerance=1.5)


@pytest.mark.parametrize("truncate", [1e12, 1e308])
def test_a_truncate_without_end_is_refused_by_name(truncate):
    with pytest.raises(ValueError, match=r"^truncate "):
        Gaussian(2, truncate=truncate).halo(UINT8)


def test_is_data():
    gaussian = Gaussian((1, 2), order=(0, 1), truncate=3)
    assert gaussian == Gaussian([1.0, 2.0], order=(0, 1), truncate=3.0)
    assert hash(gaussian) == hash(Gaussian([1.0, 2.0], order=(0, 1), truncate=3.0))
    assert pickle.loads(pickle.dumps(gaussian)) == gaussian
    assert eval(repr(gaussian)) == gaussian
    with pytest.raises(dataclasses.FrozenInstanceError):
        gaussian.sigma = 3


@given(
    sigma=st.tuples(st.just(0.0) | st.floats(0.01, 50), st.just(0.0) | st.floats(0.01, 50)),
    truncate=st.floats(0, 8),
)
def test_halo_is_scipys_radius(sigma, truncate):
    expected = tuple(int(truncate * one + 0.5) if one else 0 for one in sigma)
    assert Gaussian(sigma, truncate=truncate).halo(UINT8) == expected


@pytest.mark.parametrize(("finer", "coarser"), [("uint16", "uint8"), ("float64", "float32"), ("uint32", "uint16")])
def test_finer_pixels_have_longer_tails(finer, coarser):
    gaussian = Gaussian(20)
    assert gaussian.halo(np.dtype(finer)) > gaussian.halo(np.dtype(coarser))
    assert gaussian.halo(np.dtype(coarser), np.dtype(finer)) == gaussian.halo(np.dtype(finer))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("sigma", [0.5, 3.0, 40.0])
def test_default_tolerance_bounds_the_worst_case(dtype, sigma):
    """The worst image is 1 wherever a weight is missing, and 0 elsewhere."""
    promised = {"uint8": 1 / 400 / 255, "uint16": 1 / 400 / 65535, "float32": 2e-6, "float64": 1e-6}[dtype]
    vertical, horizontal = Gaussian(sigma).taps(np.dtype(dtype))
    for taps in (vertical, horizontal):
        whole = naive.weights(sigma, 0, 9)
        middle, radius = whole.size // 2, taps.size // 2
        assert 1 - whole[middle - radius : middle + radius + 1].sum() <= promised / 2


def test_nobody_can_spoil_the_taps_of_others():
    image_dtype = np.dtype("float64")
    before = Gaussian(1.2345).taps(image_dtype)[0].copy()
    taps = Gaussian(1.2345).taps(image_dtype)[0]
    if taps.flags.writeable:
        taps *= 2
    np.testing.assert_array_equal(Gaussian(1.2345).taps(image_dtype)[0], before)


# ------------------------------------------------------------------------------------ filters that change nothing

IDENTITIES = {
    "sigma 0": Gaussian(0),
    "a tiny sigma": Gaussian((0.0, 1e-4)),
    "a weight of 1": Convolution([[1]]),
    "a weight that becomes 1": Convolution([[3]], normalize=True),
    "a box of 1": Convolution("box:1"),
}


def odd_numbers(dtype):
    """Return what sums would not keep: zeros of both signs, NaN with bits of its own, infinities, and numbers."""
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        return np.random.default_rng(3).integers(0, 2**62, (30, 46)).astype(dtype)
    numbers = np.random.default_rng(3).normal(size=(30, 46)).astype(dtype)
    numbers[::3, 1] = -0.0
    numbers[2, ::5] = np.inf
    numbers[4, ::5] = np.nan
    numbers.view(f"u{dtype.itemsize}")[4, ::10] |= 5
    return numbers


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("name", IDENTITIES)
def test_what_changes_nothing_keeps_every_bit(name, dtype):
    image = odd_numbers(dtype)
    for pixels in (
        image,
        np.asfortranarray(image),
        image[::-1, ::2],
        image.byteswap().view(image.dtype.newbyteorder()),
    ):
        result = apply(IDENTITIES[name], pixels, mode="constant", cval=7)
        assert result.tobytes() == pixels.astype(result.dtype).tobytes()
    apply(IDENTITIES[name], image, out=image)
    assert image.tobytes() == odd_numbers(dtype).tobytes()


def test_a_copy_may_be_in_a_wider_type_and_is_rounded_to_a_narrower_one():
    image = odd_numbers("float32")
    wide, narrow = np.empty(image.shape, "float64"), np.empty(image.shape, "uint8")
    assert apply(Gaussian(0), image, out=wide).tobytes() == image.astype("float64").tobytes()
    finite = np.array([[0.5, 1.5, 300.0, -7.0]], "float32")
    assert apply(Gaussian(0), finite, out=narrow[:1, :4]).tolist() == [[0, 2, 255, 0]]


@pytest.mark.parametrize("ring_rows", [0, 6, 10, 30])
def test_a_stream_of_copies(ring_rows):
    image = odd_numbers("float32")[:, :, np.newaxis]
    source, target = ArraySource(image), np.zeros_like(image)
    plan = plan_array(Gaussian(0), source.images[0], image.dtype, 2)
    plan = dataclasses.replace(plan, bands=Bands(4, 46 if ring_rows else 20, ring_rows))
    filter_copied(plan, source, ArraySink(target))
    assert target.tobytes() == image.tobytes()


def test_a_copied_file_is_converted_and_cut_out(tmp_path):
    image = odd_numbers("float32")
    tifffile.imwrite(tmp_path / "in.tif", image, tile=(16, 16))
    filter_file(tmp_path / "in.tif", tmp_path / "same.tif", Gaussian(0))
    assert tifffile.imread(tmp_path / "same.tif").tobytes() == image.tobytes()
    filter_file(tmp_path / "in.tif", tmp_path / "part.tif", Gaussian(0), region=(3, 5, 20, 7), dtype="float64")
    assert tifffile.imread(tmp_path / "part.tif").tobytes() == image[5:12, 3:23].astype("float64").tobytes()
    filter_file(tmp_path / "in.tif", tmp_path / "small.tif", Gaussian(0), dtype="uint8", scale=(-1, 1))
    expected = np.nan_to_num(np.rint(np.clip((image.astype("float64") + 1) * 127.5, 0, 255)), nan=0)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "small.tif"), expected)


def test_only_what_changes_nothing_is_copied():
    image = ArraySource(np.zeros((8, 8, 1), "float32")).images[0]
    for filter in (Gaussian(0.3), Convolution([[2]]), Convolution([[-1]]), Convolution([[0, 1, 0]])):
        assert "identity" not in candidates(Job(filter, image, image.dtype, "reflect", 0.0))
    copying = candidates(Job(Gaussian(0), image, image.dtype, "reflect", 0.0))["identity"]
    device = DeviceProperties(0, "imagined", (8, 0), 8 * 10**9, 1e12, 50, 100_000)
    assert on_device(copying, Gpu(device)) == "pixels that stay as they are need not go to a device"
    plan = plan_array(Gaussian(0), image, image.dtype, 1)
    assert "identity: taken, the least time: a copy of the pixels" in plan.explain()
    assert plan.kernels() == []
