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
from blurfast.conversion import Conversion
from blurfast.costs import Costs
from blurfast.cpu.catalogue import Kernel
from blurfast.cpu.separable import even
from blurfast.errors import MemoryBudgetError
from blurfast.filters import Filter
from blurfast.io.base import Grain, ImageSpec
from blurfast.methods import Gpu, IdentityMethod, Job, Method, MultirateMethod
from blurfast.pixels import Window
from blurfast.regions import Reach, reach
from blurfast.resources import MEGABYTE, Resources, format_memory
from blurfast.transforms import PlanningEffort
from blurfast.window_filter import WindowFilter

OUTPUT_BUFFERS = 2
"""Windows of the output in memory: one is computed while the one before is encoded and written."""

_PREFERRED_BAND_BYTES = 8 * MEGABYTE
_MULTIRATE_SCRATCH_BYTES = 48 * MEGABYTE
_FEWEST_BAND_ROWS = 256
# Plans of filters with larger kernels are not kept.
_MOST_FILTER_BYTES_KEPT = MEGABYTE // 4
# What runs over many kinds of files took beyond the prediction: the start of the kernels' linker, stacks of threads,
# what the allocator keeps, and the last windows of one image while the next is begun.
_UNPREDICTED_BYTES = 8 * MEGABYTE
# By how much more the next process may keep resident before it holds any pixels.
_VARYING_BYTES = 6 * MEGABYTE


@dataclass(frozen=True)
class Bands:
    """How an image is streamed.

    Parameters
    ----------
    rows, columns
        Size of the windows that are written, one after the other in raster order. `columns` is the width of what is
        written where whole bands fit into the memory.
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
    region: Window | None = None
    conversion: Conversion | None = None

    @property
    def image(self) -> ImageSpec:
        """The image that is read."""
        return self.job.image

    @property
    def target_dtype(self) -> np.dtype[Any]:
        """The dtype that is written."""
        return self.job.target_dtype if self.conversion is None else self.conversion.target

    @property
    def area(self) -> Window:
        """The part of the image that is filtered."""
        return self.region or Window(0, self.image.height, 0, self.image.width)

    @property
    def reach(self) -> Reach:
        """The pixels that are read."""
        return reach(self.area, self.image, self.halo, self.mode)

    @property
    def is_direct(self) -> bool:
        """Whether what the filter returns is written as it is."""
        return self.region is None and self.conversion is None

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
        """Return what filtering loads."""
        return [*self.operation.kernels(), *([] if self.conversion is None else [self.conversion.kernel])]

    def window_filter(self) -> WindowFilter:
        """Return what does the arithmetic, in windows that begin at even rows and columns."""
        return self.operation.window_filter(self.tile, self.threads, self.computed_size)

    @property
    def computed_size(self) -> tuple[int, int]:
        """The most rows and columns of a window as it is computed: from even positions to even ones."""
        if self.bands is None:
            return self.image.height, self.image.width
        if self.region is None:
            return self.bands.rows, self.bands.columns
        rows, columns = self.bands.rows + self.region.row_start % 2, self.bands.columns + self.region.column_start % 2
        return even(rows), even(columns)

    def windows(self) -> Iterator[Window]:
        """Yield the windows of the image that are written, in raster order."""
        area = self.area
        rows, columns = (self.bands.rows, self.bands.columns) if self.bands else (area.rows, area.columns)
        for row in range(area.row_start, area.row_stop, rows):
            for column in range(area.column_start, area.column_stop, columns):
                yield Window(row, min(row + rows, area.row_stop), column, min(column + columns, area.column_stop))

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
            "region": list(_corner_and_size(self.region)) if self.region else None,
            "output_dtype": self.target_dtype.name,
            "memory": {**self.bands.parts, "process": self.baseline_memory} if self.bands and self.budget else None,
            "predicted_peak": self.predicted_memory if self.bands and self.budget else None,
            "max_memory": self.budget,
            "choices": [choice._asdict() for choice in self.choices],
        }

    def explain(self) -> str:
        """Return the plan and its reasons as text, a fact a line."""
        height, width, channels = self.image.height, self.image.width, self.image.channels
        above, beside = self.halo
        sums = "" if isinstance(self.operation, IdentityMethod) else f", {self.operation.sums.dtype.name} sums"
        lines = [
            f"image      {height} x {width} pixels, {channels} channel{'s' * (channels > 1)}, {self.image.dtype.name}",
            f"filter     {self.job.filter.name}, halo {above} rows and {beside} columns, edges {self.mode}",
            f"run        {self.method} on the {self.backend}{sums}, {self.threads} thread{'s' * (self.threads != 1)}"
            + (f", tiles of {self.tile[0]} x {self.tile[1]}" if self.tile else ""),
        ]
        if self.region:
            column, row, region_width, region_height = _corner_and_size(self.region)
            lines.append(f"region     {region_height} x {region_width} pixels from row {row} and column {column} on")
        if self.conversion:
            lines.append(f"output     {self.target_dtype.name}, from unrounded {self.job.target_dtype.name} results")
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
    written_dtype: np.dtype[Any] | None = None,
    coded_bytes: int = 0,
) -> Plan:
    """Plan the filtering of an image in memory.

    Parameters
    ----------
    written_dtype
        What the result is rounded to in the end, if that is not `target_dtype`; the weights are exact enough for both.
    coded_bytes
        What is decoded and encoded beside the filtering, by the same threads.

    Raises
    ------
    ValueError
        If `mode`, `backend` or `method` does not exist.
    UnsupportedError
        If the backend cannot be had.
    """
    check_options(mode, cval, backend, method, fft_planning)
    plan = _plan_array if filter.memory <= _MOST_FILTER_BYTES_KEPT else _plan_array.__wrapped__
    job = Job(filter, image, target_dtype, mode, cval, fft_planning, written_dtype)
    gpu = find_gpu(backend, device_memory)
    return plan(job, threads, parse_backend(backend)[0], method, costs.load(), gpu, coded_bytes)


@functools.lru_cache(maxsize=64)
def _plan_array(
    job: Job, threads: int, backend: str, method: str, figures: Costs, gpu: Gpu | str, coded_bytes: int
) -> Plan:
    """Plan a job; the same job comes up again and again, and planning takes as long as filtering a small image."""
    image, alpha_choices = _opacity(job.filter, job.image)
    job = job._replace(image=image)
    decision = choose_operation(backend, method, job, threads, figures, gpu)
    operation = decision.operation
    thread_choices: list[Choice] = []
    if decision.backend == "cpu":
        threads, thread_choices = choose_threads(threads, operation.seconds(figures), coded_bytes)
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
    region: Window | None = None,
    conversion: Conversion | None = None,
    image_count: int = 1,
    path: str | None = None,
) -> Plan:
    """Plan the filtering of an image that passes through the memory in windows.

    Parameters
    ----------
    image, target
        What is read and what is written; their grains decide which windows are possible.
    baseline_memory
        What the process needs before it holds any pixels, in bytes.
    region
        The part of `image` that is written. All is decided as for the whole image, so that its pixels are the same.
    conversion
        From what the filter returns to what is written.
    image_count
        How many images the run filters, one after the other.
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
        target.dtype if conversion is None else conversion.filtered,
        resources.threads,
        mode=mode,
        cval=cval,
        backend=backend,
        method=method,
        fft_planning=fft_planning,
        device_memory=resources.device_memory,
        written_dtype=None if conversion is None else conversion.target,
        coded_bytes=image.height * image.row_bytes + target.height * target.row_bytes,
    )
    plan = replace(plan, region=region, conversion=conversion)
    available = resources.max_memory - baseline_memory - _UNPREDICTED_BYTES
    candidates = _candidate_bands(plan, target)
    sized = [_with_memory(bands, plan, target, image_count) for bands in candidates]
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
    kind = "bands" if bands.ring_rows else "blocks"
    reason = "the largest that fits" if bands is not sized[0] else "large enough to keep all threads busy"
    plan = replace(plan, bands=bands)
    return replace(
        plan,
        tile=plan.operation.tile(*plan.computed_size, plan.threads),
        baseline_memory=baseline_memory + _UNPREDICTED_BYTES,
        budget=resources.max_memory,
        choices=(*plan.choices, Choice("windows", f"{kind} of {bands.rows} rows", True, reason)),
    )


def _corner_and_size(region: Window) -> tuple[int, int, int, int]:
    """Return column, row, width and height, the order in which users name them."""
    return region.column_start, region.row_start, region.columns, region.rows


def _rounded_up(count: int) -> str:
    """Return a budget that is certainly enough, as the option takes it."""
    return f"{math.ceil((count + _VARYING_BYTES) / (8 * MEGABYTE)) * 8}MB"


def _candidate_bands(plan: Plan, target: ImageSpec) -> list[Bands]:
    """Return ways to cut the image into windows, the preferred one first."""
    image, halo, area, reached = plan.image, plan.halo, plan.area, plan.reach
    unit = math.lcm(2, target.grain.rows)
    preferred = _PREFERRED_BAND_BYTES // max(1, _pixel_bytes(image) * reached.window.columns) // unit * unit
    preferred = max(preferred, -(-plan.operation.least_rows(plan.threads) // unit) * unit)
    rows = min(max(unit, preferred), -(-area.rows // unit) * unit)
    candidates = []
    while True:
        kept = 2 * rows + 2 * halo[0] + image.grain.rows + 2 * (area.row_start % 2)
        if image.sequential and reached.wraps:
            kept = image.height
        most = image.height if reached.wraps else reached.window.rows
        candidates.append(Bands(rows, area.columns, -(-min(kept, most) // image.grain.rows) * image.grain.rows))
        if rows == unit:
            break
        rows = max(unit, rows // 2 // unit * unit)
    # Blocks are written in raster order of their segments, so each is a part of one row of segments.
    is_one_row = unit == target.grain.rows and target.grain.columns < target.width
    if not image.sequential and plan.mode != "wrap" and is_one_row:
        step = math.lcm(2, target.grain.columns)
        columns = even(area.columns)
        while columns > step:
            columns = max(step, columns // 2 // step * step)
            candidates.append(Bands(unit, columns, 0))
    return candidates


def _with_memory(bands: Bands, plan: Plan, target: ImageSpec, image_count: int) -> Bands:
    """Return `bands` with the memory that they need."""
    plan = replace(plan, bands=bands)
    image, threads, reached, (rows, columns) = plan.image, plan.threads, plan.reach, plan.computed_size
    output = min(bands.rows, plan.area.rows) * min(bands.columns, plan.area.columns) * _pixel_bytes(target)
    if bands.ring_rows:
        border = 2 * (plan.halo[0] + image.grain.rows) if reached.wraps and bands.ring_rows < image.height else 0
        source = (bands.ring_rows + border) * reached.window.columns * _pixel_bytes(image)
    else:
        # One more on each side for blocks of odd size.
        read_rows, read_columns = bands.rows + 2 * (plan.halo[0] + 1), bands.columns + 2 * (plan.halo[1] + 1)
        source = 2 * min(image.height, read_rows) * min(image.width, read_columns) * _pixel_bytes(image)
    parts = {
        "input": source,
        "output": min(OUTPUT_BUFFERS, image_count * _window_count(bands, plan.area)) * output,
        "encoded": _encoded_at_once(bands, target, threads) * target.encoded_bytes,
        "decoding": _tasks_at_once(image, threads) * image.task_bytes,
        "encoding": _tasks_at_once(target, threads) * target.task_bytes + target.held_bytes,
        "tiles": plan.operation.memory(rows, columns, threads),
    }
    if not plan.is_direct:
        parts["filtered"] = rows * columns * image.channels * plan.job.target_dtype.itemsize
    return replace(bands, parts=parts)


def encoded_ahead(threads: int) -> int:
    """Return how many segments of a window are encoded while the one before them is written.

    Of the next window there is one more.
    """
    return threads + 1


def _window_count(bands: Bands, area: Window) -> int:
    return -(-area.rows // bands.rows) * -(-area.columns // bands.columns)


def _encoded_at_once(bands: Bands, target: ImageSpec, threads: int) -> int:
    """Return how many encoded segments can wait to be written, with the one that is being written."""
    segments = _segment_count(min(bands.rows, target.height), min(bands.columns, target.width), target.grain)
    return min(OUTPUT_BUFFERS * segments, 1 + encoded_ahead(threads) + 1)


def _pixel_bytes(image: ImageSpec) -> int:
    return image.channels * image.dtype.itemsize


def _tasks_at_once(image: ImageSpec, threads: int) -> int:
    """Return how many segments of an image can be decoded, or encoded, at the same time."""
    if image.sequential:
        return 1
    return min(threads, _segment_count(image.height, image.width, image.grain))


def _segment_count(rows: int, columns: int, grain: Grain) -> int:
    return -(-rows // grain.rows) * -(-columns // grain.columns)


def _array_bands(operation: MultirateMethod, image: ImageSpec, threads: int) -> Bands:
    """Cut an image in memory so that the samples that the multirate method keeps stay few."""
    rows = even(max(1, image.height))
    while rows > _FEWEST_BAND_ROWS and operation.memory(rows, image.width, threads) > _MULTIRATE_SCRATCH_BYTES:
        rows = even(rows // 2)
    return Bands(rows, max(1, image.width), 0)
