"""What a warm call of the command line on a small PNG costs, part by part: ``python -m benchmarks.startup``.

Every run is a process of its own, which runs the real command with a stopwatch around some of its functions
(`startup_probe`). The clock is the system's, the same in both processes.

interpreter start
    From before the process is made to the first statement of the program.
imports
    Of the modules that the command needs, all before it begins. (It would import some of them later.)
parse and plan
    What remains of the command: reading its options and the file's header, planning, the message at the end.
kernel load
    ``objects.load``: reading and linking the compiled kernels.
thread start
    ``Thread.start``, of the pool and of the writer.
decode
    The tasks of the source.
work
    What remains of the stream: the filter itself, its scratch memory, and handing tasks from thread to thread.
encode and write
    Making the output file, the tasks of the sink, writing, flushing to the disk and renaming.
exit
    From the end of the command to the end of the process.

The image is a single window, so decoding, work and encoding follow each other and their times add up.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.startup_probe import DECODE, IMPORTS, KERNELS, PLAN, THREADS, WORK, WRITE
from blurfast.bench import markdown
from blurfast.bench.scene import tissue

PARTS = (IMPORTS, PLAN, KERNELS, THREADS, DECODE, WORK, WRITE)
"""What the stopwatch measures, in order."""

TOTAL = "total"

_ROOT = Path(__file__).parents[1]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--side", type=int, default=512, help="rows and columns of the image")
    parser.add_argument("--sigma", type=float, default=5.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.png"), Path(folder, "out.png")
        size = (arguments.side, arguments.side)
        Image.fromarray(tissue(0, 0, *size, size, np.uint8)).save(source)
        print(render(measure(source, target, arguments.sigma, arguments.runs)), end="")


def measure(source: Path, target: Path, sigma: float, runs: int) -> dict[str, float]:
    """Return the median seconds of each part, of all of them, and of whole commands without a stopwatch."""
    command = ["gaussian", str(source), str(target), "--sigma", f"{sigma:g}", "--overwrite"]
    whole = {"total, without the stopwatch": [sys.executable, "-m", "blurfast", *command]}
    vips = shutil.which("vips")
    if vips is not None:
        whole["vips gaussblur"] = [vips, "gaussblur", str(source), str(target), f"{sigma:g}"]
    probe_process(command)  # compiles what is not compiled yet, and warms the disk cache
    samples: list[dict[str, float]] = []
    for _ in range(runs):
        parts = probe_process(command)
        samples.append({**parts, **{name: _process_seconds(line) for name, line in whole.items()}})
    return {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}


def probe_process(command: Sequence[str]) -> dict[str, float]:
    """Run a command with the stopwatch; return the seconds of its parts and of the whole process."""
    started = time.perf_counter()
    finished = _run([sys.executable, "-m", "benchmarks.startup_probe", *command])
    return split_parts(started, json.loads(finished), time.perf_counter())


def split_parts(started: float, probe: Mapping[str, Any], ended: float) -> dict[str, float]:
    """Return the seconds of all parts, in their order, and of the whole process.

    Parameters
    ----------
    started, ended
        When the process was started, and when it had ended.
    probe
        What the probe prints.
    """
    seconds = probe["seconds"]
    parts = {part: seconds[part] for part in PARTS}
    parts = {"interpreter start": probe["began"] - started, **parts, "exit": ended - probe["ended"]}
    return {**parts, TOTAL: ended - started}


def render(medians: Mapping[str, float]) -> str:
    """Return the medians as a table."""
    return markdown.table(["part", "ms"], [[part, markdown.milliseconds(seconds)] for part, seconds in medians.items()])


def _process_seconds(command: Sequence[str]) -> float:
    started = time.perf_counter()
    _run(command)
    return time.perf_counter() - started


def _run(command: Sequence[str]) -> str:
    finished = subprocess.run(command, cwd=_ROOT, check=False, capture_output=True, text=True)
    if finished.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{finished.stderr}")
    return finished.stdout


if __name__ == "__main__":
    main()
