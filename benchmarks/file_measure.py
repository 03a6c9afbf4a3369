"""Measure those who filter whole files: in turns, in a process for each run."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.file_cases import Case, make_input, read_image
from benchmarks.file_errors import Oracle
from benchmarks.file_peers import Peer
from blurfast.bench.measure import Contestant, Effort, Timing, take_turns

_ROOT = Path(__file__).parents[1]
_PROCESS = Path(__file__).with_name("file_process.py")

# Times the bytes of the pixels: the outputs of all contestants, two or three of them in float32.
_ROOM = 20

Show = Callable[[str], None]


class FileRun(NamedTuple):
    """What one process took, the seconds until its output was on the disk, and the peak of its resident memory."""

    seconds: float
    flush_seconds: float
    peak_memory: int


@dataclass(frozen=True)
class Outcome:
    """What a contestant comes to.

    Parameters
    ----------
    seconds
        From the start of the process to its end: the median.
    low, high
        The quartiles.
    runs
        How many there were.
    flush_seconds
        What it takes afterwards until the output is on the disk: the median.
    peak_memory
        The largest of all runs, in bytes.
    written
        Bytes of the output.
    error
        The largest, in grey levels.
    """

    seconds: float
    low: float
    high: float
    runs: int
    flush_seconds: float
    peak_memory: int
    written: int
    error: float


@dataclass
class CaseResult:
    """What all contestants come to in a case, and why others do not."""

    title: str
    input_bytes: int
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CaseResult:
        """Return what `dataclasses.asdict` was given."""
        outcomes = {name: Outcome(**outcome) for name, outcome in data["outcomes"].items()}
        return cls(data["title"], data["input_bytes"], outcomes, dict(data["failures"]))


def measure_case(
    case: Case, peers: Mapping[str, Peer], folder: Path, threads: int, effort: Effort, show: Show
) -> CaseResult:
    """Let contestants filter a file in turns, and check the last output of each.

    Raises
    ------
    RuntimeError
        If the folder has no room for the files.
    """
    _check_room(case, folder)
    show(f"{case.name}: the input")
    source = make_input(case, folder)
    image = read_image(source)  # and so its file is in the page cache, for all alike
    exact, copied = Oracle(image, case.sigma), Oracle(image, 0)
    result = CaseResult(case.title, source.stat().st_size)
    with _runners(case, peers, source, threads, show) as runners:
        contestants = {name: Contestant(runner) for name, runner in runners.items()}
        take_turns(contestants.values(), effort)
        show(f"{case.name}: errors")
        for name, contestant in contestants.items():
            if contestant.failure is not None:
                result.failures[name] = contestant.failure
                continue
            oracle = copied if peers[name].is_copy else exact
            result.outcomes[name] = _outcome(runners[name], contestant.timing.runs, oracle, peers[name].edges)
    return result


def _check_room(case: Case, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder).free, _ROOM * case.pixel_bytes
    if free < needed:
        raise RuntimeError(f"{folder} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are needed")


class _Runner:
    """Filters a file each time that it is called."""

    def __init__(self, name: str, command: list[str], target: Path, show: Show) -> None:
        self.target = target
        self.runs: list[FileRun] = []
        self._name = name
        self._command = command
        self._show = show

    def __call__(self) -> None:
        self.target.unlink(missing_ok=True)
        seconds, peak_memory = run_process(self._command)
        self.runs.append(FileRun(seconds, _flush(self.target), peak_memory))
        self._show(f"{self._name}: {seconds:.2f} s")


@contextlib.contextmanager
def _runners(
    case: Case, peers: Mapping[str, Peer], source: Path, threads: int, show: Show
) -> Iterator[dict[str, _Runner]]:
    """Yield what runs each contestant; what they write is removed afterwards."""
    runners = {}
    for number, (name, peer) in enumerate(peers.items()):
        if case.is_png or not peer.png_only:
            target = source.with_name(f"out-{number}{case.suffix}")
            runners[name] = _Runner(f"{case.name}: {name}", peer.command(case, source, target, threads), target, show)
    try:
        yield runners
    finally:
        for runner in runners.values():
            runner.target.unlink(missing_ok=True)


def run_process(command: list[str]) -> tuple[float, int]:
    """Run a command; return its seconds and its peak memory.

    Raises
    ------
    RuntimeError
        If it fails, with the last line of what it says.
    """
    launcher = [sys.executable, "-I", "-S", str(_PROCESS), *command]
    # Installed modules are not compiled in every run, so those of a working copy must not be either.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    finished = subprocess.run(launcher, cwd=_ROOT, env=environment, check=False, capture_output=True, text=True)
    measured = json.loads(finished.stdout or '{"status": null}')
    if measured["status"] != 0:
        raise RuntimeError((finished.stderr.strip().splitlines() or [f"exit status {measured['status']}"])[-1])
    return measured["seconds"], measured["peak_memory"]


def _flush(path: Path) -> float:
    """Return the seconds until a file is on the disk, so that no contestant pays for what another one wrote."""
    started = time.perf_counter()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return time.perf_counter() - started


def _outcome(runner: _Runner, counted: int, oracle: Oracle, edges: str) -> Outcome:
    """Return what the last so many runs come to."""
    runs = runner.runs[-counted:]
    timing = Timing.of([run.seconds for run in runs])
    return Outcome(
        timing.seconds,
        timing.low,
        timing.high,
        timing.runs,
        flush_seconds=statistics.median(run.flush_seconds for run in runs),
        peak_memory=max(run.peak_memory for run in runs),
        written=runner.target.stat().st_size,
        error=oracle.largest_error(read_image(runner.target), edges),
    )
