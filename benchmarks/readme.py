"""Put the committed figures into the README: ``python -m benchmarks.readme``."""

from __future__ import annotations

from pathlib import Path

from blurfast.bench import markdown
from blurfast.bench.libraries import LIBRARIES
from blurfast.bench.markdown import OTHERS
from blurfast.bench.report import Report, Result, load_report
from blurfast.bench.selection import SIGMAS

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results.json"
START, END = "<!-- figures -->\n", "<!-- end of figures -->\n"

SIDE = 4096
"""Of the images that the README tells of."""

_REPEAT_EDGES = ("Pillow", "pyvips")


def main() -> None:
    """Rewrite the README's section."""
    path = ROOT / "README.md"
    before, after = split(path.read_text())
    path.write_text(before + render(load_report(RESULTS)) + after)


def split(readme: str) -> tuple[str, str]:
    """Return what comes before and what comes after the figures."""
    start, end = readme.index(START) + len(START), readme.index(END)
    return readme[:start], readme[end:]


def render(report: Report) -> str:
    """Return the figures as Markdown: the comparison and, where it was measured, the roofline."""
    shown = [result for result in report.results if _is_shown(result, report.machine["threads"])]
    sections = [_introduction(report), markdown.comparison(shown)]
    if report.ceilings is not None:
        floats = [result for result in shown if result.case.pixels == "float32"]
        sections += [_roofline_introduction(report), markdown.roofline(floats)]
    if report.inner_loops:
        sections += [_inner_loops_introduction(), inner_loops(report)]
    return "\n".join(sections)


def _is_shown(result: Result, threads: int) -> bool:
    case = result.case
    kind = (case.filter, case.side, case.threads, case.backend, case.source)
    return kind == ("gaussian", SIDE, threads, "cpu", "memory") and case.sigma in SIGMAS


def _introduction(report: Report) -> str:
    machine = report.machine
    libraries = {name: LIBRARIES[name] for name in OTHERS if LIBRARIES[name].gaussian and "," not in name}
    versions = {
        name: machine["packages"][library.distribution]
        for name, library in libraries.items()
        if library.distribution in machine["packages"]
    }
    listed = ", ".join(
        f"{name} {version}{' (one thread)' * libraries[name].single_threaded}" for name, version in versions.items()
    )
    repeating = " and ".join(name for name in _REPEAT_EDGES if name in versions)
    edges = f" ({repeating}: with the edge pixels repeated, as they do)" if repeating else ""
    return (
        f"A {SIDE} x {SIDE} image in memory, {machine['threads']} threads ({machine['processor']}, "
        f"{machine['register bits']}-bit registers); medians of interleaved runs, into preallocated outputs where a "
        f"library takes them, in milliseconds; {listed}. blurfast runs with its default accuracy, the others with "
        "kernels cut at 4 sigma. Errors are the largest in a corner of 256 x 256 pixels, against the exact "
        f"Gaussian{edges}: in grey levels, or for float32 in shares of the range.\n"
    )


def _roofline_introduction(report: Report) -> str:
    return (
        "The float32 cases against the ceilings of the same machine, with the least traffic (one read, one write) and "
        f"the operations of the taps. {markdown.ceilings(report)}\n"
    )


def _inner_loops_introduction() -> str:
    return (
        "The FIR passes on a float32 tile in the cache, as shares of the peak of one core. The kernel also packs, "
        "transposes and writes.\n"
    )


def inner_loops(report: Report) -> str:
    """Return how near the FIR loops come to the peak of one core."""
    assert report.ceilings is not None
    peak = report.ceilings.core_flops
    rows = [
        [
            f"{case['sigma']:g}",
            str(case["taps"]),
            case["direction"],
            f"`{case['kernel']}`",
            markdown.percent(case["loop_flops"] / peak),
            markdown.percent(case["kernel_flops"] / peak),
        ]
        for case in report.inner_loops
    ]
    return markdown.table(["sigma", "taps", "pass", "kernel", "FIR loop", "whole kernel"], rows)


if __name__ == "__main__":
    main()
