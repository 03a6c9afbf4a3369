"""The benchmarks compare like with like, count right, and render what they have measured."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks import libraries, measure, peak_kernels, readme, startup, startup_probe, tables
from benchmarks.cases import Case
from benchmarks.ceilings import Ceilings, fma_flops
from benchmarks.roofline import Work, attain, multirate_flops, work_of
from blurfast.cpu.panels import aligned_zeros
from blurfast.weights import MultirateGaussian, gaussian_taps, multirate_gaussian
from tests import naive

SIDE, SIGMA = 96, 2.0
KINDS = ("uint8", "uint16", "float32", "RGB uint8")

ACCURACY = {
    "blurfast": {"uint8": 0.51, "uint16": 1.2, "float32": 2e-5},
    "blurfast, default": {"uint8": 0.503, "uint16": 0.503, "float32": 1e-6},
    "OpenCV": {"uint8": 1.0, "uint16": 1.5, "float32": 2e-5},
    "scipy": {"uint8": 2.0, "uint16": 3.0, "float32": 2e-5},
    "scikit-image": {"uint8": 0.01, "uint16": 1.2, "float32": 2e-5},
    "Pillow": {"uint8": 15.0},
    "pyvips": {"uint8": 0.51, "uint16": 1.2, "float32": 2e-5},
    "pyvips, integer": {"uint8": 4.0, "uint16": 400.0},
}
"""What each library's result may be off the exact Gaussian by: in levels, or for floats in shares of the range."""


@pytest.fixture(scope="module")
def installed():
    return libraries.installed_libraries(threads=2)


def library(installed, name):
    if name not in installed:
        pytest.skip(f"{name} is not installed")
    return installed[name]


def exact(image, edges):
    planes = np.moveaxis(np.atleast_3d(image), -1, 0)
    return np.stack([naive.gaussian(plane, SIGMA, mode=edges) for plane in planes], axis=-1).reshape(image.shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", libraries.LIBRARIES)
def test_library_blurs_the_whole_image(installed, name, kind):
    contestant = library(installed, name)
    case = Case(SIDE, kind, SIGMA)
    run = contestant.prepare(case, case.image, 2)
    allowed = ACCURACY[name].get(case.image.dtype.name)
    assert (run is None) == (allowed is None)
    if run is not None:
        result = np.asarray(run())
        assert result.shape == case.image.shape
        assert np.abs(result - exact(case.image, contestant.edges)).max() <= allowed


def test_libvips_computes_every_time(installed):
    image = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
    run = library(installed, "pyvips").prepare(Case(SIDE, "float32", SIGMA), image, 2)
    before = np.array(run())
    image[...] = image[::-1].copy()
    np.testing.assert_allclose(run(), before[::-1], atol=1e-6)


def test_missing_libraries_are_named_and_left_out(monkeypatch, capsys):
    present, missing = libraries.LIBRARIES["blurfast"], libraries.Library(libraries.opencv, "there_is_no_such_module")
    monkeypatch.setattr(libraries, "LIBRARIES", {"present": present, "missing": missing})
    assert libraries.installed_libraries(1) == {"present": present}
    assert "missing is left out" in capsys.readouterr().err


def test_every_library_has_a_column():
    assert set(tables.OTHERS) | {"blurfast", tables.DEFAULT} == set(libraries.LIBRARIES)
    assert set(ACCURACY) == set(libraries.LIBRARIES)


class Clock:
    """Stands in for the module `time`; moves when it is told to."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def contestant(self, *seconds):
        """Return a run that takes so long each time, and the list of its results so far."""
        results = []

        def run():
            self.now += seconds[min(len(results), len(seconds) - 1)]
            results.append(len(results))
            return results[-1]

        return run, results


def test_medians_leave_the_warm_up_out_and_keep_to_the_budget(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(measure, "time", clock)
    quick, quick_results = clock.contestant(5.0, 1.0, 3.0, 2.0)
    slow, slow_results = clock.contestant(8.0)
    very_slow, very_slow_results = clock.contestant(60.0)
    runs = {"quick": quick, "slow": slow, "very slow": very_slow}
    medians = measure.interleaved_medians(runs, repeats=3, budget=10.0)
    assert {name: measured.seconds for name, measured in medians.items()} == {
        "quick": 2.0,
        "slow": 8.0,
        "very slow": 60.0,
    }
    assert (len(quick_results), len(slow_results), len(very_slow_results)) == (4, 3, 1)
    assert medians["quick"].result == 0


def test_separable_work_is_that_of_the_taps():
    case = Case(SIDE, "float32", SIGMA)
    taps = 2 * gaussian_taps(SIGMA, tolerance=1e-6).size  # 2e-6 for both directions
    assert work_of(case, 1) == Work("separable", 2 * 4 * SIDE**2, 2 * taps * SIDE**2)


def test_multirate_work_is_that_of_all_passes():
    design = multirate_gaussian(20.0, 1e-6)
    kept = -(-SIDE // design.factor)
    down, blur, up = design.decimate.tap_count, design.blur.tap_count, design.interpolate.tap_count
    expected = 2 * (down * kept * (SIDE + kept) + 2 * blur * kept**2 + up * SIDE * (kept + SIDE))
    assert multirate_flops(design, design, SIDE, SIDE) == expected


def test_work_at_full_resolution_is_that_of_a_separable_filter():
    single = MultirateGaussian.single_rate(np.full(9, 1 / 9), 0.0)
    assert multirate_flops(single, single, SIDE, SIDE + 1) == 2 * 18 * SIDE * (SIDE + 1)


@pytest.mark.parametrize(("flops", "bound"), [(100, "memory"), (1000, "arithmetic")])
def test_the_ceiling_that_is_met_first_binds(flops, bound):
    ceilings = Ceilings(threads=2, bytes=200.0, core_flops=500.0, flops=1000.0)
    attained = attain(Case(SIDE, "float32", SIGMA), Work("separable", 100, flops), 2.0, ceilings)
    assert (attained.bytes_share, attained.flops_share) == (0.25, flops / 2000)
    assert attained.bound == bound


def test_peak_kernel_multiplies_and_adds():
    factors = np.array([0.5, 1.0], dtype=np.float32)
    sums = np.ones(4 * peak_kernels.LANES, dtype=np.float32)
    peak_kernels.compiled(peak_kernels.multiply_and_add)(factors.ctypes.data, sums.ctypes.data, 100)
    # Every sum has come to 0.5 * 2 + 1; eight of them are added up in one register, and the other four in the next.
    assert set(sums[: peak_kernels.LANES]) == {16.0}
    assert set(sums[peak_kernels.LANES : 2 * peak_kernels.LANES]) == {8.0}
    assert fma_flops(1) > 1e9


@pytest.mark.parametrize("loop", [peak_kernels.across_lines, peak_kernels.along_lines])
def test_measured_loops_are_filters(loop):
    taps = gaussian_taps(SIGMA, truncate=4)
    weights, gain = taps.astype(np.float32), np.ones(1, dtype=np.float32)
    halo, width, height = taps.size - 1, 128, 6
    is_across = loop is peak_kernels.across_lines
    shape = (height + halo, width) if is_across else (height, width + halo)
    lines, target = aligned_zeros(shape, np.dtype(np.float32)), aligned_zeros((height, width), np.dtype(np.float32))
    lines[...] = np.random.default_rng(0).random(shape)
    peak_kernels.compiled(loop)(
        lines.ctypes.data,
        shape[1],
        width,
        weights.ctypes.data,
        taps.size,
        taps.size // 2,
        gain.ctypes.data,
        target.ctypes.data,
        width,
        height,
        2,
    )
    windows = np.lib.stride_tricks.sliding_window_view(lines, taps.size, axis=0 if is_across else 1)
    np.testing.assert_allclose(target, windows @ taps, rtol=1e-5)


RESULT = {
    "side": 4096,
    "pixels": "uint8",
    "sigma": 2.0,
    "seconds": {"blurfast": 0.003, "blurfast, default": 0.004, "OpenCV": 0.008, "pyvips": 0.02},
    "largest_error": {"blurfast": 0.6, "blurfast, default": 0.5, "OpenCV": 0.7, "pyvips": 3.0},
}
REPORT = {
    "machine": {
        "threads": 2,
        "processor": "znver5",
        "register bits": 512,
        "packages": {"opencv-python-headless": "5.0", "pyvips-binary": "8.18"},
    },
    "results": [RESULT],
}
ROOFLINE = {
    "ceilings": {"threads": 2, "bytes": 4e10, "core_flops": 1e11, "flops": 2e11},
    "roofline": [
        {
            "sigma": 5.0,
            "method": "separable",
            "seconds": 0.01,
            "bytes": 1.2e10,
            "flops": 1e11,
            "bytes_share": 0.3,
            "flops_share": 0.5,
            "bound": "arithmetic",
        }
    ],
    "inner_loops": [
        {
            "sigma": 2.0,
            "direction": "vertical",
            "kernel": "vertical",
            "taps": 21,
            "kernel_flops": 6e10,
            "loop_flops": 9e10,
        }
    ],
}


def test_comparison_shows_times_ratio_and_errors():
    assert tables.comparison([RESULT]).splitlines()[2] == (
        "| uint8 | 2 | 4.0 | 8.0 | 20.0 | **2.0** | 0.5 | 0.7 | 3 (pyvips) |"
    )


def test_comparison_has_a_dash_where_a_library_has_no_such_filter():
    seconds = {name: time for name, time in RESULT["seconds"].items() if name != "pyvips"}
    without = {**RESULT, "pixels": "float32", "seconds": seconds}
    assert tables.comparison([RESULT, without]).splitlines()[3].startswith("| float32 | 2 | 4.0 | 8.0 | - |")


def test_readme_of_a_report_without_a_roofline():
    text = readme.render(REPORT)
    assert "OpenCV 5.0, pyvips 8.18" in text
    assert "Ceilings" not in text
    assert text.endswith("|\n")


def test_readme_of_a_report_with_a_roofline():
    text = readme.render({**REPORT, **ROOFLINE})
    assert text.startswith(readme.render(REPORT))
    assert "40.0 GB/s copied, 200.0 GFLOP/s (100.0 by one core)" in text
    assert "| 5 | separable | 10.0 | 12.0 | 30% | 100.0 | 50% | arithmetic |" in text
    assert "| 2 | 21 | vertical | `vertical` | 90% | 60% |" in text


def test_stopwatch_divides_the_main_threads_time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(startup_probe, "time", clock)
    stopwatch = startup_probe.Stopwatch()

    def take(seconds):
        clock.now += seconds

    decode = stopwatch.awaited_tasks(startup_probe.DECODE, lambda: [lambda: take(4.0)])
    load = stopwatch.timed(startup_probe.KERNELS, lambda: take(2.0))

    def stream():
        take(1.0)
        load()
        for task in decode():
            task()
        take(1.0)

    stopwatch.timed(startup_probe.WORK, stream)()
    assert stopwatch.seconds == {startup_probe.WORK: 2.0, startup_probe.KERNELS: 2.0, startup_probe.DECODE: 4.0}


def test_startup_parts_make_up_the_process(tmp_path):
    Image.fromarray(np.eye(64, dtype=np.uint8)).save(tmp_path / "in.png")
    command = ["gaussian", str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--sigma", "2"]
    parts = startup.probe_process(command)
    total = parts.pop(startup.TOTAL)
    assert min(parts.values()) >= 0
    assert 0.9 * total <= sum(parts.values()) <= total
    assert (tmp_path / "out.png").exists()


def test_startup_renders_every_part():
    probe = {"began": 1.5, "ended": 3.0, "seconds": dict.fromkeys(startup.PARTS, 0.125)}
    text = startup.render(startup.split_parts(1.0, probe, 4.0))
    assert "| interpreter start | 500.0 |\n| imports | 125.0 |" in text
    assert text.endswith("| exit | 1000.0 |\n| total | 3000.0 |\n")
