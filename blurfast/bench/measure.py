"""Timing that survives a noisy machine: contestants take turns, and medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from blurfast.bench.prepared import Run

SET_UP, COMPILE, FIRST_CALL, WARM_UP = "set-up", "compile", "first call", "warm-up"
"""The phases before the steady state: what the library is given once; the code that is compiled, or loaded where an
earlier run has compiled it; the call that plans and looks up what it needs; one more."""

# A first call may prepare for so long; one that takes longer is slow itself, and no other is made.
_PREPARING_SECONDS = 10.0


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Parameters
    ----------
    repeats
        Turns of each contestant.
    budget
        Seconds of turns after which a contestant sits out.
    """

    repeats: int = 9
    budget: float = 2.0


@dataclass(frozen=True)
class Timing:
    """How long a contestant takes.

    Parameters
    ----------
    seconds
        Median of its turns.
    low, high
        The quartiles: half of the turns lie between them.
    runs
        The number of turns.
    phases
        Seconds of what came before, and of stages that were timed on their own.
    """

    seconds: float
    low: float
    high: float
    runs: int
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def spread(self) -> float:
        """The distance between the quartiles, as a share of the median."""
        return (self.high - self.low) / self.seconds

    @classmethod
    def of(cls, seconds: list[float], phases: dict[str, float] | None = None) -> Timing:
        """Return what several turns come to."""
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
        return cls(median, low, high, len(seconds), phases or {})


Notify = Callable[[], None]
"""Called after every call of a contestant, so that a progress display moves."""


class Contestant:
    """Somebody who takes turns.

    Parameters
    ----------
    run
        What is timed.
    phases
        Seconds of what came before.

    Attributes
    ----------
    result
        Of the last call.
    failure
        What a call failed with; there are no turns any more then.
    """

    def __init__(self, run: Run, phases: Mapping[str, float] | None = None) -> None:
        self.result: Any = None
        self.failure: str | None = None
        self._run = run
        self._phases = dict(phases or {})
        self._turns: list[float] = []

    @property
    def timing(self) -> Timing:
        """What the turns come to."""
        return Timing.of(self._turns, self._phases)

    def prepare(self, effort: Effort, notify: Notify) -> None:
        """Make the first call and the warm-up.

        Where the warm-up alone takes longer than the budget, there are no turns, and its time stands: what is slow by
        seconds does not depend on a cold cache.
        """
        first = self._call()
        notify()
        if first is None:
            return
        self._phases[FIRST_CALL] = first
        if first > effort.budget + _PREPARING_SECONDS:
            self._turns.append(first)
            return
        warm_up = self._call()
        notify()
        if warm_up is not None:
            self._phases[WARM_UP] = warm_up
            if warm_up > effort.budget:
                self._turns.append(warm_up)

    def take_turn(self, effort: Effort, notify: Notify) -> None:
        """Call once more, unless the budget is used up or a call has failed."""
        if self.failure is not None or sum(self._turns) > effort.budget:
            return
        seconds = self._call()
        notify()
        if seconds is not None:
            self._turns.append(seconds)

    def _call(self) -> float | None:
        started = time.perf_counter()
        try:
            self.result = self._run()
        except Exception as error:  # noqa: BLE001 - it is told in the report, and must not stop the others
            self.failure = f"{type(error).__name__}: {error}"
            return None
        return time.perf_counter() - started


def take_turns(contestants: Iterable[Contestant], effort: Effort, notify: Notify = lambda: None) -> None:
    """Time contestants in turns, after a first call and a warm-up of each.

    Parameters
    ----------
    contestants
        Who takes part. Afterwards they know their timing, or their failure.
    effort
        How many turns there are.
    notify
        Called after every call.
    """
    contestants = list(contestants)
    for contestant in contestants:
        contestant.prepare(effort, notify)
    for _ in range(effort.repeats):
        for contestant in contestants:
            contestant.take_turn(effort, notify)


class Measured(NamedTuple):
    """A median time in seconds, and the result of the call."""

    seconds: float
    result: Any


def interleaved_medians(runs: Mapping[str, Run], repeats: int, budget: float) -> dict[str, Measured]:
    """Time several runs in turns, of which none may fail; see `take_turns`.

    Raises
    ------
    RuntimeError
        If a run fails.
    """
    contestants = {name: Contestant(run) for name, run in runs.items()}
    take_turns(contestants.values(), Effort(repeats, budget))
    for name, contestant in contestants.items():
        if contestant.failure is not None:
            raise RuntimeError(f"{name}: {contestant.failure}")
    return {name: Measured(own.timing.seconds, own.result) for name, own in contestants.items()}


def seconds_of(run: Callable[[], object]) -> float:
    """Return the time of one run."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def median_seconds(run: Run, repeats: int) -> float:
    """Return the median time of several runs after a first one."""
    run()
    return statistics.median(seconds_of(run) for _ in range(repeats))


def shortest_seconds(run: Callable[[], object], repeats: int) -> float:
    """Return the shortest time of several runs after a first one: what the hardware can do undisturbed."""
    run()
    return min(seconds_of(run) for _ in range(repeats))
