"""Instructions by which the threads of a warp learn from one another.

They are executed when all threads of a warp that are still running have arrived, so all of these take part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.ptx.counters import WARP
from tests.ptx.faults import Undefined, Unsupported
from tests.ptx.launch import Lanes
from tests.ptx.operands import Frame, Operands, Step
from tests.ptx.scalars import DTYPES, Value
from tests.ptx.syntax import Instruction, Pair, Sink

WORD = DTYPES["b32"]
PREDICATE = DTYPES["pred"]

ALL = np.uint32(0xFFFFFFFF)
"""The mask of a warp without exceptions."""

Warps = NDArray[Any]
"""One row for each warp of a chunk, one column for each of its lanes."""


def shuffle(instruction: Instruction, operands: Operands) -> Step | None:
    """Return a step for `shfl`, None if it is not known."""
    if len(instruction.modifiers) != 3 or instruction.modifiers[::2] != ("sync", "b32"):
        return None
    find_source = _SOURCES.get(instruction.modifiers[1])
    if find_source is None:
        return None
    target, *sources = instruction.operands
    found, valid = (target.first, target.second) if isinstance(target, Pair) else (target, Sink())
    read, read_lane, read_limits, read_members = (operands.read(source, WORD) for source in sources)
    write, write_valid = operands.write(found, WORD), operands.write(valid, PREDICATE)

    def step(frame: Frame, lanes: Lanes) -> None:
        _check_members(read_members(frame), lanes, instruction)
        own_lane = (lanes.threads % WARP).astype(np.int64)
        limits = read_limits(frame)
        limit, segment = (limits & 31).astype(np.int64), (limits >> 8 & 31).astype(np.int64)
        source, in_range = find_source(own_lane, (read_lane(frame) & 31).astype(np.int64), limit, segment)
        source = np.where(in_range, source, own_lane)
        active, _ = _by_warp(np.ones(1, np.bool_), lanes, np.bool_(False))
        values, warps = _by_warp(read(frame), lanes, np.uint32(0))
        if not active[warps, source].all():
            position = int(np.flatnonzero(~active[warps, source])[0])
            raise lanes.fault(Undefined, instruction, position, f"lane {source[position]} does not take part")
        write(frame, values[warps, source])
        write_valid(frame, lanes.spread(in_range))

    return step


def vote(instruction: Instruction, operands: Operands) -> Step | None:
    """Return a step for `vote`, None if it is not known."""
    if instruction.modifiers not in (("sync", "all", "pred"), ("sync", "any", "pred"), ("sync", "ballot", "b32")):
        return None
    target, source, members = instruction.operands
    read, read_members = operands.read(source, PREDICATE), operands.read(members, WORD)
    mode = instruction.modifiers[1]
    write = operands.write(target, WORD if mode == "ballot" else PREDICATE)

    def step(frame: Frame, lanes: Lanes) -> None:
        _check_members(read_members(frame), lanes, instruction)
        votes, warps = _by_warp(read(frame), lanes, np.bool_(mode == "all"))
        write(frame, _COUNTS[mode](votes)[warps])

    return step


def check_members(instruction: Instruction, operands: Operands) -> Step | None:
    """Return a step for ``bar.warp.sync``, None if it is another barrier."""
    if instruction.modifiers != ("warp", "sync"):
        return None
    read_members = operands.read(instruction.operands[0], WORD)
    return lambda frame, lanes: _check_members(read_members(frame), lanes, instruction)


def _by_warp(value: Value, lanes: Lanes, absent: np.generic) -> tuple[Warps, NDArray[np.int64]]:
    """Return a value by warp and lane, `absent` where no thread is active, and the row of each active thread."""
    first = lanes.chunk.first_block * lanes.chunk.launch.padded_threads
    places = lanes.threads.astype(np.int64) - first
    table = np.full((lanes.chunk.blocks * lanes.chunk.launch.padded_threads // WARP, WARP), absent)
    table.reshape(-1)[places] = value
    return table, places // WARP


def _check_members(members: Value, lanes: Lanes, instruction: Instruction) -> None:
    """Raise a fault unless all threads of a warp that are still running are members."""
    if (members == ALL).all():
        return
    chunk = lanes.chunk
    running, _ = _by_warp(np.ones(1, np.bool_), chunk.lanes([np.flatnonzero(chunk.alive)]), np.bool_(False))
    masks = _COUNTS["ballot"](running)[lanes.threads // WARP - chunk.threads[0] // WARP]
    left_out = masks & ~lanes.spread(members) != 0
    if left_out.any():
        text = "only some of the running threads are members"
        raise lanes.fault(Unsupported, instruction, int(np.flatnonzero(left_out)[0]), text)


def _up(lane: Value, distance: Value, limit: Value, segment: Value) -> tuple[Value, Value]:
    source = lane - distance
    return source, source >= _last_lane(lane, limit, segment)


def _down(lane: Value, distance: Value, limit: Value, segment: Value) -> tuple[Value, Value]:
    source = lane + distance
    return source, source <= _last_lane(lane, limit, segment)


def _butterfly(lane: Value, mask: Value, limit: Value, segment: Value) -> tuple[Value, Value]:
    source = lane ^ mask
    return source, source <= _last_lane(lane, limit, segment)


def _index(lane: Value, index: Value, limit: Value, segment: Value) -> tuple[Value, Value]:
    source = (lane & segment) | (index & ~segment)
    return source, source <= _last_lane(lane, limit, segment)


def _last_lane(lane: Value, limit: Value, segment: Value) -> Value:
    """Return the furthest lane of the segment that a lane belongs to; for `up` that is the first one."""
    return (lane & segment) | (limit & ~segment)


_SOURCES: dict[str, Callable[[Value, Value, Value, Value], tuple[Value, Value]]] = {
    "up": _up,
    "down": _down,
    "bfly": _butterfly,
    "idx": _index,
}

_COUNTS: dict[str, Callable[[Warps], Value]] = {
    "all": lambda votes: votes.all(axis=1),
    "any": lambda votes: votes.any(axis=1),
    "ballot": lambda votes: np.packbits(votes, axis=1, bitorder="little").view(np.uint32).reshape(-1),
}
