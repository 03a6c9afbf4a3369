"""Compare the methods of convolution with each other and with other libraries: ``python -m benchmarks.methods``.

Writes the page docs/methods.md and its picture: times against the side of the kernel, for dense kernels and for sums
of one and three products, and one Gaussian by three methods, with errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import blurfast
from benchmarks.crossover import draw_crossover
from blurfast.bench.description import describe_machine
from blurfast.bench.measure import interleaved_medians
from blurfast.io.array import describe
from blurfast.planning import plan_array
from blurfast.resources import thread_count
from tests import naive

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
PICTURE = Path("pictures") / "crossover.png"
SIDES = (3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 25, 31, 45, 63, 91, 127, 181, 255)
LARGEST_DIRECT = 45
"""The side from which on the direct method is left out, since it would take seconds."""

METHODS = ("direct", "separable", "fft")
LIBRARIES = ("filter2D", "oaconvolve", "fftconvolve")
RANKS = {"dense": None, "one product": 1, "three products": 3}
GAUSSIAN_SIGMAS = (1.0, 3.0, 10.0)
_ERROR_CROP = 256

Image = NDArray[np.float32]
Run = Callable[[], NDArray[Any]]


class Sweep(NamedTuple):
    """The times of one kernel, in seconds, by method and library."""

    side: int
    seconds: dict[str, float]
    chosen: str

    @property
    def best_method(self) -> str:
        """The fastest of blurfast's methods."""
        return min((name for name in self.seconds if name in METHODS), key=self.seconds.__getitem__)

    @property
    def loss(self) -> float:
        """The share of time that the choice loses against the best method."""
        return self.seconds[self.chosen] / self.seconds[self.best_method] - 1


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__)
    parser.add_argument("--side", type=int, default=2048, help="rows and columns of the image")
    parser.add_argument("--threads", type=int, default=thread_count(None))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    image = np.random.default_rng(0).random((arguments.side, arguments.side), dtype=np.float32)
    sweeps = {
        name: [measure_kernel(image, random_kernel(side, rank), arguments) for side in SIDES if side >= (rank or 1)]
        for name, rank in RANKS.items()
    }
    gaussians = [_measure_gaussian(image, sigma, arguments) for sigma in GAUSSIAN_SIGMAS]
    arguments.page.write_text(_render(arguments, sweeps, gaussians))
    draw_crossover({name: _curves(sweep) for name, sweep in sweeps.items()}, arguments.page.parent / PICTURE)
    print(f"written to {arguments.page}")


def random_kernel(side: int, rank: int | None) -> NDArray[np.float64]:
    """Return positive weights that sum to one: a sum of `rank` products, or none that is simpler than itself."""
    random = np.random.default_rng(side)
    weights = random.random((side, side)) if rank is None else random.random((side, rank)) @ random.random((rank, side))
    return np.asarray(weights / weights.sum())


def measure_kernel(image: Image, weights: NDArray[np.float64], arguments: argparse.Namespace) -> Sweep:
    """Time a kernel by every method that can serve, and by the libraries."""
    side = len(weights)
    filter = blurfast.Convolution(weights, correlate=True)
    able = [method for method in METHODS if _can_serve(filter, image, method)]
    methods = [method for method in able if method != "direct" or side <= LARGEST_DIRECT]
    runs: dict[str, Run] = {method: _blurfast(image, filter, method, arguments.threads) for method in methods}
    runs["auto"] = _blurfast(image, filter, "auto", arguments.threads)
    runs["filter2D"] = _opencv(image, weights, arguments.threads)
    runs["oaconvolve"] = _scipy(image, weights, "oaconvolve")
    runs["fftconvolve"] = _scipy(image, weights, "fftconvolve")
    timed = interleaved_medians(runs, arguments.repeats, budget=2.0)
    chosen = plan_array(filter, describe(image[:, :, np.newaxis]), image.dtype, arguments.threads).method
    return Sweep(side, {name: run.seconds for name, run in timed.items()}, chosen)


def _can_serve(filter: blurfast.Convolution, image: Image, method: str) -> bool:
    try:
        plan_array(filter, describe(image[:, :, np.newaxis]), image.dtype, 1, method=method)
    except blurfast.UnsupportedError:
        return False
    return True


def _measure_gaussian(image: Image, sigma: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time one Gaussian, cut at four sigma, by three methods, and find their errors."""
    filter = blurfast.Gaussian(sigma, truncate=4)
    runs = {method: _blurfast(image, filter, method, arguments.threads) for method in METHODS}
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


def _scipy(image: Image, weights: NDArray[np.float64], function: str) -> Run:
    """Use one thread, and zeros beyond the edges, which is all that it has."""
    from scipy import signal

    kernel = weights[::-1, ::-1].astype(np.float32)
    convolve = getattr(signal, function)
    return lambda: convolve(image, kernel, mode="same")


def _curves(sweep: list[Sweep]) -> dict[str, dict[int, float]]:
    """Return the time in milliseconds by side, for each method and library."""
    names = dict.fromkeys(name for result in sweep for name in result.seconds)
    return {
        name: {result.side: result.seconds[name] * 1e3 for result in sweep if name in result.seconds} for name in names
    }


def _render(arguments: argparse.Namespace, sweeps: dict[str, list[Sweep]], gaussians: list[dict[str, Any]]) -> str:
    machine = describe_machine(arguments.threads)
    lines = [
        "# Direct, separable or FFT",
        "",
        f"Made by `python -m benchmarks.methods`: a {arguments.side} x {arguments.side} float32 image, "
        f"{arguments.threads} threads ({machine['processor']}), medians of interleaved runs, in milliseconds.",
        "",
        f"![Time against the side of the kernel, for each method and library]({PICTURE.as_posix()})",
        "",
        "`auto` takes the method in the column after its time; `loss` is how much longer that method took than the "
        "best one. OpenCV's filter2D and scipy's oaconvolve and fftconvolve have one thread.",
    ]
    for name, sweep in sweeps.items():
        lines += ["", f"## Kernels: {name}", "", *_sweep_table(sweep)]
    lines += [
        "",
        "## One Gaussian by three methods",
        "",
        "Cut at four sigma. Errors are the largest in a corner of the image, as a share of its range, against sums in "
        "float64.",
        "",
        f"| sigma | kernel | {' | '.join(METHODS)} | error: {' | '.join(METHODS)} |",
        "| --- " * (2 + 2 * len(METHODS)) + "|",
        *map(_gaussian_row, gaussians),
    ]
    return "\n".join(lines) + "\n"


def _sweep_table(sweep: list[Sweep]) -> list[str]:
    methods = [name for name in METHODS if any(name in result.seconds for result in sweep)]
    heads = ["kernel", *methods, "auto", "auto takes", "loss", *LIBRARIES, *(f"{name} / auto" for name in LIBRARIES)]
    return [
        "| " + " | ".join(heads) + " |",
        "| --- " * len(heads) + "|",
        *("| " + " | ".join(_sweep_cells(result, methods)) + " |" for result in sweep),
    ]


def _sweep_cells(result: Sweep, methods: list[str]) -> list[str]:
    seconds = result.seconds
    times = {name: f"{value * 1e3:.1f}" for name, value in seconds.items()}
    return [
        f"{result.side} x {result.side}",
        *(times.get(name, "-") for name in methods),
        times["auto"],
        result.chosen,
        f"{result.loss:.0%}",
        *(times[name] for name in LIBRARIES),
        *(f"**{seconds[name] / seconds['auto']:.1f}**" for name in LIBRARIES),
    ]


def _gaussian_row(result: dict[str, Any]) -> str:
    times = [f"{value * 1e3:.1f}" for value in result["seconds"].values()]
    errors = [f"{value:.1g}" for value in result["errors"].values()]
    cells = [f"{result['sigma']:g}", f"{result['side']} x {result['side']}", *times, *errors]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
