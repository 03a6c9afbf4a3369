"""Executes PTX, the assembly language of NVIDIA GPUs, on the processor, and finds what is wrong with a kernel.

Every register is an array over many threads. `parser` reads the text, `decoder` makes a NumPy call of each instruction
(`arithmetic`, `conversions`, `fused`, `warps`, `accesses`), and `executor` runs them for all threads, keeping them
together as far as they take the same way. What a GPU would let pass unnoticed is a fault here (`faults`): accesses out
of bounds, misaligned, or of what nobody wrote; races (`checks`); barriers that not all threads reach. `counters` tells
what a GPU's speed depends on.

An instruction means exactly what NVIDIA's "Parallel Thread Execution ISA" says. One that is not implemented is a fault.
Three liberties of a GPU are not taken: `.approx` results are the nearest ones, NaNs keep their payload, and an
addition without rounding mode is never fused with a multiplication.
"""

from tests.ptx.counters import Counters, SharedTraffic, Traffic
from tests.ptx.executor import execute
from tests.ptx.faults import (
    BarrierDivergence,
    Misaligned,
    OutOfBounds,
    PtxFault,
    Race,
    StepLimit,
    Trap,
    Undefined,
    Uninitialised,
    Unsupported,
)
from tests.ptx.memory import GlobalMemory
from tests.ptx.parser import parse
from tests.ptx.syntax import Entry, Program

__all__ = [
    "BarrierDivergence",
    "Counters",
    "Entry",
    "GlobalMemory",
    "Misaligned",
    "OutOfBounds",
    "Program",
    "PtxFault",
    "Race",
    "SharedTraffic",
    "StepLimit",
    "Traffic",
    "Trap",
    "Undefined",
    "Uninitialised",
    "Unsupported",
    "execute",
    "parse",
]
