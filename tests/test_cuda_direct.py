"""The direct method on a GPU: the oracle's pixels, by the kernel's PTX executed on the processor."""

from __future__ import annotations

import itertools
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from blurfast.boundary import MODES
from blurfast.cuda import direct, direct_kernels, programs, resident, separable_kernels
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import DeviceError
from blurfast.cuda.direct import DirectGeometry, DirectNeeds, DirectOperator
from blurfast.cuda.tiles import DeviceImage, PaddedSource
from blurfast.dtypes import sum_dtype
from tests import tolerances
from tests.operator_runs import exact_result, filtered, kernel_of
from tests.pictures import DTYPES, checker, noise
from tests.ptx.device import CAPABILITY, ExecutorDevice

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def kernel(pixel, target=None, sums=None):
    sums = sums or sum_dtype(np.dtype(pixel), np.dtype(target or pixel)).name
    return Kernel("direct", "correlate", pixel, target or pixel, sums)


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Compile all that is needed side by side."""
    others = [kernel("uint8", "float32"), kernel("float32", "uint8"), kernel("uint16", sums="float64")]
    programs.obtain([*map(kernel, DTYPES), *others], CAPABILITY)


def weights(shape, seed=0):
    """Return weights of both signs, without any symmetry, whose magnitudes sum to two at most."""
    chosen = np.random.default_rng(seed).uniform(-1, 1, shape)
    return 2 * chosen / max(2.0, np.abs(chosen).sum())


def average(shape, seed=0):
    chosen = np.random.default_rng(seed).uniform(0, 1, shape)
    return chosen / chosen.sum()


def operator_for(pixels, used, target=None, sums=None, cval=0.0, device=None):
    target_dtype = np.dtype(target or pixels.dtype)
    return DirectOperator(
        device or ExecutorDevice(),
        used,
        pixel_dtype=pixels.dtype,
        target_dtype=target_dtype,
        sums=np.dtype(sums) if sums else sum_dtype(pixels.dtype, target_dtype),
        channels=pixels.shape[2] if pixels.ndim == 3 else 1,
        cval=cval,
    )


def correlate(pixels, used, *, mode="reflect", cval=0.0, target=None, sums=None, tile=None):
    operator = operator_for(pixels, used, target, sums, cval)
    result = filtered(operator, pixels, mode=mode, target=target, tile=tile)
    operator.device.assert_nothing_is_left()
    return result


def assert_like_oracle(pixels, used, *, mode="reflect", cval=0.0, target=None, sums=None, tile=None):
    result = correlate(pixels, used, mode=mode, cval=cval, target=target, sums=sums, tile=tile)
    exact = exact_result(pixels, used, mode, cval)
    if result.dtype.kind == "f":
        reach = tolerances.spread(pixels.astype(float), mode, cval) or 1e-6 * np.abs(pixels).max()
        tolerances.assert_near(result, exact, reach * max(1.0, np.abs(used.weights).sum()))
    else:
        flat = result.reshape(result.shape[0], -1)
        tolerances.assert_exact(flat, exact.reshape(flat.shape), 0)


# ------------------------------------------------------------------------------------------------------- the oracle


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (2, 2), (1, 7), (8, 1), (3, 5), (4, 3), (11, 8)])
def test_every_size_is_like_the_oracle(shape, mode):
    used = kernel_of(weights(shape), (shape[0] // 3, shape[1] - 1))
    assert_like_oracle(noise((19, 37), "float32"), used, mode=mode, cval=-3.5, tile=(17, 37))
    assert_like_oracle(noise((23, 9), "float64"), used, mode=mode, cval=1e3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    image = noise((9, 22), dtype)
    for chosen in (average((4, 3)), np.outer([1.0, -1.0], [0.06, 0.12, 0.1])):
        assert_like_oracle(image, kernel_of(chosen))
        assert_like_oracle(image, kernel_of(chosen), mode="constant", cval=1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (2, 3)])
def test_halos_larger_than_the_image(shape, mode):
    image = noise(shape, "float64")
    assert_like_oracle(image, kernel_of(weights((5, 8)), (0, 7)), mode=mode, cval=9.0)
    assert_like_oracle(image, kernel_of(weights((2, 19)), (1, 9)), mode=mode, cval=9.0, tile=(1, 3))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 33])
def test_channels_are_filtered_apart(channels):
    pixels = noise((12, 15, channels), "float32")
    used = kernel_of(weights((5, 4)), (4, 0))
    result = correlate(pixels, used, mode="wrap", tile=(12, 8))
    exact = exact_result(pixels, used, "wrap")
    tolerances.assert_near(result, exact, 255.0)
    alone = correlate(np.ascontiguousarray(pixels[..., -1]), used, mode="wrap")
    np.testing.assert_array_equal(result[..., -1], alone)


@pytest.mark.parametrize(
    ("shape", "channels"), [((1, 100), 1), ((40, 1), 1), ((35, 20), 3), ((17, 33), 1), ((5, 9), 40)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_taps_of_many_chunks(shape, channels, dtype):
    assert_like_oracle(noise((9, 11, channels), dtype), kernel_of(weights(shape), (0, shape[1] - 1)), mode="mirror")


def test_types_of_pixels_may_differ():
    assert_like_oracle(noise((9, 20), "uint8"), kernel_of(weights((3, 4))), target="float32")
    assert_like_oracle(noise((9, 20), "float32"), kernel_of(average((3, 4))), target="uint8")
    assert_like_oracle(noise((9, 20), "uint16"), kernel_of(average((3, 4))), sums="float64")


def test_results_beyond_the_range_saturate():
    image = noise((9, 20), "uint8")
    assert_like_oracle(image, kernel_of(np.array([[9.0, -2.0]])))
    assert_like_oracle(image, kernel_of(np.array([[-1.0]])))


# -------------------------------------------------------------------------------------------------------- exactness


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32"])
def test_integers_are_exact(dtype):
    image = noise((20, 31, 3), dtype, seed=5) // (1 if dtype in ("uint8", "int8") else 64)
    whole = np.random.default_rng(7).integers(-9, 10, (4, 5)).astype(float)
    result = correlate(image, kernel_of(whole, (0, 4)), mode="mirror", tile=(7, 31))
    limits = np.iinfo(dtype)
    expected = exact_result(image, kernel_of(whole, (0, 4)), "mirror")
    np.testing.assert_array_equal(result, np.clip(expected, limits.min, limits.max).astype(dtype))


@pytest.mark.parametrize("value", [0.1, -3e30, 7.7e-30])
@pytest.mark.parametrize("shape", [(1, 3), (5, 4), (17, 20)])
def test_flat_stays_flat(shape, value):
    image = np.full((9, 14), value, "float32")
    image[0, 0] *= 2
    result = correlate(image, kernel_of(average(shape)), mode="nearest")
    reach = shape[0] // 2 + 1, shape[1] // 2 + 1
    assert (result[reach[0] :, :] == image[reach[0] :, :]).all()
    assert (result[:, reach[1] :] == image[:, reach[1] :]).all()
    assert (correlate(np.full((9, 14), value, "float32"), kernel_of(average(shape))) == np.float32(value)).all()


def test_a_derivative_of_a_flat_image_is_zero():
    gradient = np.array([[0.3, 0.1, -0.4]])
    assert (correlate(np.full((5, 40), 1e20, "float32"), kernel_of(gradient)) == 0).all()


def test_averages_stay_in_range():
    image = checker((24, 40), "float32") / np.float32(3)
    result = correlate(image, kernel_of(average((6, 7))))
    assert result.min() >= image.min()
    assert result.max() <= image.max()


# ---------------------------------------------------------------------------------------------- NaN and infinities


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_not_finite_reaches_as_far_as_the_weights(value):
    """Taps that are zero, inside the kernel and around it, must not meet it."""
    chosen = weights((5, 6), 3)
    chosen[1:4, 2] = chosen[:, -1] = 0
    image = noise((15, 40), "float32")
    image[3, 5] = image[9, 30] = value
    image[14, 0] = -value
    for mode in ("reflect", "constant"):
        result = correlate(image, kernel_of(chosen, (1, 4)), mode=mode, cval=np.inf if mode == "constant" else 0)
        with np.errstate(invalid="ignore", over="ignore"):
            exact = exact_result(image, kernel_of(chosen, (1, 4)), mode, np.inf).astype("float32")
        np.testing.assert_allclose(result, exact, rtol=1e-5, atol=1e-4)


def test_infinite_constants_of_float32():
    image = noise((4, 5), "uint8")
    result = correlate(image, kernel_of(np.full((1, 3), 1 / 3)), mode="constant", cval=1e300, target="float32")
    assert np.isinf(result[:, [0, -1]]).all()
    assert np.isfinite(result[:, 1:-1]).all()


# ------------------------------------------------------------------------------------------------------ any tiling


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    channels=st.sampled_from([1, 3, 4]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    tile=st.tuples(st.integers(4, 30), st.integers(4, 30)),
    mode=st.sampled_from(MODES),
    dtype=st.sampled_from(["uint8", "float32"]),
)
def test_any_tiling_gives_the_same_bytes(shape, channels, size, place, tile, mode, dtype):
    anchor = tuple(int(share * (length - 1)) for share, length in zip(place, size, strict=True))
    used = kernel_of(weights(size), anchor)
    pixels = noise((*shape, channels), dtype)
    tiled = correlate(pixels, used, mode=mode, cval=7.0, tile=tuple(map(min, tile, shape)))
    np.testing.assert_array_equal(tiled, correlate(pixels, used, mode=mode, cval=7.0))
    assert_like_oracle(pixels, used, mode=mode, cval=7.0)


def test_long_work_is_several_launches(monkeypatch):
    pixels, used = noise((70, 20), "float32"), kernel_of(weights((3, 5)))
    device = ExecutorDevice()
    whole = filtered(operator_for(pixels, used, device=device), pixels)
    assert len(device.executed) == 1
    monkeypatch.setattr(direct, "_MOST_PRODUCTS_PER_LAUNCH", 15 * 20 * 33)
    device = ExecutorDevice()
    np.testing.assert_array_equal(filtered(operator_for(pixels, used, device=device), pixels), whole)
    assert len(device.executed) == 3


# ------------------------------------------------------------------------------------------- a condition, and memory


@pytest.mark.parametrize(("condition", "is_done"), [(0, False), (1, True), (77, True)])
def test_nothing_is_done_where_the_condition_is_zero(condition, is_done):
    device = ExecutorDevice()
    pixels = noise((4, 32), "uint8")
    operator = operator_for(pixels, kernel_of(np.full((1, 1), 1.0)), device=device)

    def put(array):
        address = device.memory.allocate(array.nbytes)
        device.memory.write(address, array)
        return address

    rows, columns = np.arange(4, dtype=np.int32), np.arange(32, dtype=np.int32)
    image = DeviceImage(put(pixels), 32, 4, 32, 1, pixels.dtype)
    target = image._replace(address=put(np.full((4, 32), 9, np.uint8)))
    source = PaddedSource(image, put(rows), put(columns), 4, 32)
    with device.activate():
        stream = device.open_stream()
        operator.enqueue(source, target, (0, 0), 0, stream, put(np.array([condition], np.uint32)))
        device.synchronize_stream(stream)
    result = device.memory.read(target.address, np.uint8, (4, 32))
    np.testing.assert_array_equal(result, pixels if is_done else 9)


def test_nothing_is_left_of_an_operator_that_cannot_be_made(monkeypatch):
    device = ExecutorDevice()

    def fail(*_):
        raise DeviceError("the device is lost")

    monkeypatch.setattr(device, "upload", fail)
    with pytest.raises(DeviceError, match="lost"):
        operator_for(noise((3, 3), "uint8"), kernel_of(weights((2, 2))), device=device)
    device.assert_nothing_is_left()


def test_large_arrays_are_copied_in_parts(monkeypatch):
    monkeypatch.setattr(resident, "_MOST_STAGED_BYTES", 100)
    device = ExecutorDevice()
    taps = weights((13, 11))
    with ExitStack() as resources:
        address = resident.keep(device, taps.T, resources)
        np.testing.assert_array_equal(device.memory.read(address, taps.dtype, (11, 13)), taps.T)
    device.assert_nothing_is_left()


def test_needs_are_known_without_a_device():
    used = kernel_of(weights((4, 7)), (3, 1))
    needs = DirectNeeds(used)
    operator = operator_for(noise((3, 3), "uint8"), used)
    for start, stop in ((0, 1), (5, 90)):
        assert needs.row_span(start, stop) == operator.row_span(start, stop) == (start - 3, stop)
        assert needs.column_span(start, stop) == operator.column_span(start, stop) == (start - 1, stop + 5)
    assert needs.scratch_bytes(100, 100) == operator.scratch_bytes(100, 100) == 0


# ------------------------------------------------------------------------------------------- what the speed depends on


@pytest.mark.parametrize(("dtype", "channels"), [("float32", 1), ("uint8", 3), ("float64", 4)])
def test_memory_is_used_well(dtype, channels):
    """Threads of a warp meet consecutive samples, in global and in shared memory."""
    device = ExecutorDevice()
    pixels = noise((32, 256 // channels, channels), dtype)
    filtered(operator_for(pixels, kernel_of(weights((5, 4))), device=device), pixels)
    ((_, counters),) = device.executed
    assert counters.shared_loads.wavefronts == counters.shared_loads.ideal_wavefronts
    assert counters.shared_stores.wavefronts == counters.shared_stores.ideal_wavefronts
    assert counters.global_stores.bytes == pixels.nbytes
    full_rows = 128 * pixels.itemsize // 32
    assert counters.global_stores.sectors <= counters.global_stores.requests * max(1, full_rows // 4)
    assert counters.double_precision == 0 or dtype == "float64"


def test_geometry_of_the_kernels():
    assert direct._RESULTS == direct_kernels.RESULTS
    assert direct._BLOCK_SAMPLES == direct_kernels.BLOCK_SAMPLES
    assert direct._WARP == separable_kernels.WARP
    for rows, columns, channels, itemsize in itertools.product(
        (1, 3, 4, 17, 1000), (1, 3, 64, 999), (1, 3, 64), (4, 8)
    ):
        geometry = DirectGeometry(rows, columns, channels, itemsize)
        (down, across), (chunk_rows, chunk_columns) = geometry.chunks, geometry.chunk
        assert chunk_rows % direct_kernels.RESULTS == 0
        assert (down - 1) * chunk_rows < rows <= down * chunk_rows
        assert (across - 1) * chunk_columns < columns <= across * chunk_columns
        assert geometry.shared_bytes <= 33 * 1024
        taps = np.arange(1, rows * columns + 1).reshape(rows, columns)
        chunked = geometry.chunked(taps)
        assert chunked.shape == (down, across, chunk_columns, chunk_rows)
        assert chunked[-1, 0, 0, 0] == taps[(down - 1) * chunk_rows, 0]
        assert np.count_nonzero(chunked) == taps.size


@pytest.mark.parametrize(("dtype", "registers"), [("uint8", 80), ("float32", 80), ("float64", 128)])
def test_everything_stays_in_registers(dtype, registers):
    """And a multiprocessor has enough of them for three blocks, as it has shared memory."""
    (program,) = programs.obtain([kernel(dtype)], CAPABILITY)
    assert program.spill_bytes == 0
    assert program.local_bytes == 0
    assert program.registers <= registers
