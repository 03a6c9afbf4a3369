"""One run of the benchmarks: case after case, into a report that is useful at any time."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from blurfast.bench import file_run, files
from blurfast.bench.blurfast_runs import plan_case
from blurfast.bench.cases import Case
from blurfast.bench.ceilings import measure_ceilings
from blurfast.bench.description import describe_machine
from blurfast.bench.ideal import largest_error
from blurfast.bench.libraries import OWN, Contestants, Library
from blurfast.bench.measure import (
    COMPILE,
    SET_UP,
    WARM_UP,
    Contestant,
    Timing,
    median_seconds,
    seconds_of,
    take_turns,
)
from blurfast.bench.prepared import Prepared
from blurfast.bench.report import Measurement, Report, Result
from blurfast.bench.roofline import Attained, attain, work_of
from blurfast.bench.selection import Selection
from blurfast.errors import UnsupportedError

Progress = Callable[[float, float, str], None]
"""Called with the work done, all work, and the case at hand."""

_STAGE_RUNS = 5
_SECONDS_PER_PROCESS = 1.0


def _show_nothing(_done: float, _total: float, _label: str) -> None:
    pass


class Session:
    """Measures a selection of cases.

    Parameters
    ----------
    selection
        The cases, and how long to measure each.
    contestants
        The libraries.

    Attributes
    ----------
    cases
        All that are to be measured.
    report
        What has been found so far; complete once `run` has returned.
    """

    def __init__(self, selection: Selection, contestants: Contestants) -> None:
        self.cases = selection.cases()
        self.report = Report(describe_machine(selection.threads), skipped=dict(contestants.absent))
        self._threads = selection.threads
        self._libraries = contestants.present
        self._effort = selection.effort
        self._leave_out_devices()

    def _leave_out_devices(self) -> None:
        """Keep what the backends that are there can do; raise an `UnsupportedError` if that is nothing."""
        if any(case.backend == "cuda" for case in self.cases):
            from blurfast.cuda import probe

            reason = probe.why_none()
            if reason is not None:
                self.report.skipped["backend cuda"] = reason
                self.cases = [case for case in self.cases if case.backend != "cuda"]
                if not self.cases:
                    raise UnsupportedError(f"nothing can be measured: {reason}")

    def run(self, progress: Progress = _show_nothing) -> Report:
        """Measure everything; an exception, such as by Ctrl-C, leaves what is done in `report`."""
        meter = _Meter(progress, sum(map(self._expected_seconds, self.cases)))
        self.report.ceilings = measure_ceilings(self._threads)
        for case in self.cases:
            with meter.counting(case.title, self._expected_seconds(case), self._expected_calls(case)) as notify:
                result = self._measure_file(case, notify) if case.source == "file" else self._measure(case, notify)
            if result is not None:
                self.report.results.append(result)
        self.report.complete = True
        return self.report

    @property
    def _file_turns(self) -> int:
        """How often each file is filtered; every time takes a process."""
        return 1 + max(1, self._effort.repeats // 4)

    def _expected_calls(self, case: Case) -> int:
        return len(self._able(case)) * (self._effort.repeats + 2)

    def _able(self, case: Case) -> dict[str, Library]:
        """Return the libraries that have such a filter; single ones may still not serve."""
        return {name: library for name, library in self._libraries.items() if library.prepares(case) is not None}

    def _expected_seconds(self, case: Case) -> float:
        """Return about how long a case takes, for the time left: a guess for the average library."""
        if case.source == "file":
            return self._file_turns * len(file_run.LIBRARIES) * (_SECONDS_PER_PROCESS + 4e-8 * case.sample_count)
        once = case.sample_count * (4e-9 + 1e-9 * case.radius)
        budget = self._effort.budget
        turns = 0.0 if once > budget else min(budget + once, self._effort.repeats * once)
        return len(self._able(case)) * (2 * once + turns)

    def _measure(self, case: Case, notify: Callable[[], None]) -> Result | None:
        taking_part: dict[str, _TakingPart] = {}
        for name, library in self._able(case).items():
            own = None if library.single_threaded and case.threads != self._threads else _TakingPart.of(case, library)
            if own is not None:
                taking_part[name] = own
        contestants = {name: own.contestant for name, own in taking_part.items() if own.contestant is not None}
        take_turns(contestants.values(), self._effort, notify)
        done = {name: own for name, own in taking_part.items() if own.failure is None}
        failures = {name: own.failure for name, own in taking_part.items() if own.failure is not None}
        measurements = {name: own.measurement(case) for name, own in done.items()}
        if not taking_part:
            return None  # no library has such a filter
        return Result(case, measurements, failures, plan_case(case).method, self._attained(case, measurements.get(OWN)))

    def _attained(self, case: Case, own: Measurement | None) -> Attained | None:
        ceilings = self.report.ceilings
        if own is None or ceilings is None or case.backend != "cpu" or case.threads != self._threads:
            return None
        return attain(work_of(case), own.seconds, ceilings)

    def _measure_file(self, case: Case, notify: Callable[[], None]) -> Result | None:
        with tempfile.TemporaryDirectory(prefix="blurfast-bench-") as directory:
            lacking = files.lacks_room(case, Path(directory))
            if lacking is not None:
                self.report.skipped[case.title] = lacking
                return None
            source = Path(directory, "in.tif")
            files.write_image(case, source)
            runs = [_FileRuns(name, case, source) for name in file_run.LIBRARIES if name in self._libraries]
            for _ in range(self._file_turns):
                for own in runs:
                    own.take_turn(self._effort.budget)
                    notify()
        measurements = {own.name: own.measurement for own in runs if own.failure is None}
        return Result(case, measurements, {own.name: own.failure for own in runs if own.failure is not None})


class _TakingPart:
    """A library that is set up for a case, or that failed to be.

    Parameters
    ----------
    prepared
        What it made of the case.
    phases
        Seconds that took.
    failure
        Why there is nothing.
    """

    def __init__(self, prepared: Prepared | None, phases: dict[str, float], failure: str | None = None) -> None:
        self.contestant = None if prepared is None else Contestant(prepared.run, phases)
        self._prepared = prepared
        self._failure = failure

    @classmethod
    def of(cls, case: Case, library: Library) -> Self | None:
        """Set up a library; return None if it has no such filter."""
        case.image  # noqa: B018 - made now, so that no library's set-up includes it
        started = time.perf_counter()
        try:
            prepared = library.prepare(case)
            if prepared is None:
                return None
            phases = {SET_UP: time.perf_counter() - started}
            if prepared.compile is not None:
                phases[COMPILE] = seconds_of(prepared.compile)
        except Exception as error:  # noqa: BLE001 - it is told in the report, and must not stop the others
            return cls(None, {}, f"{type(error).__name__}: {error}")
        return cls(prepared, phases)

    @property
    def failure(self) -> str | None:
        """Why there is no measurement."""
        return self._failure if self.contestant is None else self.contestant.failure

    def measurement(self, case: Case) -> Measurement:
        """Return the time and the error, once all turns are over."""
        assert self._prepared is not None
        assert self.contestant is not None
        timing = self.contestant.timing
        timing.phases.update((name, median_seconds(run, _STAGE_RUNS)) for name, run in self._prepared.stages.items())
        result = np.asarray(self.contestant.result)
        return Measurement(timing, largest_error(case, result, self._prepared.edges, case.image))


class _FileRuns:
    """The turns of one library that filters a file; the first is a warm-up."""

    def __init__(self, name: str, case: Case, source: Path) -> None:
        self.name = name
        self.failure: str | None = None
        self._filter = functools.partial(files.filter_file, name, case, source)
        self._runs: list[files.FileRun] = []

    def take_turn(self, budget: float) -> None:
        """Run once more, unless two runs have used up the budget, or one has failed."""
        if self.failure is not None or (len(self._runs) > 1 and self._runs[-1].seconds > budget):
            return
        try:
            self._runs.append(self._filter())
        except RuntimeError as error:
            self.failure = str(error)

    @property
    def measurement(self) -> Measurement:
        """The time and the memory of what has been run."""
        warm_up, *turns = self._runs
        timing = Timing.of([run.seconds for run in turns], {WARM_UP: warm_up.seconds})
        return Measurement(timing, max(run.error for run in self._runs), max(run.peak_memory for run in self._runs))


@dataclass
class _Meter:
    """Turns calls into progress, in units of expected work."""

    progress: Progress
    total: float
    done: float = 0.0

    @contextmanager
    def counting(self, label: str, work: float, calls: int) -> Iterator[Callable[[], None]]:
        """Count a case: yield what is to be called after every call, of about so many."""
        start, made = self.done, 0

        def notify() -> None:
            nonlocal made
            made += 1
            self.progress(start + work * min(1.0, made / calls), self.total, label)

        self.progress(start, self.total, label)
        yield notify
        self.done = start + work
        self.progress(self.done, self.total, label)
