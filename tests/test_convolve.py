"""`convolve` and `correlate` on arrays and files: the oracle's pixels, whatever the method, the layout and the cut."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

import blurfast
from blurfast import Convolution, UnsupportedError, convolve, correlate
from blurfast.boundary import MODES
from blurfast.engine import filter_array, filter_copied, filter_stream
from blurfast.io.array import ArraySink, ArraySource, describe
from blurfast.io.base import Grain
from blurfast.planning import Bands, plan_array, plan_stream
from blurfast.resources import Resources
from tests import naive, tolerances
from tests.pictures import DTYPES, noise
from tests.test_engine import WatchfulSink, WatchfulSource, spec

METHODS = ["direct", "separable"]


def weights(shape, seed=0):
    """Return weights of both signs, without any symmetry."""
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def of_rank(rank, shape, seed=0):
    return sum(np.outer(*(weights(side, seed + 2 * term + axis) for axis, side in enumerate(shape)))
               for term in range(rank))  # fmt: skip


def sparse_average(shape, seed, share=0.5):
    random = np.random.default_rng(seed)
    kernel = random.uniform(0, 1, shape) * (random.uniform(0, 1, shape) < share)
    kernel.flat[random.integers(kernel.size)] = 1.0
    return kernel / kernel.sum()


def assert_like(result, exact, image, kernel, mode="reflect", cval=0.0):
    """Assert that a result is as near to the exact one as the weights and its dtype demand."""
    if result.dtype.kind == "f":
        reach = tolerances.spread(image.astype(float), mode, cval) or 1e-6 * np.abs(image).max()
        tolerances.assert_near(result, exact, reach * max(1.0, np.abs(kernel).sum()))
    else:
        tolerances.assert_exact(result, exact, 0)


def assert_like_oracle(image, kernel, *, origin=(0, 0), mode="reflect", cval=0.0, method="direct"):
    """Compare both functions with the oracle."""
    for function, oracle in ((correlate, naive.correlate_kernel), (convolve, naive.convolve_kernel)):
        result = function(image, kernel, origin=origin, mode=mode, cval=cval, method=method)
        assert result.dtype == image.dtype
        exact = oracle(image.astype(float), np.asarray(kernel, float), mode, cval, origin)
        assert_like(result, exact, image, np.asarray(kernel, float), mode, cval)


# ------------------------------------------------------------------------------------------------------- the oracle
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (2, 2), (1, 7), (8, 1), (3, 5), (4, 3), (31, 31)])
def test_every_size_is_like_the_oracle(shape, mode):
    assert_like_oracle(noise((40, 33), "float64"), weights(shape), mode=mode, cval=1e3)
    assert_like_oracle(noise((37, 71), "float32"), weights(shape), mode=mode, cval=-3.5)
    for rank in (1, 2, 3):
        assert_like_oracle(noise((37, 71), "float32"), of_rank(rank, shape), mode=mode, cval=-3.5, method="separable")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype, method):
    image = noise((35, 42), dtype)
    for kernel in (np.outer([0.1, 0.4, 0.3, 0.2], [0.7, 0.2, 0.1]), np.outer([1.0, -1.0], [0.06, 0.12, 0.1])):
        assert_like_oracle(image, kernel, method=method)
        assert_like_oracle(image, kernel, mode="constant", cval=1, method=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 40), (40, 1), (2, 3), (3, 2), (7, 5)])
def test_halos_larger_than_the_image(shape, mode, method):
    image = noise(shape, "float64")
    assert_like_oracle(
        image, np.outer(weights(19), weights(24, 1)), mode=mode, cval=9.0, origin=(-9, 11), method=method
    )
    assert_like_oracle(
        image, np.outer(weights(2), weights(33, 1)), mode=mode, cval=9.0, origin=(-1, -16), method=method
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 401), (401, 1), (2, 400)])
def test_long_kernels(shape, method):
    kernel = np.outer(weights(shape[0], 3), weights(shape[1])) / 8
    for image in (noise((70, 130), "float32"), noise((9, 1030), "uint8"), noise((500, 3), "float64")):
        assert_like_oracle(image, kernel, mode="mirror", method=method)


@pytest.mark.parametrize("method", METHODS)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    origin=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    dtype=st.sampled_from(["bool", "uint8", "uint16", "int16", "int32", "float32", "float64"]),
    mode=st.sampled_from(MODES),
    seed=st.integers(0, 99),
)
def test_any_size_and_origin(method, shape, size, origin, dtype, mode, seed):
    anchors = [int(share * side) - side // 2 for share, side in zip(origin, size, strict=True)]
    kernel = of_rank(1 + seed % 3, size, seed) if method == "separable" else weights(size, seed)
    assert_like_oracle(noise(shape, dtype, seed), kernel, origin=tuple(anchors), mode=mode, cval=1.0, method=method)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("origin", [0, (1, -1), (-2, 1)])
@pytest.mark.parametrize("shape", [(5, 5), (4, 6), (7, 4)])
def test_centres_and_edges_are_those_of_scipy(shape, origin, mode):
    image, kernel = noise((30, 41), "float64"), weights(shape)
    for ours, theirs in ((correlate, ndimage.correlate), (convolve, ndimage.convolve)):
        expected = theirs(image, kernel, mode=mode, cval=2.5, origin=origin)
        result = ours(image, kernel, origin=origin, mode=mode, cval=2.5, method="direct")
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["bool", "uint16", "float16", ">f4"])
def test_kernels_of_any_kind(dtype, method):
    kernel = np.outer([1, 2, 5], [3, 0, 1, 1]).astype(dtype)
    for layout in (kernel, np.asfortranarray(kernel), kernel.T.copy().T, np.repeat(kernel, 3, 1)[:, ::3],
                   kernel[::-1, ::-1].copy()[::-1, ::-1], kernel.tolist()):  # fmt: skip
        assert_like_oracle(noise((12, 15), "float32"), layout, method=method)


# ------------------------------------------------------------------------------------------- layouts, channels, out
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channel_axis", [0, 1, -1])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_channels_are_filtered_apart(channels, channel_axis, method):
    for rank in (1, 2):
        kernel = of_rank(rank, (4, 5))
        for dtype in ("uint8", "float32"):
            planes = [noise((70, 53), dtype, seed) for seed in range(channels)]
            options = {"mode": "constant", "cval": 8, "method": method}
            result = convolve(np.stack(planes, channel_axis), kernel, channel_axis=channel_axis, **options)
            expected = np.stack([convolve(plane, kernel, **options) for plane in planes], channel_axis)
            assert result.tobytes() == expected.tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_any_memory_layout_gives_the_same_bytes(method):
    image = noise((71, 90), "float32")
    for kernel in (of_rank(1, (3, 4)), of_rank(2, (5, 4))):
        expected = convolve(image, kernel, method=method)
        for layout in (np.asfortranarray(image), np.repeat(image, 2, 1)[:, ::2], image[::-1, ::-1].copy()[::-1, ::-1],
                       image.astype(">f4"), np.pad(image, 9)[9:-9, 9:-9]):  # fmt: skip
            assert convolve(layout, kernel, method=method).tobytes() == expected.tobytes()
            out = np.empty((142, 90), "float32")[::2]
            assert convolve(layout, kernel, method=method, out=out) is out
            assert out.tobytes() == expected.tobytes()
            changed = layout.copy(order="K")
            assert convolve(changed, kernel, method=method, out=changed) is changed
            np.testing.assert_array_equal(changed, expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (2100, 1030)])
def test_in_place(shape, method):
    for kernel in (of_rank(1, (8, 5)), of_rank(2, (8, 5))):
        for mode in ("wrap", "reflect"):
            image = noise(shape, "float32")
            expected = convolve(image, kernel, mode=mode, method=method)
            convolve(image, kernel, mode=mode, method=method, out=image)
            np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "out_dtype", ["bool", "uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64"]
)
def test_out_of_another_dtype(out_dtype, method):
    for kernel in (of_rank(1, (3, 4)), of_rank(2, (3, 4))):
        for dtype in ("uint8", "int16", "float32", "float64"):
            image = noise((40, 33), dtype)
            out = np.empty(image.shape, out_dtype)
            correlate(image, kernel, method=method, out=out)
            exact = naive.correlate_kernel(image.astype(float), kernel, "reflect")
            if out_dtype != "float16" or np.abs(exact).max() < 6e4:
                assert_like(out, exact, image, kernel)


# --------------------------------------------------------------------------------------------------- exact integers
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("dtype", "limit"),
    [("bool", 1e5), ("uint8", 3), ("uint8", 900), ("uint8", 1e9), ("uint16", 3), ("uint16", 1e8), ("int16", 5),
     ("int16", 1e8), ("int32", 2), ("int32", 2e4), ("uint32", 2e4)],
)  # fmt: skip
def test_integers_are_exact(dtype, limit, mode):
    image, kernel = noise((66, 41), dtype), np.rint(weights((5, 6)) * limit)
    exact = naive.convolve_kernel(image.astype(float), kernel, mode, 7.0)
    for out_dtype in ("int64", "float64"):
        for options in ({"method": "direct"}, {"exact": True}):
            out = np.empty(image.shape, out_dtype)
            np.testing.assert_array_equal(convolve(image, kernel, mode=mode, cval=7, out=out, **options), exact)
    same = convolve(image, kernel, mode=mode, cval=7, exact=True)
    np.testing.assert_array_equal(same, naive.as_pixels(exact, dtype))


@pytest.mark.parametrize(("dtype", "limit"), [("uint8", 2**24), ("uint8", 2**53), ("int16", 2**24), ("int32", 2**53)])
def test_sums_up_to_the_limit_are_exact(dtype, limit):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    weight = limit // (high - low + max(high, -low))
    image = np.where(noise((30, 30), "bool"), high, low).astype(dtype)
    kernel = np.array([[weight // 2, -1, weight - weight // 2 - 3], [0, 1, 1]], float)
    out = correlate(image, kernel, exact=True, out=np.empty(image.shape))
    np.testing.assert_array_equal(out, naive.correlate_kernel(image.astype(float), kernel, "reflect"))


@pytest.mark.parametrize("kernel", [[[0, 1, 0]], [[0, 1], [0, 0]], np.pad([[1]], 1), np.pad([[1]], (0, 4))])
def test_moving_an_image_is_exact(kernel):
    for dtype in DTYPES:
        image = noise((21, 34), dtype)
        expected = naive.correlate_kernel(image.astype(float), np.asarray(kernel), "wrap")
        if image.dtype.kind in "biu":
            out = np.empty(image.shape)
            assert (correlate(image, kernel, mode="wrap", method="direct", out=out) == expected).all(), dtype
        assert (correlate(image, kernel, mode="wrap", method="direct") == expected.astype(dtype)).all(), dtype


@pytest.mark.parametrize(
    ("dtype", "kernel", "options"),
    [("float32", [[1, 2]], {}), ("float64", [[1, 2]], {}), ("int64", [[1, 2]], {}), ("uint8", [[0.5, 1]], {}),
     ("uint8", [[1, 2]], {"normalize": True}), ("uint8", [[2**45, 1]], {}), ("int32", [[2**21, 2**21]], {}),
     ("uint8", [[1, 2]], {"mode": "constant", "cval": 0.5}), ("uint8", [[1, 2]], {"mode": "constant", "cval": 2**53}),
     ("uint8", [[1, 2]], {"mode": "constant", "cval": np.inf})],
)  # fmt: skip
def test_what_is_not_exact_is_refused(dtype, kernel, options):
    for method in ("auto", "direct", "separable"):
        with pytest.raises(UnsupportedError, match="exact"):
            convolve(np.ones((4, 5), dtype), kernel, exact=True, method=method, **options)
    with pytest.raises(UnsupportedError, match="separable method cannot serve: exact"):
        convolve(np.ones((4, 5), "uint8"), [[1, 2]], exact=True, method="separable")


def test_only_what_lies_in_reach_decides_what_is_exact():
    image = noise((9, 9), "uint8")
    assert (convolve(image, [[1, 2]], exact=True, cval=0.5) == convolve(image, [[1, 2]], exact=True)).all()


# --------------------------------------------------------------------------------------------------- the same bytes
def cut_up(filter, pixels, tile, bands, threads, **options):
    """Yield an image filtered with tiles of so many columns: in memory, in bands or blocks, and as a stream."""
    height, width, _ = pixels.shape
    plan = plan_array(filter, describe(pixels), pixels.dtype, threads, **options)
    size = plan.tile[0], 2 * tile
    out = np.zeros_like(pixels)
    filter_array(dataclasses.replace(plan, tile=size), pixels, out)
    yield out
    unlimited = Resources(threads, sys.maxsize)
    if options["mode"] != "wrap":
        read = dataclasses.replace(describe(pixels), grain=Grain(2, 2))
        plan = plan_stream(filter, read, read, unlimited, 0, **options)
        plan = dataclasses.replace(plan, bands=Bands(2 * bands[0], 2 * bands[1], 0), tile=size)
        out = np.zeros_like(pixels)
        filter_copied(plan, ArraySource(pixels), ArraySink(out))
        yield out
    source = WatchfulSource(pixels, grain=Grain(3, 5))
    sink = WatchfulSink(spec(pixels, Grain(2, width)), source=source)
    plan = plan_stream(filter, source.images[0], sink.images[0], unlimited, 0, **options)
    kept = -(-min(height, 4 * bands[0] + 2 * plan.halo[0] + 3) // 3) * 3
    filter_stream([dataclasses.replace(plan, bands=Bands(2 * bands[0], width, kept))], source, sink)
    yield sink.results[0]


@pytest.mark.parametrize("method", METHODS)
@given(
    shape=st.tuples(st.integers(1, 150), st.integers(1, 300), st.integers(1, 3)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    rank=st.integers(1, 3),
    dtype=st.sampled_from(["uint8", "uint16", "float32", "float64"]),
    mode=st.sampled_from(MODES),
    tile=st.integers(1, 160),
    bands=st.tuples(st.integers(1, 80), st.integers(1, 160)),
    threads=st.integers(1, 3),
)
def test_same_bytes_however_it_is_cut(method, shape, size, rank, dtype, mode, tile, bands, threads):
    image, kernel = noise(shape, dtype), of_rank(rank, size)
    options = {"mode": mode, "cval": 3.0, "method": method}
    expected = convolve(image, kernel, channel_axis=-1, threads=1, **options)
    for result in cut_up(Convolution(kernel), image, tile, bands, threads, **options):
        assert result.tobytes() == expected.tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_same_bytes_for_every_number_of_threads(method):
    image = noise((517, 901, 3), "float32")
    image[100, 100] = np.nan
    for kernel in (of_rank(1, (7, 6)), of_rank(2, (7, 6))):
        expected = convolve(image, kernel, channel_axis=-1, method=method, threads=1)
        for threads in (2, 3, 50):
            result = convolve(image, kernel, channel_axis=-1, method=method, threads=threads)
            assert result.tobytes() == expected.tobytes()


# --------------------------------------------------------------------------------------------------------- averages
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_flat_images_stay_flat(dtype, method):
    averages = ["box:5x4", "box:1x9", "gaussian:2", "gaussian:0.7,4", "box:13x1"]
    averages += [] if method == "separable" else ["disk:3.3", "motion:9,30deg", "sharpen", sparse_average((6, 7), 3)]
    for value in noise((1, 2), dtype)[0] if dtype != "bool" else [False, True]:
        image = np.full((37, 70), value, dtype)
        for kernel in averages:
            for mode in MODES:
                result = convolve(image, kernel, mode=mode, cval=float(value), method=method)
                assert result.tobytes() == image.tobytes(), (kernel, mode)


@pytest.mark.parametrize("method", METHODS)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 10**6),
    share=st.sampled_from([0.2, 0.6, 1.0]),
    dtype=st.sampled_from(["float32", "float64"]),
    low=st.floats(-1e6, 1e6, width=32),
    extent=st.floats(0, 1e6, width=32),
    extremes=st.booleans(),
)
def test_averages_stay_in_the_range_of_the_image(method, size, seed, share, dtype, low, extent, extremes):
    random = np.random.default_rng(seed)
    kernel = sparse_average(size, seed, share)
    if method == "separable":
        kernel = np.outer(sparse_average((size[0], 1), seed, share), sparse_average((1, size[1]), seed + 1, share))
    picture = random.uniform(size=(40, 71))
    image = np.where(picture < 0.5, low, low + extent) if extremes else low + extent * picture
    image = image.astype(dtype)
    result = convolve(image, kernel, mode="wrap", method=method)
    assert image.min() <= result.min()
    assert result.max() <= image.max()


@pytest.mark.parametrize("side", [31, 63, 101])
@pytest.mark.parametrize("method", METHODS)
def test_large_averages(side, method):
    image = noise((150, 140), "float32")
    kernel = np.full((side, side), side**-2.0)
    assert_like_oracle(image, kernel, method=method)
    corners = np.zeros((side, side))
    corners[0, 0] = corners[-1, 0] = 0.5
    assert_like_oracle(image, corners, method=method)


# ---------------------------------------------------------------------------------------------- products and choice
def test_kernels_that_are_no_products_are_refused():
    with pytest.raises(UnsupportedError, match=r"separable method cannot serve.*three products.*direct"):
        convolve(np.zeros((9, 9)), np.eye(4), method="separable")
    for method in METHODS:
        assert not convolve(np.ones((5, 6)), np.zeros((3, 4)), method=method).any()
    with pytest.raises(UnsupportedError, match=r"multirate method cannot serve.*Gaussians"):
        convolve(np.zeros((9, 9)), np.eye(4), method="multirate")


# -------------------------------------------------------------------------------------------------------- arguments
WRONG = [
    ({"kernel": [1, 2]}, ValueError, r"kernel has the shape \(2,\).*2-D"),
    ({"kernel": np.ones((0, 2))}, ValueError, "kernel has the shape"),
    ({"kernel": np.ones((1, 4002))}, ValueError, "kernel has the shape.*4001"),
    ({"kernel": [[1, 2], [3]]}, (TypeError, ValueError), "kernel "),
    ({"kernel": [[1j]]}, TypeError, "kernel has the dtype complex128.*real"),
    ({"kernel": [["a"]]}, TypeError, "kernel has the dtype"),
    ({"kernel": None}, TypeError, "kernel has the dtype object"),
    ({"kernel": [[1, np.nan]]}, ValueError, "kernel .*finite"),
    ({"kernel": np.full((1, 1), np.longdouble("1e400"))}, ValueError, "kernel .*finite"),
    ({"kernel": "disk"}, ValueError, "kernel is 'disk'.*disk:RADIUS"),
    ({"kernel": "dsik:3"}, blurfast.errors.UnreadableError, "did you mean 'disk'"),
    ({"kernel": "missing.npy"}, blurfast.errors.UnreadableError, "missing.npy"),
    ({"origin": 2}, ValueError, "origin is 2.*from -1,-2 to 1,1"),
    ({"origin": (0, -3)}, ValueError, r"origin is \(0, -3\).*from -1,-2 to 1,1"),
    ({"origin": 0.5}, TypeError, "origin is 0.5.*integer"),
    ({"origin": (0, 0, 0)}, ValueError, "origin has 3 values"),
    ({"origin": 10**9}, ValueError, "origin is 1000000000"),
    ({"kernel": [[1, -1]], "normalize": True}, ValueError, "normalize is True.*zero"),
    ({"kernel": np.zeros((3, 3)), "normalize": True}, ValueError, "normalize is True.*zero"),
    ({"image": np.zeros(5)}, ValueError, "image has 1 dimensions"),
    ({"mode": "fold"}, ValueError, "mode is 'fold'"),
    ({"cval": "3"}, TypeError, "cval is '3'"),
    ({"method": "magic"}, ValueError, "method is 'magic'.*direct"),
    ({"backend": "cuda"}, UnsupportedError, "driver.*or use the cpu backend"),
    ({"threads": 0}, ValueError, "threads is 0"),
    ({"out": np.zeros((7, 6))}, ValueError, "out has the shape"),
]


@pytest.mark.parametrize("function", [convolve, correlate])
@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_wrong_arguments_are_named(function, arguments, error, message):
    with pytest.raises(error, match=message):
        function(**{"image": np.zeros((6, 7)), "kernel": np.ones((3, 4))} | arguments)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (5, 0, 3)])
def test_empty_images(shape, method):
    result = convolve(np.empty(shape, "uint8"), "box:3", channel_axis=-1 if len(shape) == 3 else None, method=method)
    assert (result.shape, result.dtype) == (shape, np.uint8)
