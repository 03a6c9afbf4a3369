"""The developers' benchmarks: loops on their own, start-up part by part, and the README's figures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from benchmarks import loop_kernels, readme, startup, startup_probe
from blurfast.bench.selection import Selection
from blurfast.cpu.panels import aligned_zeros
from blurfast.weights import gaussian_taps
from tests.bench_reports import CEILINGS, Clock, report_of

INNER_LOOP = {
    "sigma": 2.0,
    "direction": "vertical",
    "kernel": "vertical",
    "taps": 21,
    "kernel_flops": 6e10,
    "loop_flops": 9e10,
}


@pytest.mark.parametrize("loop", [loop_kernels.across_lines, loop_kernels.along_lines])
def test_measured_loops_are_filters(loop):
    taps = gaussian_taps(2.0, truncate=4)
    weights, gain = taps.astype(np.float32), np.ones(1, dtype=np.float32)
    halo, width, height = taps.size - 1, 128, 6
    is_across = loop is loop_kernels.across_lines
    shape = (height + halo, width) if is_across else (height, width + halo)
    lines, target = aligned_zeros(shape, np.dtype(np.float32)), aligned_zeros((height, width), np.dtype(np.float32))
    lines[...] = np.random.default_rng(0).random(shape)
    loop_kernels.compiled(loop)(
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


def readme_report(**changes):
    return dataclasses.replace(report_of(Selection(2, sizes=(readme.SIDE,))), **changes)


def test_readme_of_a_report_without_ceilings():
    text = readme.render(readme_report(ceilings=None))
    assert "OpenCV 5.0, scipy 1.17 (one thread), pyvips 8.18" in text
    assert "Ceilings" not in text
    assert "convolve" not in text
    assert len(text.splitlines()) == 4 + 4 * 6  # kinds of pixels and sigmas
    assert text.endswith("|\n")


def test_readme_of_a_report_with_ceilings_and_loops():
    report = readme_report(inner_loops=[INNER_LOOP])
    text = readme.render(report)
    assert text.startswith(readme.render(readme_report(ceilings=None)))
    assert f"{CEILINGS.bytes / 1e9:.1f} GB/s copied, {CEILINGS.flops / 1e9:.1f} GFLOP/s" in text
    assert "| 5 | separable | 50.0 | 2.7 | 5% | 80.0 | 40% | arithmetic |" in text
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
