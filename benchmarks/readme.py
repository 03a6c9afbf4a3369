"""Put the committed figures into the README: ``python -m benchmarks.readme``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results.json"
START, END = "<!-- figures -->\n", "<!-- end of figures -->\n"


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
    """Return the figures as Markdown."""
    machine = report["machine"]
    packages = machine["packages"]
    lines = [
        f"A {report['results'][0]['side']} x {report['results'][0]['side']} image in memory, "
        f"{machine['threads']} threads ({machine['processor']}, {machine['register bits']}-bit registers); medians of "
        f"interleaved runs with preallocated outputs, in milliseconds; OpenCV {packages['opencv-python-headless']}, "
        f"scipy {packages['scipy']} (one thread). blurfast runs with its default accuracy, the others with kernels "
        "cut at 4 sigma. Errors are the largest in a corner of 256 x 256 pixels, against the exact Gaussian: in grey "
        "levels, or for float32 in shares of the range.",
        "",
        "| image | sigma | blurfast | OpenCV | scipy | OpenCV / blurfast | error: blurfast | OpenCV | scipy |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    names = ("blurfast, default", "OpenCV", "scipy")
    for result in report["results"]:
        seconds, errors = result["seconds"], result["largest_error"]
        times = [f"{seconds[name] * 1e3:.1f}" for name in names]
        ratio = f"**{seconds['OpenCV'] / seconds['blurfast, default']:.1f}**"
        cells = [result["pixels"], f"{result['sigma']:g}", *times, ratio, *(f"{errors[name]:.1g}" for name in names)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
