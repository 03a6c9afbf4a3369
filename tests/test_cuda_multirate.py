"""The multirate Gaussian on a GPU: within its design's error of the ideal one, and the same bytes however cut.

Kernels are executed as PTX on the processor.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from blurfast.boundary import MODES
from blurfast.cuda import programs
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import DeviceError
from blurfast.cuda.memory import row_pitch
from blurfast.cuda.multirate import MultirateOperator, multirate_needs
from blurfast.cuda.passes import Extent
from blurfast.dtypes import sum_dtype
from blurfast.weights import MultirateGaussian, gaussian_taps, multirate_gaussian
from tests import naive, tolerances
from tests.operator_runs import filtered
from tests.pictures import PICTURES, noise
from tests.ptx.device import CAPABILITY, ExecutorDevice

FUNCTIONS = ["vertical", "horizontal", "resample_vertical", "resample_horizontal"]
IDENTITY = MultirateGaussian.single_rate(np.ones(1), 0.0)


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Compile all that is needed side by side."""
    programs.obtain(
        {
            Kernel("separable", function, *dtypes, sums)
            for sums, pixels in {"float32": ["float32", "uint8", "uint16"], "float64": ["float64"]}.items()
            for pixel in pixels
            for dtypes in ((pixel, sums), (sums, sums), (sums, pixel))
            for function in FUNCTIONS
            if function.startswith("resample") or pixel == "float32"
        },
        CAPABILITY,
    )


def designed(sigma, tolerance=2e-6):
    """Return a design; where there is none, that of the ordinary filter."""
    if sigma == 0:
        return IDENTITY
    found = multirate_gaussian(sigma, tolerance)
    if found is None:
        return MultirateGaussian.single_rate(gaussian_taps(sigma, tolerance=tolerance), tolerance)
    return found


def operator_for(pixels, sigmas, *, cval=0.0, device=None):
    sums = sum_dtype(pixels.dtype)
    return MultirateOperator(
        device or ExecutorDevice(),
        *map(designed, sigmas),
        pixel_dtype=pixels.dtype,
        target_dtype=pixels.dtype,
        sums=sums,
        channels=pixels.shape[2] if pixels.ndim == 3 else 1,
        cval=cval,
    )


def blur(pixels, sigmas, *, mode="reflect", cval=0.0, tile=None):
    operator = operator_for(pixels, sigmas, cval=cval)
    result = filtered(operator, pixels, mode=mode, tile=tile)
    operator.device.assert_nothing_is_left()
    return result


def ideal(pixels, sigmas, mode="reflect", cval=0.0):
    image = pixels if pixels.ndim == 3 else pixels[..., np.newaxis]
    channels = [naive.gaussian(image[..., each], sigmas, mode=mode, cval=cval) for each in range(image.shape[2])]
    return np.stack(channels, axis=2).reshape(pixels.shape)


def assert_near_ideal(pixels, sigmas, *, mode="reflect", cval=0.0, tile=None):
    result = blur(pixels, sigmas, mode=mode, cval=cval, tile=tile)
    share = sum(designed(sigma).error for sigma in sigmas) + tolerances.share_of_range(pixels.dtype)
    tolerances.assert_near(result, ideal(pixels, sigmas, mode, cval), tolerances.spread(pixels, mode, cval), share)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (43, 1), (5, 9, 3), (60, 139), (61, 83, 3)])
def test_near_the_ideal_gaussian(shape, mode):
    """Images smaller than the samples are apart, and larger ones; not the same sigma in both directions."""
    assert_near_ideal(noise(shape, "float32"), (9.0, 21.0), mode=mode, cval=-40.0)


@pytest.mark.parametrize("picture", list(PICTURES))
@pytest.mark.parametrize("sigma", [5.0, 9.0, 15.0, 40.0])
def test_every_factor(sigma, picture):
    assert_near_ideal(PICTURES[picture]((50, 70), "float32"), (sigma, sigma))


def test_factors_of_all_designs():
    assert {designed(sigma).factor for sigma in (5.0, 9.0, 15.0, 40.0)} == {2, 4, 8, 16}


@pytest.mark.parametrize("sigmas", [(12.0, 0.0), (0.0, 12.0), (12.0, 1.0), (1.0, 12.0)])
def test_one_direction_at_a_single_rate(sigmas):
    assert_near_ideal(noise((40, 70, 3), "float32"), sigmas, mode="mirror")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_integers_are_rounded(dtype):
    image = noise((60, 90), dtype)
    exact = ideal(image, (8.0, 8.0))
    levels = sum(designed(8.0).error for _ in range(2)) * tolerances.spread(image.astype(float))
    result = blur(image, (8.0, 8.0))
    off = np.abs(result - exact)
    assert off.max() <= 0.5 + levels + tolerances.LEVELS


def test_float64():
    assert_near_ideal(noise((40, 60), "float64"), (10.0, 10.0))


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_flat_stays_flat(dtype):
    image = np.full((37, 45), 201.7, dtype)
    np.testing.assert_array_equal(blur(image, (9.0, 30.0), mode="constant", cval=float(image[0, 0])), image)


@pytest.mark.parametrize(("shape", "tile"), [((3, 4), (1, 1)), ((67, 91), (13, 64)), ((67, 91), (48, 17))])
@pytest.mark.parametrize("mode", ["reflect", "wrap"])
def test_tiles_have_the_same_bytes(mode, shape, tile):
    image = noise(shape, "float32")
    whole = blur(image, (9.0, 21.0), mode=mode)
    assert blur(image, (9.0, 21.0), mode=mode, tile=tile).tobytes() == whole.tobytes()


@pytest.mark.parametrize("sigma", [5.0, 9.0, 40.0])
def test_scratch_memory_suffices_wherever_a_tile_lies(sigma):
    needs = multirate_needs(designed(sigma), designed(sigma), 3, np.dtype(np.float32))
    sizes = [needs.scratch_bytes(size, 20) for size in range(1, 70)]
    assert sizes == sorted(sizes)
    for start in range(64):
        results = Extent((start, start + 21), (start, start + 35))
        for number, (rows, columns) in enumerate(needs.extents(results)[1:-1]):
            size = 4 * (rows[1] - rows[0]) * row_pitch(columns[1] - columns[0], 3, np.dtype(np.float32))
            assert size <= needs.buffer_sizes(21, 35)[number % 2]


def test_few_instructions_and_none_in_double_precision():
    """Most of the work is done on the few samples that are kept."""
    image = noise((64, 128), "float32")
    operator = operator_for(image, (40.0, 40.0))
    filtered(operator, image, mode="wrap")
    counters = [executed.counters for executed in operator.device.executed]
    assert sum(each.double_precision for each in counters) == 0
    per_pixel = sum(each.instructions["float32"] for each in counters) / image.size
    all_taps = 2 * gaussian_taps(40.0, tolerance=2e-6).size
    assert per_pixel < 0.25 * 2 * all_taps


def test_closing_gives_memory_back():
    operator = operator_for(noise((3, 3), "float32"), (9.0, 9.0))
    assert operator.device.memory.used > 0
    operator.close()
    operator.device.assert_nothing_is_left()


def test_failing_gives_memory_back():
    device = ExecutorDevice(memory=600)
    with pytest.raises(DeviceError):
        operator_for(noise((3, 3), "float32"), (9.0, 9.0), device=device)
    device.assert_nothing_is_left()
