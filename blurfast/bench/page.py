"""Reports as one HTML file that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, NamedTuple

from blurfast.bench.charts import Chart, charts_of
from blurfast.bench.compare import Change, Comparison
from blurfast.bench.libraries import LIBRARIES, OWN, SAME_KERNEL
from blurfast.bench.markdown import compared, giga, milliseconds, others_of, parameter_of, percent
from blurfast.bench.report import Measurement, Report, Result
from blurfast.errors import UnsupportedError
from blurfast.resources import format_memory

# Whatever the page holds, a browser that obeys this sends nothing anywhere.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


class Cell(NamedTuple):
    """A cell of a table.

    Parameters
    ----------
    markup
        What it shows, as HTML.
    value
        The number to sort by; None for text.
    style
        Classes.
    """

    markup: str
    value: float | None = None
    style: str = ""


def plotly_script() -> str:
    """Return the source of plotly.js.

    Raises
    ------
    UnsupportedError
        If plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        fact, remedy = "an HTML report needs plotly", "install blurfast[bench-report], or use --markdown or --json"
        raise UnsupportedError(fact, remedy=remedy) from error
    return str(get_plotlyjs())


def render(report: Report, comparison: Comparison | None = None) -> str:
    """Return a report as an HTML page.

    Parameters
    ----------
    report
        What was measured.
    comparison
        With an earlier report, to be shown as well.

    Raises
    ------
    UnsupportedError
        If plotly is not installed.
    """
    script = plotly_script()
    charts = charts_of(report)
    sections = [
        ("summary", "Summary", _summary(report)),
        *([("changes", "Changes", _changes(comparison))] if comparison else []),
        ("machine", "Machine", _machine(report)),
        *([("plots", "Plots", "".join(map(_figure, charts)))] if charts else []),
        ("tables", "All cases", _tables(report)),
        ("ceilings", "How near to the ceilings", _ceilings(report)),
        ("phases", "Before the steady state", _phases(report)),
        ("method", "How it was measured", _method(report)),
    ]
    shown = [(key, title, body) for key, title, body in sections if body]
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in shown)
    bodies = "".join(f'<section id="{key}"><h2>{title}</h2>{body}</section>' for key, title, body in shown)
    packed = base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>blurfast bench</title><style>{_asset("report.css")}</style></head>\n'
        f"<body><header><h1>blurfast beside other libraries</h1>{_headline(report)}"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main>{bodies}</main>\n'
        f'<script type="text/plain" id="plotly">{packed}</script>\n<script>{_asset("report.js")}</script>'
        "</body></html>\n"
    )


def _asset(name: str) -> str:
    return (resources.files("blurfast.bench") / "assets" / name).read_text(encoding="utf-8")


def _headline(report: Report) -> str:
    machine = report.machine
    facts = f"{machine['model']}, {machine['threads']} threads, {report.created}"
    warning = (
        ""
        if report.complete
        else "<p class='loss'><strong>Interrupted: what had been measured until then.</strong></p>"
    )
    return f"<p>{html.escape(facts)}</p>{warning}"


# ---- what the sections say


def _summary(report: Report) -> str:
    """Count the wins, and name every loss."""
    wins, losses = 0, []
    for _, results in compared(report):
        for result in results:
            name, ratio = _nearest_rival(result)
            if name is None:
                continue
            if ratio >= 1:
                wins += 1
            else:
                losses.append(f"{result.case.title}: {name} is {1 / ratio:.2f} times as fast")
    paragraph = f"<p>{OWN} is the fastest in {wins} of {wins + len(losses)} comparisons, with its default accuracy."
    if not losses:
        return f"{paragraph}</p>"
    listed = "".join(f"<li>{html.escape(loss)}</li>" for loss in losses)
    return (
        f"{paragraph} In {len(losses)} another library is faster:</p>"
        f"<details open><summary>The {len(losses)} losses</summary><ul>{listed}</ul></details>"
    )


def _nearest_rival(result: Result) -> tuple[str | None, float]:
    """Return the fastest other library, and how many times as long it takes."""
    others = others_of(result)
    name = min(others, key=lambda other: others[other].seconds, default=None)
    return (None, 0.0) if name is None else (name, others[name].seconds / result.measurements[OWN].seconds)


def _changes(comparison: Comparison) -> str:
    """Show what changed, and all the rest in a table that is closed at first."""
    header = ["case", "before, ms", "after, ms", "ratio", "noise", "verdict"]
    changed = [_change_row(change) for change in comparison.changes if change.verdict != "same"]
    same = [_change_row(change) for change in comparison.changes if change.verdict == "same"]
    parts = [
        f"<p>{len(changed)} of {len(comparison.changes)} times or errors of {OWN} changed by more than the noise. By "
        f"the other libraries, the machine takes {comparison.drift:.2f} times as long as before; the ratios leave that "
        "out.</p>"
    ]
    if changed:
        parts.append(_table("What changed since the earlier result", header, changed))
    if same:
        table = _table("What is the same as in the earlier result", header, same)
        parts.append(f"<details><summary>The {len(same)} that are the same</summary>{table}</details>")
    return "".join(parts)


def _change_row(change: Change) -> list[Cell]:
    styles = {"same": "text", "faster": "text win"}
    return [
        Cell(html.escape(change.title)),
        _time_cell(change.before),
        _time_cell(change.after),
        Cell(f"{change.ratio:.2f}", change.ratio),
        Cell(f"±{percent(change.noise)}", change.noise),
        Cell(change.verdict, style=styles.get(change.verdict, "text loss")),
    ]


def _machine(report: Report) -> str:
    facts = {name: value for name, value in report.machine.items() if name != "packages"}
    facts |= {f"version of {name}": version for name, version in report.machine["packages"].items()}
    if report.ceilings is not None:
        facts["memory bandwidth, measured"] = f"{giga(report.ceilings.bytes)} GB/s (a copy, read and written)"
        facts["arithmetic peak, measured"] = (
            f"{giga(report.ceilings.flops)} GFLOP/s float32 ({giga(report.ceilings.core_flops)} by one core)"
        )
    rows = [[Cell(html.escape(name)), Cell(html.escape(str(value)), style="wide")] for name, value in facts.items()]
    return _table("What the figures depend on", ["property", "value"], rows)


def _figure(chart: Chart) -> str:
    rows = [
        [Cell(html.escape(curve.name)), Cell(f"{point.x:.4g}", point.x), Cell(f"{point.y:.4g}", point.y)]
        for curve in chart.curves
        for point in curve.points
    ]
    values = _table(f"Values of: {chart.title}", ["curve", chart.x_title, chart.y_title], rows)
    data = json.dumps(chart.to_plotly()).replace("<", "\\u003c")
    return (
        f'<h3 id="chart-{chart.key}">{html.escape(chart.title)}</h3><figure>'
        f'<div class="plot" id="plot-{chart.key}" role="img" aria-label="{html.escape(chart.description)}"></div>'
        f"<figcaption>{html.escape(chart.caption)}</figcaption>"
        f'<script type="application/json" id="plot-{chart.key}-data">{data}</script>'
        f"<details><summary>Values</summary>{values}</details></figure>"
    )


def _tables(report: Report) -> str:
    intro = (
        "<p>Medians in milliseconds; below them the distance between the quartiles, and the largest error against the "
        "exact result: in grey levels, or for floats in shares of the range. A dash: no such filter, or it would take "
        "too long. The fastest is in bold.</p>"
    )
    return intro + "".join(_comparison(title, results) for title, results in compared(report))


def _comparison(title: str, results: Sequence[Result]) -> str:
    names = [name for name in LIBRARIES if any(name in result.measurements for result in results)]
    parameter = "sigma" if results[0].case.filter == "gaussian" else "kernel"
    has_memory = any(own.peak_memory for result in results for own in result.measurements.values())
    header = ["image", parameter, *names, "fastest other", f"its time / {OWN}"]
    rows = [_comparison_row(result, names) for result in results]
    note = " Below: the peak memory of each process." if has_memory else ""
    return f"<h3>{html.escape(title)}</h3>" + _table(f"Times of {title}.{note}", header, rows)


def _comparison_row(result: Result, names: Iterable[str]) -> list[Cell]:
    case, measured = result.case, result.measurements
    shown = {name: measured.get(name) for name in names}
    fastest = min(others_of(result) | {OWN: measured[OWN]}, key=lambda name: measured[name].seconds)
    rival, ratio = _nearest_rival(result)
    size = case.sigma if case.filter == "gaussian" else float(case.kernel_side)
    verdict = Cell("-") if rival is None else Cell(f"{ratio:.2f}x", ratio, "win" if ratio >= 1 else "loss")
    return [
        Cell(html.escape(case.pixels)),
        Cell(parameter_of(result), size),
        *(_measured_cell(own, result.failures.get(name), is_best=name == fastest) for name, own in shown.items()),
        Cell(html.escape(rival or "-"), style="text"),
        verdict,
    ]


def _measured_cell(own: Measurement | None, failure: str | None, *, is_best: bool) -> Cell:
    if own is None:
        return Cell("-" if failure is None else "failed")
    details = [f"±{percent(own.timing.spread / 2)}" if own.timing.runs > 1 else "1 run"]
    if own.error is not None:
        details.append(f"err {own.error:.1g}")
    if own.peak_memory is not None:
        details.append(format_memory(own.peak_memory))
    markup = f"{milliseconds(own.seconds)}<small>{' · '.join(details)}</small>"
    return Cell(markup, own.seconds, "best" if is_best else "")


def _ceilings(report: Report) -> str:
    rows = [
        [
            Cell(html.escape(result.case.title)),
            Cell(attained.method, style="text"),
            _time_cell(result.measurements[OWN].seconds),
            Cell(giga(attained.bytes), attained.bytes),
            Cell(percent(attained.bytes_share), attained.bytes_share),
            Cell(giga(attained.flops), attained.flops),
            Cell(percent(attained.flops_share), attained.flops_share),
            Cell(attained.bound, style="text"),
        ]
        for result in report.results
        if (attained := result.attained) is not None
    ]
    header = ["case", "method", "ms", "GB/s", "of a copy", "GFLOP/s", "of the peak", "bound by"]
    return _table(f"What {OWN} reaches of what the machine can do at most", header, rows) if rows else ""


def _phases(report: Report) -> str:
    """Show all phases of all contestants, in a table that is closed at first."""
    shown = [
        (result, name, own)
        for _, results in compared(report)
        for result in results
        for name, own in result.measurements.items()
        if name in (OWN, SAME_KERNEL, *others_of(result))
    ]
    names = list(dict.fromkeys(phase for _, _, own in shown for phase in own.timing.phases))
    rows = [
        [
            Cell(html.escape(f"{result.case.title}: {name}")),
            *(_time_cell(own.timing.phases.get(phase)) for phase in names),
            _time_cell(own.seconds),
            Cell(str(own.timing.runs), own.timing.runs),
        ]
        for result, name, own in shown
    ]
    header = ["case and library", *(f"{name}, ms" for name in names), "steady, ms", "runs"]
    table = _table("Time before the steady state, part by part", header, rows)
    return (
        "<p>Set-up prepares what a library needs once. Compiling, where it can be told apart, makes or loads code. The "
        "first call plans, and finds all caches cold. The steady state is the median that all tables show.</p>"
        f"<details><summary>Set-up, compiling, first call, warm-up and steady state of all</summary>{table}</details>"
    )


def _method(report: Report) -> str:
    threads = report.machine["threads"]
    single = ", ".join(dict.fromkeys(library.key for library in LIBRARIES.values() if library.single_threaded))
    parts = [
        f"<p>All libraries may use {threads} threads ({single} have one) and take turns, so that what disturbs the "
        "machine disturbs all of them. Errors are measured against float64 sums of kernels that are not cut, in the "
        "top left corner of 256 x 256 pixels, with the edges that the library has. Arrays are in memory, and results "
        "go into arrays that are there already, where a library takes them. From file to file, every run is a process "
        f"of its own, timed from opening the input to the complete output; {OWN} alone flushes that to the disk.</p>",
        "<p hidden id='no-plots' class='loss'>This browser cannot draw the plots; their values are in the tables.</p>",
    ]
    left_out = [f"{name}: {reason}" for name, reason in report.skipped.items()]
    left_out += [
        f"{name} failed at {result.case.title}: {failure}"
        for result in report.results
        for name, failure in result.failures.items()
    ]
    if left_out:
        items = "".join(f"<li>{html.escape(item)}</li>" for item in left_out)
        parts.append(f"<h3>Left out</h3><ul>{items}</ul>")
    return "".join(parts)


# ---- markup


def _time_cell(seconds: float | None) -> Cell:
    return Cell("-") if seconds is None else Cell(milliseconds(seconds), seconds)


def _table(caption: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a table that can be sorted by every column, and scrolled where it is wider than the screen."""
    heads = "".join(map(_heading, header, rows[0]))
    body = "".join(f"<tr>{_row(cells)}</tr>" for cells in rows)
    label = html.escape(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table><caption>{label}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _heading(name: str, below: Cell) -> str:
    """Return the heading of a column: a button that sorts, with the alignment of the cells below."""
    style = ' class="text"' if below.value is None and below.style else ""
    return f'<th scope="col"{style}><button type="button">{html.escape(name)}</button></th>'


def _row(cells: Sequence[Cell]) -> str:
    first, *others = cells
    return f'<th scope="row">{first.markup}</th>' + "".join(map(_data, others))


def _data(cell: Cell) -> str:
    attributes: dict[str, Any] = {"class": cell.style or None, "data-value": cell.value}
    listed = "".join(f' {name}="{value}"' for name, value in attributes.items() if value is not None)
    return f"<td{listed}>{cell.markup}</td>"
