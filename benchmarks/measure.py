"""Timing that survives a noisy machine: contestants take turns, and medians are compared."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, NamedTuple

from benchmarks.libraries import DISTRIBUTIONS, Run


class Measurement(NamedTuple):
    """The median time of a contestant, in seconds, and the result of its first run.

    A contestant that always writes to the same place has the result of its last run there, which is the same.
    """

    seconds: float
    result: Any


def interleaved_medians(runs: Mapping[str, Run], repeats: int, budget: float) -> dict[str, Measurement]:
    """Time each contestant `repeats` times, in turns, after a warm-up.

    A contestant that has used up `budget` seconds sits out the remaining turns. One whose warm-up alone takes longer
    has no turns at all, and the warm-up's time stands: what is slow by seconds does not depend on a cold cache.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    results: dict[str, Any] = {}
    for name, run in runs.items():
        seconds, results[name] = _time(run)
        if seconds > budget:
            times[name].append(seconds)
    for _ in range(repeats):
        for name, run in runs.items():
            if sum(times[name]) <= budget:
                times[name].append(_time(run)[0])
    return {name: Measurement(statistics.median(times[name]), results[name]) for name in runs}


def _time(run: Run) -> tuple[float, Any]:
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def shortest_seconds(run: Callable[[], object], repeats: int) -> float:
    """Return the shortest time of several runs: what the hardware can do when nothing else happens on it."""
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def describe_machine(threads: int) -> dict[str, Any]:
    """Return what the figures depend on."""
    from blurfast.cpu import machine

    return {
        "processor": machine.cpu_name(),
        "register bits": machine.vector_bits(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": _versions("blurfast", "numpy", "numba", *DISTRIBUTIONS),
    }


def _versions(*packages: str) -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
