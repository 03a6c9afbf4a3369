"""Windows pass through a device: the result is right, and memory is what was planned and given back."""

from __future__ import annotations

import dataclasses
import gc
import logging
import threading
from collections import Counter

import numpy as np
import pytest

from blurfast.boundary import MODES, OUTSIDE
from blurfast.cuda import pipeline
from blurfast.cuda.device import DeviceMemoryError
from blurfast.cuda.memory import ALIGNMENT, TilePlan, plan_tile, plan_tiles
from blurfast.cuda.pipeline import DeviceTiles
from blurfast.engine import filter_array, filter_stream
from blurfast.filters import Gaussian
from blurfast.io.array import ArraySink, ArraySource
from blurfast.pixels import Window
from blurfast.planning import Bands, plan_array, plan_stream
from blurfast.resources import Resources
from tests.device_cases import (
    CVAL,
    SEEDS,
    Case,
    WeightedOperator,
    kernels,
    noise,
    random_case,
    small_case,
    whole_taps,
    windows_of,
)
from tests.queue_device import QueueDevice

# ------------------------------------------------------------------------------------------------------ the result


@pytest.mark.parametrize("first_seed", range(0, SEEDS, 20))
def test_result_is_right_in_any_order(first_seed):
    for seed in range(first_seed, first_seed + 20):
        case = random_case(seed)
        device = case.device(seed)
        np.testing.assert_array_equal(case.run(device), case.expected(), err_msg=f"seed {seed}")
        device.assert_nothing_is_left()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tile", [(1, 1), (1, 13), (11, 1), (3, 4), (10, 12), (11, 13), (64, 64)])
def test_tiles_of_any_size(tile, channels, mode):
    case = Case(noise(11, 13, channels, "uint16"), whole_taps(5, 3), whole_taps(3, 4), mode, tile)
    np.testing.assert_array_equal(case.run(case.device(sum(tile))), case.expected())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (17, 1), (9, 14)])
def test_halos_larger_than_tile_and_image(shape, mode):
    case = Case(noise(*shape, 1, "float32"), whole_taps(61, 5), whole_taps(45, 6), mode, (2, 3))
    np.testing.assert_array_equal(case.run(case.device(7)), case.expected())


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float64"])
def test_every_dtype_travels_as_it_is(dtype):
    case = Case(noise(19, 21, 3, dtype), np.ones(1), np.ones(1), "mirror", (8, 8))
    device = case.device(3)
    result = case.run(device)
    np.testing.assert_array_equal(result, case.pixels)
    assert "launch" in device.calls


def test_parts_of_other_arrays_are_read_and_written():
    case = small_case()
    whole = np.zeros((40, 50, 1), dtype=np.uint8)
    source, target = whole[5:28, 3:34], np.full((30, 40, 1), 77, dtype=np.uint8)
    source[:] = case.pixels
    device = case.device(5)
    operator = case.operator(device)
    tiles = DeviceTiles(operator, case.job(), [case.plan(operator)])
    ((task,),) = tiles.stages(Window(0, 23, 0, 31), source, 0, lambda rows: rows, target[4:27, 6:37])
    task()
    tiles.close()
    np.testing.assert_array_equal(target[4:27, 6:37], case.expected())
    target[4:27, 6:37] = 77
    assert (target == 77).all(), "something beside the window is overwritten"


def test_tile_that_depends_on_nothing_inside():
    """An operator may look only at pixels far away, all of them beyond the edge."""

    class FarOperator(WeightedOperator):
        def row_span(self, start, stop):
            return start + 6, stop + 6

        def enqueue(self, source, target, position, scratch, stream):
            self._launch("copy", stream, source, target, 0, 0)

    case = Case(noise(8, 10, 1, "uint8"), np.ones(1), np.ones(1), "constant", (3, 10))
    device = case.device(1)
    operator = FarOperator(device, case.vertical, case.horizontal, np.uint8, 1)
    tiles = DeviceTiles(operator, case.job(), [case.plan(operator)])
    result = case.filter_with(tiles)
    tiles.close()
    expected = np.full_like(case.pixels, CVAL)
    expected[:2] = case.pixels[6:]
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("mode", MODES)
def test_rows_in_a_ring(mode):
    """Rows of the image may lie anywhere in the array, and its columns start anywhere in the image."""
    case = small_case(mode=mode)
    height, width, _ = case.pixels.shape
    window = Window(8, 16, 10, 20)
    places = np.random.default_rng(4).permutation(height)
    first_column = 0 if mode == "wrap" else 5
    ring = np.zeros((height, width - first_column, 1), dtype=np.uint8)
    ring[places] = case.pixels[:, first_column:]
    device = case.device(2)
    operator = case.operator(device)
    tiles = DeviceTiles(operator, case.job(), [case.plan(operator)])
    target = np.zeros((window.rows, window.columns, 1), dtype=np.uint8)
    translate = lambda rows: np.where(rows == OUTSIDE, OUTSIDE, places[rows])  # noqa: E731
    ((task,),) = tiles.stages(window, ring, first_column, translate, target)
    task()
    tiles.close()
    np.testing.assert_array_equal(target, case.expected()[8:16, 10:20])


def test_each_needed_pixel_travels_once():
    """However often the edges repeat pixels, a tile uploads no row and no column twice."""
    uploaded = []

    class WatchedDevice(QueueDevice):
        def upload(self, target, source, stream):
            uploaded.append(source.size)
            super().upload(target, source, stream)

    case = Case(noise(6, 260, 1, "uint8"), whole_taps(101, 1), whole_taps(3, 2), "reflect", (6, 200))
    device = WatchedDevice(1, kernels=kernels(np.uint8))
    np.testing.assert_array_equal(case.run(device), case.expected())
    maps = 512 + 1024  # of 106 rows and of 202 columns, 4 bytes each, aligned
    assert uploaded == [maps + 6 * 256, maps + 6 * 128]  # 6 rows of 201 columns, and of 61


# --------------------------------------------------------------------------------------- through the engine's windows


class DeviceMethod:
    """What a plan asks of a method, for the engine to run `DeviceTiles`."""

    def __init__(self, case, device, halo):
        self.case, self.device, self.halo = case, device, halo
        self.name = "weighted"
        self.tiles = []

    def window_filter(self, tile, threads, window):
        operator = self.case.operator(self.device)
        self.tiles.append(DeviceTiles(operator, self.case.job(), [self.case.plan(operator)]))
        return self.tiles[-1]


STREAMS = [(Bands(rows, 31, ring), mode) for rows, ring in [(6, 23), (4, 13)] for mode in MODES] + [
    (Bands(4, 8, 0), mode)
    for mode in MODES
    if mode != "wrap"  # images that wrap are not read in blocks
]


@pytest.mark.parametrize(("bands", "mode"), STREAMS)
def test_engine_streams_through_a_device(bands, mode):
    case = small_case(mode=mode, window=(bands.rows, bands.columns), tile=(3, 5))
    device = case.device(bands.rows)
    target = np.zeros_like(case.pixels)
    source, sink = ArraySource(case.pixels), ArraySink(target)
    plan = plan_stream(Gaussian(1), source.images[0], sink.images[0], Resources(2, 10**12), 0, mode=mode)
    method = DeviceMethod(case, device, (1, 2))
    filter_stream([dataclasses.replace(plan, operation=method, bands=bands)], source, sink)
    np.testing.assert_array_equal(target, case.expected())
    for tiles in method.tiles:
        tiles.close()
    device.assert_nothing_is_left()


def test_engine_filters_arrays_on_a_device():
    case = small_case(mode="wrap")
    device = case.device(9)
    source = ArraySource(case.pixels)
    plan = plan_array(Gaussian(1), source.images[0], case.pixels.dtype, 2, mode="wrap")
    method = DeviceMethod(case, device, (1, 2))
    target = np.zeros_like(case.pixels)
    filter_array(dataclasses.replace(plan, operation=method), case.pixels, target)
    np.testing.assert_array_equal(target, case.expected())


# ------------------------------------------------------------------------------------------------- memory and its end


def test_windows_that_are_done_are_left_alone():
    """The engine gives their memory to others."""
    case = small_case(window=(8, 31))
    device = case.device(1)
    operator = case.operator(device)
    tiles = DeviceTiles(operator, case.job(), [case.plan(operator)])
    done = []
    for window in windows_of(23, 31, 8, 31):
        part = np.zeros((window.rows, 31, 1), dtype=np.uint8)
        ((task,),) = tiles.stages(window, case.pixels, 0, lambda rows: rows, part)
        task()
        np.testing.assert_array_equal(part, case.expected()[window.row_start : window.row_stop])
        if done:
            assert (done[-1] == 77).all()
        part[:] = 77
        done.append(part)
    tiles.close()


def test_buffers_serve_all_windows():
    case = small_case(window=(4, 8), tile=(4, 4))
    device = case.device(1)
    np.testing.assert_array_equal(case.run(device), case.expected())
    counts = Counter(device.calls)
    assert counts["allocate"] == 1 + 1 + 2 * 2  # the operator's, scratch, and two slots
    assert counts["allocate_host"] == 2 * 2
    assert counts["open_stream"] == 3


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_device_memory_is_what_was_planned(depth):
    case = small_case(depth=depth)
    device = case.device(1)
    operator = case.operator(device)
    plan, held = case.plan(operator), device.used
    tiles = DeviceTiles(operator, case.job(), [plan])
    assert device.used == held, "memory is taken before it is needed"
    case.filter_with(tiles)
    assert device.used - held == device.peak - held == plan.memory
    assert device.host_peak == plan.host_memory
    tiles.close()
    device.assert_nothing_is_left()


def fallback_plans(case) -> tuple[TilePlan, ...]:
    operator = case.operator(case.device(0))
    return tuple(plan_tile(operator, case.job(), *tile, 2) for tile in [(23, 31), (12, 16), (5, 7)])


def test_smaller_tiles_where_memory_is_short(caplog):
    case = small_case()
    plans = fallback_plans(case)
    for plan, warnings in zip(plans, range(3), strict=True):
        caplog.clear()
        device = case.device(warnings, memory=ALIGNMENT + plan.memory)
        with caplog.at_level(logging.WARNING, logger="blurfast"):
            np.testing.assert_array_equal(case.run(device, plans), case.expected())
        assert device.peak == ALIGNMENT + plan.memory
        assert [record.levelname for record in caplog.records] == ["WARNING"] * warnings
        device.assert_nothing_is_left()
    assert "no room for tiles of 12 x 16 pixels, so they are made 5 x 7 pixels large" in caplog.text


def test_no_memory_even_for_the_smallest_tiles():
    case = small_case()
    plans = fallback_plans(case)
    device = case.device(0, memory=ALIGNMENT + plans[-1].memory - 1)
    with pytest.raises(DeviceMemoryError):
        case.run(device, plans)
    device.assert_nothing_is_left()


def test_planned_tiles_run():
    """What the planner returns is what the pipeline takes."""
    case = small_case()
    device = case.device(4)
    operator = case.operator(device)
    with device.activate():
        plans = plan_tiles(operator, case.job(), device.free_memory())
    tiles = DeviceTiles(operator, case.job(), plans)
    np.testing.assert_array_equal(case.filter_with(tiles), case.expected())
    tiles.close()


def test_all_is_given_back_with_the_last_reference():
    case = small_case()
    device = case.device(0)
    operator = case.operator(device)
    tiles = DeviceTiles(operator, case.job(), [case.plan(operator)])
    case.filter_with(tiles)
    assert device.used
    del tiles
    gc.collect()
    assert operator.is_closed
    device.assert_nothing_is_left()


def test_closing_twice_or_unused_is_fine():
    case = small_case()
    device = case.device(0)
    tiles = DeviceTiles(case.operator(device), case.job(), [])
    tiles.close()
    tiles.close()
    device.assert_nothing_is_left()


def test_forked_processes_keep_their_hands_off(monkeypatch):
    case = small_case()
    device = case.device(0)
    operator = case.operator(device)
    tiles = DeviceTiles(operator, case.job(), [case.plan(operator)])
    case.filter_with(tiles)
    calls = len(device.calls)
    monkeypatch.setattr(pipeline.os, "getpid", lambda: -1)
    tiles.close()
    assert len(device.calls) == calls
    assert not operator.is_closed


def test_windows_may_run_in_different_threads():
    case = small_case(window=(8, 31))
    device = case.device(6)
    operator = case.operator(device)
    tiles = DeviceTiles(operator, case.job(), [case.plan(operator)])
    target = np.zeros_like(case.pixels)
    for window in windows_of(23, 31, 8, 31):
        part = target[window.row_start : window.row_stop]
        ((task,),) = tiles.stages(window, case.pixels, 0, lambda rows: rows, part)
        thread = threading.Thread(target=task)
        thread.start()
        thread.join()
    tiles.close()
    np.testing.assert_array_equal(target, case.expected())
    device.assert_nothing_is_left()
