"""The engine, run over sources and sinks that watch it: order, threads, memory, and every kind of failure."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blurfast import gaussian
from blurfast.boundary import MODES
from blurfast.engine import filter_stream
from blurfast.errors import MemoryBudgetError
from blurfast.filters import Gaussian
from blurfast.io.base import Grain, ImageSpec
from blurfast.pixels import Window
from blurfast.planning import Bands, plan_stream
from blurfast.resources import MEGABYTE, Resources


class DeliberateError(Exception):
    """Raised by the tests' own sources, sinks and callbacks."""


def noise(height: int, width: int, channels: int = 1, dtype: str = "uint16") -> np.ndarray:
    generator = np.random.default_rng(height * width)
    if np.dtype(dtype).kind == "f":
        return generator.normal(size=(height, width, channels)).astype(dtype)
    limits = np.iinfo(dtype)
    return generator.integers(limits.min, limits.max, (height, width, channels), endpoint=True).astype(dtype)


def spec(pixels: np.ndarray, grain: Grain, sequential: bool = False) -> ImageSpec:
    height, width, channels = pixels.shape
    return ImageSpec(height, width, channels, pixels.dtype, grain, sequential)


def assert_aligned(window: Window, image: ImageSpec) -> None:
    grain = image.grain
    assert 0 <= window.row_start < window.row_stop <= image.height
    assert 0 <= window.column_start < window.column_stop <= image.width
    assert window.row_start % grain.rows == 0
    assert window.column_start % grain.columns == 0
    assert window.row_stop % grain.rows == 0 or window.row_stop == image.height
    assert window.column_stop % grain.columns == 0 or window.column_stop == image.width


def segments(window: Window, grain: Grain) -> list[Window]:
    """Cut a window into whole segments, in raster order."""
    return [
        Window(row, min(row + grain.rows, window.row_stop), column, min(column + grain.columns, window.column_stop))
        for row in range(window.row_start, window.row_stop, grain.rows)
        for column in range(window.column_start, window.column_stop, grain.columns)
    ]


class WatchfulSource:
    """Reads arrays by segments of any size, and refuses what the protocol of sources does not promise."""

    def __init__(self, *images: np.ndarray, grain: Grain | None = None, sequential: bool = False) -> None:
        self._pixels = images
        self.images = [spec(pixels, grain or Grain(1, pixels.shape[1]), sequential) for pixels in images]
        self.closed = False
        self.rows_read = 0
        self.segments_read = 0
        self.fail_at = math.inf
        self._next_row = 0
        self._image = 0
        self._reading = threading.Lock()

    def read_tasks(self, image, window, target):
        assert not self.closed
        description = self.images[image]
        assert 0 <= window.row_start < window.row_stop <= description.height
        assert 0 <= window.column_start < window.column_stop <= description.width
        assert target.shape == (window.rows, window.columns, description.channels)
        assert target.dtype == description.dtype
        assert target.strides[1:] == (description.channels * target.itemsize, target.itemsize)
        if description.sequential:
            assert_aligned(window, description)
            assert window.columns == description.width
            return [functools.partial(self._read_next, image, window, target)]
        return [
            functools.partial(
                self._read,
                image,
                part,
                target[
                    part.row_start - window.row_start : part.row_stop - window.row_start,
                    part.column_start - window.column_start : part.column_stop - window.column_start,
                ],
            )
            for part in segments(window, description.grain)
        ]

    def _read(self, image, window, target):
        assert not self.closed
        self.segments_read += 1
        if self.segments_read >= self.fail_at:
            raise DeliberateError("read")
        self.rows_read = max(self.rows_read, window.row_stop)
        target[:] = self._pixels[image][window.row_start : window.row_stop, window.column_start : window.column_stop]

    def _read_next(self, image, window, target):
        assert self._reading.acquire(blocking=False), "two tasks of a sequential image run at once"
        try:
            if image != self._image:
                self._image, self._next_row = image, 0
            assert window.row_start == self._next_row, f"row {window.row_start} is read, not {self._next_row}"
            time.sleep(0.001)
            self._read(image, window, target)
            self._next_row = window.row_stop
        finally:
            self._reading.release()

    def close(self):
        self.closed = True


class WatchfulSink:
    """Puts arrays together from segments, and refuses what the protocol of sinks does not promise."""

    def __init__(self, *images: ImageSpec, source: WatchfulSource | None = None) -> None:
        self.images = images
        self.results = [np.full((image.height, image.width, image.channels), 77, dtype=image.dtype) for image in images]
        self.events: list[str] = []
        self.fail: dict[str, float] = {}
        self.append_seconds = 0.0
        self.held_bytes = self.most_held_bytes = 0
        self.rows_appended = 0
        self._source = source
        self._lock = threading.Lock()
        self._expected: collections.deque[tuple[int, Window]] = collections.deque()
        self.appended: list[Window] = []
        self._appending_thread: int | None = None
        self.most_rows_ahead = 0

    def _count(self, event: str) -> None:
        with self._lock:
            self.fail[event] = self.fail.get(event, math.inf) - 1
            if self.fail[event] <= 0:
                raise DeliberateError(event)

    def encode_tasks(self, image, window, pixels):
        description = self.images[image]
        assert_aligned(window, description)
        assert pixels.shape == (window.rows, window.columns, description.channels)
        assert pixels.dtype == description.dtype
        self._count("encode_tasks")
        tasks = []
        for part in segments(window, description.grain):
            self._expected.append((image, part))
            rows = slice(part.row_start - window.row_start, part.row_stop - window.row_start)
            columns = slice(part.column_start - window.column_start, part.column_stop - window.column_start)
            tasks.append(functools.partial(self._encode, image, part, pixels[rows, columns]))
        return tasks

    def _encode(self, image, part, pixels):
        self._count("encode")
        with self._lock:
            self.held_bytes += pixels.nbytes
            self.most_held_bytes = max(self.most_held_bytes, self.held_bytes)
        return image, part, pixels.copy()

    def append(self, image, segment):
        number, part, pixels = segment
        assert (number, part) == self._expected.popleft()
        assert image == number
        self.appended.append(part)
        assert self._appending_thread in (None, threading.get_ident())
        self._appending_thread = threading.get_ident()
        self._count("append")
        time.sleep(self.append_seconds)
        self.results[image][part.row_start : part.row_stop, part.column_start : part.column_stop] = pixels
        if self._source is not None:
            self.most_rows_ahead = max(self.most_rows_ahead, self._source.rows_read - self.rows_appended)
        self.rows_appended = part.row_stop
        with self._lock:
            self.held_bytes -= pixels.nbytes

    def commit(self):
        assert self._source is None or self._source.closed, "the output may take the place of the input"
        assert not self._expected
        assert len(self.appended) == sum(
            -(-image.height // image.grain.rows) * -(-image.width // image.grain.columns) for image in self.images
        )
        self._count("commit")
        self.events.append("commit")

    def abort(self):
        self.events.append("abort")


def make_plan(
    source: WatchfulSource,
    sink: WatchfulSink,
    filter: Gaussian,
    rows: int,
    columns: int | None = None,
    *,
    image: int = 0,
    threads: int = 2,
    **options,
):
    """Plan, then cut the image into windows of about the given size."""
    read, written = source.images[image], sink.images[image]
    plan = plan_stream(filter, read, written, Resources(threads, 10**12), 0, **options)
    unit_rows, unit_columns = math.lcm(2, written.grain.rows), math.lcm(2, written.grain.columns)
    rows = max(1, rows // unit_rows) * unit_rows
    if columns is not None:
        columns = max(1, columns // unit_columns) * unit_columns
        bands = Bands(rows, columns, 0)
        tile = plan.tile and (plan.tile[0], min(plan.tile[1], columns))
        return dataclasses.replace(plan, bands=bands, tile=tile)
    needed = 2 * rows + 2 * plan.halo[0] + read.grain.rows
    if read.sequential and plan.mode == "wrap":
        needed = read.height
    ring = -(-min(needed, read.height) // read.grain.rows) * read.grain.rows
    bands = Bands(rows, read.width, ring, plan.bands.parts)
    return dataclasses.replace(plan, bands=bands)


def run(pixels, filter, rows, columns=None, *, grain=None, sink_grain=None, sequential=False, threads=2, **options):
    source = WatchfulSource(pixels, grain=grain, sequential=sequential)
    target = spec(pixels, sink_grain or Grain(1, pixels.shape[1]))
    sink = WatchfulSink(target, source=source)
    plan = make_plan(source, sink, filter, rows, columns, threads=threads, **options)
    filter_stream([plan], source, sink)
    assert source.closed
    assert sink.events[0] == "commit"
    return sink.results[0]


def expected_of(pixels, filter, **options):
    return gaussian(pixels, filter.sigma, order=filter.order, channel_axis=-1, **options)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


# -------------------------------------------------------------------------------------- the result, however it is cut


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grain_rows", [1, 7, 16, 64])
@pytest.mark.parametrize("sigma", [0, 1.5, (12.0, 0.5), 70.0])
def test_bands_give_the_same_bytes_as_arrays(grain_rows, mode, sigma):
    pixels = noise(301, 90)
    grain = Grain(grain_rows, 90)
    for rows in (2, 38, 1000):
        result = run(pixels, Gaussian(sigma), rows, grain=grain, sink_grain=grain, mode=mode, cval=500)
        np.testing.assert_array_equal(result, expected_of(pixels, Gaussian(sigma), mode=mode, cval=500))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sigma", [1.5, 9.0])
def test_sequential_sources_are_read_once_and_in_order(mode, sigma):
    pixels = noise(333, 40, 3, "uint8")
    for rows, grain_rows in ((2, 1), (26, 1), (64, 16)):
        grain = Grain(grain_rows, 40)
        result = run(pixels, Gaussian(sigma), rows, grain=grain, sequential=True, threads=4, mode=mode, cval=9)
        np.testing.assert_array_equal(result, expected_of(pixels, Gaussian(sigma), mode=mode, cval=9))


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "wrap"])
@pytest.mark.parametrize("grains", [((7, 13), (16, 16)), ((64, 32), (5, 9)), ((15, 11), (15, 11))])
def test_blocks_give_the_same_bytes_as_arrays(grains, mode):
    pixels = noise(71, 103, 2, "float32")
    grain, sink_grain = (Grain(*sizes) for sizes in grains)
    for sigma in (0, 0.7, (4.0, 11.0)):
        for rows, columns in ((2, 20), (40, 60)):
            result = run(
                pixels, Gaussian(sigma), rows, columns, grain=grain, sink_grain=sink_grain, mode=mode, cval=-1.5
            )
            np.testing.assert_array_equal(result, expected_of(pixels, Gaussian(sigma), mode=mode, cval=-1.5))


@given(
    shape=st.tuples(st.integers(1, 99), st.integers(1, 99), st.integers(1, 3)),
    sigma=st.tuples(st.just(0.0) | st.floats(0.1, 12), st.just(0.0) | st.floats(0.1, 12)),
    mode=st.sampled_from(MODES),
    window=st.tuples(st.integers(8, 100), st.none() | st.integers(16, 100)),
    grain=st.tuples(st.integers(5, 40), st.integers(5, 40)),
    sink_grain=st.tuples(st.integers(1, 40), st.integers(5, 40)),
    sequential=st.booleans(),
    threads=st.integers(1, 4),
)
def test_any_cut_gives_the_same_bytes(shape, sigma, mode, window, grain, sink_grain, sequential, threads):
    pixels = noise(*shape, "float32")
    rows, columns = window
    if sequential or mode == "wrap":
        columns = None
    if columns is None:
        sink_grain = (sink_grain[0], shape[1])
    source_grain = Grain(grain[0], shape[1] if sequential else grain[1])
    result = run(
        pixels,
        Gaussian(sigma),
        rows,
        columns,
        grain=source_grain,
        sink_grain=Grain(*sink_grain),
        sequential=sequential,
        threads=threads,
        mode=mode,
    )
    np.testing.assert_array_equal(result, expected_of(pixels, Gaussian(sigma), mode=mode))


@pytest.mark.parametrize("spare", [0, 3 * MEGABYTE, 40 * MEGABYTE])
@pytest.mark.parametrize("mode", MODES)
def test_plans_of_a_tight_budget_give_the_same_bytes(mode, spare):
    pixels = noise(1500, 2200)
    source = WatchfulSource(pixels, grain=Grain(33, 65))
    sink = WatchfulSink(spec(pixels, Grain(16, 48)), source=source)
    least = 33 * MEGABYTE if mode != "wrap" else 36 * MEGABYTE
    plan = plan_stream(Gaussian(6), source.images[0], sink.images[0], Resources(2, least + spare), 0, mode=mode)
    assert plan.predicted_memory <= least + spare
    filter_stream([plan], source, sink)
    np.testing.assert_array_equal(sink.results[0], expected_of(pixels, Gaussian(6), mode=mode))


def test_derivatives_stream_into_another_dtype():
    pixels = noise(200, 120, 1, "uint8")
    source = WatchfulSource(pixels)
    out = np.empty(pixels.shape, "float32")
    sink = WatchfulSink(spec(out, Grain(1, 120)), source=source)
    filter = Gaussian(3, (0, 1))
    filter_stream([make_plan(source, sink, filter, 30)], source, sink)
    np.testing.assert_array_equal(sink.results[0], gaussian(pixels, 3, order=(0, 1), channel_axis=-1, out=out))


@pytest.mark.parametrize("sequential", [False, True])
def test_images_follow_one_another(sequential):
    pages = [noise(90, 31), noise(11, 70, 3, "uint8"), noise(1, 1, 4, "float32"), noise(140, 140)]
    source = WatchfulSource(*pages, sequential=sequential)
    sink = WatchfulSink(*[spec(page, Grain(4, page.shape[1])) for page in pages], source=source)
    plans = [make_plan(source, sink, Gaussian(2), 16, image=image) for image in range(4)]
    seen = []
    filter_stream(plans, source, sink, lambda done, total: seen.append((done, total)))
    for page, result in zip(pages, sink.results, strict=True):
        np.testing.assert_array_equal(result, expected_of(page, Gaussian(2)))
    total = sum(page.shape[0] * page.shape[1] for page in pages)
    assert {every for _, every in seen} == {total}
    assert seen[-1][0] == total
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


@pytest.mark.parametrize("sink_grain", [Grain(16, 480), Grain(16, 333)])
def test_segments_reach_the_sink_in_raster_order(sink_grain):
    pixels = noise(20, 60_000)
    source = WatchfulSource(pixels, grain=Grain(16, 64))
    sink = WatchfulSink(spec(pixels, sink_grain), source=source)
    read, written = source.images[0], sink.images[0]
    plan = plan_stream(Gaussian(1), read, written, Resources(1, 16 * MEGABYTE), 0)
    assert plan.bands.columns < 60_000
    filter_stream([plan], source, sink)
    assert sink.appended == sorted(sink.appended)


@pytest.mark.parametrize("sink_grain", [Grain(5, 480), Grain(1, 480)])
def test_no_blocks_where_pairs_of_rows_span_two_rows_of_segments(sink_grain):
    pixels = noise(20, 60_000)
    read, written = spec(pixels, Grain(16, 64)), spec(pixels, sink_grain)
    with pytest.raises(MemoryBudgetError):
        plan_stream(Gaussian(1), read, written, Resources(1, 16 * MEGABYTE), 0)


# --------------------------------------------------------------------------------------------------------- failures


def failing_run(*, threads=3, columns=None, read=math.inf, progress=None, **fail):
    """Run with failures set, and return the source and the sink once that has failed as it should."""
    pixels = noise(400, 90)
    grain = Grain(8, 30) if columns else Grain(8, 90)
    source = WatchfulSource(pixels, grain=grain)
    source.fail_at = read
    sink = WatchfulSink(spec(pixels, grain), source=source)
    sink.fail = dict(fail)
    plan = make_plan(source, sink, Gaussian(2), 16, columns, threads=threads)
    with pytest.raises((DeliberateError, KeyboardInterrupt)) as caught:
        filter_stream([plan], source, sink, progress)
    assert source.closed
    assert "abort" in sink.events
    assert "commit" not in sink.events
    return str(caught.value), sink


@pytest.mark.parametrize("columns", [None, 30])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("stage", ["read", "encode", "encode_tasks", "append"])
def test_failures_of_any_stage_come_through(stage, threads, columns):
    for call in (1, 2, 17, 25):
        if stage != "encode_tasks" or call < 20:
            message, _ = failing_run(threads=threads, columns=columns, **{stage: call})
            assert message == stage


def test_failure_in_the_last_segment():
    assert failing_run(append=50)[0] == "append"
    assert failing_run(encode=50)[0] == "encode"
    assert failing_run(read=50)[0] == "read"


def test_failure_of_commit():
    assert failing_run(commit=1)[0] == "commit"


@pytest.mark.parametrize("error", [DeliberateError, KeyboardInterrupt])
def test_failure_of_the_progress_callback(error):
    def progress(done, total):
        if done > total // 3:
            raise error("progress")

    message, sink = failing_run(progress=progress)
    assert message == "progress"
    assert sink.rows_appended < 400


def test_a_slow_sink_that_fails_does_not_block():
    """The queue is full when the writer stops."""
    pixels = noise(2000, 10)
    source = WatchfulSource(pixels)
    sink = WatchfulSink(spec(pixels, Grain(1, 10)), source=source)
    sink.append_seconds = 0.01
    sink.fail = {"append": 12}
    with pytest.raises(DeliberateError, match="append"):
        filter_stream([make_plan(source, sink, Gaussian(1), 2)], source, sink)
    assert source.rows_read < 200


def test_a_failing_writer_stops_the_reading_soon():
    pixels = noise(5000, 10)
    source = WatchfulSource(pixels)
    sink = WatchfulSink(spec(pixels, Grain(1, 10)), source=source)
    sink.fail = {"append": 1}
    with pytest.raises(DeliberateError):
        filter_stream([make_plan(source, sink, Gaussian(1), 2)], source, sink)
    assert source.rows_read < 1000


def test_nothing_to_do():
    source, sink = WatchfulSource(), WatchfulSink()
    with pytest.raises(ValueError, match="empty"):
        filter_stream([], source, sink)
    assert source.closed
    assert sink.events == ["abort"]


# ----------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("append_seconds", [0.0, 0.01])
@pytest.mark.parametrize(("rows", "segments_planned"), [(16, 4), (128, 4)])
def test_no_more_is_held_than_planned(rows, segments_planned, append_seconds):
    pixels = noise(1440, 64)
    segment_bytes = 8 * 64 * 2
    source = WatchfulSource(pixels)
    image = dataclasses.replace(spec(pixels, Grain(8, 64)), encoded_bytes=segment_bytes)
    sink = WatchfulSink(image, source=source)
    sink.append_seconds = append_seconds
    plan = make_plan(source, sink, Gaussian(2), rows)
    planned = plan_stream(Gaussian(2), source.images[0], image, Resources(2, 10**12), 0).bands
    assert planned.parts["encoded"] == 4 * segment_bytes
    filter_stream([plan], source, sink)
    assert 0 < sink.most_held_bytes <= segments_planned * segment_bytes
    assert sink.most_rows_ahead <= plan.bands.ring_rows + 3 * rows


def test_segments_are_encoded_while_one_is_written():
    """A slow writer leaves the threads to work: all that may be encoded ahead is."""
    pixels = noise(1440, 64)
    source = WatchfulSource(pixels)
    sink = WatchfulSink(spec(pixels, Grain(8, 64)), source=source)
    sink.append_seconds = 0.003
    filter_stream([make_plan(source, sink, Gaussian(2), 128)], source, sink)
    assert sink.most_held_bytes >= 4 * 8 * 64 * 2


def test_rows_are_decoded_once():
    pixels = noise(700, 33)
    source = WatchfulSource(pixels, grain=Grain(10, 33))
    sink = WatchfulSink(spec(pixels, Grain(1, 33)), source=source)
    filter_stream([make_plan(source, sink, Gaussian(3), 20)], source, sink)
    assert source.segments_read == 70


def test_threads_are_as_many_as_asked_for():
    seen = set()

    class CuriousSink(WatchfulSink):
        def _encode(self, image, part, pixels):
            seen.add(threading.get_ident())
            return super()._encode(image, part, pixels)

    pixels = noise(800, 64)
    source = WatchfulSource(pixels)
    sink = CuriousSink(spec(pixels, Grain(2, 64)), source=source)
    filter_stream([make_plan(source, sink, Gaussian(2), 32, threads=3)], source, sink)
    assert 1 <= len(seen) <= 3
    assert threading.get_ident() not in seen
