"""Colours weighted by their opacity on a GPU, around operators that know nothing of it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from blurfast.cuda import programs, weighted
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import DeviceError
from blurfast.cuda.direct import DirectOperator
from blurfast.cuda.weighted import WeightedOperator
from blurfast.weights import Kernel2D
from tests import naive
from tests.operator_runs import filtered, kernel_of
from tests.pictures import noise
from tests.ptx.device import CAPABILITY, ExecutorDevice

SUMS = {"uint8": "float32", "uint16": "float64", "float32": "float32", "float64": "float64"}


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Compile all that is needed side by side."""
    needed = {Kernel("direct", "correlate", sums, sums, sums) for sums in SUMS.values()}
    needed |= {Kernel("panel", "weight", pixel, sums, sums) for pixel, sums in SUMS.items()}
    needed |= {Kernel("panel", "unweight", sums, pixel, sums) for pixel, sums in SUMS.items()}
    programs.obtain(needed, CAPABILITY)


def average(shape, seed=0):
    chosen = np.random.default_rng(seed).uniform(0, 1, shape)
    return chosen / chosen.sum()


def operator_for(pixels, used, alpha, cval=0.0):
    sums = np.dtype(SUMS[pixels.dtype.name])
    channels = pixels.shape[2]
    inner = DirectOperator(
        ExecutorDevice(), used, pixel_dtype=sums, target_dtype=sums, sums=sums, channels=channels, cval=cval
    )
    return WeightedOperator(
        inner, pixel_dtype=pixels.dtype, target_dtype=pixels.dtype, sums=sums, channels=channels, alpha=alpha
    )


def expected_of(pixels, used: Kernel2D, alpha, mode="reflect"):
    """Return the exact result: colours are zero where nothing is opaque."""
    exact = pixels.astype(np.float64)
    products = exact * exact[..., [alpha]]
    products[..., alpha] = exact[..., alpha]
    origin = [anchor - size // 2 for anchor, size in zip(used.anchor, used.shape, strict=True)]
    sums = np.stack(
        [
            naive.correlate_kernel(products[..., channel], used.weights, mode, 0.0, origin)
            for channel in range(pixels.shape[2])
        ],
        axis=2,
    )
    opacity = sums[..., [alpha]]
    result = np.where(opacity > 0, sums / np.where(opacity > 0, opacity, 1), 0)
    result[..., alpha] = sums[..., alpha]
    return result


@pytest.mark.parametrize("mode", ["reflect", "constant"])
@pytest.mark.parametrize(("channels", "alpha"), [(4, 3), (2, 1), (3, 0)])
@pytest.mark.parametrize("dtype", list(SUMS))
def test_colours_count_by_their_opacity(dtype, channels, alpha, mode):
    pixels = np.abs(noise((18, 21, channels), dtype))
    pixels[3:12, 4:15, alpha] = 0
    used = kernel_of(average((3, 4)), (2, 0))
    operator = operator_for(pixels, used, alpha)
    result = filtered(operator, pixels, mode=mode, tile=(10, 21))
    operator.device.assert_nothing_is_left()
    exact = expected_of(pixels, used, alpha, mode)
    if pixels.dtype.kind == "f":
        np.testing.assert_allclose(result, exact, rtol=1e-5, atol=1e-4)
    else:
        assert np.abs(result - naive.as_pixels(exact.reshape(18, -1), dtype).reshape(exact.shape)).max() == 0
    assert (result[5:10, 7:12] == 0).all()


def test_what_is_invisible_does_not_bleed():
    pixels = np.zeros((30, 30, 4), np.uint8)
    pixels[8:20, 8:20] = (200, 100, 50, 255)
    result = filtered(operator_for(pixels, kernel_of(average((5, 5))), 3), pixels, tile=(30, 7))
    visible = result[..., 3] > 0
    assert visible.sum() == 16 * 16
    assert (result[visible][:, :3] == (200, 100, 50)).all()


def test_unknown_colours_stay_unknown():
    pixels = np.ones((6, 6, 2), np.float32)
    pixels[2, 3, 0] = np.nan
    pixels[2:4, :, 1] = 0
    result = filtered(operator_for(pixels, kernel_of(np.ones((1, 1))), 1), pixels)
    assert np.argwhere(np.isnan(result)).tolist() == [[2, 3, 0]]
    assert (result[3, :, 0] == 0).all()


def test_tiles_beyond_the_image_have_no_pixels_to_weight():
    pixels = np.ones((3, 3, 2), np.uint8)
    operator = operator_for(pixels, kernel_of(np.ones((1, 9)) / 9, (0, 8)), 1, cval=2.0)
    shifted = kernel_of(np.array([[1.0, 0, 0, 0, 0]]), (0, 4))
    operator.close()
    result = filtered(operator_for(pixels, shifted, 1, cval=2.0), pixels, mode="constant", tile=(3, 3))
    assert (result[..., 1] == 2).all()


def test_the_inner_operator_is_closed_if_the_outer_one_cannot_be_made(monkeypatch):
    device, sums = ExecutorDevice(), np.dtype(np.float32)
    dtypes = {"pixel_dtype": sums, "target_dtype": sums, "sums": sums}
    inner = DirectOperator(device, kernel_of(average((2, 2))), channels=2, **dtypes)

    def fail(kernels, _):
        raise DeviceError(f"no compiler for {[kernel.function for kernel in kernels]}")

    monkeypatch.setattr(weighted.programs, "obtain", fail)
    with pytest.raises(DeviceError, match=r"\['weight', 'unweight'\]"):
        WeightedOperator(inner, channels=2, alpha=1, **dtypes)
    device.assert_nothing_is_left()


def test_scratch_memory_is_that_of_both():
    pixels = noise((3, 3, 4), "uint8")
    operator = operator_for(pixels, kernel_of(average((5, 7)), (1, 2)), 3)
    assert operator.row_span(10, 20) == (9, 23)
    assert operator.column_span(10, 20) == (8, 24)
    assert operator.scratch_bytes(10, 20) == 14 * 128 * 4 + 10 * 96 * 4
    operator.close()
