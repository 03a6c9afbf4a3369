"""HOW: choose backend, method, precision, tiles and memory for a filter and an image, and say why.

Nothing here touches a pixel. A `Plan` is complete: the engine only carries it out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from blurfast import costs
from blurfast.boundary import Mode
from blurfast.choices import Choice, check_options, choose_operation, choose_threads, find_gpu, parse_backend
from blurfast.costs import Costs
from blurfast.cpu.catalogue import Kernel
from blurfast.cpu.separable import even
from blurfast.errors import MemoryBudgetError
from blurfast.filters import Filter
from blurfast.io.base import ImageSpec
from blurfast.methods import Gpu, Job, Method, MultirateMethod
from blurfast.pixels import Window
from blurfast.resources import MEGABYTE, Resources, format_memory
from blurfast.transforms import PlanningEffort
from blurfast.window_filter import WindowFilter

OUTPUT_BUFFERS = 2
"""Bands that are being encoded while the next is computed."""

_PREFERRED_BAND_BYTES = 8 * MEGABYTE
_MULTIRATE_SCRATCH_BYTES = 48 * MEGABYTE
_FEWEST_BAND_ROWS = 256
# Plans of filters with larger kernels are not kept.
_MOST_FILTER_BYTES_KEPT = MEGABYTE // 4
# What codecs, thread stacks and the allocator took beyond the prediction in runs over many kinds of files.
_UNPREDICTED_BYTES = 24 * MEGABYTE


@dataclass(frozen=True)
class Bands:
    """How an image is streamed.

    Parameters
    ----------
    rows, columns
        Size of the windows that are written, one after the other in raster order. `columns` is the image's width
        where whole bands fit into the memory.
    ring_rows
        Rows of the input that are kept at a time while bands pass; 0 where windows are read one by one.
    parts
        The memory in bytes, by what it is for.
    """

    rows: int
    columns: int
    ring_rows: int
    parts: dict[str, int] = field(default_factory=dict)

    @property
    def memory(self) -> int:
        """All memory in bytes."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Plan:
    """How one image is filtered. Made by `plan_array` and `plan_stream`."""

    job: Job
    backend: str
    operation: Method = field(compare=False)  # it follows from the rest
    threads: int
    tile: tuple[int, int] | None
    choices: tuple[Choice, ...]
    bands: Bands | None = None
    baseline_memory: int = 0
    budget: int | None = None

    @property
    def image(self) -> ImageSpec:
        """The image that is read."""
        return self.job.image

    @property
    def target_dtype(self) -> np.dtype[Any]:
        """The dtype that is written."""
        return self.job.target_dtype

    @property
    def mode(self) -> Mode:
        """What lies beyond the edges."""
        return self.job.mode

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.operation.name

    @property
    def halo(self) -> tuple[int, int]:
        """Rows above and below, and columns left and right, that are read for a pixel."""
        return self.operation.halo

    @property
    def predicted_memory(self) -> int:
        """The expected peak of the process's resident memory, in bytes."""
        return self.baseline_memory + (self.bands.memory if self.bands else 0)

    def kernels(self) -> list[Kernel]:
        """Return what `window_filter` loads."""
        return self.operation.kernels()

    def window_filter(self) -> WindowFilter:
        """Return what does the arithmetic."""
        window = (self.bands.rows, self.bands.columns) if self.bands else (self.image.height, self.image.width)
        return self.operation.window_filter(self.tile, self.threads, window)

    def windows(self) -> Iterator[Window]:
        """Yield the windows that are written, in raster order."""
        rows, columns = (self.bands.rows, self.bands.columns) if self.bands else (self.image.height, self.image.width)
        for row in range(0, self.image.height, rows):
            for column in range(0, self.image.width, columns):
                yield Window(row, min(row + rows, self.image.height), column, min(column + columns, self.image.width))

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, for JSON."""
        return {
            "filter": self.job.filter.name,
            "shape": [self.image.height, self.image.width, self.image.channels],
            "dtype": self.image.dtype.name,
            "mode": self.mode,
            "backend": self.backend,
            "method": self.method,
            "sums": self.operation.sums.dtype.name,
            "halo": list(self.halo),
            "threads": self.threads,
            "tile": list(self.tile) if self.tile else None,
            "band": [self.bands.rows, self.bands.columns] if self.bands else None,
            "memory": {**self.bands.parts, "process": self.baseline_memory} if self.bands and self.budget else None,
            "predicted_peak": self.predicted_memory if self.bands and self.budget else None,
            "max_memory": self.budget,
            "choices": [choice._asdict() for choice in self.choices],
        }

    def explain(self) -> str:
        """Return the plan and its reasons as text, a fact a line."""
        height, width, channels = self.image.height, self.image.width, self.image.channels
        (above, beside), sums = self.halo, self.operation.sums.dtype.name
        lines = [
            f"image      {height} x {width} pixels, {channels} channel{'s' * (channels > 1)}, {self.image.dtype.name}",
            f"filter     {self.job.filter.name}, halo {above} rows and {beside} columns, edges {self.mode}",
            f"run        {self.method} on the {self.backend}, {sums} sums, {self.threads} threads"
            + (f", tiles of {self.tile[0]} x {self.tile[1]}" if self.tile else ""),
        ]
        if self.bands and self.budget:
            kept = f"{self.bands.ring_rows} rows kept" if self.bands.ring_rows else "each with its own halo"
            lines.append(f"stream     windows of {self.bands.rows} x {self.bands.columns} pixels, {kept}")
            parts = {**self.bands.parts, "the process itself": self.baseline_memory}
            memory = ", ".join(f"{name} {format_memory(count)}" for name, count in parts.items())
            allowed = f" of {format_memory(self.budget)}" if self.budget else ""
            lines.append(f"memory     {format_memory(self.predicted_memory)}{allowed}: {memory}")
        for choice in self.choices:
            verb = "taken" if choice.taken else "not taken"
            lines.append(f"{choice.subject:<10} {choice.candidate}: {verb}, {choice.reason}")
        return "\n".join(lines)


def plan_array(
    filter: Filter,
    image: ImageSpec,
    target_dtype: np.dtype[Any],
    threads: int,
    *,
    mode: Mode = "reflect",
    cval: float = 0.0,
    backend: str = "auto",
    method: str = "auto",
    fft_planning: PlanningEffort = "measure",
    device_memory: int | None = None,
) -> Plan:
    """Plan the filtering of an image in memory.

    Raises
    ------
    ValueError
        If `mode`, `backend` or `method` does not exist.
    UnsupportedError
        If the backend cannot be had.
    """
    check_options(mode, cval, backend, method, fft_planning)
    plan = _plan_array if filter.memory <= _MOST_FILTER_BYTES_KEPT else _plan_array.__wrapped__
    job = Job(filter, image, target_dtype, mode, cval, fft_planning)
    return plan(job, threads, parse_backend(backend)[0], method, costs.load(), find_gpu(backend, device_memory))


@functools.lru_cache(maxsize=64)
def _plan_array(job: Job, threads: int, backend: str, method: str, figures: Costs, gpu: Gpu | str) -> Plan:
    """Plan a job; the same job comes up again and again, and planning takes as long as filtering a small image."""
    image, alpha_choices = _opacity(job.filter, job.image)
    job = job._replace(image=image)
    decision = choose_operation(backend, method, job, threads, figures, gpu)
    operation = decision.operation
    thread_choices: list[Choice] = []
    if decision.backend == "cpu":
        threads, thread_choices = choose_threads(threads, operation.seconds(figures))
    return Plan(
        job=job,
        backend=decision.backend,
        operation=operation,
        threads=threads,
        tile=operation.tile(image.height, image.width, threads),
        choices=(*alpha_choices, *decision.choices, *thread_choices),
        bands=_array_bands(operation, image, threads) if isinstance(operation, MultirateMethod) else None,
    )


def _opacity(filter: Filter, image: ImageSpec) -> tuple[ImageSpec, list[Choice]]:
    """Weight colours by their opacity only where the filter averages: else there is no sum of weights to divide by."""
    if image.alpha is None or filter.is_average:
        return image, []
    reason = "the filter is not an average, so there is nothing to weight by opacity"
    return replace(image, alpha=None), [Choice("alpha", "independent", True, reason)]


def plan_stream(
    filter: Filter,
    image: ImageSpec,
    target: ImageSpec,
    resources: Resources,
    baseline_memory: int,
    *,
    mode: Mode = "reflect",
    cval: float = 0.0,
    backend: str = "auto",
    method: str = "auto",
    fft_planning: PlanningEffort = "measure",
    path: str | None = None,
) -> Plan:
    """Plan the filtering of an image that passes through the memory in windows.

    Parameters
    ----------
    image, target
        What is read and what is written; their grains decide which windows are possible.
    baseline_memory
        What the process needs before it holds any pixels, in bytes.
    path
        The file that an error is about.

    Raises
    ------
    ValueError, UnsupportedError
        As `plan_array`.
    MemoryBudgetError
        If no window is small enough for ``resources.max_memory``. The message gives the least that would do.
    """
    plan = plan_array(
        filter,
        image,
        target.dtype,
        resources.threads,
        mode=mode,
        cval=cval,
        backend=backend,
        method=method,
        fft_planning=fft_planning,
        device_memory=resources.device_memory,
    )
    available = resources.max_memory - baseline_memory - _UNPREDICTED_BYTES
    candidates = _candidate_bands(plan, target)
    sized = [_with_memory(bands, plan, target) for bands in candidates]
    for bands in sized:
        if bands.memory <= available:
            break
    else:
        least = min(bands.memory for bands in sized) + baseline_memory + _UNPREDICTED_BYTES
        raise MemoryBudgetError(
            f"does not fit into {format_memory(resources.max_memory)}",
            path=path,
            remedy=f"use --max-memory {_rounded_up(least)} or more",
        )
    kind = "bands" if bands.columns == image.width else "blocks"
    reason = "the largest that fits" if bands is not sized[0] else "large enough to keep all threads busy"
    return replace(
        plan,
        bands=bands,
        tile=plan.operation.tile(bands.rows, bands.columns, plan.threads),
        baseline_memory=baseline_memory + _UNPREDICTED_BYTES,
        budget=resources.max_memory,
        choices=(*plan.choices, Choice("windows", f"{kind} of {bands.rows} rows", True, reason)),
    )


def _rounded_up(count: int) -> str:
    """Return a budget that is certainly enough, as the option takes it."""
    return f"{math.ceil(count * 1.05 / (16 * MEGABYTE)) * 16}MB"


def _candidate_bands(plan: Plan, target: ImageSpec) -> list[Bands]:
    """Return ways to cut the image into windows, the preferred one first."""
    image, halo = plan.image, plan.halo
    unit = math.lcm(2, target.grain.rows)
    preferred = _PREFERRED_BAND_BYTES // max(1, image.row_bytes) // unit * unit
    preferred = max(preferred, -(-plan.operation.least_rows(plan.threads) // unit) * unit)
    rows = min(max(unit, preferred), -(-image.height // unit) * unit)
    candidates = []
    while True:
        kept = 2 * rows + 2 * halo[0] + image.grain.rows
        if image.sequential and plan.mode == "wrap":
            kept = image.height
        candidates.append(Bands(rows, image.width, -(-min(kept, image.height) // image.grain.rows) * image.grain.rows))
        if rows == unit:
            break
        rows = max(unit, rows // 2 // unit * unit)
    # Blocks are written in raster order of their segments, so each is a part of one row of segments.
    is_one_row = unit == target.grain.rows and target.grain.columns < target.width
    if not image.sequential and plan.mode != "wrap" and is_one_row:
        step = math.lcm(2, target.grain.columns)
        columns = even(image.width)
        while columns > step:
            columns = max(step, columns // 2 // step * step)
            candidates.append(Bands(unit, columns, 0))
    return candidates


def _with_memory(bands: Bands, plan: Plan, target: ImageSpec) -> Bands:
    """Return `bands` with the memory that they need."""
    image, threads = plan.image, plan.threads
    pixel_bytes = image.channels * image.dtype.itemsize
    output = bands.rows * bands.columns * target.channels * target.dtype.itemsize
    if bands.ring_rows:
        border = 2 * (plan.halo[0] + image.grain.rows) if plan.mode == "wrap" and bands.ring_rows < image.height else 0
        source = (bands.ring_rows + border) * image.row_bytes
    else:
        rows = min(image.height, bands.rows + 2 * plan.halo[0] + 2 * image.grain.rows)
        columns = min(image.width, bands.columns + 2 * plan.halo[1] + 2 * image.grain.columns)
        source = 2 * rows * columns * pixel_bytes
    tiles = plan.operation.memory(bands.rows, bands.columns, threads)
    parts = {
        "input": source,
        "output": OUTPUT_BUFFERS * output,
        "encoded": (OUTPUT_BUFFERS + 1) * output,
        "decoding": _tasks_at_once(image, threads) * image.task_bytes,
        "encoding": _tasks_at_once(target, threads) * target.task_bytes + target.held_bytes,
        "tiles": tiles,
    }
    return replace(bands, parts=parts)


def _tasks_at_once(image: ImageSpec, threads: int) -> int:
    """Return how many segments of an image can be decoded, or encoded, at the same time."""
    if image.sequential:
        return 1
    segments = -(-image.height // image.grain.rows) * -(-image.width // image.grain.columns)
    return min(threads, segments)


def _array_bands(operation: MultirateMethod, image: ImageSpec, threads: int) -> Bands:
    """Cut an image in memory so that the samples that the multirate method keeps stay few."""
    rows = even(max(1, image.height))
    while rows > _FEWEST_BAND_ROWS and operation.memory(rows, image.width, threads) > _MULTIRATE_SCRATCH_BYTES:
        rows = even(rows // 2)
    return Bands(rows, max(1, image.width), 0)
