"""What `blurfast bench` compares filters alike: every library's whole result is near the exact one."""

from __future__ import annotations

import numpy as np
import pytest

from blurfast.bench import libraries
from blurfast.bench.cases import PIXELS, Case
from blurfast.bench.device_runs import DeviceCopy
from blurfast.bench.ideal import CROP, ideal_corner, largest_error
from blurfast.bench.libraries import LIBRARIES, METHODS, OWN, SAME_KERNEL, Library, find_contestants
from blurfast.bench.selection import PEERS
from tests import naive

SIDE, SIGMA, KERNEL_SIDE = 96, 2.0, 7

GAUSSIANS = {
    OWN: {"uint8": 0.503, "uint16": 0.503, "float32": 1e-6},
    SAME_KERNEL: {"uint8": 0.51, "uint16": 1.2, "float32": 2e-5},
    "OpenCV": {"uint8": 1.0, "uint16": 1.5, "float32": 2e-5},
    "scipy": {"uint8": 2.0, "uint16": 3.0, "float32": 2e-5},
    "scikit-image": {"uint8": 0.01, "uint16": 1.2, "float32": 2e-5},
    "Pillow": {"uint8": 15.0},
    "pyvips": {"uint8": 0.51, "uint16": 1.2, "float32": 2e-5},
    "pyvips, integer": {"uint8": 4.0, "uint16": 400.0},
    "torch": {"uint8": 0.51, "uint16": 1.2, "float32": 2e-5},
}
"""What each library's Gaussian may be off by: in levels, or for floats in shares of the range. Others have none."""

EXACT = {"uint8": 0.501, "uint16": 0.51, "float32": 1e-6}
CONVOLUTIONS = {
    OWN: EXACT,
    f"{OWN}, direct": EXACT,
    f"{OWN}, fft": EXACT,
    "OpenCV": EXACT,
    "scipy, oaconvolve": {"float32": 1e-6},
    "scipy, fftconvolve": {"float32": 1e-6},
    "pyvips": EXACT,
    "torch": EXACT,
}


@pytest.fixture(scope="module")
def installed():
    return find_contestants(PEERS, threads=2).present


def library(installed, name):
    if name not in installed:
        pytest.skip(f"{name} is not installed")
    return installed[name]


def channels_of(image):
    return np.moveaxis(np.atleast_3d(image), -1, 0).astype(np.float64)


def exact(case, image, edges):
    if case.filter == "gaussian":
        planes = [naive.gaussian(plane, case.sigma, mode=edges) for plane in channels_of(image)]
    else:
        planes = [naive.correlate_kernel(plane, case.weights, edges) for plane in channels_of(image)]
    return np.stack(planes, axis=-1)


@pytest.mark.parametrize("kind", PIXELS)
@pytest.mark.parametrize("name", LIBRARIES)
def test_library_filters_the_whole_image(installed, name, kind):
    contestant = library(installed, name)
    for case, accuracy in (
        (Case("gaussian", SIDE, kind, sigma=SIGMA, threads=2), GAUSSIANS),
        (Case("convolve", SIDE, kind, kernel_side=KERNEL_SIDE, threads=2), CONVOLUTIONS),
    ):
        prepared = contestant.prepare(case)
        allowed = accuracy.get(name, {}).get(case.image.dtype.name)
        assert (prepared is None) == (allowed is None), case.title
        if prepared is not None:
            result = np.asarray(prepared.run())
            assert result.shape == case.image.shape
            assert np.abs(np.atleast_3d(result) - exact(case, case.image, prepared.edges)).max() <= allowed


def test_separable_method_takes_kernels_that_are_products(installed):
    case = Case("convolve", SIDE, "float32", kernel_side=KERNEL_SIDE, rank=1, threads=2)
    prepared = installed[f"{OWN}, separable"].prepare(case)
    assert prepared is not None
    assert np.abs(np.atleast_3d(prepared.run()) - exact(case, case.image, "reflect")).max() < 1e-6


def test_what_would_take_minutes_is_left_out(installed):
    case = Case("convolve", 4096, "float32", kernel_side=255, threads=2)
    direct = [name for name in (f"{OWN}, direct", "pyvips", "torch") if name in installed]
    assert [installed[name].prepare(case) for name in direct] == [None] * len(direct)


def test_libvips_computes_every_time(installed):
    case = Case("gaussian", SIDE, "float32", sigma=SIGMA, threads=2)
    image = case.image
    kept = image.copy()
    run = library(installed, "pyvips").prepare(case).run
    before = np.array(run())
    try:
        image[...] = kept[::-1]
        np.testing.assert_allclose(run(), before[::-1], atol=1e-6)
    finally:
        image[...] = kept


@pytest.mark.parametrize("edges", ["reflect", "nearest", "constant"])
@pytest.mark.parametrize(
    "case",
    [
        Case("gaussian", 40, "RGB uint8", sigma=30.0),
        Case("gaussian", CROP + 9, "float32", sigma=1.5),
        Case("convolve", 30, "float32", kernel_side=41),
        Case("convolve", CROP + 9, "uint16", kernel_side=5),
    ],
    ids=lambda case: case.title,
)
def test_ideal_corner_is_that_of_the_oracle(case, edges):
    expected = exact(case, case.image, edges)[:CROP, :CROP]
    scale = max(1.0, float(case.image.max()))
    np.testing.assert_allclose(ideal_corner(case, edges, case.image), expected, atol=1e-12 * scale)
    result = expected.copy()
    result[3, 4, 0] += 0.25 * scale
    assert largest_error(case, result, edges, case.image) == pytest.approx(0.25 * scale)


def test_missing_libraries_are_told_and_left_out(monkeypatch):
    missing = Library("opencv", "there_is_no_such_module")
    monkeypatch.setattr(libraries, "LIBRARIES", {OWN: LIBRARIES[OWN], "missing": missing, "scipy": LIBRARIES["scipy"]})
    found = find_contestants(["opencv"], 1)
    assert found.present == {OWN: LIBRARIES[OWN]}
    assert list(found.absent) == ["missing"]
    assert "there_is_no_such_module" in found.absent["missing"]


def test_options_name_every_library():
    assert set(PEERS) == {library.key for library in LIBRARIES.values()} - {OWN}
    assert {f"{OWN}, {method}" for method in METHODS} < set(LIBRARIES)


def test_stages_on_a_device_are_those_of_the_whole():
    pytest.importorskip("numba_cuda", reason="kernels for devices cannot be compiled here")
    from tests.executor_provider import executor

    case = Case("gaussian", 20, "float32", sigma=1.0, backend="cuda")
    with executor() as device:
        prepared = LIBRARIES[OWN].prepare(case)
        for run in prepared.stages.values():
            run()
        stages = list(prepared.stages)
        target = prepared.stages["on the device"].keywords["out"]
        assert isinstance(target, DeviceCopy)
        result = target._bytes.view(np.float32).reshape(20, 20).copy()
        np.testing.assert_array_equal(result, prepared.run())
        del run, prepared, target
    assert stages == ["host to device", "on the device", "device to host"]
    assert np.abs(result[..., np.newaxis] - exact(case, case.image, "reflect")).max() < 1e-6
    assert device.free_memory() > 0
