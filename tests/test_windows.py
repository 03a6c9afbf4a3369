"""The part of a source that is in memory: every row and column that a window depends on is there, and is right."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blurfast.boundary import MODES, OUTSIDE, index_map
from blurfast.filters import Gaussian
from blurfast.io.base import Grain, ImageSpec
from blurfast.pixels import Window
from blurfast.planning import Bands, plan_stream
from blurfast.resources import Resources
from blurfast.windows import Blocks, RowRing, open_store


class Positions:
    """A source whose every pixel holds its own row and column, and that runs its tasks late and in reverse."""

    def __init__(self, height: int, width: int, grain: Grain) -> None:
        self.images = [ImageSpec(height, width, 2, np.dtype("float32"), grain)]
        self.windows: list[Window] = []

    def read_tasks(self, image, window, target):
        self.windows.append(window)
        assert target.shape == (window.rows, window.columns, 2)
        return [lambda: self._fill(window, target)]

    def _fill(self, window, target):
        target[:, :, 0] = np.arange(window.row_start, window.row_stop)[:, np.newaxis]
        target[:, :, 1] = np.arange(window.column_start, window.column_stop)

    def close(self):
        pass


def plan_of(source, sigma, mode, bands):
    image = source.images[0]
    plan = plan_stream(Gaussian(sigma, truncate=4), image, image, Resources(1, 10**12), 0, mode=mode)
    return dataclasses.replace(plan, bands=bands)


def ring_rows(height: int, rows: int, halo: int, grain: int) -> int:
    return -(-min(2 * rows + 2 * halo + grain, height) // grain) * grain


def walk(store, plan):
    """Yield each window once it may be computed: the next one is being read meanwhile, as the engine does it."""
    windows = list(plan.windows())
    for task in store.read_tasks(windows[0]):
        task()
    for index, window in enumerate(windows):
        if index + 1 < len(windows):
            for task in reversed(store.read_tasks(windows[index + 1])):
                task()
        yield window


def assert_rows_are_there(store, plan, window):
    height, halo = plan.image.height, plan.halo[0]
    row_map = index_map(window.row_start - halo, window.row_stop + halo + window.rows % 2, height, plan.mode)
    slots = store.rows(window, row_map)
    pixels, first_column = store.pixels(window)
    np.testing.assert_array_equal(slots == OUTSIDE, row_map == OUTSIDE)
    inside = row_map != OUTSIDE
    column = window.column_start - first_column
    np.testing.assert_array_equal(pixels[slots[inside], column, 0], row_map[inside])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grain", [1, 7, 16, 64])
@pytest.mark.parametrize("sigma", [0, 0.6, 5.0, 40.0, 300.0])
def test_ring_holds_the_rows_of_every_window(sigma, grain, mode):
    for height, rows in ((1, 2), (63, 2), (301, 14), (300, 64), (129, 128)):
        source = Positions(height, 3, Grain(grain, 3))
        plan = plan_of(source, sigma, mode, None)
        plan = dataclasses.replace(plan, bands=Bands(rows, 3, ring_rows(height, rows, plan.halo[0], grain)))
        store = open_store(plan, source, 0)
        assert isinstance(store, RowRing)
        for window in walk(store, plan):
            assert_rows_are_there(store, plan, window)
        assert all(window.rows > 0 for window in source.windows), "nothing is to be read"
        if mode != "wrap":
            assert sorted(row for window in source.windows for row in range(*window[:2])) == list(range(height))


@given(
    shape=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    sigma=st.tuples(st.floats(0.1, 20), st.floats(0.1, 20)),
    mode=st.sampled_from([mode for mode in MODES if mode != "wrap"]),
    grain=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    window=st.tuples(st.integers(1, 50), st.integers(1, 50)),
)
def test_blocks_hold_what_every_window_depends_on(shape, sigma, mode, grain, window):
    source = Positions(*shape, Grain(*grain))
    plan = plan_of(source, sigma, mode, Bands(2 * window[0], 2 * window[1], 0))
    store = open_store(plan, source, 0)
    assert isinstance(store, Blocks)
    for current in walk(store, plan):
        assert_rows_are_there(store, plan, current)
        pixels, first_column = store.pixels(current)
        halo = plan.halo[1]
        stop = current.column_stop + halo + current.columns % 2
        columns = index_map(current.column_start - halo, stop, shape[1], mode)
        inside = columns[columns != OUTSIDE]
        np.testing.assert_array_equal(pixels[0, inside - first_column, 1], inside)
    for current, read in zip(plan.windows(), source.windows, strict=True):
        assert read.rows <= current.rows + 2 * (plan.halo[0] + 1)
        assert read.columns <= current.columns + 2 * (plan.halo[1] + 1)
