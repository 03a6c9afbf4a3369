"""Threads that wait for the others of their warp or block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tests.ptx.counters import WARP, run_starts
from tests.ptx.decoder import Block, End
from tests.ptx.faults import BarrierDivergence, PtxFault
from tests.ptx.launch import Chunk, Lanes

NOWHERE = -1
"""Where a thread waits that does not."""

WARP_LEVEL = (End.WARP_MEETING, End.WARP_BARRIER)


def _with(times: NDArray[np.int32], indices: NDArray[np.intp], time: int) -> NDArray[np.int32]:
    """Return times of which some are new, and leave those alone that earlier accesses refer to."""
    times = times.copy()
    times[indices] = time
    return times


class Waiting:
    """The threads of a chunk that wait, and where.

    Parameters
    ----------
    chunk
        Whose threads they are.
    blocks
        The code; places are numbers of blocks that end with a barrier.
    """

    def __init__(self, chunk: Chunk, blocks: Sequence[Block]):
        self._chunk = chunk
        self._blocks = blocks
        self._places = np.full(chunk.size, NOWHERE)
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, place: int, lanes: Lanes) -> None:
        """Let threads wait."""
        self._places[lanes.positions()] = place
        self._count += lanes.count

    def release(self) -> Iterator[tuple[int, NDArray[np.intp] | None]]:
        """Yield the places and threads that may go on, when every thread that has not returned waits.

        Raises
        ------
        BarrierDivergence
            Somebody waits for a thread that will not come.
        """
        of_warps = self._complete_warps()
        chosen = np.flatnonzero(of_warps if of_warps.any() else self._complete_blocks())
        places = self._places[chosen]
        for place in np.unique(places):
            indices = chosen[places == place]
            self._pass(self._blocks[place].end, indices)
            yield int(place), None if indices.size == self._chunk.size else indices

    def _pass(self, end: End, indices: NDArray[np.intp]) -> None:
        chunk = self._chunk
        self._places[indices] = NOWHERE
        self._count -= indices.size
        if end is End.WARP_MEETING:
            return
        time = chunk.launch.tick()
        chunk.warp_start = _with(chunk.warp_start, indices, time)
        if end is End.BLOCK_BARRIER:
            chunk.block_start = _with(chunk.block_start, indices, time)
            if indices.size == chunk.alive_count:
                chunk.shared_races.pass_barrier()

    def _complete_warps(self) -> NDArray[np.bool_]:
        """Return which threads wait for their warp; those that have returned are not waited for."""
        starts = run_starts(self._chunk.threads // WARP)
        sizes = np.diff(starts, append=self._chunk.size)
        last = np.maximum.reduceat(self._places, starts)
        first = np.minimum.reduceat(np.where(self._chunk.alive, self._places, len(self._blocks)), starts)
        apart = np.repeat((last != NOWHERE) & (first != last), sizes) & self._chunk.alive
        if apart.any():
            raise self._divergence(int(np.flatnonzero(apart)[0]), np.flatnonzero(apart))
        waiting_here = np.array([block.end in WARP_LEVEL for block in self._blocks])[last] & (last != NOWHERE)
        return np.repeat(waiting_here, sizes) & self._chunk.alive

    def _complete_blocks(self) -> NDArray[np.bool_]:
        """Return which threads wait for their block, all threads of which must come."""
        places = self._places.reshape(self._chunk.blocks, -1)
        waits = places.max(axis=1) != NOWHERE
        apart = waits & (places.min(axis=1) != places.max(axis=1))
        if apart.any():
            block = int(np.flatnonzero(apart)[0])
            size = places.shape[1]
            members = np.arange(block * size, (block + 1) * size)
            raise self._divergence(int(members[places[block] != NOWHERE][0]), members)
        return np.repeat(waits, places.shape[1])

    def _divergence(self, waiting: int, members: NDArray[np.intp]) -> PtxFault:
        """Return the fault of a thread that waits for one of `members` who is not at the same place."""
        chunk = self._chunk
        missing = int(members[self._places[members] != self._places[waiting]][0])
        name = chunk.launch.name_thread(int(chunk.threads[missing]))
        place = int(self._places[missing])
        what = "has returned" if place == NOWHERE else f"waits at {self._blocks[place].instruction}"
        instruction = self._blocks[int(self._places[waiting])].instruction
        return chunk.everyone.fault(BarrierDivergence, instruction, waiting, f"waits, but {name} {what}")
