"""The registers that the machine sets: who a thread is, and how many there are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.ptx.counters import WARP
from tests.ptx.launch import Chunk, coordinates
from tests.ptx.scalars import Value


def value(name: str, chunk: Chunk) -> Value:
    """Return what a special register holds in each thread."""
    return np.asarray(_VALUES[name](chunk)).astype(np.uint32).reshape(-1)


def _axis_values(number: int) -> dict[str, Callable[[Chunk], Value | int]]:
    axis = "xyz"[number]
    return {
        f"%tid.{axis}": lambda chunk: coordinates(chunk.thread_indices, chunk.launch.block)[number],
        f"%ctaid.{axis}": lambda chunk: coordinates(chunk.first_block + chunk.block_indices, chunk.launch.grid)[number],
        f"%ntid.{axis}": lambda chunk: chunk.launch.block[number],
        f"%nctaid.{axis}": lambda chunk: chunk.launch.grid[number],
    }


_VALUES: dict[str, Callable[[Chunk], Value | int]] = {
    **_axis_values(0),
    **_axis_values(1),
    **_axis_values(2),
    "%laneid": lambda chunk: chunk.thread_indices % WARP,
    "%dynamic_smem_size": lambda chunk: chunk.launch.dynamic_bytes,
}

NAMES = frozenset(_VALUES)
