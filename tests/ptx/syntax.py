"""What PTX text consists of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Register:
    """A register by name, or a predicate's opposite."""

    name: str
    negated: bool = False


@dataclass(frozen=True)
class Integer:
    """An integer constant."""

    value: int


@dataclass(frozen=True)
class Floating:
    """A floating-point constant of 4 or 8 bytes, as its bits."""

    bits: int
    size: int


@dataclass(frozen=True)
class Symbol:
    """A variable, a parameter or a label, and a distance in bytes."""

    name: str
    offset: int = 0


@dataclass(frozen=True)
class Address:
    """What stands in brackets: a base and a distance in bytes."""

    base: Register | Symbol | Integer
    offset: int


@dataclass(frozen=True)
class Vector:
    """Operands in braces."""

    elements: tuple[Operand, ...]


@dataclass(frozen=True)
class Pair:
    """Two destinations, ``first|second``."""

    first: Operand
    second: Operand


@dataclass(frozen=True)
class Sink:
    """The destination ``_``: the result is dropped."""


Operand = Register | Integer | Floating | Symbol | Address | Vector | Pair | Sink


@dataclass(frozen=True)
class Instruction:
    """One instruction, as it stands in the text.

    Parameters
    ----------
    line, text
        Where and what it is in the source.
    opcode, modifiers
        The words between the dots: ``ld`` and ``("global", "v4", "f32")``.
    operands
        Destinations first.
    guard
        The predicate that must hold for a thread to execute it.
    """

    line: int
    text: str
    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: Register | None = None

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


@dataclass(frozen=True)
class Variable:
    """Memory that a kernel declares; `size` is None where the launch says how much it is."""

    name: str
    space: str
    alignment: int
    size: int | None


@dataclass(frozen=True)
class Parameter:
    """A parameter of an entry; `count` is more than 1 for aggregates."""

    name: str
    type: str
    count: int = 1


@dataclass(frozen=True, eq=False)
class Entry:
    """One kernel.

    Parameters
    ----------
    name, parameters
        As a launch has to give them.
    registers
        The type of each register.
    variables
        All that the kernel can see.
    instructions, labels
        The code; a label is the number of the instruction that follows it.
    """

    name: str
    parameters: tuple[Parameter, ...]
    registers: Mapping[str, str]
    variables: tuple[Variable, ...]
    instructions: tuple[Instruction, ...]
    labels: Mapping[str, int]

    def symbols(self) -> Iterator[str]:
        """Yield the name of every symbol that some instruction mentions."""
        for instruction in self.instructions:
            for operand in instruction.operands:
                target = operand.base if isinstance(operand, Address) else operand
                if isinstance(target, Symbol):
                    yield target.name


@dataclass(frozen=True)
class Program:
    """All kernels of one PTX text."""

    target: str
    entries: Mapping[str, Entry]
