"""Reports as Markdown. Knows what a report contains, and nothing of how it is measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

DEFAULT = "blurfast, default"
REFERENCE = "OpenCV"
OTHERS = (REFERENCE, "scipy", "scikit-image", "Pillow", "pyvips", "pyvips, integer")
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
    return heading(header) + "".join(line(row) for row in rows)


def heading(header: Sequence[str]) -> str:
    """Return the first two lines of a table."""
    return line(header) + line(["---"] * len(header))


def line(cells: Iterable[str]) -> str:
    """Return one line of a table."""
    return "| " + " | ".join(cells) + " |\n"


def milliseconds(seconds: float | None) -> str:
    """Return a time, or a dash where there is none."""
    return "-" if seconds is None else f"{seconds * 1e3:.1f}"


def comparison(results: Sequence[dict[str, Any]]) -> str:
    """Return the times and errors of blurfast, with its default accuracy, and of the other libraries.

    The last column has the largest error of all other libraries, and whose it is.
    """
    others = [name for name in OTHERS if any(name in result["seconds"] for result in results)]
    header = ["image", "sigma", "blurfast", *others, f"{REFERENCE} / blurfast"]
    header += ["error: blurfast", REFERENCE, "worst library"]
    return table(header, [_comparison_row(result, others) for result in results])


def _comparison_row(result: dict[str, Any], others: Sequence[str]) -> list[str]:
    seconds, errors = result["seconds"], result["largest_error"]
    worst = max((name for name in others if name in errors), key=errors.__getitem__)
    return [
        result["pixels"],
        f"{result['sigma']:g}",
        *(milliseconds(seconds.get(name)) for name in (DEFAULT, *others)),
        f"**{seconds[REFERENCE] / seconds[DEFAULT]:.1f}**",
        *(f"{errors[name]:.1g}" for name in (DEFAULT, REFERENCE)),
        f"{errors[worst]:.1g} ({worst})",
    ]


def ceilings(report: dict[str, Any]) -> str:
    """Return what the machine can do at most, as a sentence."""
    limits = report["ceilings"]
    return (
        f"Ceilings: {_giga(limits['bytes'])} GB/s copied, {_giga(limits['flops'])} GFLOP/s "
        f"({_giga(limits['core_flops'])} by one core)."
    )


def roofline(report: dict[str, Any]) -> str:
    """Return how near the float32 cases come to the machine's ceilings."""
    header = ["sigma", "method", "ms", "GB/s", "of a copy", "GFLOP/s", "of the peak", "bound by"]
    rows = [
        [
            f"{case['sigma']:g}",
            case["method"],
            milliseconds(case["seconds"]),
            _giga(case["bytes"]),
            _percent(case["bytes_share"]),
            _giga(case["flops"]),
            _percent(case["flops_share"]),
            case["bound"],
        ]
        for case in report["roofline"]
    ]
    return table(header, rows)


def inner_loops(report: dict[str, Any]) -> str:
    """Return how near the FIR loops come to the peak of one core."""
    peak = report["ceilings"]["core_flops"]
    rows = [
        [
            f"{case['sigma']:g}",
            str(case["taps"]),
            case["direction"],
            f"`{case['kernel']}`",
            _percent(case["loop_flops"] / peak),
            _percent(case["kernel_flops"] / peak),
        ]
        for case in report["inner_loops"]
    ]
    return table(["sigma", "taps", "pass", "kernel", "FIR loop", "whole kernel"], rows)


def _giga(rate: float) -> str:
    return f"{rate / 1e9:.1f}"


def _percent(share: float) -> str:
    return f"{share * 100:.0f}%"
