"""What can be wrong with a kernel, or with a launch of it."""

from __future__ import annotations


class PtxFault(Exception):  # noqa: N818 (a fault is of a kernel, an error of the executor)
    """A kernel did what it must not do; the message says which, where and who."""


class OutOfBounds(PtxFault):
    """An access beside what was allocated or declared."""


class Misaligned(PtxFault):
    """An access to an address that is no multiple of its size."""


class Uninitialised(PtxFault):
    """A read of memory, or of a register, that nothing was written to."""


class Race(PtxFault):
    """Two threads access the same memory, one of them writes, and no barrier orders them."""


class BarrierDivergence(PtxFault):
    """A barrier that some threads wait at and others never reach."""


class Undefined(PtxFault):
    """An operation whose result PTX leaves open, such as an integer division by zero."""


class Trap(PtxFault):
    """The kernel gave up by itself."""


class Unsupported(PtxFault):
    """Something that this executor does not know, or knows only a part of."""


class StepLimit(PtxFault):
    """A kernel that runs for so long that it hardly ends."""
