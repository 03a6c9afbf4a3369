"""How close the FIR loops come to the processor's peak, on one tile in the cache and in one thread.

Each pass is measured twice. The *kernel* is what an image is filtered with: it also packs rows, transposes, and turns
sums into pixels. The *loop* is the same code that the kernel runs over its taps, and nothing else. Operations are
counted as a filter needs them, two for each tap and result; the subtraction of the reference comes on top.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import blurfast
from benchmarks import loop_kernels
from blurfast.bench.measure import shortest_seconds
from blurfast.cpu.panels import aligned_zeros
from blurfast.cpu.separable import TILE_ROWS, Geometry, SeparableOperator, Workspace, odd_pitch
from blurfast.weights import Resampler, Taps

SIGMAS = (2.0, 5.0, 10.0)

_TILE_COLUMNS = 512
_RUNS = 200
_LOOP_REPEATS = 50
_FLOPS_PER_TAP = 2
_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class InnerLoop:
    """What one pass over a float32 tile reaches.

    Parameters
    ----------
    sigma
        Of the Gaussian, with blurfast's default accuracy.
    direction
        Of the pass.
    kernel
        The kernel that blurfast chooses for it.
    taps
        Of the filter.
    kernel_flops, loop_flops
        Operations per second of the whole kernel, without the call from Python, and of its loop.
    """

    sigma: float
    direction: Literal["vertical", "horizontal"]
    kernel: str
    taps: int
    kernel_flops: float
    loop_flops: float


class _RecordedKernel:
    """Stands in for a kernel: calls it, and remembers the call, so that it can be made again."""

    def __init__(self, kernel: Callable[..., None]) -> None:
        self._kernel = kernel
        self._arguments: tuple[int, ...] = ()

    def __call__(self, *arguments: int) -> None:
        self._arguments = arguments
        self._kernel(*arguments)

    def seconds(self) -> float:
        """Return how long the recorded call takes, less what any call from Python takes."""
        run = functools.partial(self._kernel, *self._arguments)
        return shortest_seconds(run, _RUNS) - _call_seconds(len(self._arguments))


def measure_inner_loops() -> list[InnerLoop]:
    """Measure both passes at every sigma."""
    return [inner_loop for sigma in SIGMAS for inner_loop in _measure_passes(sigma)]


def _measure_passes(sigma: float) -> list[InnerLoop]:
    taps = blurfast.Gaussian(sigma).taps(_FLOAT32)[0]
    geometry = Geometry(Resampler.filter(taps), Resampler.filter(taps), 1, _FLOAT32.itemsize)
    results = TILE_ROWS * _TILE_COLUMNS
    padded_results = TILE_ROWS * (_TILE_COLUMNS + taps.size - 1)  # the second pass needs a halo from the first
    vertical_seconds, horizontal_seconds = _kernel_seconds(geometry)
    vertical, horizontal = geometry.kernels(_FLOAT32, _FLOAT32)
    per_result = _FLOPS_PER_TAP * taps.size
    horizontal_loop = _along_rows_flops if geometry.is_along_rows else _across_columns_flops
    return [
        InnerLoop(
            sigma,
            "vertical",
            vertical.function,
            taps.size,
            padded_results * per_result / vertical_seconds,
            _across_rows_flops(geometry, taps),
        ),
        InnerLoop(
            sigma,
            "horizontal",
            horizontal.function,
            taps.size,
            results * per_result / horizontal_seconds,
            horizontal_loop(geometry, taps),
        ),
    ]


def _kernel_seconds(geometry: Geometry) -> tuple[float, float]:
    """Return the times of the vertical and the horizontal kernel for a tile that lies inside an image."""
    operator = SeparableOperator(
        geometry.vertical,
        geometry.horizontal,
        pixel_dtype=_FLOAT32,
        target_dtype=_FLOAT32,
        sums=_FLOAT32,
        channels=1,
    )
    # The operator puts the arguments together, so that they are the ones of every other run.
    vertical = operator._vertical_kernel = _RecordedKernel(operator._vertical_kernel)
    horizontal = operator._horizontal_kernel = _RecordedKernel(operator._horizontal_kernel)
    halo = geometry.vertical.tap_count // 2
    start = halo + halo % 2
    height, width = TILE_ROWS + 2 * start, _TILE_COLUMNS + 2 * start
    image = np.random.default_rng(0).random((height, width, 1), dtype=np.float32)
    target = np.empty((TILE_ROWS, _TILE_COLUMNS, 1), dtype=np.float32)
    row_map = operator.row_map(start, start + TILE_ROWS, height)
    columns = operator.plan_columns(start, start + _TILE_COLUMNS, width)
    workspace = Workspace(geometry, _TILE_COLUMNS)
    operator(image, row_map, start, columns, 0, target, workspace)
    return vertical.seconds(), horizontal.seconds()


@functools.cache
def _call_seconds(argument_count: int) -> float:
    """Return what calling any kernel with so many arguments takes."""
    call = loop_kernels.compiled(loop_kernels.do_nothing, argument_count)
    return shortest_seconds(functools.partial(call, *[1 << 46] * argument_count), _RUNS)


def _across_rows_flops(geometry: Geometry, taps: Taps) -> float:
    """Measure the vertical loop on one packed panel."""
    return _loop_flops(
        loop_kernels.across_lines,
        taps,
        line_count=TILE_ROWS + taps.size - 1,
        pitch=geometry.panel_pitch,
        results=(TILE_ROWS, geometry.panel_width),
    )


def _across_columns_flops(geometry: Geometry, taps: Taps) -> float:
    """Measure the horizontal loop on transposed columns, one chunk of them."""
    return _loop_flops(
        loop_kernels.across_lines,
        taps,
        line_count=geometry.chunk_pixels + taps.size - 1,
        pitch=geometry.column_pitch,
        results=(geometry.chunk_pixels, TILE_ROWS),
    )


def _along_rows_flops(geometry: Geometry, taps: Taps) -> float:
    """Measure the horizontal loop on rows."""
    return _loop_flops(
        loop_kernels.along_lines,
        taps,
        line_count=TILE_ROWS,
        pitch=odd_pitch(_TILE_COLUMNS + taps.size - 1, geometry.itemsize),
        results=(TILE_ROWS, _TILE_COLUMNS),
    )


def _loop_flops(
    loop: Callable[..., None], taps: Taps, *, line_count: int, pitch: int, results: tuple[int, int]
) -> float:
    """Return the operations per second of a loop that turns `line_count` lines into `results`, lines x samples."""
    random = np.random.default_rng(0)
    lines = _like_workspace(random.random((line_count, pitch), dtype=np.float32))
    target = _like_workspace(np.zeros((results[0], odd_pitch(results[1], _FLOAT32.itemsize)), dtype=np.float32))
    weights, gain = taps.astype(np.float32), np.ones(1, dtype=np.float32)
    run = functools.partial(
        loop_kernels.compiled(loop),
        lines.ctypes.data,
        pitch,
        results[1],
        weights.ctypes.data,
        taps.size,
        taps.size // 2,
        gain.ctypes.data,
        target.ctypes.data,
        target.shape[1],
        results[0],
        _LOOP_REPEATS,
    )
    return _LOOP_REPEATS * results[0] * results[1] * _FLOPS_PER_TAP * taps.size / shortest_seconds(run, _RUNS)


def _like_workspace(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy at a multiple of a cache line, as all scratch memory of the kernels is."""
    aligned = aligned_zeros(array.shape, array.dtype)
    aligned[...] = array
    return aligned
