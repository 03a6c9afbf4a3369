"""Compare the methods of convolution with each other and with other libraries: ``python -m benchmarks.methods``.

Writes the page docs/methods.md: times against the side of the kernel, and one Gaussian by three methods, with errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import blurfast
from benchmarks.measure import describe_machine, interleaved_medians
from blurfast.io.array import describe
from blurfast.planning import plan_array
from blurfast.resources import thread_count
from tests import naive

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
SIDES = (3, 5, 7, 9, 11, 13, 15, 17, 21, 31, 45, 63, 91, 127, 181, 255)
LARGEST_DIRECT = 45
"""The side from which on the direct method is left out, since it would take seconds."""

METHODS = ("direct", "fft")
GAUSSIAN_SIGMAS = (1.0, 3.0, 10.0)
_ERROR_CROP = 256

Image = NDArray[np.float32]
Run = Callable[[], NDArray[Any]]


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__)
    parser.add_argument("--side", type=int, default=2048, help="rows and columns of the image")
    parser.add_argument("--threads", type=int, default=thread_count(None))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    image = np.random.default_rng(0).random((arguments.side, arguments.side), dtype=np.float32)
    dense = [_measure_dense(image, side, arguments) for side in SIDES]
    gaussians = [_measure_gaussian(image, sigma, arguments) for sigma in GAUSSIAN_SIGMAS]
    arguments.page.write_text(_render(arguments, dense, gaussians))
    print(f"written to {arguments.page}")


def _measure_dense(image: Image, side: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time a kernel that no decomposition helps with, by every method and library."""
    weights = np.random.default_rng(side).random((side, side))
    weights /= weights.sum()
    filter = blurfast.Convolution(weights, correlate=True)
    methods = [method for method in METHODS if method != "direct" or side <= LARGEST_DIRECT]
    runs: dict[str, Run] = {method: _blurfast(image, filter, method, arguments.threads) for method in methods}
    runs["auto"] = _blurfast(image, filter, "auto", arguments.threads)
    runs["OpenCV filter2D"] = _opencv(image, weights, arguments.threads)
    runs["scipy oaconvolve"] = _scipy(image, weights)
    seconds = {name: timed.seconds for name, timed in interleaved_medians(runs, arguments.repeats, 4.0).items()}
    spec = describe(image[:, :, np.newaxis])
    chosen = plan_array(filter, spec, image.dtype, arguments.threads).method
    return {"side": side, "seconds": seconds, "chosen": chosen}


def _measure_gaussian(image: Image, sigma: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time one Gaussian, cut at four sigma, by three methods, and find their errors."""
    filter = blurfast.Gaussian(sigma, truncate=4)
    runs = {method: _blurfast(image, filter, method, arguments.threads) for method in ("separable", *METHODS)}
    timed = interleaved_medians(runs, arguments.repeats, budget=4.0)
    reach = _ERROR_CROP + int(4 * sigma + 0.5)
    exact = naive.gaussian(image[:reach, :reach], sigma, truncate=4)[:_ERROR_CROP, :_ERROR_CROP]
    corners = {name: run.result[:_ERROR_CROP, :_ERROR_CROP] for name, run in timed.items()}
    return {
        "sigma": sigma,
        "side": 2 * int(4 * sigma + 0.5) + 1,
        "seconds": {name: run.seconds for name, run in timed.items()},
        "errors": {name: float(np.abs(corner - exact).max()) for name, corner in corners.items()},
    }


def _blurfast(image: Image, filter: Any, method: str, threads: int) -> Run:
    out = np.empty_like(image)
    return lambda: blurfast.apply(filter, image, method=method, out=out, threads=threads)


def _opencv(image: Image, weights: NDArray[np.float64], threads: int) -> Run:
    import cv2

    cv2.setNumThreads(threads)
    out, kernel = np.empty_like(image), weights.astype(np.float32)
    return lambda: cv2.filter2D(image, -1, kernel, dst=out, borderType=cv2.BORDER_REFLECT)


def _scipy(image: Image, weights: NDArray[np.float64]) -> Run:
    """Use one thread, and zeros beyond the edges, which is all that it has."""
    from scipy import signal

    kernel = weights[::-1, ::-1].astype(np.float32)
    return lambda: signal.oaconvolve(image, kernel, mode="same")


def _render(arguments: argparse.Namespace, dense: list[dict[str, Any]], gaussians: list[dict[str, Any]]) -> str:
    machine = describe_machine(arguments.threads)
    lines = [
        "# Direct, separable or FFT",
        "",
        f"Made by `python -m benchmarks.methods`: a {arguments.side} x {arguments.side} float32 image, "
        f"{arguments.threads} threads ({machine['processor']}), medians of interleaved runs, in milliseconds.",
        "",
        "## Dense kernels",
        "",
        "Random weights, which no decomposition helps with. `auto` takes the method in the last column. OpenCV's "
        "filter2D and scipy's oaconvolve have one thread.",
        "",
        "| kernel | direct | FFT | auto | filter2D | oaconvolve | filter2D / auto | oaconvolve / auto | auto takes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(_dense_row, dense),
        "",
        "## One Gaussian by three methods",
        "",
        "Cut at four sigma. Errors are the largest in a corner of the image, as a share of its range, against sums in "
        "float64.",
        "",
        "| sigma | kernel | separable | direct | FFT | error: separable | direct | FFT |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(_gaussian_row, gaussians),
    ]
    return "\n".join(lines) + "\n"


def _dense_row(result: dict[str, Any]) -> str:
    seconds = result["seconds"]
    names = (*METHODS, "auto", "OpenCV filter2D", "scipy oaconvolve")
    times = [f"{seconds[name] * 1e3:.1f}" if name in seconds else "-" for name in names]
    ratios = [f"**{seconds[name] / seconds['auto']:.1f}**" for name in names[-2:]]
    return f"| {result['side']} x {result['side']} | " + " | ".join([*times, *ratios, result["chosen"]]) + " |"


def _gaussian_row(result: dict[str, Any]) -> str:
    times = [f"{value * 1e3:.1f}" for value in result["seconds"].values()]
    errors = [f"{value:.1g}" for value in result["errors"].values()]
    cells = [f"{result['sigma']:g}", f"{result['side']} x {result['side']}", *times, *errors]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
