"""One launch, the blocks of it that run at the same time, and those of their threads that execute an instruction."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tests.ptx.checks import Accessors, Races
from tests.ptx.counters import WARP, Counters
from tests.ptx.faults import PtxFault
from tests.ptx.layout import Layout
from tests.ptx.memory import Allocation, Buffer, GlobalMemory
from tests.ptx.scalars import Value
from tests.ptx.syntax import Entry, Instruction

Size = tuple[int, int, int]


class Launch:
    """What all blocks of one launch have in common.

    Parameters
    ----------
    entry, grid, block
        Which kernel, over how many blocks of how many threads along x, y and z.
    parameters
        The bytes of each parameter.
    memory
        The global one.
    shared, local
        Where variables lie.
    dynamic_bytes
        Shared memory beyond what the kernel declares.
    pieces
        The size of the smallest access to each memory.
    """

    def __init__(
        self,
        entry: Entry,
        grid: Size,
        block: Size,
        *,
        parameters: Mapping[str, bytes],
        memory: GlobalMemory,
        shared: Layout,
        local: Layout,
        dynamic_bytes: int,
        pieces: Mapping[str, int],
    ):
        self.entry = entry
        self.grid = grid
        self.block = block
        self.parameters = parameters
        self.memory = memory
        self.shared = shared
        self.local = local
        self.dynamic_bytes = dynamic_bytes
        self.pieces = pieces
        self.counters = Counters(threads=int(np.prod(grid) * np.prod(block)))
        self.steps = 0
        self._clock = itertools.count(1)
        self._races: dict[Allocation, Races] = {}

    @property
    def threads_per_block(self) -> int:
        return int(np.prod(self.block))

    @property
    def padded_threads(self) -> int:
        """The threads of a block, rounded up to whole warps."""
        return -(-self.threads_per_block // WARP) * WARP

    def tick(self) -> int:
        """Return a time later than all before."""
        return next(self._clock)

    def races(self, allocation: Allocation) -> Races:
        """Return what watches an allocation for the whole launch."""
        if allocation not in self._races:
            self._races[allocation] = Races(allocation.size, self.pieces["global"])
        return self._races[allocation]

    def finish(self) -> None:
        """Find out which allocations the kernel has filled."""
        for allocation, races in self._races.items():
            if races.written:
                allocation.notice_completion()

    def name_thread(self, number: int) -> str:
        """Return the block and the thread of a number, in which each block begins at a multiple of a warp."""
        block, thread = divmod(number, self.padded_threads)
        return f"block {coordinates(block, self.grid)}, thread {coordinates(thread, self.block)}"


def coordinates(number: int, size: Size) -> Size:
    """Return the place along x, y and z of what is number `number`."""
    return number % size[0], number // size[0] % size[1], number // (size[0] * size[1])


class Chunk:
    """Consecutive blocks of a launch that run at the same time.

    Parameters
    ----------
    launch
        To which they belong.
    first_block, blocks
        Which blocks.
    """

    def __init__(self, launch: Launch, first_block: int, blocks: int):
        self.launch = launch
        self.first_block = first_block
        self.blocks = blocks
        self.size = blocks * launch.threads_per_block
        indices = np.arange(self.size, dtype=np.int32)
        self.block_indices = indices // launch.threads_per_block
        self.thread_indices = indices % launch.threads_per_block
        self.threads = (first_block + self.block_indices) * launch.padded_threads + self.thread_indices
        self.block_start = np.zeros(self.size, np.int32)
        self.warp_start = np.zeros(self.size, np.int32)
        self.alive = np.ones(self.size, np.bool_)
        self.alive_count = self.size
        self.shared = Buffer(blocks * launch.shared.pitch)
        self.shared_races = Races(self.shared.size, launch.pieces["shared"], private=True)
        self.local = Buffer(self.size * launch.local.pitch)
        self.everyone = Lanes(self, None)

    def lanes(self, parts: Sequence[NDArray[np.intp] | None]) -> Lanes:
        """Return threads that came together from several ways; None stands for all threads."""
        several = [part for part in parts if part is not None]
        if len(several) < len(parts):
            return self.everyone
        indices = several[0] if len(several) == 1 else np.sort(np.concatenate(several))
        return self.everyone if indices.size == self.size else Lanes(self, indices)


class Lanes:
    """The threads of a chunk that execute an instruction.

    Parameters
    ----------
    chunk
        To which they belong.
    indices
        Which of its threads, in ascending order; None for all.
    """

    def __init__(self, chunk: Chunk, indices: NDArray[np.intp] | None):
        self.chunk = chunk
        self.indices = indices
        self.count = chunk.size if indices is None else indices.size

    @property
    def everyone(self) -> bool:
        """Whether no other thread of the chunk is still running."""
        return self.count == self.chunk.alive_count

    @cached_property
    def threads(self) -> NDArray[np.int32]:
        """Numbers in the grid, in which each block begins at a multiple of a warp."""
        return self.select(self.chunk.threads)

    @cached_property
    def blocks(self) -> NDArray[np.int32]:
        """Which block of the chunk each thread belongs to."""
        return self.select(self.chunk.block_indices)

    def positions(self) -> NDArray[np.intp]:
        """Return which of the chunk's threads these are."""
        return np.arange(self.chunk.size) if self.indices is None else self.indices

    def select(self, values: Value) -> Value:
        """Return what these threads have of something that every thread of the chunk has."""
        return values if self.indices is None else values[self.indices]

    def at(self, chosen: NDArray[np.intp]) -> Lanes:
        """Return some of these threads."""
        return Lanes(self.chunk, chosen if self.indices is None else self.indices[chosen])

    def spread(self, value: Value) -> Value:
        """Return a value with one element for each of these threads."""
        return value if value.size == self.count else np.broadcast_to(value, self.count)

    def accessors(self, *, coherent: bool) -> Accessors:
        """Return these threads as those of an access to memory, now."""
        chunk = self.chunk
        return Accessors(
            self.threads,
            self.select(chunk.block_start),
            self.select(chunk.warp_start),
            chunk.launch.padded_threads,
            chunk.launch.tick(),
            coherent,
        )

    def fault(self, kind: type[PtxFault], instruction: Instruction, position: int, text: str) -> PtxFault:
        """Return a fault of the thread at `position` among these."""
        launch = self.chunk.launch
        thread = launch.name_thread(int(self.threads[position]))
        return kind(f"{launch.entry.name}, {instruction}: {thread}: {text}")
