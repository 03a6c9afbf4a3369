"""What was measured with whole files: kept as JSON, and shown as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.file_cases import CASES, MOST_COPIES, TILE, Case
from benchmarks.file_errors import CROP
from benchmarks.file_measure import CaseResult, Outcome
from benchmarks.file_peers import OWN, PEERS
from benchmarks.file_scripts import LEAST_WEIGHT
from blurfast.bench import markdown

_PACKAGES = ("numpy", "scipy", "opencv-python-headless", "scikit-image", "pyvips-binary")


_HEADER = ("", "edges", "seconds", "half of the runs", "runs", "ratio", "flush, s", "peak, MB", "written, MB", "error")

_NOTES = f"""\
- `seconds` are the median of runs in turns, each from the start of a process to its end; `half of the runs` took a \
time between the quartiles. Inputs are in the page cache, and all files on one disk.
- `ratio` is how many times as long as blurfast each takes. The copies read, decode, encode and write the same file, \
and blur nothing.
- `flush` is how long it takes after the end of the process until the output is on the disk. blurfast's `seconds` \
include that, since it flushes its output itself.
- `peak` is the largest resident memory of the process.
- `error` is the largest, in grey levels, in five crops of {CROP} x {CROP}, against sums in float64 of the Gaussian \
that is not cut, with the `edges` that each has: rounding alone makes 0.5.
- libvips cuts Gaussians where their weights fall below a fifth of the largest one, at 1.8 sigma, unless it is told \
otherwise. `longest kernel` is `--min-ampl {LEAST_WEIGHT}`, the least that it takes: 3.7 sigma.
- With `--precision float` libvips' program writes TIFF files of float32, four times as large. The pyvips script \
rounds to 8 bits, as all others do.
- TIFF outputs have the compression of their inputs, at the default level of whoever writes: deflate with horizontal \
differences, in tiles of {TILE} x {TILE}; OpenCV writes strips only. PNG files are written with each one's defaults, \
except by the copies without blurfast (level 1), and by `fast PNG` and the pyvips script: with level 1 and the Paeth \
filter, libvips' fastest.
"""


@dataclass
class Results:
    """What was measured on one machine.

    Parameters
    ----------
    machine
        See `blurfast.bench.description.describe_machine`; with the version of libvips' program as ``vips``.
    created
        The day.
    cases
        By the names of cases.
    absent
        Contestants that were not there, and why.
    """

    machine: dict[str, Any]
    created: str
    cases: dict[str, CaseResult] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def with_earlier(self, path: Path) -> Results:
        """Return these results and those in a file of cases that are not among these, if the machine is the same."""
        if not path.exists():
            return self
        earlier = json.loads(path.read_text())
        if earlier["machine"] != self.machine:
            return self
        kept = {name: CaseResult.from_dict(case) for name, case in earlier["cases"].items()}
        return Results(self.machine, self.created, {**kept, **self.cases}, self.absent)

    def to_json(self) -> str:
        """Return the results as text that `with_earlier` reads."""
        return json.dumps(asdict(self), indent=1) + "\n"


def render(results: Results) -> str:
    """Return the page."""
    parts = [_introduction(results)]
    measured = [(case, results.cases[case.name]) for case in CASES if case.name in results.cases]
    for _, result in measured:
        parts += [f"## {result.title}\n", f"Input: {_megabytes(result.input_bytes)} MB.\n", _table(result)]
        parts += [f"- {name} failed: {failure}\n" for name, failure in result.failures.items()]
    at_full_size = [(case, result) for case, result in measured if result.title == case.title]
    if at_full_size:
        parts += ["## Goals\n", _goals_introduction(), _goals_table(at_full_size)]
    if results.absent:
        parts += ["## Left out\n", "".join(f"- {name}: {why}\n" for name, why in results.absent.items())]
    return "\n".join(parts)


def _introduction(results: Results) -> str:
    machine = results.machine
    versions = {"libvips": machine["vips"], **{name: machine["packages"].get(name) for name in _PACKAGES}}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return f"""# Whole files

Made by `python -m benchmarks.files`: image files that are read, decoded, filtered, encoded and written through the \
command line, by a new process for each run.

{machine["model"]}, {machine["cores"]} cores, {machine["caches"]}, {machine["memory"]}, {machine["system"]}, Python \
{machine["python"]}, {machine["threads"]} threads, {results.created}; {listed}.

{_NOTES}"""


def _table(result: CaseResult) -> str:
    own = result.outcomes.get(OWN)
    return markdown.table(_HEADER, [_row(name, outcome, own) for name, outcome in result.outcomes.items()])


def _row(name: str, outcome: Outcome, own: Outcome | None) -> list[str]:
    return [
        name,
        "-" if PEERS[name].is_copy else PEERS[name].edges,
        f"{outcome.seconds:.2f}",
        f"{outcome.low:.2f} to {outcome.high:.2f}",
        str(outcome.runs),
        "-" if own is None else f"**{outcome.seconds / own.seconds:.2f}**",
        f"{outcome.flush_seconds:.2f}",
        _megabytes(outcome.peak_memory),
        _megabytes(outcome.written),
        f"{outcome.error:.2g}",
    ]


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f}" if count >= 10_000_000 else f"{count / 1e6:.1f}"


def _goals_introduction() -> str:
    return (
        "libvips is to take so many times as long as blurfast at least, with its own kernel, which is cut short, and "
        "with the longest one. blurfast is to take so many times as long as the faster copy at most.\n"
    )


def _goals_table(measured: list[tuple[Case, CaseResult]]) -> str:
    rows = [row for case, result in measured if OWN in result.outcomes for row in _goal_rows(case, result)]
    return markdown.table(["case", "goal", "measured", ""], rows)


def _goal_rows(case: Case, result: CaseResult) -> Iterator[list[str]]:
    own = result.outcomes[OWN].seconds
    for name, least in case.least_ratios.items():
        if name in result.outcomes:
            ratio = result.outcomes[name].seconds / own
            yield [result.title, f"{name}: at least {least:g}", f"{ratio:.2f}", _verdict(met=ratio >= least)]
    copies = [outcome.seconds for name, outcome in result.outcomes.items() if PEERS[name].is_copy]
    if copies:
        ratio = own / min(copies)
        yield [result.title, f"copy: at most {MOST_COPIES:g}", f"{ratio:.2f}", _verdict(met=ratio <= MOST_COPIES)]


def _verdict(*, met: bool) -> str:
    return "met" if met else "**missed**"
