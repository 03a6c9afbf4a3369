"""What each arithmetic instruction computes.

A modifier that is not listed in one of the modules below is never ignored: the instruction counts as unknown.
"""

from __future__ import annotations

from tests.ptx import bitwise, comparisons, conversions, floats, integers
from tests.ptx.operations import Operation
from tests.ptx.scalars import DTYPES


def find(opcode: str, modifiers: tuple[str, ...]) -> Operation | None:
    """Return what an instruction computes, None if it is not known here."""
    if opcode == "cvt":
        return conversions.find(modifiers)
    if not modifiers or modifiers[-1] not in DTYPES:
        return None
    *flags, type_name = modifiers
    dtype = DTYPES[type_name]
    if opcode in ("setp", "selp", "testp"):
        return comparisons.find(opcode, flags, dtype)
    if dtype.kind == "f":
        return floats.find(opcode, flags, dtype)
    return bitwise.find(opcode, flags, dtype) or integers.find(opcode, flags, dtype)
