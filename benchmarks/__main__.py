"""Make the committed figures: ``python -m benchmarks``, ``make bench``.

Measures what ``blurfast bench`` measures, and how near the FIR loops come to the peak of one core. The JSON that this
writes is what `benchmarks.readme` makes the README's figures of.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.inner_loops import measure_inner_loops
from benchmarks.readme import inner_loops
from blurfast.bench import markdown
from blurfast.bench.cases import PIXELS
from blurfast.bench.libraries import find_contestants
from blurfast.bench.report import Report
from blurfast.bench.selection import Selection, Sweeps
from blurfast.bench.session import Session
from blurfast.resources import thread_count


def main() -> None:
    """Run the cases, print the tables, and write the figures to a file."""
    arguments = _arguments()
    report = _measure(_selection(arguments))
    report.inner_loops = [asdict(inner_loop) for inner_loop in measure_inner_loops()]
    print(markdown.render(report), inner_loops(report), sep="\n", end="")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(report.to_json())
    print(f"written to {arguments.json}", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--side", type=int, default=4096, help="rows and columns of the images")
    parser.add_argument("--pixels", choices=PIXELS, help="only images of this kind, and no curves")
    parser.add_argument("--sigma", type=float, help="only this sigma, and no curves")
    parser.add_argument("--threads", type=int, default=thread_count(None))
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    return parser.parse_args()


def _selection(arguments: argparse.Namespace) -> Selection:
    selection = Selection(arguments.threads, sizes=(arguments.side,), sweeps=Sweeps())
    if arguments.pixels is not None:
        selection = replace(selection, pixels=(arguments.pixels,), sweeps=None)
    if arguments.sigma is not None:
        selection = replace(selection, filters=("gaussian",), sigmas=(arguments.sigma,), sweeps=None)
    return selection


def _measure(selection: Selection) -> Report:
    session = Session(selection, find_contestants(selection.peers, selection.threads))
    last = ""

    def show(done: float, total: float, label: str) -> None:
        nonlocal last
        if label != last:
            last = label
            print(f"{done / total:4.0%} {label}", file=sys.stderr)

    return session.run(show)


if __name__ == "__main__":
    main()
