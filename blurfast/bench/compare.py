"""Two reports beside each other: what has changed by more than the noise."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

from blurfast.bench.libraries import LIBRARIES, OWN
from blurfast.bench.markdown import milliseconds, percent, table
from blurfast.bench.measure import Timing
from blurfast.bench.report import Measurement, Report
from blurfast.errors import UnsupportedError

Verdict = Literal["slower", "faster", "less exact", "same"]

_LEAST_NOISE = 0.05
# Where there are too few runs to tell the spread.
_UNKNOWN_NOISE = 0.25
_FEWEST_RUNS = 3
# Other libraries tell how much faster or slower the machine was, if there are so many times of theirs.
_FEWEST_WITNESSES = 3
_LARGER_ERROR, _NEGLIGIBLE_ERROR = 1.1, 1e-7


@dataclass(frozen=True)
class Change:
    """What became of one time of blurfast.

    Parameters
    ----------
    title
        The case, and which of blurfast's contestants it is.
    before, after
        The two times, in seconds.
    ratio
        After to before, less what the whole machine changed by.
    noise
        By which share the ratio may be off 1 without meaning anything.
    verdict
        What that comes to.
    """

    title: str
    before: float
    after: float
    ratio: float
    noise: float
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """All that has changed.

    Parameters
    ----------
    changes
        Of every case that both reports have.
    drift
        How many times as long other libraries take as before, in the middle: the machine's doing.
    """

    changes: tuple[Change, ...]
    drift: float

    @property
    def is_worse(self) -> bool:
        """Whether anything is slower or less exact."""
        return any(change.verdict in ("slower", "less exact") for change in self.changes)


def compare(before: Report, after: Report) -> Comparison:
    """Return what has changed from one report to another.

    A time has changed if it differs by more than the spreads of both runs together, and by 5% at least. What other
    libraries have become slower or faster by, in the middle, counts as the machine's.

    Raises
    ------
    UnsupportedError
        If they have no case in common.
    """
    old = {result.case: result.measurements for result in before.results}
    pairs = [
        (result.case.title, name, old[result.case][name], measured)
        for result in after.results
        for name, measured in result.measurements.items()
        if name in old.get(result.case, {})
    ]
    if not pairs:
        raise UnsupportedError("the two results have no case in common", remedy="measure the same cases again")
    witnesses = [new.seconds / was.seconds for _, name, was, new in pairs if LIBRARIES[name].key != OWN]
    drift = statistics.median(witnesses) if len(witnesses) >= _FEWEST_WITNESSES else 1.0
    own = [(f"{title}: {name}", was, new) for title, name, was, new in pairs if LIBRARIES[name].key == OWN]
    return Comparison(tuple(_change(title, was, new, drift) for title, was, new in own), drift)


def _change(title: str, before: Measurement, after: Measurement, drift: float) -> Change:
    ratio = after.seconds / before.seconds / drift
    noise = _noise(before.timing, after.timing)
    verdict: Verdict = "same"
    if ratio > 1 + noise:
        verdict = "slower"
    elif _is_less_exact(before.error, after.error):
        verdict = "less exact"
    elif ratio < 1 / (1 + noise):
        verdict = "faster"
    return Change(title, before.seconds, after.seconds, ratio, noise, verdict)


def _noise(before: Timing, after: Timing) -> float:
    least = _LEAST_NOISE if min(before.runs, after.runs) >= _FEWEST_RUNS else _UNKNOWN_NOISE
    return max(least, before.spread + after.spread)


def _is_less_exact(before: float | None, after: float | None) -> bool:
    return before is not None and after is not None and after > before * _LARGER_ERROR + _NEGLIGIBLE_ERROR


def render(comparison: Comparison) -> str:
    """Return a comparison as Markdown: a sentence, and a table of what has changed."""
    counts = {verdict: [c.verdict for c in comparison.changes].count(verdict) for verdict in ("slower", "less exact")}
    faster = [change.verdict for change in comparison.changes].count("faster")
    lines = (
        f"Of {len(comparison.changes)} times, {counts['slower']} are slower, {faster} faster, and "
        f"{counts['less exact']} results less exact than before. The machine takes {comparison.drift:.2f} times as "
        "long, by the other libraries.\n"
    )
    changed = [change for change in comparison.changes if change.verdict != "same"]
    if not changed:
        return lines
    rows = [
        [
            change.title,
            milliseconds(change.before),
            milliseconds(change.after),
            f"{change.ratio:.2f}",
            percent(change.noise),
            change.verdict,
        ]
        for change in sorted(changed, key=lambda change: -change.ratio)
    ]
    return lines + "\n" + table(["case", "before, ms", "after, ms", "ratio", "noise", "verdict"], rows)
