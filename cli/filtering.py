"""What the filter commands do with the files that they are given."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

from blurfast.engine import Progress
from blurfast.files import FileReport, filter_file, plan_file
from blurfast.filters import Filter
from blurfast.resources import Resources, format_memory
from blurfast_cli.batch import STREAM, Job, Outcome, Schedule, run_batch
from blurfast_cli.console import Console
from blurfast_cli.manifest import Manifest, Record, input_facts, output_facts, parameters_of
from blurfast_cli.plans import explain_plans
from blurfast_cli.progress import BatchProgress, ProgressBar
from blurfast_cli.shares import Shares
from blurfast_cli.storage import suitable_settings
from blurfast_cli.streams import file_of, files_of

_FEWEST_PIXELS_IN_MEGAPIXELS = 100_000


class BatchRules(NamedTuple):
    """What the options say of several files, and of where their results go.

    Parameters
    ----------
    jobs
        How many files are filtered at the same time, at most.
    skip_existing
        Whether outputs that exist stay as they are; with a manifest only those that it lists as done in the same way.
    keep_going
        Whether other files are filtered once one has failed.
    manifest
        The file that lists what became of each file.
    format
        Of an image on stdout; by default the input's.
    """

    jobs: int
    skip_existing: bool
    keep_going: bool
    manifest: str | None
    format: str | None


class Order(NamedTuple):
    """What is to be done with each file.

    Parameters
    ----------
    filter
        The filter.
    settings
        What ``filter_file`` or ``plan_file`` takes beside the files, the filter and the limits.
    limits
        What all runs together may use.
    backends
        Which the files are spread over, where the settings do not name the only one.
    """

    filter: Filter
    settings: Mapping[str, Any]
    limits: Resources
    backends: Sequence[str] = ()


def explain_files(jobs: Sequence[Job], order: Order, rules: BatchRules, console: Console, *, as_json: bool) -> int:
    """Tell how files would be filtered, and return the exit status."""
    shares = Shares(order.limits, len(jobs), min(rules.jobs, len(jobs)))

    def explain(job: Job) -> Outcome:
        with file_of(job.source) as path:
            plans = shares.use(functools.partial(plan_file, path, order.filter, **order.settings))
        return Outcome({"plans": [plan.as_dict() for plan in plans]}, explain_plans(job.source_name, plans))

    return run_batch(jobs, explain, console, as_json=as_json)


def filter_files(jobs: Sequence[Job], order: Order, rules: BatchRules, console: Console, *, as_json: bool) -> int:
    """Filter files, tell what became of each, and return the exit status."""
    at_once = min(max(rules.jobs, len(order.backends)), len(jobs))
    schedule = Schedule(at_once=at_once, fail_fast=not rules.keep_going)
    with contextlib.ExitStack() as cleanup:
        manifest = cleanup.enter_context(_open_manifest(rules.manifest, console)) if rules.manifest else None
        progress = cleanup.enter_context(_progress(jobs, schedule, console))
        shares = Shares(order.limits, len(jobs), at_once, order.backends)
        action = _FilterAction(order, rules, shares, progress, manifest, console)
        return run_batch(jobs, action, console, as_json=as_json, schedule=schedule)


@contextlib.contextmanager
def _open_manifest(path: str, console: Console) -> Iterator[Manifest]:
    with contextlib.closing(Manifest(path)) as manifest:
        if manifest.damaged_lines:
            console.warning(f"{path}: damaged lines, which were ignored: {manifest.damaged_lines}")
        yield manifest


_ProgressOfJob = Callable[[Job], AbstractContextManager[Progress]]


@contextlib.contextmanager
def _progress(jobs: Sequence[Job], schedule: Schedule, console: Console) -> Iterator[_ProgressOfJob]:
    """Yield what makes the progress of each job: a bar of its own where it is the only one, else a part of one."""
    visible = console.shows_progress
    if len(jobs) == 1:
        yield lambda job: ProgressBar(job.label, "MP", scale=1e6, visible=visible)
        return
    sizes = {job: input_facts(job.source).get("source_bytes", 0) for job in jobs}
    with BatchProgress(sum(sizes.values()), visible=visible, cancelled=schedule.cancelled) as whole:
        yield lambda job: whole.of_file(job.label, sizes[job])


@dataclass(frozen=True)
class _FilterAction:
    """Filters a file, unless its output stays as it is, and lets the manifest know."""

    order: Order
    rules: BatchRules
    shares: Shares
    progress: _ProgressOfJob
    manifest: Manifest | None
    console: Console

    def __call__(self, job: Job) -> Outcome:
        recording = contextlib.nullcontext(Record()) if self.manifest is None else self.manifest.recording(job)
        with recording as record:
            settings = suitable_settings(job, self.order.settings, self.rules.format)
            record["parameters"] = parameters_of(self.order.filter, settings)
            if job.source != STREAM:
                record.update(input_facts(job.source))
            if self._stays(job, record):
                record["status"] = "skipped"
                message = f"{job.source_name}: skipped, since {job.target} is there"
                return Outcome({"target": job.target}, messages=[message], is_skipped=True)
            report = self._filter(job, settings, record)
        notes = [f"note: {job.source_name}: {notice}" for notice in report.notices]
        return Outcome(report.as_dict(), messages=[_summary(job, report), *notes])

    def _stays(self, job: Job, record: Record) -> bool:
        if not self.rules.skip_existing or job.target is None or job.target == STREAM:
            return False
        return os.path.isfile(job.target) and (self.manifest is None or self.manifest.lists_as_done(record))

    def _filter(self, job: Job, settings: Mapping[str, Any], record: Record) -> FileReport:
        if self.rules.skip_existing and self.manifest is not None:
            settings = {**settings, "overwrite": True}  # what is there is not what is wanted
        with files_of(job, self.rules.format, self.console) as (source, target):
            if job.source == STREAM:
                record["source_bytes"] = os.path.getsize(source)
            with self.progress(job) as show:
                run = functools.partial(filter_file, source, target, self.order.filter, progress=show, **settings)
                report = self.shares.use(run)
            if self.manifest is not None:
                record.update(output_facts(target))
        return dataclasses.replace(report, source=job.source, target=str(job.target))


def _summary(job: Job, report: FileReport) -> str:
    facts = [f"{_size(report.pixels)} in {report.seconds:.1f} s"]
    if report.pixels >= _FEWEST_PIXELS_IN_MEGAPIXELS:  # else the rate would be that of starting
        rate = report.pixels / 1e6 / max(report.seconds, 1e-9)
        facts.append(f"{rate:,.0f} MP/s" if rate >= 100 else f"{rate:.3g} MP/s")
    facts.append(f"peak {format_memory(report.peak_memory)}")
    return f"{job.source_name} -> {job.target_name}: {', '.join(facts)}"


def _size(pixels: int) -> str:
    if pixels >= _FEWEST_PIXELS_IN_MEGAPIXELS:
        return f"{pixels / 1e6:,.1f} MP"
    return f"{pixels:,} pixel{'s' * (pixels != 1)}"
