"""Tiles for a device: they fit, they are as large as is useful, and errors and times are told as they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blurfast.boundary import MODES
from blurfast.cuda import memory
from blurfast.cuda.device import ALIGNMENT
from blurfast.cuda.memory import DeviceJob, available_memory, overlapped_seconds, plan_tiles, row_pitch
from blurfast.cuda.pipeline import DeviceTiles
from blurfast.cuda.tiles import DeviceImage, PaddedSource
from blurfast.errors import MemoryBudgetError, UnsupportedError
from blurfast.pixels import Window
from blurfast.resources import MEGABYTE, parse_memory
from tests.queue_device import QueueDevice

GIGABYTE = 10**9


class Needs:
    """An operator that reads a halo, keeps every so many-th sample, and needs a panel of scratch memory."""

    def __init__(self, above, below, left, right, grid=1, scratch_itemsize=4, channels=1):
        self.halos, self.grid = ((above, below), (left, right)), grid
        self.scratch_itemsize, self.channels = scratch_itemsize, channels

    def _span(self, axis, start, stop):
        before, after = self.halos[axis]
        return (start - before) // self.grid * self.grid, -(-(stop + after) // self.grid) * self.grid

    def row_span(self, start, stop):
        return self._span(0, start, stop)

    def column_span(self, start, stop):
        return self._span(1, start, stop)

    def scratch_bytes(self, rows, columns):
        padded = columns + sum(self.halos[1]) + 2 * self.grid
        return rows * padded * self.channels * self.scratch_itemsize


sizes = st.integers(1, 1_000_000) | st.integers(1, 5000) | st.integers(1, 40)
halos = st.integers(0, 10) | st.integers(0, 3000)
dtypes = st.sampled_from(["bool", "uint8", "uint16", "float16", "float32", "float64"]).map(np.dtype)
device_memory = st.integers(256 * MEGABYTE, 80 * GIGABYTE)


@st.composite
def jobs(draw):
    height, width = draw(sizes), draw(sizes)
    window = draw(st.integers(1, height)), draw(st.integers(1, width))
    channels = draw(st.sampled_from([1, 2, 3, 4]))
    return DeviceJob(height, width, channels, draw(dtypes), draw(dtypes), draw(st.sampled_from(MODES)), window)


@st.composite
def needs(draw):
    grid, itemsize = draw(st.sampled_from([1, 2, 8, 64])), draw(st.sampled_from([0, 4, 8]))
    return Needs(*(draw(halos) for _ in range(4)), grid, itemsize, 4)


def plan_or_least(operator, job, free, limit=None, **options):
    """Return the plans, or the error that says what would do."""
    try:
        return plan_tiles(operator, job, free, limit, **options), None
    except MemoryBudgetError as error:
        return (), error


@given(operator=needs(), job=jobs(), free=device_memory, share=st.floats(0.001, 2), depth=st.integers(1, 4))
def test_no_plan_is_above_the_limit(operator, job, free, share, depth):
    limit = max(1, int(free * share))
    plans, error = plan_or_least(operator, job, free, limit, depth=depth)
    assert plans or error
    for plan in plans:
        assert sum(plan.parts.values()) == plan.memory <= min(limit, 0.9 * free)
        assert 1 <= plan.rows <= job.window[0]
        assert 1 <= plan.columns <= job.window[1]
        assert plan.depth == depth
    areas = [plan.rows * plan.columns for plan in plans]
    assert areas == sorted(areas, reverse=True)
    assert not plans or areas[-1] == 1


@given(operator=needs(), job=jobs(), first=device_memory, second=device_memory)
def test_more_memory_never_makes_tiles_smaller(operator, job, first, second):
    areas = []
    for free in sorted([first, second]):
        plans, _ = plan_or_least(operator, job, free)
        areas.append(plans[0].rows * plans[0].columns if plans else 0)
    assert areas[0] <= areas[1]


@given(operator=needs(), job=jobs(), start=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)))
def test_every_tile_fits_into_its_memory(operator, job, start):
    """Wherever a tile lies, its maps and pixels end before what follows them."""
    plans, _ = plan_or_least(operator, job, 80 * GIGABYTE)
    for plan in plans[:3]:
        rows = np.ptp(operator.row_span(start[0], start[0] + plan.rows))
        columns = np.ptp(operator.column_span(start[1], start[1] + plan.columns))
        layout = plan.source
        assert 4 * rows <= layout.column_map
        assert 4 * columns <= layout.pixels - layout.column_map
        pitch = row_pitch(min(columns, job.width), job.channels, job.source_dtype)
        assert min(rows, job.height) * pitch * job.source_dtype.itemsize <= layout.size - layout.pixels
        assert layout.column_map % ALIGNMENT == layout.pixels % ALIGNMENT == layout.size % ALIGNMENT == 0
        target_pitch = row_pitch(plan.columns, job.channels, job.target_dtype)
        assert plan.rows * target_pitch * job.target_dtype.itemsize <= plan.target_bytes
        assert plan.scratch_bytes >= operator.scratch_bytes(plan.rows, plan.columns)
        assert rows * columns * job.channels <= plan.most_samples < 2**31


def test_the_limit_itself_may_be_used():
    operator, job = Needs(7, 7, 7, 7), job_of(2000, 2000)
    for plan in plan_tiles(operator, job, GIGABYTE)[:8]:
        assert plan_tiles(operator, job, GIGABYTE, plan.memory)[0] == plan
        assert plan_tiles(operator, job, GIGABYTE, plan.memory - 1)[0].memory < plan.memory


def test_tiles_that_fit_where_spans_are_longest():
    operator, job = Needs(30, 5, 40, 7, grid=64), job_of(3000, 3000)
    for plan in plan_tiles(operator, job, GIGABYTE):
        longest = [
            max(int(np.ptp(span(start, start + count))) for start in range(200))
            for span, count in [(operator.row_span, plan.rows), (operator.column_span, plan.columns)]
        ]
        rows, columns = np.minimum(longest, 3000)
        pixels = plan.source.size - plan.source.pixels
        assert pixels - ALIGNMENT < rows * row_pitch(columns, 1, job.source_dtype) * 4 <= pixels


def test_no_memory_is_taken_for_pixels_that_edges_repeat():
    plan = plan_tiles(Needs(900, 900, 900, 900), job_of(8, 16), GIGABYTE)[0]
    assert plan.source.size - plan.source.pixels == 8 * 128


@given(operator=needs(), job=jobs(), free=st.integers(1, 10**6))
def test_errors_name_memory_that_does(operator, job, free):
    plans, error = plan_or_least(operator, job, 10**15, free)
    if plans:
        assert plans[-1].memory <= free
    else:
        needed = parse_memory(error.remedy.removeprefix("use --device-memory ").removesuffix(" or more"))
        assert plan_tiles(operator, job, 10**15, needed)
        assert not plan_or_least(operator, job, 10**15, needed - MEGABYTE)[0]


def test_too_little_free_memory_is_not_blamed_on_the_user():
    operator, job = Needs(5, 5, 5, 5), job_of(1000, 1000)
    with pytest.raises(MemoryBudgetError, match="free device memory until there are 1 MB, or use the cpu backend"):
        plan_tiles(operator, job, 2000, 10**9)


def test_pixels_that_depend_on_too_many_are_refused():
    with pytest.raises(UnsupportedError, match="more than kernels can count"):
        plan_tiles(Needs(40_000, 40_000, 40_000, 40_000), job_of(10, 10), 10**15)


def job_of(height, width, channels=1, dtype="float32", window=None):
    dtype = np.dtype(dtype)
    return DeviceJob(height, width, channels, dtype, dtype, "reflect", window or (height, width))


# ------------------------------------------------------------------------------------------------- accounts and sizes


class Fill:
    """An operator that fills tiles with nothing, for what it leaves in the accounts."""

    def __init__(self, device, needs):
        self.device = device
        self.row_span, self.column_span, self.scratch_bytes = needs.row_span, needs.column_span, needs.scratch_bytes

    def enqueue(self, source: PaddedSource, target: DeviceImage, position, scratch, stream):
        self.device.clear(target.address, target.rows * target.pitch * target.dtype.itemsize, stream)
        if self.scratch_bytes(target.rows, target.columns):
            self.device.clear(scratch, self.scratch_bytes(target.rows, target.columns), stream)

    def close(self):
        pass


@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    around=st.tuples(*[st.integers(0, 60)] * 4),
    grid=st.sampled_from([1, 4]),
    channels=st.sampled_from([1, 3]),
    dtype=dtypes,
    mode=st.sampled_from(MODES),
    limit=st.integers(10_000, 10**6),
    depth=st.integers(1, 3),
)
def test_device_sees_what_was_planned(shape, around, grid, channels, dtype, mode, limit, depth):
    job = DeviceJob(*shape, channels, dtype, dtype, mode, shape)
    operator = Needs(*around, grid, 4, channels)
    plans, _ = plan_or_least(operator, job, 10**9, limit, depth=depth, unit=(4, 8))
    if not plans:
        return
    device = QueueDevice(0, memory=plans[0].memory)
    tiles = DeviceTiles(Fill(device, operator), job, plans)
    pixels, target = np.ones((*shape, channels), dtype=dtype), np.ones((*shape, channels), dtype=dtype)
    ((task,),) = tiles.stages(Window(0, shape[0], 0, shape[1]), pixels, 0, lambda rows: rows, target)
    task()
    assert device.peak == plans[0].memory <= limit
    assert device.host_peak == plans[0].host_memory
    assert not target.any()
    tiles.close()
    device.assert_nothing_is_left()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("side", [4096, 20_000, 1_000_000])
def test_large_images_are_cut_into_tiles_that_overlap(side, dtype):
    plan = plan_tiles(Needs(20, 20, 20, 20), job_of(side, side, 1, dtype), 8 * GIGABYTE)[0]
    assert plan.traffic(job_of(side, side, 1, dtype)).tiles >= 4
    assert plan.host_memory < 150 * MEGABYTE
    padded = (plan.rows + 40) * (plan.columns + 40)
    assert padded < 1.1 * plan.rows * plan.columns, "the halo is a large part of each tile"


def test_small_images_are_one_tile():
    for shape in [(1, 1), (1, 300), (256, 256)]:
        plan = plan_tiles(Needs(3, 3, 3, 3), job_of(*shape), GIGABYTE)[0]
        assert (plan.rows, plan.columns) == shape


def test_tiles_of_low_windows_are_as_wide_as_the_image():
    plan = plan_tiles(Needs(4, 4, 4, 4), job_of(50_000, 8000, 1, "uint8", (1024, 8000)), GIGABYTE)[0]
    assert plan.columns == 8000
    assert plan.rows == 256


def test_tiles_outgrow_their_halo_where_memory_allows():
    job = job_of(60_000, 60_000, 1, "uint8")
    plan = plan_tiles(Needs(2000, 2000, 2000, 2000), job, 80 * GIGABYTE)[0]
    padded = (plan.rows + 4000) * (plan.columns + 4000)
    assert padded < 2.5 * plan.rows * plan.columns
    short = plan_tiles(Needs(2000, 2000, 2000, 2000), job, 80 * GIGABYTE, 200 * MEGABYTE)[0]
    assert short.rows * short.columns < plan.rows * plan.columns


def test_one_sided_halos_do_not_make_slivers():
    for around in [(300, 300, 0, 0), (0, 0, 300, 300)]:
        plan = plan_tiles(Needs(*around), job_of(1_000_000, 1_000_000, 1, "uint8"), 8 * GIGABYTE)[0]
        assert plan.columns >= 512
        assert plan.rows >= 16


def test_tiles_are_about_equal_and_whole_units():
    plan = plan_tiles(Needs(9, 9, 9, 9), job_of(9000, 9000), 8 * GIGABYTE, unit=(48, 160))[0]
    assert plan.rows % 48 == 0 or plan.rows == 9000
    assert plan.columns % 160 == 0 or plan.columns == 9000
    rest = 9000 % plan.columns or plan.columns
    assert rest > plan.columns / 2


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "float32", "float64"])
@given(columns=st.integers(1, 10_000), channels=st.integers(1, 5))
def test_rows_begin_at_cache_lines(columns, channels, dtype):
    dtype = np.dtype(dtype)
    size = row_pitch(columns, channels, dtype) * dtype.itemsize
    assert size % memory.ROW_ALIGNMENT == 0
    assert 0 <= size - columns * channels * dtype.itemsize < memory.ROW_ALIGNMENT


def test_available_memory():
    assert available_memory(1000) == 900
    assert available_memory(1000, 500) == 500
    assert available_memory(1000, 10**9) == 900


def test_plans_explain_themselves():
    plan = plan_tiles(Needs(9, 9, 9, 9), job_of(9000, 9000), 8 * GIGABYTE)[0]
    text = plan.explain()
    assert f"{plan.rows} x {plan.columns} pixels, 2 at a time" in text
    assert f"{math.ceil(plan.memory / MEGABYTE)} MB" in text
    assert all(part in text for part in ("source", "target", "scratch", "page-locked"))


# -------------------------------------------------------------------------------------------------------------- times


def test_time_is_that_of_the_slowest_stage_and_of_the_ends():
    assert memory.transfer_seconds(24 * 10**9) == pytest.approx(2)
    assert memory.transfer_seconds(24 * 10**9, 24e9) == pytest.approx(1)
    assert memory.kernel_seconds(75 * 10**9, 100e9) == pytest.approx(1)
    assert overlapped_seconds([1, 1, 1], 1) == 3
    assert overlapped_seconds([1, 1, 1], 100) == pytest.approx(1.02)
    assert overlapped_seconds([0, 5, 0], 7) == 5


def test_pipeline_time_counts_every_stage():
    job = job_of(10_000, 10_000)
    tile = plan_tiles(Needs(0, 0, 0, 0), job, 8 * GIGABYTE)[0]
    traffic = tile.traffic(job)
    assert job.height * job.width * 4 <= traffic.downloaded <= 1.1 * job.height * job.width * 4
    assert traffic.uploaded >= traffic.downloaded
    slow_bus = memory.pipeline_seconds(job, tile, 10**9, 1e12, 1e8)
    assert slow_bus == pytest.approx(traffic.uploaded / 1e8, rel=1.5 / traffic.tiles)
    slow_memory = memory.pipeline_seconds(job, tile, 10**9, 1e8)
    assert slow_memory == pytest.approx(10**9 / (0.75 * 1e8), rel=0.05)
    slow_host = memory.pipeline_seconds(job, tile, 10**9, 1e15, 1e15)
    assert slow_host == pytest.approx((traffic.uploaded + traffic.downloaded) / memory.HOST_BANDWIDTH, rel=0.05)
