"""Put the committed figures into the README: ``python -m benchmarks.readme``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import tables

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results.json"
START, END = "<!-- figures -->\n", "<!-- end of figures -->\n"

_PACKAGES = {
    "OpenCV": "opencv-python-headless",
    "scipy": "scipy",
    "scikit-image": "scikit-image",
    "Pillow": "pillow",
    "pyvips": "pyvips-binary",
}
_ONE_THREAD = ("scipy", "scikit-image", "Pillow")
_REPEAT_EDGES = ("Pillow", "pyvips")


def main() -> None:
    """Rewrite the README's section."""
    path = ROOT / "README.md"
    before, after = split(path.read_text())
    path.write_text(before + render(json.loads(RESULTS.read_text())) + after)


def split(readme: str) -> tuple[str, str]:
    """Return what comes before and what comes after the figures."""
    start, end = readme.index(START) + len(START), readme.index(END)
    return readme[:start], readme[end:]


def render(report: dict[str, Any]) -> str:
    """Return the figures as Markdown: the comparison and, where it was measured, the roofline."""
    sections = [_introduction(report), tables.comparison(report["results"])]
    if "roofline" in report:
        sections += [_roofline_introduction(report), tables.roofline(report)]
    if "inner_loops" in report:
        sections += [_inner_loops_introduction(), tables.inner_loops(report)]
    return "\n".join(sections)


def _introduction(report: dict[str, Any]) -> str:
    machine, side = report["machine"], report["results"][0]["side"]
    versions = {
        name: machine["packages"][package] for name, package in _PACKAGES.items() if package in machine["packages"]
    }
    listed = ", ".join(
        f"{name} {version}{' (one thread)' * (name in _ONE_THREAD)}" for name, version in versions.items()
    )
    repeating = " and ".join(name for name in _REPEAT_EDGES if name in versions)
    edges = f" ({repeating}: with the edge pixels repeated, as they do)" if repeating else ""
    return (
        f"A {side} x {side} image in memory, {machine['threads']} threads ({machine['processor']}, "
        f"{machine['register bits']}-bit registers); medians of interleaved runs, into preallocated outputs where a "
        f"library takes them, in milliseconds; {listed}. blurfast runs with its default accuracy, the others with "
        "kernels cut at 4 sigma. Errors are the largest in a corner of 256 x 256 pixels, against the exact "
        f"Gaussian{edges}: in grey levels, or for float32 in shares of the range.\n"
    )


def _roofline_introduction(report: dict[str, Any]) -> str:
    return (
        "The float32 cases against the ceilings of the same machine, with the least traffic (one read, one write) and "
        f"the operations of the taps. {tables.ceilings(report)}\n"
    )


def _inner_loops_introduction() -> str:
    return (
        "The FIR passes on a float32 tile in the cache, as shares of the peak of one core. The kernel also packs, "
        "transposes and writes.\n"
    )


if __name__ == "__main__":
    main()
