"""Several files, one after the other or some at the same time, and what becomes of those that fail."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from blurfast.io.output import abandon_unfinished
from blurfast_cli.console import STDIN, STDOUT, Console
from blurfast_cli.failures import SOME_FAILED, Failure, attempt
from blurfast_cli.interrupts import Stopped, leave_soon
from blurfast_cli.progress import Cancelled

STREAM = "-"
"""Stands for stdin where an input is named, and for stdout where an output is named."""

_PATIENCE_SECONDS = 0.6
"""How long a run that is to end waits for the files that are being filtered."""


class Job(NamedTuple):
    """One input, and the output if there is one, as the command line and results for programs name them."""

    source: str
    target: str | None = None
    label: str = ""

    @property
    def source_name(self) -> str:
        """What messages call the input."""
        return STDIN if self.source == STREAM else self.source

    @property
    def target_name(self) -> str | None:
        """What messages call the output."""
        return STDOUT if self.target == STREAM else self.target


class Outcome(NamedTuple):
    """What a job gave.

    Parameters
    ----------
    record
        As data for JSON.
    text
        As text for people, if they want to see any.
    messages
        What else they may want to know.
    is_skipped
        Whether there was nothing to do.
    """

    record: Mapping[str, Any]
    text: str | None = None
    messages: Sequence[str] = ()
    is_skipped: bool = False


Action = Callable[[Job], Outcome]
"""Does a job. Where several go on at the same time, it is called in threads of its own."""


@dataclass(frozen=True)
class Schedule:
    """How the jobs of a batch follow each other.

    Parameters
    ----------
    at_once
        How many go on at the same time.
    fail_fast
        Whether no other begins once one has failed; those that go on are completed.
    cancelled
        Is set when the run ends early: a sign for actions in other threads to raise `Cancelled`.
    """

    at_once: int = 1
    fail_fast: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)


def label_jobs(jobs: Sequence[Job]) -> list[Job]:
    """Give each job a label for progress bars: the name of its file, and its number if there are several."""
    numbers = [f"{number}/{len(jobs)} " if len(jobs) > 1 else "" for number in range(1, len(jobs) + 1)]
    return [
        job._replace(label=f"{number}{Path(job.source_name).name}") for number, job in zip(numbers, jobs, strict=True)
    ]


def run_batch(
    jobs: Sequence[Job], action: Action, console: Console, *, as_json: bool, schedule: Schedule | None = None
) -> int:
    """Do all jobs, whatever becomes of each, print their results as they come, and return the exit status."""
    schedule = schedule or Schedule()
    report = _Report(len(jobs), console, as_json=as_json)
    crew = _Crew(jobs, action, schedule)
    try:
        for result in crew.results():
            report.add(result)
    except BaseException as stop:
        crew.cancel(_PATIENCE_SECONDS if isinstance(stop, Stopped) else threading.TIMEOUT_MAX)
        rest = crew.rest()
        if isinstance(stop, Stopped) and crew.is_working:  # in a kernel or a codec, which takes as long as it takes
            abandon_unfinished()
            leave_soon(stop)
        for result in rest:
            report.add(result)
        if not (isinstance(stop, Stopped) and stop.reason is None):  # else the run ends silently
            report.finish()
        raise
    report.finish()
    return report.exit_status


class _Result(NamedTuple):
    """A job that is over."""

    job: Job
    outcome: Outcome | Failure


class _Crew:
    """Does jobs in the calling thread, or in several others."""

    def __init__(self, jobs: Sequence[Job], action: Action, schedule: Schedule) -> None:
        self._pending = deque(jobs)
        self._action = action
        self._schedule = schedule
        self._threads: list[threading.Thread] = []
        # Results, exceptions to be raised in the calling thread, and None where a thread has ended.
        self._news: deque[_Result | BaseException | None] = deque()
        self._news_count = threading.Semaphore(0)

    def results(self) -> Iterator[_Result]:
        """Do the jobs, and yield each as it is over."""
        if self._schedule.at_once == 1:
            yield from self._do_pending()
            return
        for _ in range(self._schedule.at_once):
            self._threads.append(threading.Thread(target=self._work, name="blurfast-job"))
            self._threads[-1].start()
        working = len(self._threads)
        while working:
            self._news_count.acquire()  # an interrupt that comes here leaves the news to `rest`
            match self._news[0]:
                case None:
                    working -= 1
                    self._news.popleft()
                case BaseException() as stop:
                    raise stop
                case result:
                    self._news.popleft()
                    yield result

    def cancel(self, patience: float) -> None:
        """Cancel what goes on, and wait so many seconds until it has ended."""
        self._pending.clear()
        self._schedule.cancelled.set()
        deadline = time.monotonic() + patience
        for thread in self._threads:
            while thread.is_alive() and (left := deadline - time.monotonic()) > 0:
                with contextlib.suppress(Stopped):  # which comes again from users that are even less patient
                    thread.join(left)

    @property
    def is_working(self) -> bool:
        """Whether jobs still go on in other threads."""
        return any(thread.is_alive() for thread in self._threads)

    def rest(self) -> list[_Result]:
        """Return what was completed since `results` has ended."""
        news = [self._news.popleft() for _ in range(len(self._news))]
        return [result for result in news if isinstance(result, _Result)]

    def _work(self) -> None:
        try:
            for result in self._do_pending():
                self._tell(result)
        except Cancelled:
            pass
        except BaseException as stop:  # noqa: BLE001 - raised again in the calling thread
            self._tell(stop)
        finally:
            self._tell(None)

    def _tell(self, news: _Result | BaseException | None) -> None:
        self._news.append(news)
        self._news_count.release()

    def _do_pending(self) -> Iterator[_Result]:
        while True:
            try:
                job = self._pending.popleft()  # atomic
            except IndexError:
                return
            outcome = attempt(functools.partial(self._action, job), job.source_name)
            if self._schedule.fail_fast and isinstance(outcome, Failure):
                self._pending.clear()
            yield _Result(job, outcome)


class _Report:
    """Prints results as they come, and in the end how many were what."""

    def __init__(self, total: int, console: Console, *, as_json: bool) -> None:
        self._total = total
        self._console = console
        self._as_json = as_json
        self._started = time.perf_counter()
        self._counts: Counter[str] = Counter()
        self._last_failure = 0

    def add(self, result: _Result) -> None:
        """Print what became of a job."""
        job, outcome = result
        if isinstance(outcome, Failure):
            self._counts["failed"] += 1
            self._last_failure = outcome.exit_status
            self._console.failure(outcome)
            failure = {"status": "failed", "error": outcome.message, "exit_status": outcome.exit_status}
            self._record({"source": job.source, **failure})
            return
        self._counts["skipped" if outcome.is_skipped else "done"] += 1
        for message in outcome.messages:
            self._console.message(message)
        self._record({"source": job.source, "status": "skipped" if outcome.is_skipped else "ok", **outcome.record})
        if outcome.text is not None and not self._as_json:
            self._console.result(outcome.text)

    def _record(self, record: Mapping[str, Any]) -> None:
        if self._as_json:
            self._console.record(record)

    def finish(self) -> None:
        """Print how many of several files were what."""
        if self._total == 1:
            return
        counts = [f"{self._counts['done']} done"]
        counts += [f"{self._counts[name]} {name}" for name in ("skipped", "failed") if self._counts[name]]
        if left := self._total - self._counts.total():
            counts.append(f"{left} not done")
        seconds = time.perf_counter() - self._started
        self._console.message(f"{self._total} files: {', '.join(counts)}, in {seconds:.1f} s")

    @property
    def exit_status(self) -> int:
        """That of the process: the only file's own, or whether some have failed."""
        if self._total > 1 and self._counts["failed"]:
            return SOME_FAILED
        return self._last_failure
