"""DO: carry out a plan, tile by tile.

An image in memory is filtered where it lies. A stream passes through three overlapping stages: while the tiles of
one window are computed, the next window is being decoded and the previous one encoded, all in one pool of threads;
one more thread writes what is encoded, in order. All queues are bounded.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from blurfast.editing import EditingFilter, LossCounter
from blurfast.io.base import Sink, Source
from blurfast.parallel import run_all
from blurfast.pixels import Pixels, Window
from blurfast.planning import OUTPUT_BUFFERS, Plan
from blurfast.window_filter import WindowFilter
from blurfast.windows import open_store

_MOST_UNFINISHED = 2
"""Windows that are handed to the writer: one that is being written, and the next."""

Progress = Callable[[int, int], None]
"""Called with the pixels done so far and all pixels; an exception that it raises cancels the run."""


def filter_array(plan: Plan, image: Pixels, target: Pixels) -> None:
    """Filter an image in memory into another that does not overlap with it.

    Both are shaped (rows, columns, channels), with pixels and channels contiguous.
    """
    with contextlib.closing(plan.window_filter()) as window_filter:
        for window in plan.windows():
            part = target[window.row_start : window.row_stop, window.column_start : window.column_stop]
            for tasks in window_filter.stages(window, image, 0, lambda rows: rows, part):
                run_all(tasks, plan.threads)


def filter_copied(plan: Plan, source: Source, sink: Sink) -> None:
    """Filter an array whose pixels must be copied out of their place and back, in the caller's and spare threads.

    No window is written before all is read that lies in its place, so source and sink may be the same array.
    """
    assert plan.bands is not None
    store = open_store(plan, source, 0)
    outputs = _OutputBuffers([plan])
    with contextlib.closing(plan.window_filter()) as window_filter:
        for window in plan.windows():
            run_all(store.read_tasks(window), plan.threads)
            target = outputs.take(plan, window)
            pixels, first_column = store.pixels(window)
            rows = functools.partial(store.rows, window)
            for tasks in window_filter.stages(window, pixels, first_column, rows, target):
                run_all(tasks, plan.threads)
            run_all(sink.encode_tasks(0, window, target), plan.threads)


def filter_stream(
    plans: Sequence[Plan],
    source: Source,
    sink: Sink,
    progress: Progress | None = None,
    *,
    before_commit: Callable[[], None] = lambda: None,
) -> list[str]:
    """Filter all images of `source` into `sink`, and complete it, unless `before_commit` raises an exception.

    Both are closed in any case. Whatever goes wrong, and on an interrupt, no thread is left and the sink is aborted.

    Returns
    -------
    list of str
        What conversions have lost, one sentence each.
    """
    total = sum(plan.area.rows * plan.area.columns for plan in plans)
    counter = LossCounter()
    try:
        with _Pool(max(plan.threads for plan in plans)) as pool, _OrderedWriter(sink) as writer:
            done = 0
            outputs = _OutputBuffers(plans)
            for image, plan in enumerate(plans):
                for window in _stream_image(plan, source, sink, image, pool, writer, outputs, counter):
                    done += window.rows * window.columns
                    if progress is not None:
                        progress(done, total)
            writer.finish()
        before_commit()
        source.close()  # the output may take the place of the input
        sink.commit()
        return counter.notices
    finally:
        source.close()
        sink.abort()


def _stream_image(
    plan: Plan,
    source: Source,
    sink: Sink,
    image: int,
    pool: _Pool,
    writer: _OrderedWriter,
    outputs: _OutputBuffers,
    counter: LossCounter,
) -> Iterable[Window]:
    """Filter one image, and yield each window once it is computed."""
    assert plan.bands is not None
    store = open_store(plan, source, image)
    windows = list(plan.windows())
    reading = pool.start(store.read_tasks(windows[0]))
    with contextlib.closing(_stream_filter(plan, counter)) as window_filter:
        for index, window in enumerate(windows):
            pool.finish(reading)
            if index + 1 < len(windows):
                reading = pool.start(store.read_tasks(windows[index + 1]))
            target = outputs.take(plan, window)
            pixels, first_column = store.pixels(window)
            rows = functools.partial(store.rows, window)
            for tasks in window_filter.stages(window, pixels, first_column, rows, target):
                pool.finish(pool.start(tasks))
            segments = pool.start(sink.encode_tasks(image, _in_output(window, plan.area), target))
            outputs.lend(writer.write(image, segments))
            yield window


def _stream_filter(plan: Plan, counter: LossCounter) -> WindowFilter:
    window_filter = plan.window_filter()
    return window_filter if plan.is_direct else EditingFilter(plan, window_filter, counter)


def _in_output(window: Window, area: Window) -> Window:
    """Return where a window of the image lies in an output that shows `area`."""
    row, column = area.row_start, area.column_start
    return Window(
        window.row_start - row, window.row_stop - row, window.column_start - column, window.column_stop - column
    )


class _OutputBuffers:
    """Memory for a few windows of the output, which all images of a run share; reused once its window is written."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        most = max(_output_bytes(plan) for plan in plans)
        self._buffers = [np.empty(most, dtype=np.uint8) for _ in range(OUTPUT_BUFFERS)]
        self._users: list[list[Future[None]]] = [[] for _ in self._buffers]
        self._turn = 0

    def take(self, plan: Plan, window: Window) -> Pixels:
        """Return an array for `window`, once the segments of the window before last are written."""
        self._turn = (self._turn + 1) % OUTPUT_BUFFERS
        wait(self._users[self._turn])
        shape = (window.rows, window.columns, plan.image.channels)
        count = math.prod(shape) * plan.target_dtype.itemsize
        return self._buffers[self._turn][:count].view(plan.target_dtype).reshape(shape)

    def lend(self, user: Future[None]) -> None:
        """Keep the array that was taken last until `user` is done."""
        self._users[self._turn] = [user]


def _output_bytes(plan: Plan) -> int:
    """Return the size of the largest window of an output."""
    assert plan.bands is not None
    pixels = min(plan.bands.rows, plan.area.rows) * min(plan.bands.columns, plan.area.columns)
    return pixels * plan.image.channels * plan.target_dtype.itemsize


class _Pool:
    """Threads for one run. When the run fails, tasks that have not begun are dropped."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="blurfast")

    def start(self, tasks: Iterable[Callable[[], Any]]) -> list[Future[Any]]:
        """Hand tasks to the threads, which take them in this order."""
        return [self._executor.submit(task) for task in tasks]

    def finish(self, futures: list[Future[Any]]) -> None:
        """Wait for tasks; raise the first exception among them."""
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *failure: object) -> None:
        self._executor.shutdown(wait=True, cancel_futures=failure[0] is not None)


class _OrderedWriter:
    """A thread that appends encoded segments to a sink, in order, as they become ready."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="blurfast-writer")
        self._unfinished: deque[Future[None]] = deque()

    def write(self, image: int, segments: list[Future[Any]]) -> Future[None]:
        """Have the segments of one window written; blocks while two windows wait. Raise what has gone wrong before.

        Returns
        -------
        Future
            Done when all are written: until then, stored segments are the pixels themselves.
        """
        while self._unfinished and (self._unfinished[0].done() or len(self._unfinished) == _MOST_UNFINISHED):
            self._unfinished.popleft().result()
        self._unfinished.append(self._executor.submit(self._append, image, segments))
        return self._unfinished[-1]

    def finish(self) -> None:
        """Wait until all is written."""
        for window in self._unfinished:
            window.result()

    def _append(self, image: int, segments: list[Future[Any]]) -> None:
        for segment in segments:
            self._sink.append(image, segment.result())

    def __enter__(self) -> _OrderedWriter:
        return self

    def __exit__(self, *failure: object) -> None:
        self._executor.shutdown(wait=True, cancel_futures=failure[0] is not None)
