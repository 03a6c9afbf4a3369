"""The CUDA backend as users meet it, with the executor of PTX as the only device.

What is compared: the CPU's results, which other tests hold against the oracle. What is not checked: speed, and the
driver itself.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

import blurfast
from blurfast.choices import BACKENDS
from blurfast.cuda.device import DeviceError, DeviceMemoryError
from tests import tolerances
from tests.cli_runs import run
from tests.executor_provider import executor, executors
from tests.pictures import noise

PAIRS = np.random.default_rng(3).random((2, 2, 7))
FILTERS = {
    "separable": blurfast.Gaussian(1.5),
    "derivative": blurfast.Gaussian(2, order=(0, 1)),
    "sum of products": blurfast.Convolution(np.add(*[np.outer(*pair) for pair in PAIRS]), normalize=True),
    "multirate": blurfast.Gaussian(12),
    "direct": blurfast.Convolution(np.random.default_rng(1).random((5, 6)), normalize=True),
    "fft": blurfast.Convolution(np.random.default_rng(2).random((21, 18)), normalize=True),
}
METHODS = {"derivative": "separable", "sum of products": "separable"}


def assert_near_the_cpu(result, expected):
    """Assert that two backends agree: to one level, or to 1e-6 of the range."""
    assert result.dtype == expected.dtype
    if result.dtype.kind in "iu":
        assert np.abs(result.astype(np.int64) - expected.astype(np.int64)).max() <= 1
    else:
        tolerances.assert_near(result, expected.astype(np.float64), np.ptp(expected))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("name", FILTERS)
def test_arrays_equal_the_cpu(name, dtype):
    image, method = noise((70, 93), dtype), METHODS.get(name, name)
    expected = blurfast.apply(FILTERS[name], image, method=method, backend="cpu")
    with executor() as device:
        result = blurfast.apply(FILTERS[name], image, method=method, backend="cuda")
    assert device.executed
    assert_near_the_cpu(result, expected)


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_edge_modes_equal_the_cpu(mode):
    image = noise((19, 23), "uint16")
    expected = blurfast.gaussian(image, 3, mode=mode, cval=900, backend="cpu")
    with executor():
        assert_near_the_cpu(blurfast.gaussian(image, 3, mode=mode, cval=900, backend="cuda"), expected)


def test_colours_with_opacity_equal_the_cpu(tmp_path):
    image = noise((40, 50, 4), "uint8")
    tifffile.imwrite(tmp_path / "in.tif", image, photometric="rgb", extrasamples=["unassalpha"])
    for backend in ("cpu", "cuda"):
        with executor():
            blurfast.filter_file(
                tmp_path / "in.tif", tmp_path / f"{backend}.tif", blurfast.Gaussian(2), backend=backend
            )
    assert_near_the_cpu(tifffile.imread(tmp_path / "cuda.tif"), tifffile.imread(tmp_path / "cpu.tif"))


def test_command_streams_a_file_through_the_device(tmp_path):
    image = noise((200, 150), "uint16")
    tifffile.imwrite(tmp_path / "in.tif", image, rowsperstrip=16)
    assert run("gaussian", tmp_path / "in.tif", tmp_path / "cpu.tif", "--sigma", "3", "--backend", "cpu").status == 0
    with executor() as device:
        arguments = "--sigma", "3", "--backend", "cuda", "--device-memory", "120KB", "--json"
        done = run("gaussian", tmp_path / "in.tif", tmp_path / "cuda.tif", *arguments)
    assert done.status == 0, done.stderr
    assert json.loads(done.stdout)["pixels"] == image.size
    targets = {executed.launch.arguments[-4] for executed in device.executed}
    assert len(targets) > 1, "it was filtered in one tile"
    assert_near_the_cpu(tifffile.imread(tmp_path / "cuda.tif"), tifffile.imread(tmp_path / "cpu.tif"))


def test_result_does_not_depend_on_the_tiles():
    image = noise((120, 90), "float32")
    results = []
    for memory in (2**30, 300_000):
        with executor(memory):
            results.append(blurfast.gaussian(image, 2, method="separable", backend="cuda"))
    np.testing.assert_array_equal(*results)


def test_device_by_number():
    image = noise((20, 30), "uint8")
    with executor():
        np.testing.assert_array_equal(
            blurfast.gaussian(image, 1, backend="cuda:0"), blurfast.gaussian(image, 1, backend="cuda")
        )
        with pytest.raises(blurfast.UnsupportedError, match=r"there is no CUDA device 3.*; use device 0"):
            blurfast.gaussian(image, 1, backend="cuda:3")


def test_auto_weighs_the_device_against_the_cpu(tmp_path):
    tifffile.imwrite(tmp_path / "small.tif", noise((64, 64), "uint8"))
    with executor() as device:
        done = run("gaussian", tmp_path / "small.tif", "--sigma", "2", "--explain")
    assert not device.executed
    lines = [line for line in done.stdout.splitlines() if line.split()[0] == "backend"]
    assert len(lines) == 2
    assert "cpu: taken, about" in lines[0]
    assert "cuda: not taken, about" in lines[1]
    assert "executor, with its start and all transfers" in lines[1]


def test_auto_takes_a_device_that_pays():
    huge = blurfast.io.base.ImageSpec(40_000, 40_000, 1, np.dtype("float32"), blurfast.io.base.Grain(1, 40_000))
    with executor(memory=2**34):
        plan = blurfast.planning.plan_array(
            blurfast.Convolution(np.random.default_rng(0).random((61, 61))), huge, np.dtype("float32"), 1
        )
    assert plan.backend == "cuda"
    assert "on executor in tiles of" in plan.explain()


def test_without_a_device(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", noise((64, 64), "uint8"))
    done = run("gaussian", tmp_path / "in.tif", tmp_path / "out.tif", "--sigma", "2", "--backend", "cuda")
    assert done.status == 4
    assert not (tmp_path / "out.tif").exists()
    (line,) = done.stderr.splitlines()
    assert "driver" in line
    assert "or use the cpu backend" in line
    assert "cuda" in BACKENDS


@pytest.mark.parametrize(("failure", "status"), [(DeviceError("it broke"), 4), (DeviceMemoryError("it is full"), 5)])
def test_failing_device_leaves_no_output(tmp_path, failure, status):
    tifffile.imwrite(tmp_path / "in.tif", noise((64, 64), "uint8"))
    with executor(failure=failure):
        done = run("gaussian", tmp_path / "in.tif", tmp_path / "out.tif", "--sigma", "2", "--backend", "cuda")
    assert done.status == status
    assert failure.fact in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def test_too_little_device_memory_is_no_lack_of_ability(tmp_path):
    """Whether it is planned or done, and for whatever method; without a choice of backend the CPU does it."""
    source, target = tmp_path / "in.tif", tmp_path / "out.tif"
    tifffile.imwrite(source, noise((64, 64), "uint8"))
    limit = {"device_memory": "1KB"}
    with executor():
        for method in ("auto", "direct", "fft"):
            with pytest.raises(blurfast.MemoryBudgetError, match="use --device-memory"):
                blurfast.filter_file(source, target, FILTERS["direct"], backend="cuda", method=method, **limit)
        for rest in ([target], ["--explain"]):
            done = run("gaussian", source, *rest, "--sigma", "2", "--backend", "cuda", "--device-memory", "1KB")
            assert done.status == 5
            assert "no tile fits into" in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]
        (plan,) = blurfast.files.plan_file(source, FILTERS["separable"], **limit)
        assert plan.backend == "cpu"


def test_files_are_spread_over_all_devices(tmp_path):
    for number in range(4):
        tifffile.imwrite(tmp_path / f"{number}.tif", noise((64, 64), "uint8"))
    files = sorted(tmp_path.glob("*.tif"))
    with executors(2) as devices:
        done = run("gaussian", *files, "--out-dir", tmp_path / "out", "--sigma", "1", "--device", "all")
    assert done.status == 0, done.stderr
    assert all(device.executed for device in devices)
    expected = blurfast.gaussian(noise((64, 64), "uint8"), 1)
    for path in files:
        assert_near_the_cpu(tifffile.imread(tmp_path / "out" / path.name), expected)


@pytest.mark.parametrize(
    ("options", "status", "fact"),
    [
        (["--backend", "cpu", "--device", "0"], 2, "the cpu backend has no devices"),
        (["--device", "first"], 2, "'first' is neither the number of a GPU, such as 0, nor all"),
        (["--device", "all"], 4, "driver"),
    ],
)
def test_devices_that_cannot_be_had(tmp_path, options, status, fact):
    done = run("gaussian", tmp_path / "in.tif", tmp_path / "out.tif", "--sigma", "1", *options)
    assert done.status == status
    assert fact in done.stderr
