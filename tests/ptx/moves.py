"""Instructions that move bits without computing anything."""

from __future__ import annotations

import numpy as np

from tests.ptx.launch import Lanes
from tests.ptx.operands import Frame, Operands, Read, Step, Write
from tests.ptx.scalars import DTYPES, UNSIGNED
from tests.ptx.spaces import GENERIC_LOCAL, GENERIC_SHARED
from tests.ptx.syntax import Instruction, Vector


def move(instruction: Instruction, operands: Operands) -> Step | None:
    """Return a step for `mov`, which also puts values side by side and takes them apart; None if it is not known."""
    target, source = instruction.operands
    if len(instruction.modifiers) != 1 or instruction.modifiers[0] not in DTYPES:
        return None
    dtype = DTYPES[instruction.modifiers[0]]
    if isinstance(source, Vector):
        return _pack(source, operands, operands.write(target, dtype), dtype)
    read = operands.read(source, dtype)
    if isinstance(target, Vector):
        return _unpack(read, target, operands, dtype)
    write = operands.write(target, dtype)
    return lambda frame, _lanes: write(frame, read(frame))


def _pack(source: Vector, operands: Operands, write: Write, dtype: np.dtype) -> Step:
    part = UNSIGNED[dtype.itemsize // len(source.elements)]
    reads = [operands.read(element, part) for element in source.elements]

    def step(frame: Frame, _lanes: Lanes) -> None:
        values = np.broadcast_arrays(*(read(frame) for read in reads))
        write(frame, np.stack(values, axis=1).view(dtype).reshape(-1))

    return step


def _unpack(read: Read, target: Vector, operands: Operands, dtype: np.dtype) -> Step:
    part = UNSIGNED[dtype.itemsize // len(target.elements)]
    writes = [operands.write(element, part) for element in target.elements]

    def step(frame: Frame, _lanes: Lanes) -> None:
        columns = np.ascontiguousarray(read(frame)).view(part).reshape(-1, len(writes)).T
        for write, value in zip(writes, columns, strict=True):
            write(frame, np.ascontiguousarray(value))

    return step


def convert_address(instruction: Instruction, operands: Operands) -> Step | None:
    """Return a step for `cvta`, between addresses in one memory and generic ones; None if it is not known."""
    *_, space, type_name = instruction.modifiers
    window = {"global": 0, "shared": GENERIC_SHARED, "local": GENERIC_LOCAL}.get(space)
    if window is None or type_name != "u64":
        return None
    if instruction.modifiers[0] == "to":
        window = -window
    read = operands.read(instruction.operands[1], np.dtype(np.int64))
    write = operands.write(instruction.operands[0], np.dtype(np.int64))
    return lambda frame, _lanes: write(frame, read(frame) + window)
