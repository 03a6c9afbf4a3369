"""DO: carry out a plan, tile by tile.

An image in memory is filtered where it lies. A stream passes through three overlapping stages: while the tiles of
one window are computed, the next window is being decoded and the previous one encoded, all in one pool of threads;
one more thread has that done, a few segments at a time, and writes them in order. All queues are bounded.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.editing import EditingFilter, LossCounter
from blurfast.io.base import Sink, Source
from blurfast.parallel import run_all
from blurfast.pixels import Pixels, Window
from blurfast.planning import OUTPUT_BUFFERS, Plan, encoded_ahead
from blurfast.window_filter import WindowFilter
from blurfast.windows import open_store

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
    outputs = _OutputBuffers(1)
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
        threads = max(plan.threads for plan in plans)
        outputs = _OutputBuffers(OUTPUT_BUFFERS)
        with _Pool(threads) as pool, _OrderedWriter(sink, pool, encoded_ahead(threads)) as writer:
            done = 0
            for image, plan in enumerate(plans):
                for window in _stream_image(plan, source, sink, image, pool, writer, outputs, counter):
                    done += window.rows * window.columns
                    if progress is not None:
                        progress(done, total)
            outputs.finish()
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
            tasks = sink.encode_tasks(image, _in_output(window, plan.area), target)
            outputs.lend(writer.write(image, tasks))
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

    def __init__(self, count: int) -> None:
        self._buffers: list[NDArray[np.uint8] | None] = [None] * count
        self._users: list[Future[None] | None] = [None] * count
        self._turn = 0

    def take(self, plan: Plan, window: Window) -> Pixels:
        """Return an array for `window`, once its memory is no longer in use; raise what its user has failed with."""
        self._await_next()
        shape = (window.rows, window.columns, plan.image.channels)
        count = math.prod(shape) * plan.target_dtype.itemsize
        return self._buffer(_output_bytes(plan))[:count].view(plan.target_dtype).reshape(shape)

    def _buffer(self, size: int) -> NDArray[np.uint8]:
        """Return the memory whose turn it is; a plan counts none that is larger than its own windows."""
        buffer = self._buffers[self._turn]
        if buffer is None or buffer.size != size:
            self._buffers[self._turn] = buffer = None  # before there is another
            self._buffers[self._turn] = buffer = np.empty(size, dtype=np.uint8)
        return buffer

    def lend(self, user: Future[None]) -> None:
        """Keep the array that was taken last until `user` is done."""
        self._users[self._turn] = user

    def finish(self) -> None:
        """Wait until all windows are written; raise what one of them has failed with."""
        for _ in self._buffers:
            self._await_next()

    def _await_next(self) -> None:
        self._turn = (self._turn + 1) % len(self._buffers)
        user = self._users[self._turn]
        if user is not None:
            user.result()


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
    """A thread that has segments encoded, a few of them ahead, and appends them to a sink in order."""

    def __init__(self, sink: Sink, pool: _Pool, ahead: int) -> None:
        self._sink, self._pool, self._ahead = sink, pool, ahead
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="blurfast-writer")
        self._is_stopped = False

    def write(self, image: int, tasks: Iterable[Callable[[], Any]]) -> Future[None]:
        """Have the segments of one window encoded and written.

        Returns
        -------
        Future
            Done when all are written: until then, stored segments are the pixels themselves.
        """
        waiting = iter(tasks)
        # The first one now, before the tasks of the next window stand in its way.
        encoding = deque(self._pool.start(islice(waiting, 1)))
        return self._executor.submit(self._append, image, encoding, waiting)

    def _append(self, image: int, encoding: deque[Future[Any]], waiting: Iterator[Callable[[], Any]]) -> None:
        while encoding and not self._is_stopped:
            segment = encoding.popleft().result()
            encoding += self._pool.start(islice(waiting, self._ahead - len(encoding)))
            try:
                self._sink.append(image, segment)
            except BaseException:
                self._is_stopped = True
                raise

    def __enter__(self) -> _OrderedWriter:
        return self

    def __exit__(self, *failure: object) -> None:
        self._is_stopped = failure[0] is not None
        self._executor.shutdown(wait=True, cancel_futures=self._is_stopped)
