"""Reports that nobody has measured, and a clock that moves when it is told to."""

from __future__ import annotations

import math
from collections.abc import Callable

from blurfast.bench.cases import Case
from blurfast.bench.ceilings import Ceilings
from blurfast.bench.libraries import LIBRARIES, OWN
from blurfast.bench.measure import Timing
from blurfast.bench.report import Measurement, Report, Result
from blurfast.bench.roofline import Attained
from blurfast.bench.selection import Selection

CEILINGS = Ceilings(threads=2, bytes=5e10, core_flops=1e11, flops=2e11)
MACHINE = {
    "model": "A processor <of tests>",
    "processor": "znver5",
    "register bits": 512,
    "threads": 2,
    "system": "Linux",
    "packages": {"blurfast": "0.1", "opencv-python-headless": "5.0", "scipy": "1.17", "pyvips-binary": "8.18"},
}

Seconds = Callable[[Case, str], float]

_SLOWNESS = {OWN: 1.0, "OpenCV": 3.0, "scipy": 20.0, "pyvips": 8.0}


def seconds_of(case: Case, name: str) -> float:
    """Return a time that grows as times do: blurfast's not with sigma."""
    size = case.sample_count / 2**24
    growth = 1.0 if name.startswith(OWN) and case.filter == "gaussian" else (1 + case.radius) / 20
    return 0.05 * size * growth * _SLOWNESS.get(name, 2.0)


def report_of(selection: Selection, seconds: Seconds = seconds_of, *, runs: int = 9, spread: float = 0.02) -> Report:
    """Return a report of all cases of a selection, with invented times."""
    report = Report(dict(MACHINE), ceilings=CEILINGS, complete=True, created="2026-01-02T03:04:05+00:00")
    for case in selection.cases():
        names = [OWN, "OpenCV", "pyvips"]
        names += ["scipy"] if case.filter == "gaussian" else [f"{OWN}, direct", f"{OWN}, fft"]
        measurements = {name: _measurement(case, name, seconds(case, name), runs, spread) for name in names}
        attained = None
        if case.source == "memory" and case.threads == selection.threads:
            attained = Attained("separable", 2.684e9, 8e10, 0.05368, 0.4, "arithmetic")
        report.results.append(Result(case, measurements, {}, "separable", attained))
    return report


def _measurement(case: Case, name: str, seconds: float, runs: int, spread: float) -> Measurement:
    phases = {"set-up": 0.001, "first call": 2 * seconds, "warm-up": 1.1 * seconds}
    if LIBRARIES[name].key == OWN:
        phases["compile"] = 0.5
    timing = Timing(seconds, seconds * (1 - spread / 2), seconds * (1 + spread / 2), runs, phases)
    error = 10.0 ** -math.ceil(5 + len(name) % 3) if case.pixels == "float32" else 0.5
    return Measurement(timing, error, 100_000_000 if case.source == "file" else None)


class Clock:
    """Stands in for the module `time`; moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def contestant(self, *seconds: float) -> tuple[Callable[[], int], list[int]]:
        """Return a run that takes so long each time, and the list of its results so far."""
        results: list[int] = []

        def run() -> int:
            self.now += seconds[min(len(results), len(seconds) - 1)]
            results.append(len(results))
            return results[-1]

        return run, results
