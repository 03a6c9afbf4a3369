"""Loads, stores and atomic operations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.ptx.checks import Kind
from tests.ptx.faults import Unsupported
from tests.ptx.launch import Lanes
from tests.ptx.memory import WIDEST
from tests.ptx.operands import Frame, Operands, Step
from tests.ptx.scalars import DTYPES, Value
from tests.ptx.spaces import Access, Addresses, parts, reach
from tests.ptx.syntax import Address, Instruction, Operand, Sink, Symbol, Vector

SPACES = ("global", "shared", "local", "param")
VECTORS = {"v2": 2, "v4": 4, "v8": 8}
HINTS = frozenset({"nc", "volatile", "weak", "relaxed", "gpu", "sys", "cta", "ca", "cg", "cs", "lu", "cv", "wb", "wt"})
"""Modifiers that change nothing here, as also do those that begin with a level of the cache."""

ATOMIC_ADDITIONS = ("u32", "s32", "f32", "u64", "f64")


def read_access(instruction: Instruction) -> Access | None:
    """Return what a load, store or atomic operation says, None if that is not known here."""
    *flags, type_name = instruction.modifiers
    if type_name not in DTYPES or type_name in ("pred", "f16x2"):
        return None
    if instruction.opcode in ("atom", "red"):
        if "add" not in flags or type_name not in ATOMIC_ADDITIONS:
            return None
        flags.remove("add")
    spaces = [flag for flag in flags if flag in SPACES] or ["generic"]
    vectors = [VECTORS[flag] for flag in flags if flag in VECTORS] or [1]
    others = [flag for flag in flags if flag not in SPACES and flag not in VECTORS and flag not in HINTS]
    if len(spaces) > 1 or len(vectors) > 1 or any(flag[:2] not in ("L1", "L2") for flag in others):
        return None
    access = Access(instruction, spaces[0], DTYPES[type_name], vectors[0], coherent="nc" not in flags)
    if access.size > WIDEST or not (access.coherent or access.space == "global"):
        return None
    return access


def load(access: Access, operands: Operands) -> Step:
    """Return a step that loads into one register or several."""
    target, source = access.instruction.operands
    if access.space == "param":
        return _load_parameter(access, operands)
    address = operands.read_address(source)
    writes = [operands.write(element, access.dtype, extend=True) for element in _elements(target, access)]

    def step(frame: Frame, lanes: Lanes) -> None:
        for write, value in zip(writes, _fetch(access, address(frame), lanes), strict=True):
            write(frame, value)

    return step


def store(access: Access, operands: Operands) -> Step:
    """Return a step that stores one register or several."""
    target, source = access.instruction.operands
    address = operands.read_address(target)
    reads = [operands.read(element, access.dtype, narrow=True) for element in _elements(source, access)]

    def step(frame: Frame, lanes: Lanes) -> None:
        values = [read(frame) for read in reads]
        for part, chosen, addresses in parts(access, address(frame), lanes):
            buffer, offsets = reach(access, Kind.WRITE, addresses, part)
            buffer.store(offsets, values if chosen is None else [lanes.spread(value)[chosen] for value in values])

    return step


def add_atomically(access: Access, operands: Operands) -> Step:
    """Return a step that adds to memory, thread by thread, and returns what was there before."""
    *target, source, addend = access.instruction.operands
    address = operands.read_address(source)
    read = operands.read(addend, access.dtype)
    write = operands.write(target[0] if target else Sink(), access.dtype)

    def step(frame: Frame, lanes: Lanes) -> None:
        before = np.empty(lanes.count, access.dtype)
        addends = lanes.spread(read(frame))
        for part, chosen, addresses in parts(access, address(frame), lanes):
            buffer, offsets = reach(access, Kind.ATOMIC, addresses, part)
            positions = range(lanes.count) if chosen is None else chosen
            for position, offset in zip(positions, part.spread(offsets), strict=True):
                place = np.array([offset])
                before[position] = buffer.load(place, access.dtype, 1)[0][0]
                buffer.store(place, [before[position : position + 1] + addends[position]])
        write(frame, before)

    return step


def _elements(operand: Operand, access: Access) -> Sequence[Operand]:
    elements = operand.elements if isinstance(operand, Vector) else (operand,)
    if len(elements) != access.count:
        raise Unsupported(f"{len(elements)} registers")
    return elements


def _load_parameter(access: Access, operands: Operands) -> Step:
    target, source = access.instruction.operands
    if not isinstance(source, Address) or not isinstance(source.base, Symbol):
        raise Unsupported("the address of a parameter is not constant")
    name, offset = source.base.name, source.offset
    writes = [operands.write(element, access.dtype, extend=True) for element in _elements(target, access)]

    def step(frame: Frame, lanes: Lanes) -> None:
        content = lanes.chunk.launch.parameters[name]
        for write, value in zip(writes, np.frombuffer(content, access.dtype, access.count, offset), strict=True):
            write(frame, value.reshape(1))

    return step


def _fetch(access: Access, addresses: Addresses, lanes: Lanes) -> Sequence[Value]:
    """Return what is at some addresses."""
    result: list[Value] = []
    for part, chosen, some_addresses in parts(access, addresses, lanes):
        buffer, offsets = reach(access, Kind.READ, some_addresses, part)
        values = buffer.load(offsets, access.dtype, access.count)
        if chosen is None:
            return values
        result = result or [np.empty(lanes.count, access.dtype) for _ in values]
        for whole, value in zip(result, values, strict=True):
            whole[chosen] = value
    return result
