"""The FFT method: the oracle's pixels, whatever the tiles, bands and threads; flat images; plans; memory."""

from __future__ import annotations

import dataclasses
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blurfast import Convolution, UnsupportedError, convolve, correlate, gaussian
from blurfast.boundary import MODES
from blurfast.cpu import fft, objects
from blurfast.cpu.fft import FftOperator, kept_spectrum
from blurfast.engine import filter_array, filter_copied, filter_stream
from blurfast.filters import Gaussian
from blurfast.io.array import ArraySink, ArraySource, describe
from blurfast.io.base import Grain
from blurfast.pixels import Window
from blurfast.planning import Bands, plan_array, plan_stream
from blurfast.resources import Resources
from blurfast.transforms import choose_transform, transform_for
from blurfast.weights import Kernel2D
from tests import naive, tolerances
from tests.convolutions import assert_like, average, weights
from tests.pictures import noise
from tests.test_engine import WatchfulSink, WatchfulSource, spec

SHAPES = [(1, 1), (2, 2), (3, 7), (31, 31), (101, 99), (6, 4), (40, 30)]


def assert_like_oracle(image, kernel, *, origin=(0, 0), mode="reflect", cval=0.0):
    for function, oracle in ((correlate, naive.correlate_kernel), (convolve, naive.convolve_kernel)):
        result = function(image, kernel, origin=origin, mode=mode, cval=cval, method="fft")
        assert result.dtype == image.dtype
        exact = oracle(image.astype(float), np.asarray(kernel, float), mode, cval, origin)
        assert_like(result, exact, image, np.asarray(kernel, float), mode, cval)


def fft_plan(filter, pixels, threads=1, *, alpha=None, **options):
    """Plan for pixels shaped (rows, columns, channels), and load what the plan needs."""
    image = dataclasses.replace(describe(pixels), alpha=alpha)
    plan = plan_array(filter, image, pixels.dtype, threads, **{"method": "fft", **options})
    objects.load(plan.kernels())
    return plan


def filtered(plan, pixels):
    out = np.zeros(pixels.shape, plan.target_dtype)
    filter_array(plan, pixels, out)
    return out


# ------------------------------------------------------------------------------------------------------- the oracle


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_like_the_oracle(shape, mode):
    assert_like_oracle(noise((61, 83), "float32"), weights(shape), mode=mode, cval=-3.5)
    if max(shape) < 50:
        assert_like_oracle(noise((40, 37), "float64"), weights(shape), mode=mode, cval=1e3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int16", "float16", "float32", "float64", "int32"])
def test_every_dtype(dtype, mode):
    image = noise((53, 71), dtype)
    for kernel in (average((5, 6)), average((31, 31)), weights((3, 7))):
        assert_like_oracle(image, kernel, mode=mode, cval=1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (7, 5)])
@pytest.mark.parametrize("mode", MODES)
def test_kernels_larger_than_the_image(shape, mode):
    image = noise(shape, "float64")
    assert_like_oracle(image, weights((19, 24)), mode=mode, cval=9.0, origin=(-9, 11))
    assert_like_oracle(image, weights((2, 33)), mode=mode, cval=9.0, origin=(-1, -16))


@pytest.mark.parametrize("origin", [(0, 0), (-15, 14), (15, -15), (3, -8)])
def test_origins(origin):
    assert_like_oracle(noise((64, 50), "float32"), weights((31, 30)), origin=origin, mode="mirror")


@pytest.mark.parametrize("kernel", [average((101, 99)), average((40, 40)), np.full((2, 2), 0.25), weights((9, 8))])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_few_of_many_integers_are_off_by_one(dtype, kernel):
    """Where the results are no ties, which any rounding error decides."""
    image = noise((170, 190), dtype)
    expected = np.empty(image.shape, "float64")
    correlate(image, kernel, method="direct", out=expected)
    is_tie = np.abs(expected - np.floor(expected) - 0.5) < 1e-6
    wrong = correlate(image, kernel, method="fft") != naive.as_pixels(expected, dtype)
    assert (wrong & ~is_tie).mean() <= tolerances.SHARE_OF_ROUNDED_OTHERWISE


@settings(max_examples=30)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    origin=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    dtype=st.sampled_from(["bool", "uint8", "uint16", "int16", "float32", "float64"]),
    mode=st.sampled_from(MODES),
    seed=st.integers(0, 99),
)
def test_any_size_and_origin(shape, size, origin, dtype, mode, seed):
    anchors = [int(share * side) - side // 2 for share, side in zip(origin, size, strict=True)]
    assert_like_oracle(noise(shape, dtype, seed), weights(size, seed), origin=tuple(anchors), mode=mode, cval=1.0)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_interleaved_channels_are_filtered_apart(channels, dtype):
    image = np.stack([noise((90, 73), dtype, seed) for seed in range(channels)], axis=-1)
    for kernel in (weights((1, 1)), weights((8, 5)), average((31, 31))):
        result = correlate(image, kernel, channel_axis=-1, mode="constant", cval=8, method="fft")
        for channel in range(channels):
            plane = image[..., channel]
            exact = naive.correlate_kernel(plane.astype(float), kernel, "constant", 8)
            assert_like(result[..., channel], exact, plane, kernel, "constant", 8)


@pytest.mark.parametrize("out_dtype", ["uint8", "int32", "float64"])
def test_out_of_another_dtype(out_dtype):
    image, kernel = noise((50, 60), "uint8"), average((9, 12))
    out = correlate(image, kernel, method="fft", out=np.empty(image.shape, out_dtype))
    assert_like(out, naive.correlate_kernel(image.astype(float), kernel, "reflect"), image, kernel)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("sigma", [1.0, (2.0, 5.0)])
def test_all_methods_agree(sigma, dtype):
    image = noise((150, 170), dtype)
    exact = naive.gaussian(image, sigma)
    for method in ("direct", "separable", "fft"):
        assert_like(gaussian(image, sigma, method=method), exact, image, np.ones((1, 1)))


def test_derivatives():
    image = noise((150, 170), "float32")
    exact = naive.gaussian(image, 3.0, order=(1, 0))
    tolerances.assert_near(gaussian(image, 3.0, order=(1, 0), method="fft"), exact, tolerances.spread(image))


@pytest.mark.parametrize("cval", [1e3, 1e6, 1e9, 1e37, np.inf, -np.inf, np.nan])
def test_what_lies_outside_reaches_as_far_as_the_kernel(cval):
    """However large it is, it must not disturb pixels that no weight connects with it: another method is taken."""
    image, kernel = noise((200, 150), "uint8"), average((31, 31))
    exact = naive.correlate_kernel(image.astype(float), kernel, "reflect")[15:-15, 15:-15]
    result = correlate(image, kernel, mode="constant", cval=cval)[15:-15, 15:-15]
    assert tolerances.count_wrong(result, naive.as_pixels(exact, "uint8")) <= 1e-3 * result.size


@pytest.mark.parametrize(
    ("cval", "dtype"),
    [(cval, dtype) for dtype in ("uint8", "float32") for cval in (np.inf, -np.inf, np.nan)]
    + [(cval, "uint8") for cval in (1e6, -1e6, 1e37)],
)
def test_surroundings_far_from_the_pixels_are_refused(cval, dtype):
    image = noise((50, 40), dtype)
    with pytest.raises(UnsupportedError, match=r"fft method cannot serve: .*cval"):
        correlate(image, average((6, 7)), mode="constant", cval=cval, method="fft")
    for mode in MODES:
        if mode != "constant":
            correlate(image, average((6, 7)), mode=mode, cval=cval, method="fft")


# ------------------------------------------------------------------------------------------------ tiles, bands, threads


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("half_tile", [(1, 1), (1, 7), (9, 1), (16, 16), (30, 41), (200, 200)])
def test_stitched_tiles_are_like_one(half_tile, mode):
    pixels = noise((75, 58, 2), "float32")
    for kernel in (weights((8, 5)), weights((1, 1))) if half_tile != (1, 1) else (weights((8, 5)),):
        plan = fft_plan(Convolution(kernel), pixels, mode=mode, cval=4.0)
        whole = filtered(plan, pixels)
        tiled = filtered(dataclasses.replace(plan, tile=(2 * half_tile[0], 2 * half_tile[1])), pixels)
        for channel in range(2):
            plane = pixels[..., channel]
            assert_like(tiled[..., channel], whole[..., channel].astype(float), plane, kernel, mode, 4.0)


def test_many_tiles_of_a_large_image():
    pixels = noise((700, 900, 1), "uint8")
    kernel = average((45, 60))
    plan = fft_plan(Convolution(kernel), pixels, 3)
    result = filtered(dataclasses.replace(plan, tile=(100, 84)), pixels)
    expected = convolve(pixels[..., 0], kernel, method="fft", out=np.empty((700, 900), "float64"))
    wrong = tolerances.count_wrong(result[..., 0], np.rint(expected).astype("uint8"))
    assert wrong <= tolerances.SHARE_OF_ROUNDED_OTHERWISE * result.size


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_bands_and_blocks(dtype, mode):
    pixels, kernel = noise((150, 130, 3), dtype), average((20, 31))
    options = {"mode": mode, "cval": 3.0, "method": "fft"}
    exact = [naive.convolve_kernel(pixels[..., channel].astype(float), kernel, mode, 3.0) for channel in range(3)]

    def check_pixels(result):
        for channel in range(3):
            assert_like(result[..., channel], exact[channel], pixels[..., channel], kernel, mode, 3.0)

    unlimited = Resources(2, sys.maxsize)
    description = dataclasses.replace(describe(pixels), grain=Grain(2, 2))
    plan = plan_stream(Convolution(kernel), description, description, unlimited, 0, **options)
    for cut in [] if mode == "wrap" else [Bands(38, 130, 0), Bands(50, 46, 0)]:
        out = np.zeros_like(pixels)
        tile = plan.operation.tile(cut.rows, cut.columns, 2)
        filter_copied(dataclasses.replace(plan, bands=cut, tile=tile), ArraySource(pixels), ArraySink(out))
        check_pixels(out)
    source = WatchfulSource(pixels, grain=Grain(3, 130))
    sink = WatchfulSink(spec(pixels, Grain(2, 130)), source=source)
    plan = plan_stream(Convolution(kernel), source.images[0], sink.images[0], unlimited, 0, **options)
    kept = min(150, 2 * 26 + 2 * plan.halo[0] + 3)
    cut = Bands(26, 130, -(-kept // 3) * 3)
    filter_stream([dataclasses.replace(plan, bands=cut, tile=plan.operation.tile(26, 130, 2))], source, sink)
    check_pixels(sink.results[0])


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_agree(threads):
    image, kernel = noise((600, 500), "float32"), weights((31, 31))
    one = correlate(image, kernel, method="fft", threads=1)
    many = correlate(image, kernel, method="fft", threads=threads)
    assert_like(many, one.astype(float), image, kernel)


def test_threads_share_one_operator():
    pixels, kernel = noise((256, 256, 1), "float32"), weights((21, 30))
    plan = fft_plan(Convolution(kernel), pixels)
    tiles = dataclasses.replace(plan, tile=(64, 64)).window_filter()

    def whole(_):
        out = np.zeros_like(pixels)
        for tasks in tiles.stages(Window(0, 256, 0, 256), pixels, 0, lambda rows: rows, out):
            for task in tasks:
                task()
        return out

    expected = whole(0)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(whole, range(12)):
            assert result.tobytes() == expected.tobytes()


# --------------------------------------------------------------------------------------------------------- flat images


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("mode", MODES)
def test_flat_stays_flat(dtype, mode):
    for value in (1, 0.3, 77):
        image = np.full((130, 141), value, dtype)
        for kernel in (average((31, 31)), average((8, 3))):
            result = convolve(image, kernel, mode=mode, cval=float(image[0, 0]), method="fft")
            assert (result == image).all()


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_flat_colours_stay_flat(dtype, channels):
    """Each channel is flat, at a value of its own."""
    values = np.array([100.1, 7.7, 33.3, 251.9])[:channels].astype(dtype)
    image = np.broadcast_to(values, (70, 80, channels)).copy()
    assert (convolve(image, average((31, 31)), channel_axis=-1, method="fft") == image).all()


def test_flat_regions_stay_flat():
    image = np.full((200, 200), 0.3, "float32")
    image[0, 0] = np.nan
    result = convolve(image, average((9, 9)), method="fft")
    assert (result[20:, 20:] == np.float32(0.3)).all()


# -------------------------------------------------------------------------------------------------------------- opacity


def test_colours_that_count_by_their_opacity_are_refused():
    """Where there is little opacity, the rounding errors of a transform would be divided by next to nothing."""
    pixels = noise((120, 140, 4), "uint8")
    with pytest.raises(UnsupportedError, match="weighted by opacity"):
        fft_plan(Convolution(average((31, 31))), pixels, alpha=3)


# ------------------------------------------------------------------------------------------------------------ the plan


def test_the_plan_names_the_method_with_its_time_and_error():
    pixels = noise((500, 400, 1), "float32")
    plan = fft_plan(Convolution(average((61, 50))), pixels)
    (line,) = [line for line in plan.explain().splitlines() if line.startswith("method     fft")]
    assert "taken, asked for" in line
    assert "ms" in line
    assert "error" in line
    assert plan.method == "fft"
    assert plan.as_dict()["method"] == "fft"


@pytest.mark.parametrize("threads", [1, 4])
def test_the_plan_names_the_transform_that_is_used(threads):
    pixels = noise((2000, 2000, 1), "float32")
    kernel = average((61, 50))
    plan = fft_plan(Convolution(kernel), pixels, threads)
    used = transform_for(plan.tile, kernel.shape, 1, 4)
    assert f"transforms of {used.rows} x {used.columns}" in plan.explain()


def test_large_kernels_are_left_to_it():
    pixels = noise((600, 600, 1), "uint8")
    assert fft_plan(Convolution(average((101, 101))), pixels, method="auto").method == "fft"
    assert fft_plan(Convolution(average((3, 3))), pixels, method="auto").method != "fft"


def test_a_kernel_that_is_too_large_is_refused():
    image = np.zeros((10, 10))
    kernel = np.zeros((4001, 4001))
    kernel[2000, 2000] = 1
    with pytest.raises(UnsupportedError, match=r"fft method cannot serve: each transform would take \d+ MB"):
        convolve(image, kernel, method="fft")


def test_exact_refuses_it():
    image = np.zeros((10, 10), "uint8")
    with pytest.raises(UnsupportedError, match="fft method cannot serve: exact allows no rounding"):
        convolve(image, np.ones((3, 3)), exact=True, method="fft")


def test_a_gaussian_that_is_too_large_is_refused():
    with pytest.raises(UnsupportedError, match="fft method cannot serve"):
        gaussian(np.zeros((10, 10)), 2000.0, method="fft")
    assert "fft: not taken" in plan_array(Gaussian(2000.0), describe(np.zeros((9, 9, 1))), np.dtype(float), 1).explain()


# --------------------------------------------------------------------------------------------- the kernel's spectrum


def test_the_spectrum_is_computed_once_and_shared(monkeypatch):
    monkeypatch.setattr(fft, "_spectra", type(fft._spectra)())
    calls = []
    transform = transform_for((32, 32), (5, 7), 1, 4)
    original = np.fft.rfft
    monkeypatch.setattr(np.fft, "rfft", lambda *given, **named: calls.append(1) or original(*given, **named))
    first = kept_spectrum(weights((5, 7)), transform)
    assert kept_spectrum(weights((5, 7)), transform) is first
    assert not first.flags.writeable
    image = noise((40, 40), "float32")
    for _ in range(3):
        correlate(image, weights((5, 7)), method="fft")
    assert len(calls) == 2
    assert len(fft._spectra) <= 2


def test_spectra_of_different_kernels_are_not_mixed_up(monkeypatch):
    monkeypatch.setattr(fft, "_spectra", type(fft._spectra)())
    kernel = weights((4, 4))
    image = noise((30, 30), "float64")
    for variant in (kernel, kernel.T, kernel.T.copy(), kernel[::-1], kernel.reshape(2, 8), kernel.reshape(8, 2)):
        assert_like_oracle(image, variant)
    rows, columns = (transform_for((32, 32), shape, 1, 8) for shape in ((2, 8), (8, 2)))
    assert not np.array_equal(
        kept_spectrum(kernel.reshape(2, 8), rows)[:30, :15], kept_spectrum(kernel.reshape(8, 2), columns)[:30, :15]
    )


def test_spectra_are_bounded(monkeypatch):
    monkeypatch.setattr(fft, "_spectra", type(fft._spectra)())
    transform = transform_for((64, 64), (9, 9), 1, 4)
    monkeypatch.setattr(fft, "_MOST_SPECTRA_BYTES", 3 * transform.spectrum_bytes)
    kept = [kept_spectrum(weights((9, 9), seed), transform) for seed in range(3)]
    assert kept_spectrum(weights((9, 9), 0), transform) is kept[0]
    kept_spectrum(weights((9, 9), 3), transform)
    assert sum(spectrum.nbytes for spectrum in fft._spectra.values()) <= 3 * transform.spectrum_bytes
    assert kept_spectrum(weights((9, 9), 0), transform) is kept[0], "the one used last is kept"
    assert kept_spectrum(weights((9, 9), 1), transform) is not kept[1]


# -------------------------------------------------------------------------------------------------------------- memory


@pytest.fixture
def traced(monkeypatch):
    monkeypatch.setattr(fft, "_spectra", type(fft._spectra)())
    tracemalloc.start()
    yield
    tracemalloc.stop()


def operator_of(transform, weights, dtype):
    shape = transform.kernel_rows, transform.kernel_columns
    return FftOperator(
        Kernel2D(shape, (shape[0] // 2, shape[1] // 2), lambda: weights), transform, pixel_dtype=np.dtype(dtype),
        target_dtype=np.dtype(dtype), sums=np.dtype(dtype), channels=1, effort="estimate",
    )  # fmt: skip


def run_operator(operator, transform, pixels, workspaces):
    rows, columns = transform.tile
    plan = operator.plan_columns(0, columns, pixels.shape[1])
    row_map = operator.row_map(0, rows, pixels.shape[0])
    target = np.empty((rows, columns, 1), pixels.dtype)
    for workspace in workspaces:
        operator(pixels, row_map, 0, plan, 0, target, workspace)
    return target.nbytes


# Planning is included, as far as numpy's arrays go: FFTW's own tables are small, and it takes them from malloc, where
# tracemalloc does not see them. What counts is the peak, since a budget for memory is one: of making the operator,
# with the spectrum of its kernel, then of the workspaces and the filtering. Pixels that are read and written are
# counted elsewhere, and left out here.
@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_memory_is_as_predicted(dtype, threads):
    kernel = average((101, 101))
    transform = choose_transform((101, 101), 1, np.dtype(dtype).itemsize, (900, 900), 48_000_000)
    pixels = np.ones((900, 900, 1), dtype)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    operator = operator_of(transform, kernel, dtype)
    workspaces = [operator.workspace(transform.tile[1]) for _ in range(threads)]
    target_bytes = run_operator(operator, transform, pixels, workspaces)
    peak = tracemalloc.get_traced_memory()[1] - before
    predicted = transform.memory(threads)
    assert peak <= 1.15 * predicted + target_bytes
    assert peak >= 0.85 * predicted


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, 3e38])
def test_scratch_memory_is_not_taken_for_pixels(rubbish):
    """The last row of a full tile is looked over in whole registers, so into memory that nothing was packed into."""
    kernel, transform = average((5, 5)), transform_for((28, 28), (5, 5), 1, 4)
    assert (transform.rows, transform.columns) == (32, 32)
    pixels = noise((60, 60, 1), "float32") / np.float32(1000)
    objects.load(fft_plan(Convolution(kernel), pixels).kernels())
    results = []
    for value in (0, rubbish):
        operator = operator_of(transform, kernel, "float32")
        workspace = operator.workspace(28)
        np.lib.stride_tricks.as_strided(workspace.tile, shape=(33, 32))[-1] = value
        target = np.empty((28, 28, 1), "float32")
        operator(pixels, operator.row_map(0, 28, 60), 0, operator.plan_columns(0, 28, 60), 0, target, workspace)
        results.append(target)
    assert results[0].tobytes() == results[1].tobytes()
