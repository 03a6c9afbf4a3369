"""From PTX text to a `Program`."""

from __future__ import annotations

import bisect
import re
import struct
from collections.abc import Iterator
from itertools import count

from tests.ptx.faults import Unsupported
from tests.ptx.scalars import DTYPES
from tests.ptx.syntax import (
    Address,
    Entry,
    Floating,
    Instruction,
    Integer,
    Operand,
    Pair,
    Parameter,
    Program,
    Register,
    Sink,
    Symbol,
    Variable,
    Vector,
)

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
LABEL = re.compile(r"([$%A-Za-z_][\w$]*)\s*:(?!:)")
LINE_DIRECTIVE = re.compile(r"\.(version|target|address_size|file|loc)\b([^\n]*)")
ENTRY = re.compile(r"(?:\.\w+\s+)*?\.entry\s+([\w$]+)\s*(?:\(([^)]*)\))?([^{;]*)")
FUNCTION = re.compile(r"(?:\.\w+\s+)*?\.func\b[^{;]*")
REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+(.*)", re.DOTALL)
RANGE = re.compile(r"(%?[\w$]+)<(\d+)>")
VARIABLE = re.compile(
    r"(?:\.(?:visible|extern|common|weak)\s+)*\.(shared|local|global|const)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+"
    r"([\w$]+)\s*(?:\[(\d*)\])?"
)
PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+(?:\.ptr\s+(?:\.\w+\s+)??(?:\.align\s+\d+\s+)?)?([\w$]+)\s*(?:\[(\d+)\])?"
)
INSTRUCTION = re.compile(r"(?:@(!?)\s*([%\w$]+)\s+)?([a-z]\w*)((?:\.\w+|::\w+)*)(?:\s+(.*))?", re.DOTALL)
OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*")
HEXADECIMAL_FLOAT = re.compile(r"0([fd])([0-9a-f]{8}|[0-9a-f]{16})", re.IGNORECASE)
INTEGER = re.compile(r"(-?)(0x[0-9a-f]+|0b[01]+|\d+)u?", re.IGNORECASE)
DECIMAL_FLOAT = re.compile(r"-?\d+\.\d*(?:e[-+]?\d+)?", re.IGNORECASE)
SUM = re.compile(r"([%$\w.]+?)\s*(?:\+\s*(-?\w+))?")


def parse(text: str) -> Program:
    """Return the kernels of a PTX text.

    Raises
    ------
    Unsupported
        The text has something that this parser does not know.
    """
    source = _Source(text)
    target = ""
    variables: list[Variable] = []
    entries: dict[str, Entry] = {}
    while source.skip_space():
        if directive := source.take(LINE_DIRECTIVE):
            if directive[1] == "target":
                target = directive[2].split(",")[0].strip()
        elif entry := source.take(ENTRY):
            body = _Body(source, variables)
            entries[entry[1]] = body.entry(entry[1], _parameters(entry[2] or ""))
        elif source.take(FUNCTION):
            source.skip_body()
        else:
            line, statement = source.statement()
            variables.append(_variable(line, statement))
    return Program(target, entries)


class _Source:
    """A text without its comments, and how far it has been read."""

    def __init__(self, text: str):
        # Spaces instead of comments leave every statement on its line.
        self._text = COMMENT.sub(lambda comment: re.sub(r"[^\n]", " ", comment[0]), text)
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._position = 0

    def skip_space(self) -> bool:
        """Return whether there is more than white space left, and go there."""
        while self._position < len(self._text) and self._text[self._position].isspace():
            self._position += 1
        return self._position < len(self._text)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Return what matches here and go behind it."""
        match = pattern.match(self._text, self._position)
        if match:
            self._position = match.end()
        return match

    def statement(self) -> tuple[int, str]:
        """Return the line and the text of the statement that begins here, without its semicolon."""
        line = bisect.bisect(self._line_starts, self._position)
        end = self._text.find(";", self._position)
        if end < 0:
            raise Unsupported(f"line {line}: a statement without an end: {self._text[self._position :].strip()[:80]}")
        statement = " ".join(self._text[self._position : end].split())
        self._position = end + 1
        return line, statement

    def skip_body(self) -> None:
        """Go behind the braces, or the semicolon, that begin here."""
        depth = 0
        while self.skip_space():
            character = self._text[self._position]
            self._position += 1
            depth += (character == "{") - (character == "}")
            if depth == 0 and character in ";}":
                return


class _Body:
    """The declarations and instructions between the braces of an entry, read from `source`."""

    def __init__(self, source: _Source, variables: list[Variable]):
        self._variables = list(variables)
        self._registers: dict[str, str] = {}
        self._instructions: list[Instruction] = []
        self._labels: dict[str, int] = {}
        self._scopes: list[dict[str, str]] = []
        self._numbers = count()
        for line, statement in self._statements(source):
            self._read(line, statement)

    def entry(self, name: str, parameters: tuple[Parameter, ...]) -> Entry:
        return Entry(name, parameters, self._registers, tuple(self._variables), tuple(self._instructions), self._labels)

    def _statements(self, source: _Source) -> Iterator[tuple[int, str]]:
        """Yield what ends with a semicolon, while labels and braces are dealt with here."""
        while source.skip_space():
            if source.take(re.compile(r"\{")):
                self._scopes.append({})
            elif source.take(re.compile(r"\}")):
                self._scopes.pop()
                if not self._scopes:
                    return
            elif label := source.take(LABEL):
                self._labels[label[1]] = len(self._instructions)
            elif not source.take(LINE_DIRECTIVE):
                yield source.statement()

    def _read(self, line: int, statement: str) -> None:
        if registers := REGISTERS.fullmatch(statement):
            self._declare(line, registers[1], registers[2])
        elif VARIABLE.match(statement):
            self._variables.append(_variable(line, statement))
        elif not statement.startswith(".pragma"):
            self._instructions.append(self._instruction(line, statement))

    def _declare(self, line: int, register_type: str, names: str) -> None:
        if register_type not in DTYPES:
            raise Unsupported(f"line {line}: registers of type .{register_type}")
        for declared in names.split(","):
            name = declared.strip()
            several = RANGE.fullmatch(name)
            for each in (f"{several[1]}{number}" for number in range(int(several[2]))) if several else (name,):
                # A name may be declared again in a block of its own, as inline assembly does.
                unique = each if each not in self._registers else f"{each}#{next(self._numbers)}"
                self._registers[unique] = register_type
                self._scopes[-1][each] = unique

    def _instruction(self, line: int, statement: str) -> Instruction:
        match = INSTRUCTION.fullmatch(statement)
        if not match:
            raise Unsupported(f"line {line}: {statement}")
        negated, guard, opcode, modifiers, operands = match.groups()
        try:
            parsed = tuple(self._operand(part.strip()) for part in OPERAND.findall(operands or ""))
        except Unsupported as reason:
            raise Unsupported(f"line {line}: {statement}: {reason}") from None
        predicate = Register(self._name(guard), negated == "!") if guard else None
        return Instruction(line, statement, opcode, tuple(modifiers.split(".")[1:]), parsed, predicate)

    def _name(self, name: str) -> str:
        """Return the unique name of a register, or the name itself."""
        return next((scope[name] for scope in reversed(self._scopes) if name in scope), name)

    def _operand(self, text: str) -> Operand:
        if text[0] == "[":
            return self._address(text)
        if text[0] == "{":
            return Vector(tuple(self._operand(part.strip()) for part in text[1:-1].split(",")))
        if "|" in text:
            first, second = text.split("|")
            return Pair(self._operand(first.strip()), self._operand(second.strip()))
        if text[0] == "!":
            return Register(self._name(text[1:].strip()), negated=True)
        return Sink() if text == "_" else _constant(text) or self._named(text)

    def _address(self, text: str) -> Address:
        match self._operand(text[1:-1].strip()):
            case Symbol(name, offset):
                return Address(Symbol(name), offset)
            case Register() | Integer() as base:
                return Address(base, 0)
            case Address() as sum_in_brackets:
                return sum_in_brackets
        raise Unsupported(f"the address {text}")

    def _named(self, text: str) -> Operand:
        match = SUM.fullmatch(text)
        if not match:
            raise Unsupported(f"the operand {text}")
        name, offset = self._name(match[1]), int(match[2] or "0", 0)
        if name in self._registers or name.startswith("%"):
            return Address(Register(name), offset) if match[2] else Register(name)
        return Symbol(name, offset)


def _constant(text: str) -> Integer | Floating | None:
    if match := HEXADECIMAL_FLOAT.fullmatch(text):
        return Floating(int(match[2], 16), len(match[2]) // 2)
    if match := INTEGER.fullmatch(text):
        digits = match[2] if match[2] == "0" or match[2][:1] != "0" or match[2][1:2] in "xXbB" else f"0o{match[2]}"
        return Integer(int(match[1] + digits, 0))
    if DECIMAL_FLOAT.fullmatch(text):
        return Floating(int.from_bytes(struct.pack("<d", float(text)), "little"), 8)
    return None


def _parameters(text: str) -> tuple[Parameter, ...]:
    found = [PARAMETER.fullmatch(part.strip()) for part in text.split(",") if part.strip()]
    if None in found:
        raise Unsupported(f"parameters: {text}")
    return tuple(Parameter(match[2], match[1], int(match[3] or 1)) for match in found if match)


def _variable(line: int, statement: str) -> Variable:
    match = VARIABLE.match(statement)
    if not match:
        raise Unsupported(f"line {line}: {statement}")
    space, alignment, element, name, elements = match.groups()
    element_size = DTYPES[element].itemsize
    size = None if elements == "" else element_size * int(elements or 1)
    return Variable(name, space, int(alignment or element_size), size)
