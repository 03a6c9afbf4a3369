"""Interrupts runs of the command line at random moments.

``python -m tests.interrupted_runs IN OUT COUNT SIGNAL... [OPTION...]``, where the options are for the runs. They are
forked from this process, which has loaded everything, so that hundreds take seconds. What becomes of each is printed as
JSON.
"""

# ruff: noqa: T201 - a program, which prints

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

from blurfast_cli.interrupts import Stopped, stopping_on_signals
from blurfast_cli.main import main

SIGMAS = (1, 2)
PATIENCE_SECONDS = 30


class Job(NamedTuple):
    """What each run is to do."""

    source: Path
    target: Path
    options: list[str]


class Child(NamedTuple):
    """A run in a process of its own, and what is readable when the run is over."""

    process: int
    end: int


def filter_image(job: Job, sigma: int) -> int:
    arguments = ["gaussian", str(job.source), str(job.target), "--sigma", str(sigma), "--compression", "deflate"]
    return main([*arguments, "--threads", "2", "--overwrite", "--quiet", *job.options])


def start(job: Job, sigma: int) -> Child:
    """Start a run, and return once it can be interrupted."""
    reader, writer = os.pipe()
    process = os.fork()
    if process:
        os.close(writer)
        os.read(reader, 1)
        return Child(process, reader)
    try:
        with stopping_on_signals():
            os.write(writer, b"!")
            status = filter_image(job, sigma)
            os.write(writer, b"!")
    except Stopped as stop:
        status = stop.exit_status
    sys.exit(status)


def exit_status(child: Child) -> int | None:
    """Wait for the end of a process, and return its status; None for one that hangs."""
    os.close(child.end)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child.process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0003)
    os.kill(child.process, signal.SIGKILL)
    os.waitpid(child.process, 0)
    return None


def duration(job: Job, original: bytes) -> float:
    job.source.write_bytes(original)  # as before every trial: what is not on the disk yet slows the run down
    child = start(job, SIGMAS[0])
    started = time.monotonic()
    os.read(child.end, 1)
    seconds = time.monotonic() - started
    exit_status(child)
    return seconds


def interrupt(job: Job, count: int, signals: list[int]) -> list[dict[str, int | str | None]]:
    source, target, _ = job
    original = source.read_bytes()
    results = []
    for sigma in SIGMAS:
        filter_image(job, sigma)
        results.append(target.read_bytes())
        source.write_bytes(original)  # which may be the target
    seconds = statistics.median(duration(job, original) for _ in range(5))
    choose = random.Random(0)
    trials: list[dict[str, int | str | None]] = []
    for trial in range(count):
        source.write_bytes(original)
        before = target.read_bytes()
        other = int(before == results[0])  # the run has to change what is there, for its outcome to show
        child = start(job, SIGMAS[other])
        time.sleep(choose.uniform(0, 1.2 * seconds))  # runs differ
        number = signals[trial % len(signals)]
        os.kill(child.process, number)
        status = exit_status(child)
        after = target.read_bytes()
        outcome = "new" if after == results[other] else "old" if after == before else "damaged"
        left = sum(path.suffix == ".part" for path in target.parent.iterdir())
        trials.append({"signal": number, "status": status, "outcome": outcome, "left": left})
    return trials


if __name__ == "__main__":
    # A shell that starts the tests in the background may have them ignore SIGINT, which a child would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    source, target, *rest = sys.argv[1:]
    count, *signals = (int(argument) for argument in rest if argument.isdigit())
    options = [argument for argument in rest if not argument.isdigit()]
    print(json.dumps(interrupt(Job(Path(source), Path(target), options), count, signals)))
