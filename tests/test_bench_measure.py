"""The measuring itself: turns, phases and budgets; which cases there are; and what is counted against the ceilings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from blurfast.bench import measure, session
from blurfast.bench.cases import Case
from blurfast.bench.ceilings import Ceilings, fma_flops
from blurfast.bench.description import describe_machine
from blurfast.bench.files import filter_file, lacks_room, write_image
from blurfast.bench.libraries import LIBRARIES, OWN, Contestants, Library
from blurfast.bench.measure import Contestant, Effort, Timing, interleaved_medians, take_turns
from blurfast.bench.prepared import Prepared
from blurfast.bench.roofline import Work, attain, multirate_flops, work_of
from blurfast.bench.selection import Selection, Sweeps, quick
from blurfast.bench.session import Session
from blurfast.cpu import machine, objects
from blurfast.cpu.catalogue import Kernel
from blurfast.errors import UnsupportedError
from blurfast.weights import MultirateGaussian, gaussian_taps, multirate_gaussian
from tests.bench_reports import Clock

SIDE, SIGMA = 96, 2.0
SMALL = Selection(
    2, filters=("gaussian",), pixels=("uint8",), sizes=(SIDE,), sigmas=(1.0, SIGMA), effort=Effort(3, 0.1)
)
ALONE = Contestants({OWN: LIBRARIES[OWN]})


# ---- turns


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(measure, "time", clock)
    return clock


def test_medians_leave_the_first_calls_out_and_keep_to_the_budget(clock):
    quick_run, quick_results = clock.contestant(5.0, 4.0, 1.0, 3.0, 2.0)
    slow, slow_results = clock.contestant(8.0)
    slower, slower_results = clock.contestant(15.0)
    slowest, slowest_results = clock.contestant(60.0)
    contestants = [Contestant(run) for run in (quick_run, slow, slower, slowest)]
    calls = []
    take_turns(contestants, Effort(repeats=3, budget=10.0), lambda: calls.append(None))
    assert [own.timing.seconds for own in contestants] == [2.0, 8.0, 15.0, 60.0]
    counts = [len(results) for results in (quick_results, slow_results, slower_results, slowest_results)]
    assert counts == [5, 4, 2, 1]
    assert len(calls) == sum(counts)
    assert contestants[0].timing.phases == {"first call": 5.0, "warm-up": 4.0}
    assert (contestants[0].timing.low, contestants[0].timing.high) == (1.5, 2.5)
    assert contestants[3].timing.phases == {"first call": 60.0}


def test_contestants_take_turns(clock):
    order = []

    def run(name):
        order.append(name)
        clock.now += 1.0

    take_turns([Contestant(lambda: run("a")), Contestant(lambda: run("b"))], Effort(repeats=2, budget=10.0))
    assert "".join(order) == "aabb" + "abab"


def test_a_failure_is_kept_and_stops_nobody(clock):
    def fail():
        raise ValueError("no such filter")

    good, _ = clock.contestant(1.0)
    failing, fine = Contestant(fail), Contestant(good)
    take_turns([failing, fine], Effort(2, 10.0))
    assert failing.failure == "ValueError: no such filter"
    assert (fine.failure, fine.timing.runs) == (None, 2)
    with pytest.raises(RuntimeError, match="bad: ValueError: no such filter"):
        interleaved_medians({"good": good, "bad": fail}, 2, 10.0)


def test_interleaved_medians_give_results(clock):
    run, results = clock.contestant(1.0)
    assert interleaved_medians({"one": run}, 3, 10.0) == {"one": (1.0, 4)}
    assert len(results) == 5


def test_quartiles_and_spread():
    timing = Timing.of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (timing.low, timing.seconds, timing.high, timing.runs, timing.spread) == (
        2.0,
        3.0,
        4.0,
        5,
        pytest.approx(2 / 3),
    )
    assert Timing.of([2.0]) == Timing(2.0, 2.0, 2.0, 1)


# ---- cases


def test_every_case_comes_once_and_neighbours_share_their_image():
    cases = Selection(2, sweeps=Sweeps()).cases()
    assert len(set(cases)) == len(cases)
    images = [(case.source, case.side, case.pixels) for case in cases]
    assert len(set(images)) == 1 + sum(one != other for one, other in itertools.pairwise(images))


def test_sweeps_cover_every_scaling():
    cases = Selection(3, sweeps=Sweeps()).cases()
    swept = [case for case in cases if case.pixels == "float32" and case.source == "memory"]
    assert {case.threads for case in swept} == {1, 2, 3}
    assert {case.sigma for case in swept if case.side == 2048} >= {0.5, 100.0}
    assert {case.kernel_side for case in swept if case.rank is None} >= {3, 255}
    assert {case.side for case in cases if case.source == "file"} >= {1024, 20_000}


def test_selections_keep_to_what_is_asked():
    assert {case.filter for case in Selection(2, filters=("convolve",), sweeps=Sweeps()).cases()} == {"convolve"}
    on_both = Selection(2, sigmas=(1.0,), backends=("cpu", "cuda"), sweeps=Sweeps()).cases()
    on_device = [case for case in on_both if case.backend == "cuda"]
    assert on_device
    assert {(case.threads, case.source) for case in on_device} == {(2, "memory")}
    assert max(case.side for case in quick(2).cases()) <= 1024


# ---- ceilings and rooflines


def test_separable_work_is_that_of_the_taps():
    taps = 2 * gaussian_taps(SIGMA, tolerance=1e-6).size  # 2e-6 for both directions
    case = Case("gaussian", SIDE, "float32", sigma=SIGMA)
    assert work_of(case) == Work("separable", 2 * 4 * SIDE**2, 2 * taps * SIDE**2, 4)


def test_direct_work_is_that_of_all_taps():
    case = Case("convolve", SIDE, "RGB uint8", kernel_side=5)
    assert work_of(case) == Work("direct", 2 * 3 * SIDE**2, 2 * 25 * 3 * SIDE**2, 4)


def test_transforms_work_grows_with_the_overlap_only():
    small, large = (work_of(Case("convolve", 512, "float32", kernel_side=side)) for side in (63, 91))
    assert small.method == large.method == "fft"
    assert 5 * 9 * 512**2 < small.flops < large.flops < 40 * small.flops


def test_multirate_work_is_that_of_all_passes():
    design = multirate_gaussian(20.0, 1e-6)
    kept = -(-SIDE // design.factor)
    down, blur, up = design.decimate.tap_count, design.blur.tap_count, design.interpolate.tap_count
    expected = 2 * (down * kept * (SIDE + kept) + 2 * blur * kept**2 + up * SIDE * (kept + SIDE))
    assert multirate_flops(design, design, SIDE, SIDE) == expected
    assert work_of(Case("gaussian", 1024, "float32", sigma=20.0)).method == "multirate"


def test_work_at_full_resolution_is_that_of_a_separable_filter():
    single = MultirateGaussian.single_rate(np.full(9, 1 / 9), 0.0)
    assert multirate_flops(single, single, SIDE, SIDE + 1) == 2 * 18 * SIDE * (SIDE + 1)


@pytest.mark.parametrize(("flops", "bound"), [(100, "memory"), (1000, "arithmetic")])
def test_the_ceiling_that_is_met_first_binds(flops, bound):
    ceilings = Ceilings(threads=2, bytes=200.0, core_flops=500.0, flops=1000.0)
    attained = attain(Work("separable", 100, flops), 2.0, ceilings)
    assert (attained.bytes_share, attained.flops_share) == (0.25, flops / 2000)
    assert attained.bound == bound


def test_float64_sums_have_half_the_peak():
    ceilings = Ceilings(threads=2, bytes=200.0, core_flops=500.0, flops=1000.0)
    assert attain(Work("separable", 100, 100, itemsize=8), 1.0, ceilings).flops_share == 0.2


def test_peak_kernel_multiplies_and_adds():
    (kernel,) = objects.load([Kernel("peak", "multiply_and_add", "float32", "float32")])
    lanes = machine.vector_bits() // 32
    factors, sums = np.array([0.5, 1.0], dtype=np.float32), np.ones(4 * lanes, dtype=np.float32)
    kernel(factors.ctypes.data, sums.ctypes.data, 100)
    # Every sum has come to 0.5 * 2 + 1; eight of them are added up in one register, and the other four in the next.
    assert set(sums[:lanes]) == {16.0}
    assert set(sums[lanes : 2 * lanes]) == {8.0}
    assert set(sums[2 * lanes :]) == {1.0}
    assert fma_flops(1) > 1e9


def test_machine_is_described():
    described = describe_machine(2)
    assert described["threads"] == 2
    assert {"blurfast", "numpy"} <= set(described["packages"])
    assert all(described[name] for name in ("model", "processor", "cores", "caches", "memory", "gpu"))


# ---- sessions


@pytest.fixture
def without_ceilings(monkeypatch):
    """Don't measure the ceilings, which takes a second."""
    monkeypatch.setattr(session, "measure_ceilings", lambda threads: Ceilings(threads, 5e10, 1e11, 2e11))


@pytest.mark.usefixtures("without_ceilings")
def test_session_measures_every_case():
    shown = []
    own = Session(SMALL, ALONE)
    report = own.run(lambda *progress: shown.append(progress))
    assert report.complete
    assert [result.case for result in report.results] == own.cases
    for result in report.results:
        measured = result.measurements[OWN]
        assert set(measured.timing.phases) == {"set-up", "compile", "first call", "warm-up"}
        assert 0 < measured.timing.low <= measured.seconds <= measured.timing.high
        assert 0.4 < measured.error < 0.503
        assert result.method == result.attained.method == "separable"
    assert [done for done, _, _ in shown] == sorted(done for done, _, _ in shown)
    assert shown[-1][0] == pytest.approx(shown[-1][1])
    assert {label for _, _, label in shown} == {case.title for case in own.cases}


@pytest.mark.usefixtures("without_ceilings")
def test_session_tells_what_fails_and_goes_on():
    def fail_to_prepare(_case):
        raise MemoryError("too large")

    def fail_to_run(_case):
        return Prepared(lambda: 1 // 0)

    contestants = {
        OWN: LIBRARIES[OWN],
        "OpenCV": Library("opencv", "cv2", fail_to_prepare),
        "scipy": Library("scipy", "scipy", fail_to_run),
        "Pillow": Library("pillow", "PIL"),
    }
    report = Session(SMALL, Contestants(contestants, {"torch": "not there"})).run()
    for result in report.results:
        assert list(result.measurements) == [OWN]
        assert result.failures == {
            "OpenCV": "MemoryError: too large",
            "scipy": "ZeroDivisionError: integer division or modulo by zero",
        }
    assert report.skipped == {"torch": "not there"}


@pytest.mark.usefixtures("without_ceilings")
def test_an_interrupt_leaves_what_is_done():
    own = Session(SMALL, ALONE)

    def interrupt(_done, _total, label):
        if label == own.cases[1].title:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        own.run(interrupt)
    assert [result.case for result in own.report.results] == own.cases[:1]
    assert not own.report.complete


def test_a_backend_that_is_missing_is_told():
    from blurfast.cuda import probe

    if probe.devices():
        pytest.skip("there is a device")
    both = Session(Selection(1, sizes=(SIDE,), sigmas=(1.0,), backends=("cpu", "cuda")), ALONE)
    assert both.report.skipped["backend cuda"] == probe.why_none()
    assert {case.backend for case in both.cases} == {"cpu"}
    with pytest.raises(UnsupportedError, match="nothing can be measured: "):
        Session(Selection(1, sizes=(SIDE,), backends=("cuda",)), ALONE)


# ---- files


@pytest.mark.parametrize("name", ["blurfast", "OpenCV", "pyvips", "scipy"])
def test_files_are_filtered_end_to_end(tmp_path, name):
    pytest.importorskip(LIBRARIES[name].module)
    case = Case("gaussian", 600, "uint16", sigma=SIGMA, threads=2, source="file")
    write_image(case, tmp_path / "in.tif")
    run = filter_file(name, case, tmp_path / "in.tif")
    assert 0 < run.seconds < 60
    assert run.peak_memory > 10e6
    assert run.error < {"blurfast": 0.51, "pyvips": 150}.get(name, 3.0)
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def test_failures_of_files_are_told(tmp_path):
    case = Case("gaussian", 64, "uint16", sigma=SIGMA, source="file")
    with pytest.raises(RuntimeError, match=r"in\.tif"):
        filter_file(OWN, case, tmp_path / "in.tif")


def test_files_that_have_no_room_are_left_out(tmp_path):
    assert lacks_room(Case("gaussian", 1024, "uint16", sigma=SIGMA, source="file"), tmp_path) is None
    huge = Case("gaussian", 30_000_000, "uint16", sigma=SIGMA, source="file")
    assert "5400000.0 GB are needed" in lacks_room(huge, tmp_path)
