"""From operands to functions that fetch their values, and to the places of results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from tests.ptx import special_registers
from tests.ptx.faults import Unsupported
from tests.ptx.launch import Lanes
from tests.ptx.layout import variables_of, window
from tests.ptx.scalars import DTYPES, UNSIGNED, Value, extended, low_part, reinterpret
from tests.ptx.syntax import Address, Entry, Floating, Integer, Operand, Register, Sink, Symbol

Frame = list[Value]
"""The registers of the active threads, by number."""

Read = Callable[[Frame], Value]
Write = Callable[[Frame, Value], None]
Step = Callable[[Frame, Lanes], None]


class Operands:
    """The registers of an entry by number, and the operands of its instructions.

    `reads` and `writes` collect the numbers of the registers that were asked for.

    Parameters
    ----------
    entry
        Whose operands they are.
    """

    def __init__(self, entry: Entry):
        self._entry = entry
        self._numbers: dict[str, int] = {}
        self.dtypes: list[np.dtype] = []
        self.reads: set[int] = set()
        self.writes: set[int] = set()
        self._addresses = {
            variable.name: window(number)
            for space in ("shared", "local")
            for number, variable in enumerate(variables_of(entry, space))
        }

    def special_registers(self) -> dict[str, int]:
        """Return the numbers of those special registers that were asked for."""
        return {name: number for name, number in self._numbers.items() if name in special_registers.NAMES}

    def number(self, name: str) -> int:
        """Return the number of a register."""
        if name not in self._numbers:
            if name in special_registers.NAMES:
                dtype = DTYPES["u32"]
            elif name in self._entry.registers:
                dtype = DTYPES[self._entry.registers[name]]
            else:
                raise Unsupported(f"the register {name}")
            self._numbers[name] = len(self.dtypes)
            # Bits are kept as integers; what an instruction makes of them is its own affair.
            self.dtypes.append(dtype if dtype.kind == "b" else UNSIGNED[dtype.itemsize])
        return self._numbers[name]

    def read(self, operand: Operand, dtype: np.dtype, *, narrow: bool = False) -> Read:
        """Return a function that fetches an operand as a dtype, or `narrow`, the low bits of a larger register."""
        match operand:
            case Register(name, negated):
                return self._read_register(name, dtype, negated=negated, narrow=narrow)
            case Integer() | Floating():
                return _constantly(_constant(operand, dtype))
            case Symbol(name, offset) if name in self._addresses and dtype.itemsize == 8:
                return _constantly(np.array([self._addresses[name] + offset], np.int64).view(dtype))
        raise Unsupported(f"the operand {operand}")

    def read_address(self, address: Operand) -> Callable[[Frame], np.ndarray]:
        """Return a function that fetches what stands in brackets."""
        if not isinstance(address, Address):
            raise Unsupported(f"{address} is no address")
        base, offset = self.read(address.base, np.dtype(np.int64)), address.offset
        return (lambda frame: base(frame) + offset) if offset else base

    def write(self, operand: Operand, dtype: np.dtype, *, extend: bool = False) -> Write:
        """Return a function that stores results of a dtype; `extend` says that the register may be larger."""
        if isinstance(operand, Sink):
            return lambda _frame, _value: None
        if not isinstance(operand, Register) or operand.name in special_registers.NAMES:
            raise Unsupported(f"the destination {operand}")
        number = self.number(operand.name)
        self.writes.add(number)
        size = self.dtypes[number].itemsize
        if (self.dtypes[number].kind == "b") != (dtype.kind == "b") or dtype.itemsize > size:
            raise Unsupported(f"{dtype} in the register {operand.name}")
        if dtype.itemsize == size:
            return partial(_store, number)
        if not extend:
            raise Unsupported(f"{dtype} in the register {operand.name}")
        return partial(_store_extended, number, size)

    def _read_register(self, name: str, dtype: np.dtype, *, negated: bool, narrow: bool) -> Read:
        number = self.number(name)
        self.reads.add(number)
        kept = self.dtypes[number]
        if (kept.kind == "b") != (dtype.kind == "b") or kept.itemsize < dtype.itemsize:
            raise Unsupported(f"the register {name} as {dtype}")
        if negated:
            if kept.kind != "b":
                raise Unsupported(f"the opposite of the register {name}")
            return lambda frame: ~frame[number]
        if kept.itemsize == dtype.itemsize:
            return lambda frame: reinterpret(frame[number], dtype)
        if not narrow:
            raise Unsupported(f"the register {name} as {dtype}")
        return lambda frame: low_part(frame[number], dtype)


def _store(number: int, frame: Frame, value: Value) -> None:
    frame[number] = value


def _store_extended(number: int, size: int, frame: Frame, value: Value) -> None:
    frame[number] = extended(value, size)


def _constantly(value: Value) -> Read:
    return lambda _frame: value


def _constant(operand: Integer | Floating, dtype: np.dtype) -> Value:
    """Return a constant as one element of a dtype."""
    if isinstance(operand, Floating):
        bits = np.array([operand.bits], UNSIGNED[operand.size])
        if dtype.kind == "f":
            return bits.view(f"f{operand.size}").astype(dtype)
        if dtype.itemsize == operand.size:
            return bits.view(dtype)
        raise Unsupported(f"a constant of {operand.size} bytes as {dtype}")
    if dtype.kind == "b":
        return np.array([operand.value != 0])
    wrapped = operand.value & (1 << 8 * dtype.itemsize) - 1
    return np.array([wrapped], UNSIGNED[dtype.itemsize]).view(dtype)
