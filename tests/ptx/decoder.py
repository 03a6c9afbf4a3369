"""From the instructions of an entry to blocks of steps that NumPy executes.

A block is a piece of code without ways in or out: threads that begin it together end it together. Within it results
are passed on as they are; only what other blocks read goes through the register file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

import numpy as np

from tests.ptx import arithmetic, moves, warps
from tests.ptx.accesses import add_atomically, load, read_access, store
from tests.ptx.faults import Trap, Undefined, Unsupported
from tests.ptx.launch import Lanes
from tests.ptx.operands import Frame, Operands, Read, Step, Write
from tests.ptx.operations import Operation, UndefinedResultError
from tests.ptx.scalars import Value
from tests.ptx.syntax import Entry, Instruction, Symbol


class End(Enum):
    """What happens after a block."""

    NEXT = "the next block follows"
    JUMP = "another block follows"
    EXIT = "the thread is done"
    WARP_MEETING = "all threads of a warp meet"
    WARP_BARRIER = "all threads of a warp meet, and their accesses to memory are in order"
    BLOCK_BARRIER = "all threads of a block meet, and their accesses to memory are in order"


@dataclass
class Block:
    """Consecutive instructions.

    Parameters
    ----------
    instruction
        The last one.
    guard
        The number of the predicate that must hold, and whether it is negated; such a block has a single instruction.
    steps
        What to execute.
    inputs
        The registers that are read before they are written here, and by which instruction first.
    written, outputs
        The registers that are written here, and those of them that any block has as an input.
    classes
        How many instructions there are of each class.
    end, target
        What happens then, and the number of the block to which a jump leads.
    """

    instruction: Instruction
    guard: tuple[int, bool] | None = None
    steps: list[Step] = field(default_factory=list)
    inputs: dict[int, Instruction] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    outputs: list[int] = field(default_factory=list)
    classes: Counter[str] = field(default_factory=Counter)
    end: End = End.NEXT
    target: int = -1


@dataclass(frozen=True)
class Code:
    """A decoded entry.

    Parameters
    ----------
    blocks
        In the order of the text.
    dtypes
        Of each register.
    special_registers
        The numbers of those that the machine sets.
    pieces
        The size of the smallest access to each memory.
    """

    blocks: Sequence[Block]
    dtypes: Sequence[np.dtype]
    special_registers: Mapping[str, int]
    pieces: Mapping[str, int]


@lru_cache(maxsize=64)
def decode(entry: Entry) -> Code:
    """Return what to execute.

    Raises
    ------
    Unsupported
        There is something that is not implemented.
    """
    return _Decoder(entry).code()


class _Decoder:
    def __init__(self, entry: Entry):
        self._entry = entry
        self._operands = Operands(entry)
        self._blocks: list[Block] = []
        self._pieces: dict[str, int] = {}

    def code(self) -> Code:
        targets = set(self._entry.labels.values())
        starts: dict[int, int] = {}  # the block that begins at an instruction
        block: Block | None = None
        for position, instruction in enumerate(self._entry.instructions):
            alone = instruction.guard is not None
            meets = instruction.opcode in _WARP_INSTRUCTIONS
            if block is None or position in targets or alone or meets:
                starts[position] = len(self._blocks)
                if meets:
                    self._blocks.append(Block(instruction, end=End.WARP_MEETING))
                block = self._begin(instruction)
            self._add(block, instruction)
            if alone or block.end is not End.NEXT:
                block = None
        self._resolve(starts)
        return Code(self._blocks, self._operands.dtypes, self._operands.special_registers(), self._pieces)

    def _begin(self, instruction: Instruction) -> Block:
        block = Block(instruction)
        if instruction.guard:
            block.guard = self._operands.number(instruction.guard.name), instruction.guard.negated
        self._blocks.append(block)
        return block

    def _add(self, block: Block, instruction: Instruction) -> None:
        """Decode the next instruction of a block."""
        operands = self._operands
        operands.reads.clear()
        operands.writes.clear()
        block.instruction = instruction
        block.classes[classify(instruction)] += 1
        block.end = _end(instruction)
        if block.end in (End.NEXT, End.WARP_BARRIER) and instruction.opcode not in _NO_OPERATION:
            block.steps.append(self._step(instruction))
        for number in operands.reads - block.written:
            block.inputs.setdefault(number, instruction)
        block.written |= operands.writes

    def _step(self, instruction: Instruction) -> Step:
        try:
            step = self._known_step(instruction)
        except Unsupported as reason:
            raise self._unsupported(instruction, str(reason)) from None
        if step is None:
            raise self._unsupported(instruction, "not implemented")
        return step

    def _unsupported(self, instruction: Instruction, reason: str) -> Unsupported:
        return Unsupported(f"{self._entry.name}, {instruction}: {reason}")

    def _known_step(self, instruction: Instruction) -> Step | None:
        """Return a step for an instruction, None if it is not known."""
        opcode = instruction.opcode
        if len(instruction.operands) != _OPERAND_COUNTS.get(opcode, len(instruction.operands)):
            return None
        if opcode in _MEMORY:
            access = read_access(instruction)
            if access is None:
                return None
            for space in ("global", "shared") if access.space == "generic" else (access.space,):
                self._pieces[space] = min(access.size, self._pieces.get(space, access.size))
            return _MEMORY[opcode](access, self._operands)
        if opcode in _OTHERS:
            return _OTHERS[opcode](instruction, self._operands)
        operation = arithmetic.find(opcode, instruction.modifiers)
        return _calculate(operation, instruction, self._operands) if operation else None

    def _resolve(self, starts: Mapping[int, int]) -> None:
        """Set what depends on the other blocks: the targets of jumps, and what is read elsewhere."""
        read_elsewhere = {number for block in self._blocks for number in block.inputs}
        read_elsewhere |= {block.guard[0] for block in self._blocks if block.guard}
        for block in self._blocks:
            block.outputs = sorted(block.written & read_elsewhere)
            if block.end is End.JUMP:
                (label,) = block.instruction.operands
                place = self._entry.labels.get(label.name) if isinstance(label, Symbol) else None
                if place is None:
                    raise self._unsupported(block.instruction, "there is no such label")
                # A label at the end of the text means its end.
                block.target = starts.get(place, len(self._blocks))


def classify(instruction: Instruction) -> str:
    """Return the class by which an instruction is counted."""
    opcode, modifiers = instruction.opcode, instruction.modifiers
    if opcode in _MEMORY:
        spaces = [name for name in modifiers if name in ("global", "shared", "local", "param")]
        return {"param": "parameter"}.get(spaces[0], spaces[0]) if spaces else "generic"
    if opcode in _CLASSES:
        return _CLASSES[opcode]
    if "f64" in modifiers:
        return "float64"
    if opcode == "cvt":
        return "conversion"
    return {"f32": "float32", "f16": "float16"}.get(modifiers[-1] if modifiers else "", "integer")


def _end(instruction: Instruction) -> End:
    """Return what happens after an instruction."""
    match (instruction.opcode, *instruction.modifiers):
        case ("bra",) | ("bra", "uni"):
            return End.JUMP
        case ("ret",) | ("exit",) | ("ret", "uni"):
            return End.EXIT
        case ("bar", "warp", "sync"):
            return End.WARP_BARRIER
        case ("bar" | "barrier", *modifiers) if set(modifiers) <= {"sync", "cta", "aligned"} and "sync" in modifiers:
            # With a second operand only some threads of the block would have to come.
            return End.BLOCK_BARRIER if len(instruction.operands) == 1 else End.NEXT
    return End.NEXT


def _calculate(operation: Operation, instruction: Instruction, operands: Operands) -> Step | None:
    target, *sources = instruction.operands
    if len(sources) != len(operation.operands):
        return None
    converts = instruction.opcode == "cvt"  # alone among these, from and to registers that may be larger
    reads = [
        operands.read(source, dtype, narrow=converts) for source, dtype in zip(sources, operation.operands, strict=True)
    ]
    write = operands.write(target, operation.result, extend=converts)
    if instruction.opcode in ("div", "rem"):
        return _divide(operation.function, reads, write, instruction)
    return _compute(operation.function, reads, write)


def _compute(function: Callable[..., Value], reads: Sequence[Read], write: Write) -> Step:
    match reads:
        case [a]:
            return lambda frame, _lanes: write(frame, function(a(frame)))
        case [a, b]:
            return lambda frame, _lanes: write(frame, function(a(frame), b(frame)))
        case [a, b, c]:
            return lambda frame, _lanes: write(frame, function(a(frame), b(frame), c(frame)))
    return lambda frame, _lanes: write(frame, function(*(read(frame) for read in reads)))


def _divide(function: Callable[..., Value], reads: Sequence[Read], write: Write, instruction: Instruction) -> Step:
    def step(frame: Frame, lanes: Lanes) -> None:
        try:
            result = function(*(read(frame) for read in reads))
        except UndefinedResultError as reason:
            raise lanes.fault(Undefined, instruction, reason.position, str(reason)) from reason
        write(frame, result)

    return step


def _trap(instruction: Instruction, _operands: Operands) -> Step:
    def step(_frame: Frame, lanes: Lanes) -> None:
        raise lanes.fault(Trap, instruction, 0, "the kernel gives up")

    return step


_MEMORY = {"ld": load, "ldu": load, "st": store, "atom": add_atomically, "red": add_atomically}

_OTHERS: dict[str, Callable[[Instruction, Operands], Step | None]] = {
    "mov": moves.move,
    "cvta": moves.convert_address,
    "shfl": warps.shuffle,
    "vote": warps.vote,
    "bar": warps.check_members,
    "trap": _trap,
}

_OPERAND_COUNTS = {"ld": 2, "ldu": 2, "st": 2, "atom": 3, "red": 2, "mov": 2, "cvta": 2, "shfl": 5, "vote": 3, "bar": 1}

_WARP_INSTRUCTIONS = ("shfl", "vote")
"""Executed when the threads of a warp have met."""

_NO_OPERATION = ("membar", "fence")
"""Executed one after the other, all accesses are visible at once."""

_CLASSES = {
    **dict.fromkeys(("bra", "ret", "exit", "trap"), "control"),
    **dict.fromkeys(("bar", "barrier", "membar", "fence"), "barrier"),
    **dict.fromkeys(_WARP_INSTRUCTIONS, "warp"),
    **dict.fromkeys(("mov", "cvta", "selp"), "move"),
}
