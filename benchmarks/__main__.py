"""Compare blurfast with other libraries, and with what the machine can do: ``python -m benchmarks``, ``make bench``.

Every cell of the first table is a median time in milliseconds, with the largest error against the exact Gaussian
behind it: in grey levels, or for float32 as a share of the range. The tables after it are of float32 only: how near
each case comes to the ceilings of memory and arithmetic, and how near the FIR loops come to the peak of one core.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import tables
from benchmarks.cases import Case, all_cases
from benchmarks.ceilings import Ceilings, measure_ceilings
from benchmarks.inner_loops import measure_inner_loops
from benchmarks.libraries import Library, installed_libraries
from benchmarks.measure import describe_machine, interleaved_medians
from benchmarks.roofline import Attained, attain, work_of
from blurfast.resources import thread_count
from tests import naive

_ERROR_CROP = 256
_RATIOS = ("blurfast", tables.DEFAULT)


def main() -> None:
    """Run the cases, print the tables, and write the figures to a file."""
    arguments = _arguments()
    libraries = installed_libraries(arguments.threads)
    cases = [
        case
        for case in all_cases(arguments.side)
        if arguments.pixels in (None, case.pixels) and arguments.sigma in (None, case.sigma)
    ]
    ratios = [f"{tables.REFERENCE} / {name}" for name in _RATIOS]
    print(tables.heading(["image", "sigma", *(f"{name}, ms" for name in libraries), *ratios]), end="")
    results = []
    for case in cases:
        result = _measure(case, libraries, arguments)
        results.append(result)
        print(tables.line(_cells(result, libraries)), end="", flush=True)
    ceilings = measure_ceilings(arguments.threads)
    report = {
        "machine": describe_machine(arguments.threads),
        "results": results,
        "ceilings": asdict(ceilings),
        "roofline": [asdict(attained) for attained in _attained(cases, results, ceilings)],
        "inner_loops": [asdict(inner_loop) for inner_loop in measure_inner_loops()],
    }
    print("", tables.ceilings(report), "", tables.roofline(report), tables.inner_loops(report), sep="\n", end="")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {arguments.json}", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--side", type=int, default=4096, help="rows and columns of the images")
    parser.add_argument("--pixels", help="only images of this kind, such as float32")
    parser.add_argument("--sigma", type=float, help="only this sigma")
    parser.add_argument("--threads", type=int, default=thread_count(None))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--budget", type=float, default=4.0, help="seconds for one library and case")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    return parser.parse_args()


def _measure(case: Case, libraries: Mapping[str, Library], arguments: argparse.Namespace) -> dict[str, Any]:
    image = case.image
    prepared = {name: library.prepare(case, image, arguments.threads) for name, library in libraries.items()}
    runs = {name: run for name, run in prepared.items() if run is not None}
    measured = interleaved_medians(runs, arguments.repeats, arguments.budget)
    ideal = functools.cache(functools.partial(_ideal_corner, case))
    return {
        "side": case.side,
        "pixels": case.pixels,
        "sigma": case.sigma,
        "truncate": case.truncate,
        "seconds": {name: measurement.seconds for name, measurement in measured.items()},
        "largest_error": {
            name: _error(measurement.result, ideal(libraries[name].edges)) for name, measurement in measured.items()
        },
    }


def _ideal_corner(case: Case, edges: str) -> NDArray[np.float64]:
    """Return the exact, untruncated Gaussian of the top left corner, unrounded."""
    reach = _ERROR_CROP + int(np.ceil(8 * case.sigma))
    corner = np.atleast_3d(case.image[:reach, :reach]).astype(np.float64)
    planes = [naive.gaussian(corner[..., channel], case.sigma, mode=edges) for channel in range(corner.shape[2])]
    return np.stack(planes, axis=-1)[:_ERROR_CROP, :_ERROR_CROP]


def _error(result: Any, ideal: NDArray[np.float64]) -> float:
    """Return the largest error in grey levels or, for floats, in units of the range."""
    corner = np.atleast_3d(np.asarray(result)[:_ERROR_CROP, :_ERROR_CROP])
    return float(np.abs(corner.astype(np.float64) - ideal).max())


def _attained(cases: Sequence[Case], results: Sequence[dict[str, Any]], ceilings: Ceilings) -> Iterable[Attained]:
    """Yield what the float32 cases reach of the ceilings."""
    for case, result in zip(cases, results, strict=True):
        if case.pixels == "float32":
            seconds = result["seconds"][tables.DEFAULT]
            yield attain(case, work_of(case, ceilings.threads), seconds, ceilings)


def _cells(result: dict[str, Any], names: Iterable[str]) -> list[str]:
    seconds, errors = result["seconds"], result["largest_error"]
    times = [f"{tables.milliseconds(seconds[name])} ({errors[name]:.1g})" if name in seconds else "-" for name in names]
    reference = seconds.get(tables.REFERENCE)
    ratios = ["-" if reference is None else f"{reference / seconds[name]:.2f}" for name in _RATIOS]
    return [result["pixels"], f"{result['sigma']:g}", *times, *ratios]


if __name__ == "__main__":
    main()
