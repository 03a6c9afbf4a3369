"""Images to be filtered on a fake device, and an operator to filter them with.

The operator is a small filter in NumPy whose taps are integers, so that its sums are exact. What it reads and writes
are the real buffers of the pipeline.
"""

from __future__ import annotations

import dataclasses
import functools
import random

import numpy as np

from blurfast.boundary import MODES, OUTSIDE
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import Launch
from blurfast.cuda.memory import DeviceJob, plan_tile
from blurfast.cuda.pipeline import DeviceTiles
from blurfast.pixels import Window
from tests import naive
from tests.queue_device import QueueDevice, Violation

SEEDS = 200
CVAL = 11.0


# ---------------------------------------------------------------------------------------------------- the operator


def kernel(function: str, dtype: np.dtype) -> Kernel:
    return Kernel("weighted", function, dtype.name, dtype.name, "float64")


class WeightedOperator:
    """Correlates with a column of taps and then with a row of them, in two kernels that share scratch memory.

    With a `grid`, it asks for whole multiples of so many rows and columns, as an operator does that keeps few samples.
    """

    def __init__(self, device, vertical, horizontal, dtype, channels, grid=1):
        self.device = device
        self.dtype, self.channels, self.grid = np.dtype(dtype), channels, grid
        self.taps = [np.asarray(taps, dtype=np.float64) for taps in (vertical, horizontal)]
        self.is_closed = False
        with device.activate():
            self._memory = device.allocate(sum(taps.nbytes for taps in self.taps))
        np.concatenate(self.taps, out=device.array(self._memory, sum(taps.size for taps in self.taps), np.float64))

    def _span(self, axis, start, stop):
        halo = self.taps[axis].size // 2
        return (start - halo) // self.grid * self.grid, -(-(stop + halo) // self.grid) * self.grid

    def row_span(self, start, stop):
        return self._span(0, start, stop)

    def column_span(self, start, stop):
        return self._span(1, start, stop)

    def scratch_bytes(self, rows, columns):
        padded_columns = columns + self.taps[1].size + 2 * self.grid
        return 8 * rows * padded_columns * self.channels if self.taps[0].size > 1 or self.taps[1].size > 1 else 0

    def enqueue(self, source, target, position, scratch, stream):
        row_offset = position[0] - self.taps[0].size // 2 - self.row_span(position[0], position[0] + target.rows)[0]
        column_span = self.column_span(position[1], position[1] + target.columns)
        column_offset = position[1] - self.taps[1].size // 2 - column_span[0]
        assert source.rows == np.ptp(self.row_span(position[0], position[0] + target.rows))
        assert source.columns == np.ptp(column_span)
        if not scratch:
            self._launch("copy", stream, source, target, row_offset, column_offset)
            return
        self._launch("down", stream, source, target.rows, self._memory, self.taps[0].size, row_offset, scratch)
        taps = self._memory + self.taps[0].nbytes, self.taps[1].size
        self._launch("along", stream, scratch, source.columns, column_offset, *taps, target)

    def _launch(self, function, stream, *arguments):
        flat = []
        for argument in arguments:
            flat += flatten(argument) if isinstance(argument, tuple) else [argument]
        self.device.launch(Launch(kernel(function, self.dtype), (1, 1, 1), (32, 1, 1), flat), stream)

    def close(self):
        assert not self.is_closed
        self.is_closed = True
        self.device.release(self._memory)


def flatten(argument):
    """Spell an image or a padded source out as numbers, without the dtype."""
    numbers = []
    for value in argument:
        if isinstance(value, tuple):
            numbers += flatten(value)
        elif not isinstance(value, np.dtype):
            numbers.append(value)
    return numbers


def read_padded(device, dtype, image, maps):
    """Gather the padded pixels, as kernels do: (rows, columns, channels) in float64."""
    address, pitch, rows, columns, channels = image
    row_map, column_map, padded_rows, padded_columns = maps
    row_places = device.array(row_map, padded_rows, np.int32)
    column_places = device.array(column_map, padded_columns, np.int32)
    padded = np.full((padded_rows, padded_columns, channels), CVAL)
    if rows and columns:
        pixels = device.array(address, rows * pitch, dtype).reshape(rows, pitch)[:, : columns * channels]
        pixels = pixels.reshape(rows, columns, channels)
        for places, length in ((row_places, rows), (column_places, columns)):
            if places.min() < OUTSIDE or places.max() >= length:
                raise Violation(f"a map leads to {places.min()} to {places.max()} of {length} positions")
        inside = np.ix_(row_places != OUTSIDE, column_places != OUTSIDE)
        padded[inside] = pixels[row_places[row_places != OUTSIDE]][:, column_places[column_places != OUTSIDE]]
    else:
        assert (row_places == OUTSIDE).all() or (column_places == OUTSIDE).all()
    return padded


def write(device, dtype, image, values):
    address, pitch, rows, columns, channels = image
    memory = device.array(address, rows * pitch, dtype).reshape(rows, pitch)
    if dtype.kind != "f":
        limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        values = np.clip(np.rint(values), *limits)
    memory[:, : columns * channels] = values.astype(dtype).reshape(rows, columns * channels)


def run_copy(dtype, device, *numbers):
    image, maps, target, (row_offset, column_offset) = numbers[:5], numbers[5:9], numbers[9:14], numbers[14:]
    _, _, rows, columns, _ = target
    padded = read_padded(device, dtype, image, maps)
    write(device, dtype, target, padded[row_offset : row_offset + rows, column_offset : column_offset + columns])


def run_down(dtype, device, *numbers):
    image, maps, (rows, taps, count, row_offset, scratch) = numbers[:5], numbers[5:9], numbers[9:]
    padded = read_padded(device, dtype, image, maps)
    done = device.array(scratch, rows * padded[0].size, np.float64).reshape(rows, *padded.shape[1:])
    done[:] = 0
    for offset, weight in enumerate(device.array(taps, count, np.float64)):
        done += weight * padded[row_offset + offset : row_offset + offset + rows]


def run_along(dtype, device, scratch, padded_columns, column_offset, taps, count, *target):
    _, _, rows, columns, channels = target
    panel = device.array(scratch, rows * padded_columns * channels, np.float64)
    panel = panel.reshape(rows, padded_columns, channels)
    done = np.zeros((rows, columns, channels))
    for offset, weight in enumerate(device.array(taps, count, np.float64)):
        done += weight * panel[:, column_offset + offset : column_offset + offset + columns]
    write(device, dtype, target, done)


def kernels(dtype):
    dtype = np.dtype(dtype)
    functions = {"copy": run_copy, "down": run_down, "along": run_along}
    return {kernel(name, dtype): functools.partial(function, dtype) for name, function in functions.items()}


# ---------------------------------------------------------------------------------------------------------- cases


def noise(height, width, channels, dtype, seed=0):
    generator = np.random.default_rng([seed, height, width])
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return generator.integers(-1000, 1000, (height, width, channels)).astype(dtype)
    highest = 1 if dtype.kind == "b" else np.iinfo(dtype).max
    return generator.integers(0, highest, (height, width, channels), endpoint=True).astype(dtype)


def whole_taps(count, seed):
    """Return an odd number of integer taps that are not symmetric, so that sums are exact; a single one is 1."""
    if count == 1:
        return np.ones(1)
    return np.random.default_rng([seed, count]).integers(-2, 4, count).astype(np.float64)


def expected_of(pixels, vertical, horizontal, mode):
    result = np.empty_like(pixels)
    for channel in range(pixels.shape[2]):
        exact = naive.correlate(pixels[..., channel].astype(np.float64), vertical, horizontal, mode, CVAL)
        result[..., channel] = naive.as_pixels(exact, pixels.dtype)
    return result


def windows_of(height, width, rows, columns):
    return [
        Window(row, min(row + rows, height), column, min(column + columns, width))
        for row in range(0, height, rows)
        for column in range(0, width, columns)
    ]


def calls_of(case):
    device = case.device(0)
    case.run(device)
    return device.calls


@dataclasses.dataclass
class Case:
    """An image, a filter, and the sizes of everything."""

    pixels: np.ndarray
    vertical: np.ndarray
    horizontal: np.ndarray
    mode: str
    tile: tuple[int, int]
    window: tuple[int, int] | None = None
    depth: int = 2
    grid: int = 1

    def job(self):
        height, width, channels = self.pixels.shape
        window = self.window or (height, width)
        return DeviceJob(height, width, channels, self.pixels.dtype, self.pixels.dtype, self.mode, window)

    def plan(self, operator):
        return plan_tile(operator, self.job(), *self.tile, self.depth)

    def device(self, seed, **options):
        return QueueDevice(seed, kernels=kernels(self.pixels.dtype), **options)

    def operator(self, device):
        channels = self.pixels.shape[2]
        return WeightedOperator(device, self.vertical, self.horizontal, self.pixels.dtype, channels, self.grid)

    def expected(self):
        return expected_of(self.pixels, self.vertical, self.horizontal, self.mode)

    def run(self, device, plans=None):
        """Filter all windows, and give all back in any case."""
        operator = self.operator(device)
        tiles = DeviceTiles(operator, self.job(), plans or [self.plan(operator)])
        try:
            return self.filter_with(tiles)
        finally:
            tiles.close()

    def filter_with(self, tiles):
        height, width, _ = self.pixels.shape
        target = np.zeros_like(self.pixels)
        for window in windows_of(height, width, *self.job().window):
            part = target[window.row_start : window.row_stop, window.column_start : window.column_stop]
            for tasks in tiles.stages(window, self.pixels, 0, lambda rows: rows, part):
                for task in tasks:
                    task()
        return target


def small_case(**changes):
    """Return a case of 12 tiles, for tests that try much with one."""
    pixels = noise(23, 31, 1, "uint8")
    return dataclasses.replace(Case(pixels, whole_taps(3, 1), whole_taps(5, 2), "reflect", (8, 9)), **changes)


def random_case(seed):
    chosen = random.Random(seed)
    height, width = chosen.randint(1, 40), chosen.randint(1, 40)
    pixels = noise(height, width, chosen.choice([1, 3]), chosen.choice(["uint8", "int16", "float32", "bool"]), seed)
    taps = [whole_taps(2 * chosen.choice([0, 1, 2, 7, 50]) + 1, seed + axis) for axis in range(2)]
    window = 2 * chosen.randint(1, 20), 2 * chosen.randint(1, 20)
    tile = chosen.randint(3, window[0] + 2), chosen.randint(3, window[1] + 2)
    mode, depth, grid = chosen.choice(MODES), chosen.choice([1, 2, 2, 3]), chosen.choice([1, 1, 4, 16])
    return Case(pixels, *taps, mode, tile, window, depth, grid)
