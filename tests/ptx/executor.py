"""Runs a kernel over a grid: threads that are at the same place of the code go on together.

Of all places where threads are, the first in the text is executed next, so that those which went round by a branch or
another turn of a loop catch up with the others. Threads that wait at a barrier are left alone until no other one can
go on; then they can, or the kernel is wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.ptx import special_registers
from tests.ptx.arguments import pack_arguments
from tests.ptx.barriers import Waiting
from tests.ptx.counters import Counters
from tests.ptx.decoder import Block, Code, End, decode
from tests.ptx.faults import StepLimit, Uninitialised
from tests.ptx.launch import Chunk, Lanes, Launch, Size
from tests.ptx.layout import Layout, variables_of
from tests.ptx.memory import GlobalMemory
from tests.ptx.registers import Registers, UnwrittenRegisterError
from tests.ptx.scalars import Value
from tests.ptx.syntax import Entry

THREADS_AT_A_TIME = 1 << 14
"""As many as make NumPy's calls worth it, and as few as keep their registers in the processor's cache."""

STEP_LIMIT = 5_000_000


def execute(
    entry: Entry,
    memory: GlobalMemory,
    *,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[int | float | np.generic],
    shared_bytes: int = 0,
    step_limit: int = STEP_LIMIT,
) -> Counters:
    """Run a kernel.

    Parameters
    ----------
    entry
        The kernel.
    memory
        What addresses among the arguments point to.
    grid, block
        Blocks, and threads of each block, along x, y and z; what is left out is 1.
    arguments
        In the order of the kernel's parameters.
    shared_bytes
        Memory that the threads of a block share beyond what the kernel declares.
    step_limit
        How many instructions may be executed, each for many threads.

    Returns
    -------
    What the kernel did.

    Raises
    ------
    PtxFault
        The kernel does what it must not do.
    ValueError
        The launch does not fit the kernel, or no GPU could do it.
    """
    code = decode(entry)
    launch = Launch(
        entry,
        _size(grid, "grid", (2**31 - 1, 65535, 65535)),
        _size(block, "block", (1024, 1024, 64)),
        parameters=pack_arguments(entry, arguments),
        memory=memory,
        shared=Layout(variables_of(entry, "shared"), shared_bytes),
        local=Layout(variables_of(entry, "local")),
        dynamic_bytes=shared_bytes,
        pieces=defaultdict(lambda: 1, code.pieces),
    )
    if launch.threads_per_block > 1024:
        raise ValueError(f"a block of {launch.threads_per_block} threads: no GPU takes more than 1024")
    blocks = int(np.prod(launch.grid))
    blocks_at_a_time = max(1, THREADS_AT_A_TIME // launch.threads_per_block)
    with np.errstate(all="ignore"):
        for first in range(0, blocks, blocks_at_a_time):
            _Run(code, Chunk(launch, first, min(blocks_at_a_time, blocks - first)), step_limit).finish()
    launch.finish()
    return launch.counters


def _size(size: Sequence[int], name: str, limits: Size) -> Size:
    x, y, z = *size, *(1,) * (3 - len(size))
    if not all(1 <= length <= limit for length, limit in zip((x, y, z), limits, strict=True)):
        raise ValueError(f"{name} {tuple(size)}: each length is at least 1, and at most {limits}")
    return x, y, z


class _Run:
    """The execution of one chunk: which of its threads are where."""

    def __init__(self, code: Code, chunk: Chunk, step_limit: int):
        self._code = code
        self._chunk = chunk
        self._step_limit = step_limit
        self._registers = Registers(code.dtypes, chunk.size)
        for name, number in code.special_registers.items():
            self._registers.write(number, special_registers.value(name, chunk), None, everyone=True)
        self._frame: list[Value] = [np.empty(0)] * len(code.dtypes)
        self._ready: defaultdict[int, list[NDArray[np.intp] | None]] = defaultdict(list, {0: [None]})
        self._waiting = Waiting(chunk, code.blocks)
        self._executions = [0] * len(code.blocks)

    def finish(self) -> None:
        """Run all threads to their end."""
        self._run()
        instructions = self._chunk.launch.counters.instructions
        for block, threads in zip(self._code.blocks, self._executions, strict=True):
            for kind, count in block.classes.items():
                instructions[kind] += count * threads

    def _run(self) -> None:
        blocks = self._code.blocks
        while self._ready or self._waiting:
            if not self._ready:
                for number, indices in self._waiting.release():
                    self._ready[number + 1].append(indices)
                continue
            number = min(self._ready)
            lanes = self._chunk.lanes(self._ready.pop(number))
            if number == len(blocks):
                self._exit(lanes)
                continue
            chosen = self._guarded(blocks[number], number, lanes)
            if chosen is not None:
                self._execute(blocks[number], chosen)
                self._executions[number] += chosen.count
                self._leave(blocks[number], number, chosen)

    def _guarded(self, block: Block, number: int, lanes: Lanes) -> Lanes | None:
        """Return those threads that execute a block, and send the others to the next one."""
        if block.guard is None:
            return lanes
        predicate, negated = block.guard
        condition = lanes.spread(self._read(predicate, block, lanes)) != negated
        if condition.all():
            return lanes
        skipping = lanes.at(np.flatnonzero(~condition))
        self._ready[number + 1].append(skipping.indices)
        return lanes.at(np.flatnonzero(condition)) if skipping.count < lanes.count else None

    def _read(self, number: int, block: Block, lanes: Lanes) -> Value:
        try:
            return self._registers.read(number, lanes.indices)
        except UnwrittenRegisterError as unwritten:
            instruction = block.inputs.get(number, block.instruction)
            text = "a register that was never written"
            raise lanes.fault(Uninitialised, instruction, unwritten.position, text) from None

    def _execute(self, block: Block, lanes: Lanes) -> None:
        launch, frame = self._chunk.launch, self._frame
        launch.steps += len(block.steps) + 1
        if launch.steps > self._step_limit:
            raise lanes.fault(StepLimit, block.instruction, 0, f"more than {self._step_limit} instructions")
        for number in block.inputs:
            frame[number] = self._read(number, block, lanes)
        for step in block.steps:
            step(frame, lanes)
        for number in block.outputs:
            self._registers.write(number, frame[number], lanes.indices, everyone=lanes.everyone)

    def _leave(self, block: Block, number: int, lanes: Lanes) -> None:
        """Send threads from the end of a block to where they go on."""
        match block.end:
            case End.NEXT:
                self._ready[number + 1].append(lanes.indices)
            case End.JUMP:
                self._ready[block.target].append(lanes.indices)
            case End.EXIT:
                self._exit(lanes)
            case _:
                self._waiting.add(number, lanes)

    def _exit(self, lanes: Lanes) -> None:
        self._chunk.alive[lanes.positions()] = False
        self._chunk.alive_count -= lanes.count
