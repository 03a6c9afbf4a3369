"""What the speed of a kernel depends on, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

WARP = 32
"""The threads that execute an instruction together."""

SECTOR = 32
"""The bytes that global memory moves at once."""

BANKS = 32
"""Of shared memory; consecutive words of 4 bytes lie in consecutive banks."""

WORD = 4

WORD_BITS = 17
"""As many as the number of any word of shared memory has."""


def run_starts(values: NDArray[Any]) -> NDArray[np.intp]:
    """Return where the runs of equal values begin."""
    begins = np.empty(values.size, np.bool_)
    begins[0] = True
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return begins.nonzero()[0]


@dataclass
class Traffic:
    """Loads or stores of global memory.

    Parameters
    ----------
    requests
        One for each warp and instruction.
    sectors
        How many different aligned pieces of 32 bytes each request touches, added up.
    bytes
        What the threads asked for, each of them counted.
    """

    requests: int = 0
    sectors: int = 0
    bytes: int = 0

    @property
    def ideal_sectors(self) -> int:
        """How few sectors would do if no two threads asked for the same byte."""
        return -(-self.bytes // SECTOR)

    def add(self, addresses: NDArray[np.int64], size: int, threads: NDArray[np.int32]) -> None:
        """Count one access of `size` bytes by each of these threads, which are in ascending order."""
        warps = threads // WARP
        requests = len(run_starts(warps))
        self.requests += requests
        self.bytes += threads.size * size
        if addresses.size == 1:
            self.sectors += requests
            return
        keys = (warps.astype(np.int64) << 32) + addresses // SECTOR
        if (keys[1:] < keys[:-1]).any():
            keys.sort()
        self.sectors += len(run_starts(keys))


@dataclass
class SharedTraffic:
    """Loads or stores of shared memory.

    Parameters
    ----------
    requests
        One for each warp and instruction.
    wavefronts
        How often the memory must act: as often as the busiest bank has different words to give. Accesses of 8 and 16
        bytes are served for half a warp and a quarter of it at a time.
    ideal_wavefronts
        The same without conflicts.
    """

    requests: int = 0
    wavefronts: int = 0
    ideal_wavefronts: int = 0

    def add(self, addresses: NDArray[np.int64], size: int, threads: NDArray[np.int32]) -> None:
        """Count one access of `size` bytes by each of these threads, which are in ascending order."""
        self.requests += len(run_starts(threads // WARP))
        words_per_thread = max(1, size // WORD)
        groups = threads // (WARP // words_per_thread)
        starts = run_starts(groups)
        self.ideal_wavefronts += starts.size
        self.wavefronts += starts.size
        if addresses.size == 1:
            return
        words = addresses // WORD
        extents = np.maximum.reduceat(words, starts) - np.minimum.reduceat(words, starts) + words_per_thread
        if (extents > BANKS).any():  # all words within as many as there are banks are in different ones
            crowded = np.repeat(extents > BANKS, np.diff(starts, append=groups.size))
            self.wavefronts += _wavefronts_beyond_one(words[crowded], words_per_thread, groups[crowded])


def _wavefronts_beyond_one(words: NDArray[np.int64], per_thread: int, groups: NDArray[np.int32]) -> int:
    """Return how often memory must act for each group of threads, less once for each, added up."""
    words = (words[:, np.newaxis] + np.arange(per_thread)).ravel()
    banks = groups.repeat(per_thread).astype(np.int64) * BANKS + words % BANKS
    different = np.unique((banks << WORD_BITS) + words) >> WORD_BITS
    banks, words_per_bank = np.unique(different, return_counts=True)
    most = np.maximum.reduceat(words_per_bank, run_starts(banks // BANKS))
    return int((most - 1).sum())


@dataclass
class Counters:
    """What one launch did.

    Parameters
    ----------
    threads
        Of the whole grid.
    instructions
        Executed by all threads together, by class: float16, float32, float64 (with conversions from and to it),
        integer, conversion, move, parameter, global, shared, local, generic, warp, barrier, control.
    global_loads, global_stores, shared_loads, shared_stores
        Atomic operations count as stores.
    """

    threads: int = 0
    instructions: Counter[str] = field(default_factory=Counter)
    global_loads: Traffic = field(default_factory=Traffic)
    global_stores: Traffic = field(default_factory=Traffic)
    shared_loads: SharedTraffic = field(default_factory=SharedTraffic)
    shared_stores: SharedTraffic = field(default_factory=SharedTraffic)

    @property
    def double_precision(self) -> int:
        """How many instructions of all threads calculate in double precision."""
        return self.instructions["float64"]

    def per_thread(self, kind: str | None = None) -> float:
        """Return how many instructions, of one class or of all, a thread executed on average."""
        count = self.instructions.total() if kind is None else self.instructions[kind]
        return count / self.threads
