"""Runs a kernel on NumPy arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.ptx.counters import Counters
from tests.ptx.executor import execute
from tests.ptx.memory import GlobalMemory
from tests.ptx.syntax import Entry


class Unwritten(NamedTuple):
    """An array that the kernel has to fill."""

    shape: tuple[int, ...]
    dtype: str = "float32"


class Outcome(NamedTuple):
    """What a kernel left behind: its arrays, in the order of the arguments, and what was counted."""

    arrays: list[NDArray[Any]]
    counters: Counters


def run(
    entry: Entry,
    *arguments: int | float | np.generic | NDArray[Any] | Unwritten,
    grid: tuple[int, ...] = (1,),
    block: tuple[int, ...] = (32,),
    shared_bytes: int = 0,
    step_limit: int = 1_000_000,
) -> Outcome:
    """Run a kernel on copies of arrays, each passed by its address."""
    memory = GlobalMemory()
    places = []
    packed: list[int | float | np.generic] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray | Unwritten):
            dtype = np.dtype(argument.dtype)
            address = memory.allocate(dtype.itemsize * int(np.prod(argument.shape)))
            if isinstance(argument, np.ndarray):
                memory.write(address, argument)
            places.append((address, dtype, argument.shape))
            packed.append(address)
        else:
            packed.append(argument)
    counters = execute(
        entry, memory, grid=grid, block=block, arguments=packed, shared_bytes=shared_bytes, step_limit=step_limit
    )
    return Outcome([memory.read(*place) for place in places], counters)
