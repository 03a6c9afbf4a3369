"""Timing that survives a noisy machine: contestants take turns, and medians are compared."""

from __future__ import annotations

import os
import platform
import statistics
import time
from importlib import metadata
from typing import Any

from benchmarks.libraries import Run


def interleaved_medians(runs: dict[str, Run], repeats: int, budget: float) -> dict[str, float]:
    """Time each contestant `repeats` times, in turns, after a warm-up; return the medians in seconds.

    A contestant that has used up `budget` seconds sits out the remaining turns.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            if sum(times[name]) > budget:
                continue
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def describe_machine(threads: int) -> dict[str, Any]:
    """Return what the figures depend on."""
    from blurfast.cpu import machine

    packages = ("blurfast", "numpy", "numba", "opencv-python-headless", "scipy")
    return {
        "processor": machine.cpu_name(),
        "register bits": machine.vector_bits(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {package: metadata.version(package) for package in packages},
    }
