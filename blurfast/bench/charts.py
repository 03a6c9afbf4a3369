"""The curves of a report, as data: what is drawn, what is told to those who cannot see it, and what plotly needs."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from blurfast.bench.cases import Case
from blurfast.bench.libraries import LIBRARIES, OWN
from blurfast.bench.markdown import giga, milliseconds, others_of
from blurfast.bench.report import Report, Result
from blurfast.bench.selection import SWEPT_PIXELS, SWEPT_SIGMA

# Every colour has at least three times the contrast to a white and to a nearly black background.
PALETTE = (
    *("#d9480f", "#a8751a", "#1c7ed6", "#7a55ee", "#0c8599", "#2b8a3e", "#d6336c", "#8d6e63", "#ae3ec9", "#6c757d"),
    *("#94770c", "#4c6ef5", "#0b8a66", "#d43a3a", "#5c8f0d"),
)
_COLOURS = dict(zip(LIBRARIES, PALETTE, strict=False))
_SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "pentagon", "star", "hexagon")
_CEILING = "#6c757d"


class Point(NamedTuple):
    """A point of a curve, and what is shown when one points at it."""

    x: float
    y: float
    note: str


@dataclass(frozen=True)
class Curve:
    """A line with points.

    Parameters
    ----------
    name
        In the legend.
    points
        From left to right.
    library
        The name whose colour it has; none for what the machine does.
    dash
        Plotly's name of the line's pattern.
    mode
        ``lines+markers``, ``lines`` or ``markers``.
    """

    name: str
    points: Sequence[Point]
    library: str = ""
    dash: str = "solid"
    mode: str = "lines+markers"


@dataclass(frozen=True)
class Chart:
    """Curves over one quantity, both axes logarithmic.

    Parameters
    ----------
    key
        The name for links.
    title, caption
        What it is, and how to read it.
    x_title, y_title
        The two quantities.
    curves
        What is drawn.
    x_scale
        ``log`` or ``linear``; the other axis is always logarithmic.
    """

    key: str
    title: str
    caption: str
    x_title: str
    y_title: str
    curves: Sequence[Curve]
    x_scale: str = "log"

    @property
    def description(self) -> str:
        """What the curves show, in words."""
        parts = [f"Chart of {self.y_title} (logarithmic) against {self.x_title} ({self.x_scale})."]
        for curve in self.curves:
            first, last = curve.points[0], curve.points[-1]
            parts.append(f"{curve.name}: from {first.y:.3g} at {first.x:g} to {last.y:.3g} at {last.x:g}.")
        return " ".join(parts)

    def to_plotly(self) -> dict[str, Any]:
        """Return what ``Plotly.newPlot`` takes."""
        axis = {"automargin": True, "fixedrange": True, "zeroline": False}
        x_ticks = _ticks(self._every("x")) if self.x_scale == "log" else {}
        return {
            "data": [_trace(curve) for curve in self.curves],
            "layout": {
                "xaxis": {**axis, "type": self.x_scale, "title": {"text": self.x_title}, **x_ticks},
                "yaxis": {**axis, "type": "log", "title": {"text": self.y_title}, **_ticks(self._every("y"))},
                "legend": {"orientation": "h", "yanchor": "top", "y": -0.25},
                "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
                "hovermode": "closest",
                "paper_bgcolor": "rgba(0,0,0,0)",
                "plot_bgcolor": "rgba(0,0,0,0)",
                "font": {"family": "system-ui, sans-serif", "size": 13},
            },
        }

    def _every(self, axis: str) -> list[float]:
        return [getattr(point, axis) for curve in self.curves for point in curve.points]


def _trace(curve: Curve) -> dict[str, Any]:
    colour = _COLOURS.get(curve.library, _CEILING)
    symbol = _SYMBOLS[list(_COLOURS).index(curve.library) % len(_SYMBOLS)] if curve.library in _COLOURS else "circle"
    return {
        "type": "scatter",
        "name": curve.name,
        "mode": curve.mode,
        "x": [point.x for point in curve.points],
        "y": [point.y for point in curve.points],
        "text": [point.note for point in curve.points],
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": colour, "dash": curve.dash, "width": 3 if curve.library == OWN else 1.5},
        "marker": {"color": colour, "symbol": symbol, "size": 8 if curve.library == OWN else 6},
    }


def _ticks(values: Iterable[float]) -> dict[str, Any]:
    """Return ticks at 1, 2 and 5 times the powers of ten, or at the powers alone where those are many."""
    values = [value for value in values if value > 0]
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def charts_of(report: Report) -> list[Chart]:
    """Return the charts that a report has enough results for."""
    results = [result for result in report.results if result.case.pixels == SWEPT_PIXELS]
    threads = report.machine["threads"]
    usual = [result for result in results if result.case.threads == threads and result.case.source == "memory"]
    charts = [
        _against_sigma(usual),
        _against_kernel(usual, None),
        _against_kernel(usual, 1),
        _against_size(report, threads),
        _against_threads(results),
        *_of_ceilings(report),
        _of_ratios(report),
    ]
    return [chart for chart in charts if chart is not None]


def _against_sigma(results: Iterable[Result]) -> Chart | None:
    gaussians = _largest_sweep((r for r in results if r.case.filter == "gaussian"), lambda case: case.sigma)
    return _chart(
        "sigma",
        "Time against sigma",
        "Kernels grow with sigma. Where a curve is flat, the time does not.",
        "sigma, pixels",
        _curves(gaussians, lambda case: case.sigma),
    )


def _against_kernel(results: Iterable[Result], rank: int | None) -> Chart | None:
    def kept(result: Result) -> bool:
        return result.case.filter == "convolve" and result.case.rank == rank

    convolutions = _largest_sweep(filter(kept, results), lambda case: case.kernel_side)
    kind = "dense kernels" if rank is None else "kernels that are one product"
    return _chart(
        "kernel" if rank is None else f"kernel-rank-{rank}",
        f"Time against the side of the kernel: {kind}",
        f"{OWN} alone is the method that was chosen by itself; the other three were forced. Where two of them cross, "
        "the choice should turn.",
        "side of the kernel, pixels",
        _curves(convolutions, lambda case: case.kernel_side),
    )


def _against_size(report: Report, threads: int) -> Chart | None:
    swept = [r for r in report.results if r.case.sigma == SWEPT_SIGMA and r.case.threads == threads]
    in_memory = [r for r in swept if r.case.source == "memory" and r.case.pixels == SWEPT_PIXELS]
    curves = _curves(in_memory, lambda case: case.side)
    for curve in _curves([r for r in swept if r.case.source == "file"], lambda case: case.side, fewest_points=1):
        curves.append(replace(curve, name=f"{curve.name}, file to file", dash="dash"))
    return _chart(
        "size",
        "Time against the size of the image, in memory and from file to file",
        f"A Gaussian with sigma {SWEPT_SIGMA:g}. Dashed: read, filtered and written, 16-bit TIFF, which {OWN} streams "
        "through 400 MB while others but libvips read all of it. Solid: float32 in memory.",
        "rows and columns, pixels",
        curves,
    )


def _against_threads(results: Iterable[Result]) -> Chart | None:
    def kept(result: Result) -> bool:
        return (result.case.filter, result.case.sigma, result.case.source) == ("gaussian", SWEPT_SIGMA, "memory")

    return _chart(
        "threads",
        "Time against threads",
        f"A Gaussian with sigma {SWEPT_SIGMA:g}. Libraries that have one thread only are left out.",
        "threads",
        _curves(_largest_sweep(filter(kept, results), lambda case: case.threads), lambda case: case.threads),
    )


def _of_ceilings(report: Report) -> Iterator[Chart]:
    """Yield the roofline, if the ceilings were measured."""
    limits = report.ceilings
    placed = [(result, result.attained) for result in report.results if result.attained is not None]
    if limits is None or not placed:
        return
    points: dict[str, list[Point]] = collections.defaultdict(list)
    for result, attained in placed:
        intensity, rate = attained.flops / attained.bytes, attained.flops / 1e9
        note = f"{result.case.title}<br>{attained.method}: {rate:.1f} GFLOP/s, {giga(attained.bytes)} GB/s"
        points[attained.method].append(Point(intensity, rate, note))
    every = [point.x for own in points.values() for point in own]
    ridge = limits.flops / limits.bytes
    edges = (min(*every, ridge) / 2, ridge, max(*every, ridge) * 2)
    roof = [Point(x, min(limits.flops, x * limits.bytes) / 1e9, "ceiling: {:.4g} GFLOP/s") for x in edges]
    roof = [point._replace(note=point.note.format(point.y)) for point in roof]
    libraries = {"separable": f"{OWN}, separable", "direct": f"{OWN}, direct", "fft": f"{OWN}, fft", "multirate": OWN}
    yield Chart(
        "roofline",
        "Roofline",
        f"What {OWN} does per second against what it does per byte. The line is what the machine can do at most: its "
        "memory limits it on the left, its arithmetic on the right. Bytes are counted once in and once out.",
        "operations per byte",
        "GFLOP/s",
        [
            Curve("ceiling", roof, dash="dot", mode="lines"),
            *(Curve(method, sorted(own), libraries[method], mode="markers") for method, own in points.items()),
        ],
    )


def _of_ratios(report: Report) -> Chart | None:
    """Return how many times as long every other library takes, case by case."""
    points: dict[str, list[Point]] = collections.defaultdict(list)
    for number, result in enumerate(report.results, 1):
        own = result.measurements.get(OWN)
        if own is None:
            continue
        for name, other in others_of(result).items():
            ratio = other.seconds / own.seconds
            note = f"{name}: {ratio:.2f} times as long as {OWN}<br>{result.case.title}"
            points[name].append(Point(number, ratio, note))
    even = [Point(x, 1.0, "as long") for x in (1, max(len(report.results), 2))]
    curves = [Curve(name, own, name, mode="markers") for name, own in points.items()]
    if not curves:
        return None
    return Chart(
        "ratios",
        f"All cases: how many times as long others take as {OWN}",
        f"Every point is a case. Above 1, {OWN} is faster; below 1, the other library is. Point at it to see the case.",
        "number of the case",
        f"time / time of {OWN}",
        [Curve("as long", even, dash="dot", mode="lines"), *curves],
        x_scale="linear",
    )


def _largest_sweep(results: Iterable[Result], quantity: Callable[[Case], float]) -> list[Result]:
    """Return the results of the image that most values of a quantity were measured with."""
    groups = collections.defaultdict(list)
    for result in results:
        groups[result.case.side, result.case.pixels].append(result)
    return max(groups.values(), key=lambda group: len({quantity(result.case) for result in group}), default=[])


def _curves(results: Iterable[Result], quantity: Callable[[Case], float], fewest_points: int = 2) -> list[Curve]:
    """Return a curve for every library and backend."""
    points: dict[tuple[str, str], list[Point]] = collections.defaultdict(list)
    for result, (name, measured) in itertools.chain.from_iterable(
        zip(itertools.repeat(result), result.measurements.items()) for result in results
    ):
        timing, where = measured.timing, "" if result.case.backend == "cpu" else f", {result.case.backend}"
        error = "" if measured.error is None else f"<br>error {measured.error:.1g}"
        quartiles = f"{milliseconds(timing.low)} to {milliseconds(timing.high)}"
        note = f"{name}{where}: {milliseconds(timing.seconds)} ms ({quartiles})<br>{result.case.title}{error}"
        points[name, where].append(Point(quantity(result.case), timing.seconds * 1e3, note))
    order = list(LIBRARIES)
    return [
        Curve(f"{name}{where}", sorted(own), name, "dashdot" if where else "solid")
        for (name, where), own in sorted(points.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
        if len({point.x for point in own}) >= fewest_points
    ]


def _chart(key: str, title: str, caption: str, x_title: str, curves: Sequence[Curve]) -> Chart | None:
    return Chart(key, title, caption, x_title, "milliseconds", curves) if curves else None
