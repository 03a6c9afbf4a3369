"""What the machine can do at most: copy memory, and multiply and add."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from blurfast.bench.measure import shortest_seconds
from blurfast.cpu import machine, objects
from blurfast.cpu.catalogue import Kernel

_COPIES = 30
_FMA_RUNS = 30
_FMA_ROUNDS = 300_000
_FMA_ACCUMULATORS = 12
_FMA_OPERANDS = 4
_FLOPS_PER_FMA = 2
_PEAK = Kernel("peak", "multiply_and_add", "float32", "float32")


@dataclass(frozen=True)
class Ceilings:
    """The ceilings of a roofline, in units per second.

    Parameters
    ----------
    threads
        Threads that all but `core_flops` are measured with.
    bytes
        Read and written by ``numpy.copyto`` of a float32 image that no cache holds.
    core_flops
        float32 multiplications and additions of one core, from registers.
    flops
        Those of all threads together.
    """

    threads: int
    bytes: float
    core_flops: float
    flops: float


def measure_ceilings(threads: int, side: int = 4096) -> Ceilings:
    """Measure the ceilings with so many threads, in about a second; the copied image has `side` rows and columns."""
    return Ceilings(threads, copying_bytes(threads, side), fma_flops(1), fma_flops(threads))


def copying_bytes(threads: int, side: int) -> float:
    """Return the bytes per second that a copy reads and writes, each thread copying its part."""
    source = np.ones((side, side), dtype=np.float32)
    target = np.zeros_like(source)  # written once already, so that the system has given it memory
    parts = zip(np.array_split(target, threads), np.array_split(source, threads), strict=True)
    copies = [functools.partial(np.copyto, *part) for part in parts]
    return (source.nbytes + target.nbytes) / _shortest_in_threads(copies, _COPIES)


def fma_flops(threads: int) -> float:
    """Return the float32 operations per second of so many threads that only multiply and add."""
    (kernel,) = objects.load([_PEAK])
    lanes = machine.vector_bits() // 32
    factors = np.array([0.5, 1.0], dtype=np.float32)
    sums = [np.ones(_FMA_OPERANDS * lanes, dtype=np.float32) for _ in range(threads)]
    loops = [functools.partial(kernel, factors.ctypes.data, own.ctypes.data, _FMA_ROUNDS) for own in sums]
    flops = threads * _FMA_ROUNDS * _FMA_ACCUMULATORS * lanes * _FLOPS_PER_FMA
    return flops / _shortest_in_threads(loops, _FMA_RUNS)


def _shortest_in_threads(tasks: Sequence[Callable[[], object]], repeats: int) -> float:
    """Return the shortest time in which all tasks, each in a thread of its own, have been done."""
    with ThreadPoolExecutor(len(tasks)) as pool:

        def run() -> None:
            for future in [pool.submit(task) for task in tasks]:
                future.result()

        return shortest_seconds(run, repeats)
