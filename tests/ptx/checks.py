"""Races: accesses of different threads to the same bytes that nothing brings into an order.

For every piece of memory a `Footprint` knows when it was last accessed, and by whom: one thread, several of one warp,
of one block, or of several blocks. A barrier of a block orders what its threads did before against what they do after;
a barrier of a warp does so within the warp; nothing orders different blocks of one launch. So all that a footprint must
remember is the latest access, and how far apart the threads are that are not ordered before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.ptx.counters import WARP

ONE, IN_WARP, IN_BLOCK, IN_GRID = range(4)
"""How far apart two threads are, or all those that a footprint stands for."""


READS_KEPT = 1 << 21
"""Pieces of memory that were read and are not yet recorded, at most."""


class Kind(Enum):
    """How memory is accessed."""

    READ = "read"
    WRITE = "written"
    ATOMIC = "updated"


CONFLICTS = {
    Kind.READ: (Kind.WRITE, Kind.ATOMIC),
    Kind.WRITE: (Kind.WRITE, Kind.READ, Kind.ATOMIC),
    Kind.ATOMIC: (Kind.WRITE, Kind.READ),
}
"""Which accesses by others are not allowed beside one."""


@dataclass(frozen=True)
class Accessors:
    """The threads of one access, and what barriers they have passed.

    Parameters
    ----------
    threads
        Numbers in the grid, in which each block begins at a multiple of a warp.
    block_start, warp_start
        The time when each thread's block, and its warp, last passed a barrier.
    threads_per_block
        Rounded up to whole warps.
    time
        Of this access.
    coherent
        False for reads through the cache for constant data, for which no barrier puts anything in order.
    """

    threads: NDArray[np.int32]
    block_start: NDArray[np.int32]
    warp_start: NDArray[np.int32]
    threads_per_block: int
    time: int
    coherent: bool = True

    def distance(self, others: NDArray[np.int32]) -> NDArray[np.int8]:
        """Return how far each thread is from another one."""
        if not self.coherent:
            return np.full(self.threads.size, IN_GRID, np.int8)
        distance = (self.threads != others).astype(np.int8)
        distance += self.threads // WARP != others // WARP
        distance += self.threads // self.threads_per_block != others // self.threads_per_block
        return distance

    def repeated(self, count: int) -> Accessors:
        """Return the same for accesses to `count` pieces of memory each."""
        if count == 1:
            return self
        arrays = {name: getattr(self, name).repeat(count) for name in ("threads", "block_start", "warp_start")}
        return replace(self, **arrays)


class Conflict(NamedTuple):
    """Which of the accessing threads is in conflict, with what access by whom."""

    position: int
    kind: Kind
    other: int


class Footprint:
    """Who accessed each of `count` pieces of memory in one way."""

    def __init__(self, count: int):
        self.latest = 0
        self._time = np.zeros(count, np.int32)
        self._thread = np.zeros(count, np.int32)
        self._span = np.zeros(count, np.int8)

    def unordered(self, pieces: NDArray[np.int64], accessors: Accessors) -> NDArray[np.int8] | None:
        """Return the distance to earlier accesses that are not ordered before these, `ONE` where there are none."""
        time = self._time[pieces]
        if not time.any():
            return None
        distance = np.maximum(self._span[pieces], accessors.distance(self._thread[pieces]))
        start = np.where(distance == IN_WARP, accessors.warp_start, accessors.block_start)
        distance[(time == 0) | ((time < start) & (distance < IN_GRID))] = ONE
        return distance

    def record(self, pieces: NDArray[np.int64], accessors: Accessors) -> NDArray[np.int8]:
        """Remember accesses; return the distance to all that they are not ordered with, also to one another."""
        earlier = self.unordered(pieces, accessors) if self.latest else None
        self.latest = accessors.time
        self._time[pieces] = accessors.time
        # Of several threads at one piece, the last remains and stands for all of them.
        self._thread[pieces] = accessors.threads
        distance = accessors.distance(self._thread[pieces])
        if earlier is not None:
            np.maximum(distance, earlier, out=distance)
        self._span[pieces] = ONE
        for span in range(IN_WARP, int(distance.max(initial=ONE)) + 1):
            self._span[pieces[distance == span]] = span
        return distance

    def thread(self, piece: int) -> int:
        """Return the thread that stands for all those that accessed a piece."""
        return int(self._thread[piece])


class Races:
    """Watches one allocation, or the shared memory of some blocks, for one launch.

    Parameters
    ----------
    size
        In bytes.
    piece
        No access is smaller than this many bytes, so that every access is one of whole pieces.
    private
        Whether every piece belongs to one block.
    """

    def __init__(self, size: int, piece: int, *, private: bool = False):
        self._count = -(-size // piece)
        self._piece = piece
        self._private = private
        self._footprints: dict[Kind, Footprint] = {}
        self._reads: list[tuple[NDArray[np.int64], Accessors]] = []
        """Which matter only if somebody writes before a barrier, and are not looked at until then."""
        self._pieces_read = 0

    @property
    def written(self) -> bool:
        """Whether there was any access but reads."""
        return not self._footprints.keys() <= {Kind.READ}

    def pass_barrier(self) -> None:
        """Forget what is ordered before all that follows: every running thread has passed a barrier of its block."""
        self._reads.clear()
        self._pieces_read = 0

    def access(self, kind: Kind, offsets: NDArray[np.int64], size: int, accessors: Accessors) -> Conflict | None:
        """Remember accesses of `size` bytes; return the first conflict with others, if there is any."""
        per_access = size // self._piece
        pieces = offsets // self._piece
        if per_access > 1:
            pieces = (pieces[:, np.newaxis] + np.arange(per_access)).ravel()
        accessors = accessors.repeated(per_access)
        if kind is not Kind.READ:
            self._record_reads()
        oldest = int(accessors.block_start.min()) if self._private else 0
        for other in CONFLICTS[kind]:
            footprint = self._footprints.get(other)
            if footprint is None or footprint.latest < oldest:
                continue  # all that it knows lies before the barriers that these threads have passed
            distance = footprint.unordered(pieces, accessors)
            if distance is not None and distance.any():
                return self._conflict(other, footprint, pieces, distance, per_access)
        if kind is Kind.READ:
            self._reads.append((pieces, accessors))
            self._pieces_read += pieces.size
            if self._pieces_read > READS_KEPT:
                self._record_reads()
            return None
        own = self._footprint(kind)
        distance = own.record(pieces, accessors)
        if kind is Kind.WRITE and distance.any():
            return self._conflict(kind, own, pieces, distance, per_access)
        return None

    def _record_reads(self) -> None:
        for pieces, accessors in self._reads:
            self._footprint(Kind.READ).record(pieces, accessors)
        self._reads.clear()
        self._pieces_read = 0

    def _footprint(self, kind: Kind) -> Footprint:
        if kind not in self._footprints:
            self._footprints[kind] = Footprint(self._count)
        return self._footprints[kind]

    @staticmethod
    def _conflict(
        kind: Kind, footprint: Footprint, pieces: NDArray[np.int64], distance: NDArray[np.int8], per_access: int
    ) -> Conflict:
        first = int(np.flatnonzero(distance)[0])
        return Conflict(first // per_access, kind, footprint.thread(int(pieces[first])))
