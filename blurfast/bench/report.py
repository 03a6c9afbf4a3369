"""What a run of the benchmarks has found, and its form as JSON, from which all tables, plots and pages are made."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from blurfast.bench.cases import Case
from blurfast.bench.ceilings import Ceilings
from blurfast.bench.measure import Timing
from blurfast.bench.roofline import Attained
from blurfast.errors import UnreadableError

FORMAT = 1
"""The version of the JSON's form."""

_NO_REPORT = "is no result of 'blurfast bench'"
_MAKE_ONE = "make one with 'blurfast bench --json'"


@dataclass(frozen=True)
class Measurement:
    """A library's time and error for a case.

    Parameters
    ----------
    timing
        How long it takes.
    error
        By how much the result is off the exact one, at most: in grey levels, or for floats as it is. None where it was
        not compared.
    peak_memory
        The most bytes that its process kept resident, where it had one of its own.
    """

    timing: Timing
    error: float | None = None
    peak_memory: int | None = None

    @property
    def seconds(self) -> float:
        """The median time."""
        return self.timing.seconds


@dataclass(frozen=True)
class Result:
    """All about one case.

    Parameters
    ----------
    case
        What was measured.
    measurements
        By the libraries' names.
    failures
        What libraries failed with, by their names.
    method
        How blurfast filters it.
    attained
        How near blurfast comes to the ceilings of the processor, where it ran on one.
    """

    case: Case
    measurements: dict[str, Measurement]
    failures: dict[str, str] = field(default_factory=dict)
    method: str | None = None
    attained: Attained | None = None


@dataclass
class Report:
    """All that a run has found so far.

    Parameters
    ----------
    machine
        See `blurfast.bench.description`.
    results
        Case by case.
    ceilings
        Of the machine, measured in the same run.
    skipped
        Why libraries, backends or cases were left out, by name.
    complete
        Whether the run came to its end.
    created
        When it began.
    inner_loops
        How near the FIR loops come to the peak of a core; developers measure them.
    """

    machine: dict[str, Any]
    results: list[Result] = field(default_factory=list)
    ceilings: Ceilings | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    created: str = field(default_factory=lambda: dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
    inner_loops: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> str:
        """Return the report as text."""
        return json.dumps({"blurfast_bench": FORMAT, **dataclasses.asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the report that `to_json` made.

        Raises
        ------
        ValueError
            If `text` is none.
        """
        record = json.loads(text)
        try:
            if record.pop("blurfast_bench") != FORMAT:
                raise ValueError("the report has the form of another version")
            ceilings = record.pop("ceilings")
            results = [_result(result) for result in record.pop("results")]
            return cls(ceilings=Ceilings(**ceilings) if ceilings else None, results=results, **record)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"the report lacks something: {error}") from error


def load_report(path: str | os.PathLike[str]) -> Report:
    """Read a report from a file.

    Raises
    ------
    UnreadableError
        If there is none.
    """
    try:
        return Report.from_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror})", path=path, remedy=_MAKE_ONE) from error
    except ValueError as error:
        raise UnreadableError(f"{_NO_REPORT} ({error})", path=path, remedy=_MAKE_ONE) from error


def _result(record: Mapping[str, Any]) -> Result:
    attained = record["attained"]
    return Result(
        Case(**record["case"]),
        {name: _measurement(measurement) for name, measurement in record["measurements"].items()},
        record["failures"],
        record["method"],
        Attained(**attained) if attained else None,
    )


def _measurement(record: Mapping[str, Any]) -> Measurement:
    return Measurement(Timing(**record["timing"]), record["error"], record["peak_memory"])
