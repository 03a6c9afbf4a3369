"""The FFT method on a GPU: the oracle's pixels, with scipy.fft in place of cuFFT.

Kernels are executed as PTX on the processor; `ScipyFft` has cuFFT's layouts and demands.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from blurfast.boundary import MODES
from blurfast.cuda import panel_kernels, panels, programs
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import DeviceError, DeviceMemoryError
from blurfast.cuda.fft import FftNeeds, FftOperator, work_bytes
from blurfast.cuda.memory import DeviceJob, plan_tiles
from blurfast.dtypes import sum_dtype
from blurfast.errors import UnsupportedError
from blurfast.transforms import Transform
from tests import naive, tolerances
from tests.operator_runs import exact_result, filtered, kernel_of
from tests.pictures import DTYPES, noise
from tests.ptx.device import CAPABILITY, ExecutorDevice
from tests.scipy_fft import ScipyFft

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def kernels(pixel, sums=None):
    sums = sums or sum_dtype(np.dtype(pixel)).name
    needed = [
        Kernel("panel", "find_references", pixel, sums, sums),
        Kernel("panel", "pack", pixel, sums, sums),
        Kernel("panel", "multiply", sums, sums, sums),
        Kernel("panel", "finish", sums, pixel, sums),
    ]
    return [*needed, Kernel("direct", "correlate", pixel, pixel, "float64")] if pixel.startswith("float") else needed


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Compile all that is needed side by side."""
    infinite = Kernel("direct", "correlate", "uint8", "uint8", "float64")
    programs.obtain({infinite, *(kernel for dtype in DTYPES for kernel in kernels(dtype))}, CAPABILITY)


def weights(shape, seed=0):
    """Return weights of both signs, without any symmetry, whose magnitudes sum to two at most."""
    chosen = np.random.default_rng(seed).uniform(-1, 1, shape)
    return 2 * chosen / max(2.0, np.abs(chosen).sum())


def average(shape, seed=0):
    chosen = np.random.default_rng(seed).uniform(0, 1, shape)
    return chosen / chosen.sum()


def fft_device(**options):
    device = ExecutorDevice()
    device.fft = ScipyFft(device.memory, **options)
    return device


def operator_for(pixels, used, size, cval=0.0, device=None):
    sums = sum_dtype(pixels.dtype)
    return FftOperator(
        device or fft_device(),
        used,
        Transform(*size, *used.shape, 1, sums.itemsize),
        pixel_dtype=pixels.dtype,
        target_dtype=pixels.dtype,
        sums=sums,
        channels=pixels.shape[2] if pixels.ndim == 3 else 1,
        cval=cval,
    )


def correlate(pixels, used, size, *, mode="reflect", cval=0.0, tile=None):
    operator = operator_for(pixels, used, size, cval)
    result = filtered(operator, pixels, mode=mode, tile=tile)
    operator.device.fft.assert_nothing_is_left()
    operator.device.assert_nothing_is_left()
    return result


def assert_like_oracle(pixels, used, size, *, mode="reflect", cval=0.0, tile=None):
    result = correlate(pixels, used, size, mode=mode, cval=cval, tile=tile)
    exact = exact_result(pixels, used, mode, cval)
    if result.dtype.kind == "f":
        reach = tolerances.spread(pixels.astype(float), mode, cval) * max(1.0, np.abs(used.weights).sum())
        tolerances.assert_near(result, exact, reach + 1e-6 * np.abs(pixels).max().astype(float))
    else:
        flat = result.reshape(result.shape[0], -1)
        tolerances.assert_exact(flat, exact.reshape(flat.shape), 0)


# ------------------------------------------------------------------------------------------------------- the oracle


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 7), (6, 4), (15, 16), (30, 21)])
def test_like_the_oracle(shape, mode):
    """With tiles of one transform, of several, and of a part of one."""
    used = kernel_of(weights(shape), (shape[0] - 1, shape[1] // 3))
    size = shape[0] + 20, shape[1] + 25
    assert_like_oracle(noise((37, 41), "float32"), used, size, mode=mode, cval=-3.5)
    assert_like_oracle(noise((29, 23), "float64"), used, size, mode=mode, cval=1e3, tile=(11, 23))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    image = noise((27, 31), dtype)
    for chosen in (average((5, 6)), weights((3, 7))):
        assert_like_oracle(image, kernel_of(chosen), (32, 36), mode="mirror", cval=1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1), (2, 3)])
def test_halos_larger_than_the_image(shape, mode):
    image = noise(shape, "float64")
    assert_like_oracle(image, kernel_of(weights((19, 24)), (0, 23)), (24, 30), mode=mode, cval=9.0)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_channels_are_transformed_apart(channels):
    pixels = noise((25, 30, channels), "float32")
    used = kernel_of(weights((5, 4)))
    assert_like_oracle(pixels, used, (20, 21), mode="wrap")


def test_large_numbers_in_one_channel_leave_the_others_exact():
    pixels = noise((25, 30, 2), "float32")
    pixels[..., 0] *= 1e20
    used = kernel_of(weights((5, 4)))
    result = correlate(pixels, used, (20, 21))
    tolerances.assert_near(result[..., 1], exact_result(pixels[..., 1], used), 255.0)


@pytest.mark.parametrize("size", [(9, 9), (9, 10), (10, 9), (11, 13), (8 + 5, 8 + 6), (16, 64)])
def test_any_size_of_a_transform(size):
    assert_like_oracle(noise((5, 6, 3), "float32"), kernel_of(weights((9, 9))), size)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    channels=st.sampled_from([1, 3, 4]),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    room=st.tuples(st.integers(4, 30), st.integers(4, 30)),
    tile=st.tuples(st.integers(4, 30), st.integers(4, 30)),
    mode=st.sampled_from(MODES),
    dtype=st.sampled_from(["uint8", "float64"]),
)
def test_any_tiling_is_like_the_oracle(shape, channels, size, place, room, tile, mode, dtype):
    anchor = tuple(int(share * (length - 1)) for share, length in zip(place, size, strict=True))
    pixels = noise((*shape, channels), dtype)
    transform = size[0] + room[0], size[1] + room[1]
    tile = tuple(map(min, tile, shape))
    assert_like_oracle(pixels, kernel_of(weights(size), anchor), transform, mode=mode, cval=7.0, tile=tile)


# ------------------------------------------------------------------------------------------------------- exactness


@pytest.mark.parametrize("value", [0.1, -3e30, 7.7e-30])
def test_flat_stays_flat(value):
    image = np.full((30, 33, 2), value, "float32")
    image[..., 1] = 1 / 3
    for chosen in (average((7, 4)), average((25, 31))):
        np.testing.assert_array_equal(correlate(image, kernel_of(chosen), (40, 45), tile=(20, 30)), image)


def test_a_derivative_of_a_flat_image_is_zero():
    image = np.full((15, 20), 1e20, "float32")
    assert (correlate(image, kernel_of(np.array([[0.3, 0.1, -0.4]])), (20, 24)) == 0).all()


@pytest.mark.parametrize("used", [average((20, 21)), average((2, 3))])
def test_few_of_many_integers_are_off_by_one(used):
    """Where the results are no ties, which any rounding error decides."""
    image = noise((150, 160), "uint8")
    result = correlate(image, kernel_of(used), (128, 128))
    expected = naive.as_pixels(exact_result(image, kernel_of(used)), "uint8")
    assert tolerances.count_wrong(result, expected) <= image.size * tolerances.SHARE_OF_ROUNDED_OTHERWISE


def test_flat_parts_of_an_image_with_a_few_bright_pixels():
    image = np.full((60, 60), 1000.0, "float32")
    image[30, 30] = 1001.0
    result = correlate(image, kernel_of(average((5, 5))), (80, 80))
    assert np.abs(result[40:] - 1000.0).max() <= np.spacing(np.float32(1000))


@pytest.mark.parametrize("channels", [1, 3])
def test_references_are_medians(channels):
    """Of 16 x 16 pixels in the middles of as many equal parts."""
    device = fft_device()
    pixels = noise((40, 64, channels), "uint8")
    seen = []
    launch = device.launch

    def spy(one, stream):
        launch(one, stream)
        if one.kernel.function == "find_references":
            seen.append(device.memory.read(int(one.arguments[-1]), np.float32, (channels,)))

    device.launch = spy
    filtered(operator_for(pixels, kernel_of(np.ones((1, 1))), (40, 64), device=device), pixels)
    rows = (2 * np.arange(16) + 1) * 40 // 32
    columns = (2 * np.arange(16) + 1) * 64 // 32
    sample = np.sort(pixels[np.ix_(rows, columns)].reshape(256, channels), axis=0)
    np.testing.assert_array_equal(seen, [sample[128]])


# ---------------------------------------------------------------------------------------------- NaN and infinities


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("mode", ["reflect", "constant"])
def test_what_is_not_finite_reaches_as_far_as_the_weights(value, mode):
    chosen = weights((5, 6), 3)
    chosen[1:4, 2] = chosen[:, -1] = 0
    used = kernel_of(chosen, (1, 4))
    image = noise((30, 40, 2), "float32")
    image[3, 5, 0] = image[9, 30, 1] = value
    image[29, 0] = -value
    result = correlate(image, used, (20, 20), mode=mode, cval=2.0)
    with np.errstate(invalid="ignore", over="ignore"):
        exact = exact_result(image, used, mode, 2.0).astype("float32")
    np.testing.assert_allclose(result, exact, rtol=1e-5, atol=1e-4)
    assert np.isfinite(result).mean() > 0.9


def test_only_what_needs_it_is_computed_by_all_taps():
    image = noise((32, 32), "float32")
    image[2, 2] = np.nan
    device = fft_device()
    used = kernel_of(average((3, 3)))
    result = filtered(operator_for(image, used, (18, 18), device=device), image)
    stores = [counters.global_stores.bytes for launch, counters in device.executed if launch.kernel.module == "direct"]
    assert stores == [16 * 16 * 4, 0, 0, 0]
    assert np.isnan(result).sum() == 9


def test_infinite_constants():
    image = noise((12, 15), "uint8")
    result = correlate(image, kernel_of(average((3, 3))), (20, 20), mode="constant", cval=-np.inf)
    assert (result[[0, -1]] == 0).all()
    exact = exact_result(image, kernel_of(average((3, 3))), "nearest")
    tolerances.assert_exact(result[1:-1, 1:-1], exact[1:-1, 1:-1], 0)


def test_integers_have_no_other_kernel():
    operator = operator_for(noise((5, 5), "uint8"), kernel_of(average((3, 3))), (10, 10))
    assert operator._direct is None
    operator.close()


# ------------------------------------------------------------------------------------------------ plans and memory


def test_plans_are_made_once_and_share_a_work_area():
    device = fft_device()
    image = noise((40, 40), "uint8")
    operator = operator_for(image, kernel_of(average((5, 5))), (20, 20), device=device)
    filtered(operator, image, tile=(20, 40))
    assert device.fft._created == 2
    assert device.fft.executions == 2 * 2 * (2 * 3)
    assert device.fft.work_areas_set == 2


def test_the_size_of_the_work_area_is_the_library_s():
    image = noise((8, 8, 3), "uint8")
    used = kernel_of(average((5, 5)))
    transform = Transform(32, 32, 5, 5, 1, 4)
    needs = FftNeeds(used, transform, 3, FLOAT32)
    panel = 3 * 32 * 34 * 4
    assert work_bytes((32, 32), 3, FLOAT32) == panel
    sizes = []
    for spectra in (0, 1, 2.5):
        operator = operator_for(image, used, (32, 32), device=fft_device(spectra_of_work=spectra))
        assert operator.scratch_bytes(1, 1) == operator.scratch_bytes(500, 500)
        sizes.append(operator.scratch_bytes(8, 8))
        result = filtered(operator, image)
        tolerances.assert_exact(result[..., 0], exact_result(image, used)[..., 0], 0)
    assert sizes[1] == needs.scratch_bytes(8, 8)
    assert sizes[0] <= sizes[1] - panel + 256
    assert sizes[2] >= sizes[1] + 1.4 * panel


def test_tiles_can_be_planned_for_it():
    needs = FftNeeds(kernel_of(average((31, 31))), Transform(512, 512, 31, 31, 1, 4), 3, FLOAT32)
    job = DeviceJob(4000, 4000, 3, np.dtype(np.uint8), np.dtype(np.uint8), "reflect", (4000, 4000))
    plan, *_ = plan_tiles(needs, job, 2**30)
    assert plan.scratch_bytes == needs.scratch_bytes(1, 1)
    plan, *_ = plan_tiles(needs, job, 2**30, unit=needs.tile)
    assert all(count == 4000 or count % 482 == 0 for count in (plan.rows, plan.columns))


@pytest.mark.parametrize("failing", range(6))
def test_nothing_is_left_of_an_operator_that_cannot_be_made(failing, monkeypatch):
    device = fft_device()
    calls = []

    def limited(name, error, function):
        def call(*arguments, **options):
            calls.append(name)
            if len(calls) == failing + 1:
                raise error(f"{name} fails")
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(device, "allocate", limited("allocate", DeviceMemoryError, device.allocate))
    monkeypatch.setattr(device, "upload", limited("upload", DeviceError, device.upload))
    monkeypatch.setattr(device.fft, "make_plan", limited("make_plan", DeviceError, device.fft.make_plan))
    with pytest.raises(DeviceError, match="fails"):
        operator_for(noise((5, 5), "float32"), kernel_of(average((3, 3))), (10, 10), device=device)
    assert calls == ["allocate", "upload", "make_plan", "make_plan", "allocate", "upload"][: failing + 1]
    device.assert_nothing_is_left()
    device.fft.assert_nothing_is_left()


def test_what_cannot_be_transformed():
    used = kernel_of(average((9, 9)))
    image = noise((5, 5), "uint8")
    with pytest.raises(ValueError, match="smaller than its kernel"):
        operator_for(image, used, (8, 20))
    huge = FftNeeds(used, Transform(2**16, 2**16, 9, 9, 1, 4), 1, FLOAT32)
    with pytest.raises(UnsupportedError, match="more than kernels can count"):
        huge.check()
    interleaved = FftNeeds(used, Transform(20, 60, 9, 9, 3, 4), 3, FLOAT32)
    with pytest.raises(ValueError, match="one channel"):
        interleaved.check()


# ------------------------------------------------------------------------------------------ what the speed depends on


@pytest.mark.parametrize(("dtype", "channels"), [("float32", 1), ("uint8", 1), ("uint8", 3), ("float64", 4)])
def test_memory_is_used_well(dtype, channels):
    device = fft_device()
    pixels = noise((32, 64, channels), dtype)
    filtered(operator_for(pixels, kernel_of(np.ones((1, 1))), (32, 64), device=device), pixels)
    counted = {launch.kernel.function: counters for launch, counters in device.executed}
    finish, pack, multiply = counted["finish"], counted["pack"], counted["multiply"]
    assert finish.global_stores.sectors == finish.global_stores.ideal_sectors
    assert multiply.global_stores.sectors == multiply.global_stores.ideal_sectors
    assert multiply.global_loads.sectors == multiply.global_loads.ideal_sectors
    # Samples of one channel lie together in a plane, and a warp has some of each channel.
    assert pack.global_stores.sectors <= pack.global_stores.ideal_sectors + 2 * channels * pack.global_stores.requests
    if dtype != "float64":
        assert sum(counters.double_precision for counters in counted.values()) == 0


def test_geometry_of_the_kernels():
    assert panels._ROWS_PER_THREAD == panel_kernels.ROWS_PER_THREAD
    assert panels._PIXELS_LOOKED_AT == panel_kernels.SAMPLES_PER_SIDE**2
    assert panels.grid_over(300_001, 257) == ((2 * 75_001, 1, 1), (256, 1, 1))  # only x may be so large


def test_everything_stays_in_registers():
    for program in programs.obtain(kernels("float64"), CAPABILITY):
        assert program.spill_bytes == program.local_bytes == 0
