"""Several files, one after the other: which file goes where, and what becomes of those that fail."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from blurfast.errors import UnwritableError
from blurfast.io.output import unwritable
from blurfast_cli.console import Console
from blurfast_cli.failures import SOME_FAILED, Failure, attempt


class Job(NamedTuple):
    """One input, and the output if there is one."""

    source: str
    target: str | None = None
    label: str = ""


class Outcome(NamedTuple):
    """What a job gave: as data for JSON, and as text for people, if they want to see any."""

    record: Mapping[str, Any]
    text: str | None = None


Action = Callable[[Job], Outcome]


def pair_files(paths: Sequence[str], out_dir: str | None, *, need_output: bool = True) -> list[Job]:
    """Return the inputs and outputs that the paths of a command line stand for.

    Two paths without `out_dir` are an input and its output, otherwise all are inputs.

    Raises
    ------
    click.UsageError
        If an output is missing although needed, or would replace another output or an input.
    """
    if out_dir is not None:
        pairs = [(path, os.path.join(out_dir, Path(path).name)) for path in paths]
        _refuse_collisions(pairs)
        return label_jobs([Job(source, target) for source, target in pairs])
    if len(paths) == 2:
        return label_jobs([Job(paths[0], paths[1])])
    if need_output:
        missing = "OUT is missing" if len(paths) == 1 else "several inputs need --out-dir"
        raise click.UsageError(f"{missing}; give IN and OUT, or inputs and --out-dir", click.get_current_context())
    return label_jobs([Job(path) for path in paths])


def label_jobs(jobs: Sequence[Job]) -> list[Job]:
    """Give each job a label for progress bars: the name of its file, and its number if there are several."""
    numbers = [f"{number}/{len(jobs)} " if len(jobs) > 1 else "" for number in range(1, len(jobs) + 1)]
    return [job._replace(label=f"{number}{Path(job.source).name}") for number, job in zip(numbers, jobs, strict=True)]


def _refuse_collisions(pairs: Sequence[tuple[str, str]]) -> None:
    """Refuse outputs that would replace each other, or an input other than their own."""
    inputs = {_identity(source): source for source, _ in pairs}
    outputs: dict[str, str] = {}
    for source, target in pairs:
        place = _identity(target)
        if place in outputs:
            _refuse(f"{outputs[place]} and {source} would both become {target}")
        if place in inputs and place != _identity(source):
            _refuse(f"the output of {source} would replace the input {inputs[place]}")
        outputs[place] = source


def _refuse(fact: str) -> None:
    raise click.UsageError(f"{fact}; filter them one by one, or rename them", click.get_current_context())


def _identity(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))


def make_directory(path: str) -> None:
    """Create the directory for outputs, unless it is there.

    Raises
    ------
    UnwritableError
        If it cannot be created.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        raise UnwritableError("is not a directory", path=path, remedy="name a directory") from None
    except OSError as error:
        raise unwritable(error, path) from error


def run_batch(jobs: Sequence[Job], action: Action, console: Console, *, as_json: bool) -> int:
    """Do all jobs, whatever becomes of each, print their results, and return the exit status."""
    started = time.perf_counter()
    statuses = [_run_job(job, action, console, as_json=as_json) for job in jobs]
    failed = sum(status != 0 for status in statuses)
    if len(jobs) == 1:
        return statuses[0]
    failures = f", {failed} failed" if failed else ""
    console.message(f"{len(jobs)} files: {len(jobs) - failed} done{failures}, in {time.perf_counter() - started:.1f} s")
    return SOME_FAILED if failed else 0


def _run_job(job: Job, action: Action, console: Console, *, as_json: bool) -> int:
    outcome = attempt(functools.partial(action, job), job.source)
    if isinstance(outcome, Failure):
        console.failure(outcome)
        if as_json:
            failure = {"status": "failed", "error": outcome.message, "exit_status": outcome.exit_status}
            console.record({"source": job.source, **failure})
        return outcome.exit_status
    if as_json:
        console.record({"source": job.source, "status": "ok", **outcome.record})
    elif outcome.text is not None:
        console.result(outcome.text)
    return 0
