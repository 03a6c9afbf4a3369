"""Compare the memory that plans predict with what runs take: ``python -m benchmarks.memory``.

Files of many kinds are filtered with several filters, limits and numbers of threads, each in a process of its own.
Of all combinations, a sample is taken in which every two properties meet.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import combinations, groupby, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from blurfast.bench import markdown
from blurfast.bench.scene import tissue
from blurfast.resources import MEGABYTE

PIXELS = ("uint8", "uint16", "float32", "RGB", "RGBA")

LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 16},
    "tiles 256": {"tile": (256, 256)},
    "tiles 1024": {"tile": (1024, 1024)},
    "deflate strips": {"rowsperstrip": 64, "compression": "zlib", "predictor": True},
    "zstd tiles": {"tile": (256, 256), "compression": "zstd"},
    "planar tiles": {"tile": (256, 256), "planarconfig": "separate"},
    "one strip": {"rowsperstrip": 2**31},
    "one deflate strip": {"rowsperstrip": 2**31, "compression": "zlib"},
    "PNG": {},
}
"""How files are stored: what tifffile is told."""

FILTERS: dict[str, dict[str, Any]] = {
    "sigma 2": {"sigma": 2.0},
    "sigma 5": {"sigma": 5.0},
    "sigma 50": {"sigma": 50.0},
    "disk:15 direct": {"kernel": "disk:15", "method": "direct"},
    "disk:60 fft": {"kernel": "disk:60", "method": "fft"},
}

LIMITS = ("192MB", "512MB", "default")
THREADS = (1, 2)

MOST_BEYOND = 1.05
"""What a run may take for each predicted byte."""

MOST_UNUSED = 1.2
"""What may be predicted for each byte that a run takes."""

_COLUMNS = ("pixels", "file", "filter", "limit", "threads", "predicted", "measured", "ratio", "how")


class Case(NamedTuple):
    """What is filtered, and how."""

    pixels: str
    layout: str
    filter: str
    limit: str
    threads: int

    @property
    def is_possible(self) -> bool:
        """Whether there is such a file, and such a filter for it."""
        if self.layout == "planar tiles":
            return self.pixels.startswith("RGB")
        if self.filter == "disk:60 fft" and self.pixels == "RGBA":  # transforms cannot weight by opacity
            return False
        return not (self.layout == "PNG" and self.pixels == "float32")


class Outcome(NamedTuple):
    """What a run was predicted to take, and took, in bytes, and how it was done; or that its limit was refused."""

    predicted: int
    measured: int
    limit: int
    how: str
    is_refused: bool = False

    @property
    def ratio(self) -> float:
        """What was measured for each predicted byte."""
        return self.measured / self.predicted

    @property
    def holds(self) -> bool:
        """Whether the limit was kept, and the prediction came near."""
        return self.measured <= self.limit and 1 / MOST_UNUSED <= self.ratio <= MOST_BEYOND


def main() -> int:
    """Print the table; return 1 if a prediction fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--side", type=int, default=8000, help="rows and columns of the images")
    parser.add_argument("--only", default="", help="a regular expression: the cases that have it in their line")
    parser.add_argument("--all", action="store_true", help="all combinations, not a sample")
    arguments = parser.parse_args()
    cases = possible_cases() if arguments.all else sample_of_pairs(possible_cases())
    cases = [case for case in cases if re.search(arguments.only, _row(case))]
    print(markdown.table(_COLUMNS, []), end="")
    bad = 0
    for case, outcome in run_cases(sorted(cases), arguments.side):
        bad += not outcome.holds
        print(line(case, outcome), flush=True)
    return int(bad > 0)


def possible_cases() -> list[Case]:
    """Return all combinations that there can be."""
    everything = map(Case._make, product(PIXELS, LAYOUTS, FILTERS, LIMITS, THREADS))
    return [case for case in everything if case.is_possible]


def sample_of_pairs(cases: Sequence[Case]) -> list[Case]:
    """Return some of the cases, so that every two properties that meet in any case meet in one of these."""
    missing = {pair for case in cases for pair in _pairs(case)}
    sample = []
    while missing:
        sample.append(max(cases, key=lambda case: len(missing & _pairs(case))))
        missing -= _pairs(sample[-1])
    return sample


def _pairs(case: Case) -> set[tuple[Any, ...]]:
    return set(combinations(enumerate(case), 2))


def run_cases(cases: Sequence[Case], side: int) -> Iterator[tuple[Case, Outcome]]:
    """Run cases, those of one file one after the other, and yield what became of each."""
    with tempfile.TemporaryDirectory() as folder:
        for (pixels, layout), group in groupby(cases, key=lambda case: (case.pixels, case.layout)):
            source = write_image(Path(folder), pixels, layout, side)
            for case in group:
                yield case, run(case, source)
            source.unlink()


def write_image(folder: Path, pixels: str, layout: str, side: int) -> Path:
    """Write an image of so many rows and columns, and return its path."""
    image = _image(pixels, side)
    if layout == "PNG":
        path = folder / "in.png"
        Image.fromarray(image).save(path, compress_level=1)
        return path
    path, options = folder / "in.tif", dict(LAYOUTS[layout])
    if layout == "planar tiles":
        image = np.moveaxis(image, -1, 0)
    photometric = "rgb" if pixels.startswith("RGB") else "minisblack"
    extra_samples = ("unassalpha",) if pixels == "RGBA" else None
    tifffile.imwrite(path, image, photometric=photometric, extrasamples=extra_samples, **options)
    return path


def _image(pixels: str, side: int) -> NDArray[Any]:
    """Return an image, shaped (side, side) or (side, side, channels)."""
    grey = tissue(0, 0, side, side, (side, side), {"uint8": np.uint8}.get(pixels, np.uint16))
    if not pixels.startswith("RGB"):
        return grey.astype(pixels)
    levels = (grey >> 8).astype(np.uint8)
    return np.stack([np.roll(levels, 7 * channel) for channel in range(len(pixels))], axis=-1)


def run(case: Case, source: Path) -> Outcome:
    """Filter a file in a process of its own; where the limit is refused, with the one that the refusal names.

    Raises
    ------
    RuntimeError
        If that fails.
    """
    facts = _probe(case, source, None if case.limit == "default" else case.limit)
    refusal = facts.get("remedy")
    if refusal is not None:
        (enough,) = re.findall(r"--max-memory (\w+)", refusal)
        facts = _probe(case, source, enough)
        if "remedy" in facts:
            raise RuntimeError(f"{case}: {enough} should do, and is refused: {facts['remedy']}")
    rows, columns = facts["band"]
    how = f"{facts['method']}, {rows} x {columns}" + (f"; refused, {enough} needed" if refusal is not None else "")
    return Outcome(facts["predicted"], facts["measured"], facts["limit"], how, refusal is not None)


def _probe(case: Case, source: Path, limit: str | None) -> dict[str, Any]:
    target = source.with_name(f"out{source.suffix}")
    return probe(source, target, max_memory=limit, threads=case.threads, **FILTERS[case.filter])


def probe(source: Path, target: Path, **order: Any) -> dict[str, Any]:
    """Filter a file in a process of its own, and return what `benchmarks.memory_probe` tells.

    Raises
    ------
    RuntimeError
        If that fails.
    """
    told = json.dumps({"source": str(source), "target": str(target), **order})
    command = [sys.executable, "-m", "benchmarks.memory_probe", told]
    finished = subprocess.run(command, cwd=Path(__file__).parents[1], check=False, capture_output=True, text=True)
    if finished.returncode != 0:
        raise RuntimeError(f"{told} failed:\n{finished.stderr}")
    facts: dict[str, Any] = json.loads(finished.stdout)
    return facts


def line(case: Case, outcome: Outcome) -> str:
    """Return a line of the table."""
    sizes = [f"{count / MEGABYTE:.0f} MB" for count in (outcome.predicted, outcome.measured)]
    mark = "" if outcome.holds else "**off**: "
    return f"| {_row(case)} | {' | '.join(sizes)} | {outcome.ratio:.2f} | {mark}{outcome.how} |"


def _row(case: Case) -> str:
    return " | ".join(map(str, case))


if __name__ == "__main__":
    sys.exit(main())
