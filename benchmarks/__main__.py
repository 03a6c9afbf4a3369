"""Compare blurfast with other libraries: ``python -m benchmarks``, or ``make bench``.

Every cell is a median time in milliseconds, with the largest error against the exact Gaussian behind it: in grey
levels, or for float32 as a share of the range.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Case, all_cases
from benchmarks.libraries import LIBRARIES
from benchmarks.measure import describe_machine, interleaved_medians
from blurfast.resources import thread_count
from tests import naive

_ERROR_CROP = 256


def main() -> None:
    """Run the cases, print a table, and write the figures to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--side", type=int, default=4096, help="rows and columns of the images")
    parser.add_argument("--pixels", help="only images of this kind, such as float32")
    parser.add_argument("--sigma", type=float, help="only this sigma")
    parser.add_argument("--threads", type=int, default=thread_count(None))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--budget", type=float, default=4.0, help="seconds for one library and case")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    arguments = parser.parse_args()
    cases = [
        case
        for case in all_cases(arguments.side)
        if arguments.pixels in (None, case.pixels) and arguments.sigma in (None, case.sigma)
    ]
    header = ["image", "sigma", *(f"{name}, ms" for name in LIBRARIES), "OpenCV / blurfast", "OpenCV / default"]
    print("| " + " | ".join(header) + " |")
    print("| --- " * len(header) + "|")
    results = []
    for case in cases:
        result = _measure(case, arguments)
        results.append(result)
        _print_row(case, result)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": describe_machine(arguments.threads), "results": results}
    arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {arguments.json}", file=sys.stderr)


def _measure(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    image = case.image
    prepared = {name: prepare(case, image, arguments.threads) for name, prepare in LIBRARIES.items()}
    runs = {name: run for name, run in prepared.items() if run is not None}
    medians = interleaved_medians(runs, arguments.repeats, arguments.budget)
    ideal = _ideal_corner(case, image)
    errors = {name: _error(run(), ideal) for name, run in runs.items()}
    return {
        "side": case.side,
        "pixels": case.pixels,
        "sigma": case.sigma,
        "truncate": case.truncate,
        "seconds": medians,
        "largest_error": errors,
    }


def _ideal_corner(case: Case, image: NDArray[Any]) -> NDArray[np.float64]:
    """Return the exact, untruncated Gaussian of the top left corner, unrounded."""
    reach = _ERROR_CROP + int(np.ceil(8 * case.sigma))
    corner = image[:reach, :reach].astype(np.float64)
    planes = [corner] if corner.ndim == 2 else [corner[..., channel] for channel in range(corner.shape[2])]
    blurred = [naive.gaussian(plane, case.sigma)[:_ERROR_CROP, :_ERROR_CROP] for plane in planes]
    return blurred[0] if corner.ndim == 2 else np.stack(blurred, axis=-1)


def _error(result: NDArray[Any], ideal: NDArray[np.float64]) -> float:
    """Return the largest error in grey levels or, for floats, in units of the range."""
    return float(np.abs(result[:_ERROR_CROP, :_ERROR_CROP].astype(np.float64) - ideal).max())


def _print_row(case: Case, result: dict[str, Any]) -> None:
    cells = []
    for name in LIBRARIES:
        if name in result["seconds"]:
            cells.append(f"{result['seconds'][name] * 1e3:.1f} ({result['largest_error'][name]:.1g})")
        else:
            cells.append("-")
    seconds = result["seconds"]
    ratios = [f"{seconds['OpenCV'] / seconds[name]:.2f}" for name in ("blurfast", "blurfast, default")]
    print(f"| {case.pixels} | {case.sigma:g} | " + " | ".join([*cells, *ratios]) + " |", flush=True)


if __name__ == "__main__":
    main()
