"""Interrupts runs of the command line at random moments: ``python -m tests.interrupted_runs IN OUT COUNT SIGNAL...``.

The runs are forked from this process, which has loaded everything, so that hundreds take seconds. What becomes of each
is printed as JSON.
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


class Child(NamedTuple):
    """A run in a process of its own, and what is readable when the run is over."""

    process: int
    end: int


def filter_image(source: Path, target: Path, sigma: int) -> int:
    arguments = ["gaussian", str(source), str(target), "--sigma", str(sigma), "--compression", "deflate"]
    return main([*arguments, "--threads", "2", "--overwrite", "--quiet"])


def start(source: Path, target: Path, sigma: int) -> Child:
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
            status = filter_image(source, target, sigma)
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


def duration(source: Path, target: Path) -> float:
    child = start(source, target, SIGMAS[0])
    started = time.monotonic()
    os.read(child.end, 1)
    seconds = time.monotonic() - started
    exit_status(child)
    return seconds


def interrupt(source: Path, target: Path, count: int, signals: list[int]) -> list[dict[str, int | str | None]]:
    original = source.read_bytes()
    results = []
    for sigma in SIGMAS:
        filter_image(source, target, sigma)
        results.append(target.read_bytes())
        source.write_bytes(original)  # which may be the target
    seconds = statistics.median(duration(source, target) for _ in range(5))
    choose = random.Random(0)
    trials: list[dict[str, int | str | None]] = []
    for trial in range(count):
        source.write_bytes(original)
        before = target.read_bytes()
        child = start(source, target, SIGMAS[trial % 2])
        time.sleep(choose.uniform(0, seconds))
        number = signals[trial % len(signals)]
        os.kill(child.process, number)
        status = exit_status(child)
        after = target.read_bytes()
        outcome = "new" if after == results[trial % 2] else "old" if after == before else "damaged"
        left = sum(path.suffix == ".part" for path in target.parent.iterdir())
        trials.append({"signal": number, "status": status, "outcome": outcome, "left": left})
    return trials


if __name__ == "__main__":
    # A shell that starts the tests in the background may have them ignore SIGINT, which a child would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    paths, numbers = sys.argv[1:3], list(map(int, sys.argv[3:]))
    print(json.dumps(interrupt(Path(paths[0]), Path(paths[1]), numbers[0], numbers[1:])))
