"""Reports as Markdown. Knows what a report contains, and nothing of how it is measured."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from blurfast.bench.libraries import LIBRARIES, OWN
from blurfast.bench.report import Measurement, Report, Result

REFERENCE = "OpenCV"
OTHERS = tuple(name for name, library in LIBRARIES.items() if library.key != OWN)
"""All libraries but blurfast, in the order of their columns."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table.

    Examples
    --------
    >>> print(table(["sigma", "ms"], [["2", "8.6"]]), end="")
    | sigma | ms |
    | --- | --- |
    | 2 | 8.6 |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def milliseconds(seconds: float | None) -> str:
    """Return a time, or a dash where there is none.

    Examples
    --------
    >>> milliseconds(0.01234), milliseconds(0.0004567), milliseconds(None)
    ('12.3', '0.46', '-')
    """
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.1f}" if seconds >= 1e-3 else f"{seconds * 1e3:#.2g}"


def giga(rate: float) -> str:
    """Return a rate in units of 10^9."""
    return f"{rate / 1e9:.1f}"


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{share * 100:.0f}%"


def others_of(result: Result) -> dict[str, Measurement]:
    """Return what other libraries than blurfast come to."""
    return {name: measured for name, measured in result.measurements.items() if name in OTHERS}


def compared(report: Report) -> list[tuple[str, list[Result]]]:
    """Return the results that tables compare, with a title for each table: one for each filter and size."""
    threads = report.machine["threads"]
    kept = [result for result in report.results if result.case.threads == threads and OWN in result.measurements]

    def title(result: Result) -> str:
        case = result.case
        source = "from file to file" if case.source == "file" else "in memory"
        rank = "" if case.rank is None else f", kernels of rank {case.rank}"
        backend = "" if case.backend == "cpu" else f", {case.backend}"
        return f"{case.filter}, {case.side} x {case.side} {source}{rank}{backend}"

    kept.sort(key=lambda result: (result.case.source == "file", result.case.filter, result.case.side, title(result)))
    return [(name, list(group)) for name, group in itertools.groupby(kept, key=title)]


def comparison(results: Sequence[Result]) -> str:
    """Return the times and errors of blurfast, with its default accuracy, and of other libraries, for one filter.

    The last column has the largest error of all other libraries, and whose it is.
    """
    others = [name for name in OTHERS if any(name in result.measurements for result in results)]
    parameter = "sigma" if results[0].case.filter == "gaussian" else "kernel"
    header = ["image", parameter, OWN, *others, f"{REFERENCE} / {OWN}"]
    header += [f"error: {OWN}", REFERENCE, "worst library"]
    return table(header, [_comparison_row(result, others) for result in results])


def _comparison_row(result: Result, others: Sequence[str]) -> list[str]:
    case, measured = result.case, result.measurements
    own, reference = measured[OWN], measured.get(REFERENCE)
    errors = {name: other.error for name, other in others_of(result).items() if other.error is not None}
    worst = max(errors, key=errors.__getitem__, default=None)
    times = [milliseconds(measured[name].seconds if name in measured else None) for name in (OWN, *others)]
    return [
        case.pixels,
        parameter_of(result),
        *times,
        "-" if reference is None else f"**{reference.seconds / own.seconds:.1f}**",
        _error(own),
        _error(reference),
        "-" if worst is None else f"{errors[worst]:.1g} ({worst})",
    ]


def parameter_of(result: Result) -> str:
    """Return sigma, or the size of the kernel."""
    case = result.case
    return f"{case.sigma:g}" if case.filter == "gaussian" else f"{case.kernel_side} x {case.kernel_side}"


def _error(measured: Measurement | None) -> str:
    return "-" if measured is None or measured.error is None else f"{measured.error:.1g}"


def ceilings(report: Report) -> str:
    """Return what the machine can do at most, as a sentence."""
    limits = report.ceilings
    assert limits is not None
    return (
        f"Ceilings: {giga(limits.bytes)} GB/s copied, {giga(limits.flops)} GFLOP/s "
        f"({giga(limits.core_flops)} by one core)."
    )


def roofline(results: Iterable[Result]) -> str:
    """Return how near Gaussians come to the machine's ceilings."""
    header = ["sigma", "method", "ms", "GB/s", "of a copy", "GFLOP/s", "of the peak", "bound by"]
    rows = [
        [
            f"{result.case.sigma:g}",
            attained.method,
            milliseconds(result.measurements[OWN].seconds),
            giga(attained.bytes),
            percent(attained.bytes_share),
            giga(attained.flops),
            percent(attained.flops_share),
            attained.bound,
        ]
        for result in results
        if (attained := result.attained) is not None
    ]
    return table(header, rows)


def render(report: Report) -> str:
    """Return a report as Markdown: the machine, a table for each filter and size, and what was left out."""
    machine = report.machine
    parts = [
        "# blurfast bench\n",
        f"{machine['model']}, {machine['threads']} threads, {machine['system']}, {report.created}. Medians of "
        "interleaved runs, in milliseconds. Errors are the largest in a corner, against the exact result: in grey "
        "levels, or for float32 in shares of the range.\n",
    ]
    if not report.complete:
        parts.append(f"Interrupted: {len(report.results)} cases were measured.\n")
    if report.ceilings is not None:
        parts.append(f"{ceilings(report)}\n")
    for title, results in compared(report):
        parts += [f"## {title}\n", comparison(results)]
    left_out = [f"- {name}: {reason}\n" for name, reason in report.skipped.items()]
    left_out += [
        f"- {name} failed at {result.case.title}: {failure}\n"
        for result in report.results
        for name, failure in result.failures.items()
    ]
    if left_out:
        parts += ["## Left out\n", "".join(left_out)]
    return "\n".join(parts)
