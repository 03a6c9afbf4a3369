"""The comparison of CPU and GPU: what it measures on a device, what it counts, and what it prints."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs the extra cuda-test")

import blurfast
from benchmarks import gpu, gpu_traffic
from benchmarks.gpu import Result, Stages
from benchmarks.gpu_traffic import bytes_per_pixel, megapixels_per_second, method_for
from blurfast.bench.blurfast_runs import plan_case
from blurfast.bench.cases import Case
from blurfast.cuda import probe
from blurfast.cuda.device import DeviceError
from blurfast.weights import multirate_gaussian
from tests import tolerances
from tests.executor_provider import executor
from tests.pictures import noise

SUM_OF_TWO = blurfast.Convolution(np.outer([1, 2, 1], [1, 3, 1]) - np.outer([1, 0, -1], [0.5, 1, 0]), normalize=True)
DENSE = blurfast.Convolution(np.random.default_rng(0).random((5, 7)), normalize=True)


# -------------------------------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize(
    ("filter", "method", "pixels", "expected"),
    [
        (blurfast.Gaussian(1), "separable", "float32", 4 + 4),
        (blurfast.Gaussian(1), "separable", "uint8", 1 + 1),
        (blurfast.Gaussian(6), "separable", "float32", 4 + 4 + 4 + 4),
        (blurfast.Gaussian((6, 0)), "separable", "uint16", 2 + 2),
        (blurfast.Gaussian(6), "separable", "float64", 8 + 8 + 8 + 8),
        (SUM_OF_TWO, "separable", "uint8", 2 * (1 + 4) + 2 * 4 + 1),
        (DENSE, "direct", "uint8", 1 + 1),
    ],
)
def test_bytes_that_each_method_moves(filter, method, pixels, expected):
    assert bytes_per_pixel(method_for(filter, method, pixels)) == expected


def test_bytes_of_multirate_passes_are_those_of_few_samples():
    factor = multirate_gaussian(20.0, 1e-6).factor
    rows, both = 4 / factor, 4 / factor**2
    down, blurs, up = 4 + 2 * rows + both, 4 * both, both + 2 * rows + 4
    assert bytes_per_pixel(method_for(blurfast.Gaussian(20), "multirate", "float32")) == pytest.approx(
        down + blurs + up
    )


def test_transforms_move_their_overlap_too():
    kernel = blurfast.Convolution(np.random.default_rng(0).random((127, 127)))
    whole = 4 + (1 + 4 + 3 + 4 + 1) * 4 + 4
    small, large = (bytes_per_pixel(method_for(kernel, "fft", "float32", side)) for side in (600, 8192))
    assert whole < large < 1.3 * whole < small


def test_arithmetic_is_called_by_its_name():
    lines = gpu_traffic.arithmetic([1000e9, 500e9]).splitlines()
    assert lines[0].startswith("Arithmetic, not measurement: ")
    assert lines[2].endswith("| bytes per pixel | MP/s at 1000 GB/s | MP/s at 500 GB/s |")
    assert lines[4] == "| Gaussian, sigma 1 | separable | float32 | 8.0 | 125000 | 62500 |"
    assert megapixels_per_second(2.0, 500e9) == 250_000


# -------------------------------------------------------------------------------------------------------- measuring


@pytest.mark.parametrize(
    ("filter", "method"),
    [
        (blurfast.Gaussian(1), "separable"),
        (blurfast.Gaussian(6), "separable"),
        (blurfast.Gaussian((0, 2)), "separable"),
        (DENSE, "direct"),
        (DENSE, "fft"),
    ],
)
def test_image_as_a_single_tile_is_filtered_right(filter, method):
    image = noise((40, 57), "float32")
    results = []

    class Recorded(gpu.WholeImage):
        def __call__(self):
            seconds = super().__call__()
            results.append(self.result.copy())
            return seconds

    with executor() as device, pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "WholeImage", Recorded)
        stages = gpu.measure_stages(device, method_for(filter, method, "float32", 57), image, 2)
    assert min(stages.upload, stages.kernels, stages.download) > 0
    assert len(results) == 3
    expected = blurfast.apply(filter, image, method=method, backend="cpu").astype(np.float64)
    for result in results:
        tolerances.assert_near(result, expected, 255.0)


def test_stages_are_medians_without_the_first_turn():
    turns = [(90, 90, 90), (1, 20, 5), (3, 10, 7), (2, 30, 6)]
    seconds = [float(stage) for turn in turns for stage in turn]
    with executor() as device, pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "elapsed", lambda _start, _stop: seconds.pop(0))
        stages = gpu.measure_stages(device, method_for(DENSE, "direct", "uint8", 20), noise((20, 20), "uint8"), 3)
    assert stages == Stages(2, 20, 6)
    assert not seconds


def test_image_that_does_not_fit_has_no_stages():
    with executor(memory=10_000) as device:
        method = method_for(DENSE, "direct", "float32", 64)
        assert gpu.measure_stages(device, method, noise((64, 64), "float32"), 1) is None


def test_copies_are_counted_both_ways(monkeypatch):
    monkeypatch.setattr(gpu, "_MOST_COPIED_BYTES", 200_000)
    seconds = [100.0, 1.0, 4.0, 2.0]
    with executor() as device, pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "elapsed", lambda _start, _stop: seconds.pop(0))
        assert gpu.copied_bytes(device, 3) == 2 * 3 * 65536 / 2.0


def test_case_is_measured_on_both():
    case = Case("gaussian", 40, "uint8", sigma=1.0, threads=1)
    with executor() as device:
        planned = plan_case(replace(case, backend="cuda"))
        result = gpu.measure(case, device, ceiling=1e12, repeats=1, budget=1.0)
    assert (result.title, result.cpu_method, result.method) == (case.title, "separable", planned.method)
    assert result.moved == bytes_per_pixel(planned.operation.method) * 40 * 40
    assert result.share == result.moved / result.stages.kernels / 1e12
    assert min(result.cpu, result.total) > 0
    assert result.difference <= 1


def test_every_filter_for_every_image():
    cases = gpu.all_cases([1024, 16384], ["uint8", "float32"], 2)
    assert len(cases) == len(set(cases)) == 4 * 7
    assert {case.side for case in cases[:7]} == {1024}
    assert {case.sigma for case in cases} == {0, 1, 5, 20, 50}
    assert {case.kernel_side for case in cases} == {0, 7, 31, 127}


# -------------------------------------------------------------------------------------------------------- reporting

RESULT = Result(
    title="gaussian, sigma 5, 1024 x 1024 float32",
    cpu_method="separable",
    method="multirate",
    cpu=0.03,
    total=0.004,
    stages=Stages(0.0015, 0.0002, 0.0016),
    moved=16e6,
    share=0.08,
    difference=3e-7,
)


def test_report_shows_ratio_stages_and_traffic():
    lines = gpu.render("Test device", 1e12, [RESULT]).splitlines()
    assert lines[0].startswith("Test device, within which a copy moves 1000.0 GB/s.")
    assert lines[-1] == (
        "| gaussian, sigma 5, 1024 x 1024 float32 | separable | multirate | 30.0 | 4.0 | **7.5** "
        "| 1.5 | 0.20 | 1.6 | 80.0 | 8% | 3e-07 |"
    )


def test_report_has_dashes_where_the_image_did_not_fit():
    without = Result(**{**vars(RESULT), "stages": None, "share": None})
    assert gpu.render("Test device", 1e12, [without]).splitlines()[-1].endswith("| - | - | - | - | - | 3e-07 |")


def test_run_writes_its_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "SIGMAS", (1.0,))
    monkeypatch.setattr(gpu, "KERNEL_SIDES", (3,))
    monkeypatch.setattr(gpu, "_MOST_COPIED_BYTES", 200_000)
    path = tmp_path / "there is none" / "figures.json"
    with executor():
        assert gpu.main(["--side", "32", "--pixels", "uint8", "--repeats", "1", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    titles = ["gaussian, sigma 1, 32 x 32 uint8", "convolve, 3 x 3, 32 x 32 uint8"]
    assert [result["title"] for result in report["results"]] == titles
    assert report["device"]["name"] == "executor"
    assert report["copied bytes per second"] > 0
    printed = capsys.readouterr().out
    assert all(f"| {title} |" in printed for title in titles)


def test_without_a_device_it_says_so(capsys):
    class Nothing:
        def properties(self):
            raise DeviceError("there is no driver", remedy="install one")

    with probe.use(Nothing()):
        assert gpu.main([]) == 4
    assert capsys.readouterr().err == "there is no GPU to measure: there is no driver; install one\n"


def test_arithmetic_takes_no_device(capsys):
    assert gpu.main(["--arithmetic", "--bandwidth", "1000"]) == 0
    assert "| bytes per pixel | MP/s at 1000 GB/s |" in capsys.readouterr().out
