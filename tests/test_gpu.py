"""The CUDA backend on real devices: the driver, cuFFT and machine code, which nothing else of the tests can try.

All tests are skipped, and say why, where there is no device. ``make test-gpu`` runs them. The same filters are held
against the oracle, against the CPU, and through files and arrays of other libraries.
"""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import tifffile

import blurfast
from blurfast.boundary import MODES
from blurfast.cuda import probe
from blurfast.io.array import describe
from blurfast.methods import Job, candidates
from tests import naive, tolerances
from tests.cli_runs import run, run_process, single_line
from tests.pictures import DTYPES, checker, noise

DEVICES = probe.survey().devices
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not DEVICES, reason=f"no GPU: {probe.why_none()}")]

SHARE_OFF_THE_CPU = 1e-6
"""Of the range, for float32; integers are one level off at most."""

UNEVEN = np.random.default_rng(1).random((5, 6))
LARGE = np.random.default_rng(2).random((21, 18))
FILTERS = {
    "separable": blurfast.Gaussian(1.7),
    "multirate": blurfast.Gaussian((11.0, 9.0)),
    "direct": blurfast.Convolution(UNEVEN / UNEVEN.sum()),
    "fft": blurfast.Convolution(LARGE / LARGE.sum()),
}
"""By the method that is asked to carry them out."""

OTHER_PASSES = {
    "wide": blurfast.Gaussian(6.0),
    "down only": blurfast.Gaussian((3.0, 0)),
    "along only": blurfast.Gaussian((0, 3.0)),
    "derivative": blurfast.Gaussian(2.0, order=(0, 1)),
    "sum of products": blurfast.Convolution(np.outer([1.0, 2, 1], [1.0, 3, 1]) - np.outer([1.0, 0, -1], [0.5, 1, 0])),
}
"""What the separable method does otherwise than above."""


def exact_result(filter, image, mode="reflect", cval=0.0):
    """Return what the oracle makes of one channel."""
    pixels = image.astype(np.float64)
    if isinstance(filter, blurfast.Gaussian):
        return naive.gaussian(pixels, filter.sigmas, order=filter.orders, mode=mode, cval=cval)
    return naive.convolve_kernel(pixels, filter.weights[::-1, ::-1], mode, cval)


def serves(method: str, dtype: str) -> bool:
    image = describe(noise((70, 93, 1), dtype))
    return not isinstance(candidates(Job(FILTERS[method], image, np.dtype(dtype), "reflect", 0.0))[method], str)


def assert_near_the_cpu(result, expected):
    assert result.dtype == expected.dtype
    if result.dtype.kind in "iu":
        tolerances.count_wrong(result, expected)
    else:
        share = SHARE_OFF_THE_CPU if result.dtype == np.float32 else 0.0
        tolerances.assert_near(result, expected.astype(np.float64), float(np.ptp(expected)), share)


# ------------------------------------------------------------------------------------------------------- the oracle


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("method", "dtype"), [(method, dtype) for method in FILTERS for dtype in DTYPES if serves(method, dtype)]
)
def test_every_method_and_dtype_is_like_the_oracle(method, dtype, mode):
    for image in (noise((70, 93), dtype), checker((1, 40), dtype), noise((33, 1), dtype), noise((1, 1), dtype)):
        result = blurfast.apply(FILTERS[method], image, mode=mode, cval=1, method=method, backend="cuda")
        assert result.dtype == image.dtype
        exact = exact_result(FILTERS[method], image, mode, 1)
        tolerances.assert_exact(result, exact, tolerances.spread(image, mode, 1))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("name", OTHER_PASSES)
def test_other_passes_are_like_the_oracle(name, dtype):
    filter, image = OTHER_PASSES[name], noise((130, 201), dtype)
    out = np.empty(image.shape, "float64" if dtype == "float64" else "float32")
    result = blurfast.apply(filter, image, method="separable", backend="cuda", out=out)
    tolerances.assert_near(result, exact_result(filter, image), 20 * tolerances.spread(image))


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64"])
def test_multirate_of_wide_integers(dtype):
    """Unless a tolerance is given, it is not exact enough for them."""
    image = noise((150, 131), dtype)
    filter = blurfast.Gaussian(9.0, tolerance=1e-6)
    result = blurfast.apply(filter, image, method="multirate", backend="cuda")
    error = np.abs(result - exact_result(filter, image)).max()
    assert error <= 1e-6 * tolerances.spread(image) + 0.5


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 64])
@pytest.mark.parametrize("method", FILTERS)
def test_channels_are_filtered_apart(method, channels):
    image = noise((41, 38, channels), "float32")
    result = blurfast.apply(FILTERS[method], image, channel_axis=-1, method=method, backend="cuda")
    for channel in range(channels):
        exact = exact_result(FILTERS[method], image[..., channel])
        tolerances.assert_near(result[..., channel], exact, tolerances.spread(image))


@pytest.mark.parametrize("method", ["separable", "direct", "fft"])
def test_nan_and_infinities_reach_as_far_as_the_weights(method):
    image = noise((60, 75), "float32")
    image[30, 40], image[5, 5], image[59, 70] = np.nan, np.inf, -np.inf
    filter = blurfast.Convolution(np.outer([1.0, 2, 1], [1.0, 3, 2, 1])) if method == "separable" else FILTERS[method]
    result = blurfast.apply(filter, image, method=method, backend="cuda")
    with np.errstate(invalid="ignore"):
        exact = exact_result(filter, image)
    for is_so in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(is_so(result), is_so(exact))
    finite = np.isfinite(exact)
    tolerances.assert_near(result[finite], exact[finite], 255 * max(1.0, float(filter.weights.sum())))


@pytest.mark.parametrize("method", FILTERS)
def test_flat_images_stay_flat(method):
    for image in (np.full((300, 411), 1 / 3, "float32"), np.full((70, 80), 65535, "uint16")):
        result = blurfast.apply(FILTERS[method], image, method=method, backend="cuda")
        np.testing.assert_array_equal(result, image)


# ----------------------------------------------------------------------------------------------------------- the CPU


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("method", FILTERS)
def test_large_images_equal_the_cpu(method, dtype):
    image = noise((2111, 3001), dtype)
    options = {"method": method, "mode": "mirror"}
    expected = blurfast.apply(FILTERS[method], image, backend="cpu", **options)
    assert_near_the_cpu(blurfast.apply(FILTERS[method], image, backend="cuda", **options), expected)


@pytest.mark.parametrize("method", ["separable", "multirate", "direct"])
def test_results_do_not_depend_on_chance(method):
    """Blocks and tiles run in any order; a race would show as another result."""
    image = noise((1500, 1700), "float32")
    results = {blurfast.apply(FILTERS[method], image, method=method, backend="cuda").tobytes() for _repeat in range(10)}
    assert len(results) == 1


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: f"cuda:{device.index}")
def test_every_device_by_its_number(device):
    image = noise((500, 600), "uint8")
    result = blurfast.gaussian(image, 2, backend=f"cuda:{device.index}")
    assert_near_the_cpu(result, blurfast.gaussian(image, 2, backend="cpu"))


# -------------------------------------------------------------------------------------------- memory, threads and time


def test_threads_share_a_device():
    images = [noise((700, 900), dtype, seed) for seed, dtype in enumerate(["uint8", "float32", "uint16", "float32"])]
    results = [None] * len(images)

    def work(number):
        for _repeat in range(5):
            results[number] = blurfast.gaussian(images[number], 2.5, backend="cuda")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for image, result in zip(images, results, strict=True):
        assert_near_the_cpu(result, blurfast.gaussian(image, 2.5, backend="cpu"))


def test_all_memory_is_given_back():
    device = probe.open_device()
    image = noise((1000, 1000), "float32")

    def free_after_filtering():
        for name, filter in FILTERS.items():
            blurfast.apply(filter, image, method=name, backend="cuda")
        with device.activate():
            return device.free_memory()

    before = free_after_filtering()  # the driver keeps some for itself
    assert min(free_after_filtering() for _repeat in range(5)) >= before - 2**20


def test_events_measure_time():
    device = probe.open_device()
    with device.activate():
        stream, start, stop = device.open_stream(), device.open_event(), device.open_event()
        memory, address = device.allocate_host(2**26), device.allocate(2**26)
        memory[...] = np.arange(2**26) % 251
        device.record(start, stream)
        device.upload(address, memory, stream)
        device.record(stop, stream)
        device.synchronize(stop)
        seconds = device.elapsed(start, stop)
        memory[...] = 0
        device.download(memory, address, stream)
        device.synchronize_stream(stream)
        arrived = memory.copy()
        device.release(address)
        device.release_host(memory)
        device.close_event(start)
        device.close_event(stop)
        device.close_stream(stream)
    np.testing.assert_array_equal(arrived, np.arange(2**26) % 251)
    assert 2**26 / 1e12 < seconds < 1  # between 64 MB/s and what no bus has


# ------------------------------------------------------------------------------------------- arrays of other libraries


def cupy_array(image):
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    return cupy.asarray(image)


def torch_array(image):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    return torch.from_numpy(image).cuda()


def numba_array(image):
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    from numba import cuda

    return cuda.to_device(image)


LIBRARIES = {"cupy": cupy_array, "torch": torch_array, "numba": numba_array}


def as_numpy(array):
    """Copy an array of any of these libraries to the host."""
    for method in ("get", "copy_to_host"):
        if hasattr(array, method):
            return getattr(array, method)()
    return array.cpu().numpy()


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("method", FILTERS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_arrays_on_the_device_stay_there(library, method, dtype):
    image = noise((1203, 1510), dtype)
    array = LIBRARIES[library](image)
    result = blurfast.apply(FILTERS[method], array, method=method)
    assert type(result) is type(array)
    assert_near_the_cpu(as_numpy(result), blurfast.apply(FILTERS[method], image, method=method, backend="cpu"))
    np.testing.assert_array_equal(as_numpy(array), image)


@pytest.mark.parametrize("sigma", [2.0, (0, 3.0), (3.0, 0), (0, 0)])
@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_views_and_targets(library, sigma):
    image = noise((402, 517), "float32")
    array, out = LIBRARIES[library](image), LIBRARIES[library](np.zeros_like(image))
    expected = blurfast.gaussian(np.ascontiguousarray(image[::2, 3:500]), sigma, backend="cpu")
    assert blurfast.gaussian(array[::2, 3:500], sigma, out=out[::2, 3:500]) is not None
    result = as_numpy(out)
    assert_near_the_cpu(result[::2, 3:500], expected)
    result[::2, 3:500] = 0
    assert not result.any(), "something beside the view is overwritten"


@pytest.mark.parametrize(("shape", "axis"), [((300, 400, 3), -1), ((3, 300, 400), 0)])
@pytest.mark.parametrize("library", LIBRARIES)
def test_channels_of_arrays_on_the_device(library, shape, axis):
    image = noise(shape, "uint8")
    result = blurfast.gaussian(LIBRARIES[library](image), 2, channel_axis=axis)
    assert_near_the_cpu(as_numpy(result), blurfast.gaussian(image, 2, channel_axis=axis, backend="cpu"))


def test_work_of_other_streams_is_waited_for():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    image = noise((2000, 2000), "float32")
    with cupy.cuda.Stream(non_blocking=True):
        array = cupy.asarray(image)
        for _repeat in range(50):  # keeps the stream busy, so that who does not wait comes too early
            array = cupy.sqrt(array * array + 1)
        result = as_numpy(blurfast.gaussian(array, 2) - 0)
    expected = image
    for _repeat in range(50):
        expected = np.sqrt(expected * expected + 1)
    tolerances.assert_near(result, blurfast.gaussian(expected.astype("float64"), 2), float(np.ptp(expected)), 1e-5)


# ----------------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def scan(tmp_path):
    """Return a file of several megapixels in compressed strips, and its pixels."""
    image = noise((2500, 3100), "uint16")
    tifffile.imwrite(tmp_path / "in.tif", image, rowsperstrip=64, compression="zlib")
    return tmp_path / "in.tif", image


def filtered_file(path, command, *arguments):
    output = path.with_name("out.tif")
    done = run(command, path, output, "--overwrite", "--json", *arguments)
    assert done.status == 0, done.stderr
    assert json.loads(done.stdout)
    return tifffile.imread(output)


@pytest.mark.parametrize("memory", ["4MB", "16MB", "100MB"])
def test_images_larger_than_the_devices_memory(scan, memory):
    path, image = scan
    result = filtered_file(path, "gaussian", "--sigma", "4", "--backend", "cuda", "--device-memory", memory)
    assert_near_the_cpu(result, blurfast.gaussian(image, 4.0, backend="cpu"))


def test_images_larger_than_all_memory(scan):
    path, image = scan
    output = path.with_name("out.tif")
    limits = "--max-memory", "600MB", "--device-memory", "8MB"
    done = run_process("gaussian", path, output, "--sigma", "20", "--backend", "cuda", *limits)
    assert done.status == 0, done.stderr
    assert_near_the_cpu(tifffile.imread(output), blurfast.gaussian(image, 20.0, backend="cpu"))


@pytest.mark.parametrize(("method", "kernel"), [("direct", "disk:6"), ("fft", "disk:6"), ("separable", "box:3x9")])
def test_convolutions_of_files(scan, method, kernel):
    path, image = scan
    result = filtered_file(path, "convolve", "--kernel", kernel, "--backend", "cuda", "--method", method)
    assert_near_the_cpu(result, filtered_file(path, "convolve", "--kernel", kernel, "--backend", "cpu"))
    assert result.shape == image.shape


def test_colours_with_opacity(tmp_path):
    image = noise((400, 500, 4), "uint8")
    tifffile.imwrite(tmp_path / "in.tif", image, photometric="rgb", extrasamples=["unassalpha"])
    results = [
        filtered_file(tmp_path / "in.tif", "gaussian", "--sigma", "3", "--backend", backend)
        for backend in ("cpu", "cuda")
    ]
    assert_near_the_cpu(*results[::-1])


def test_plan_names_the_device(scan):
    done = run("gaussian", scan[0], "--sigma", "4", "--backend", "cuda", "--explain")
    assert done.status == 0, done.stderr
    assert f"on {DEVICES[0].name} in tiles of" in done.stdout


def test_too_little_memory_is_refused(scan):
    output = scan[0].with_name("out.tif")
    done = run("gaussian", scan[0], output, "--sigma", "4", "--backend", "cuda", "--device-memory", "1KB")
    assert done.status == 5
    assert "use --device-memory " in single_line(done.stderr)
    assert not output.exists()
