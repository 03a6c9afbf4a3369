"""The registers of all threads of a chunk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.ptx.scalars import Value, reinterpret


class UnwrittenRegisterError(Exception):
    """A register is read that a thread never wrote."""

    def __init__(self, position: int):
        super().__init__()
        self.position = position


class Registers:
    """What is in each register, and for which threads there is something.

    A value that all threads share is kept once. Values are never changed in place, so they may be handed out as they
    are, and one array may be in several registers.

    Parameters
    ----------
    dtypes
        Of each register.
    threads
        How many there are.
    """

    def __init__(self, dtypes: Sequence[np.dtype], threads: int):
        self._dtypes = dtypes
        self._threads = threads
        self._values: list[Value | None] = [None] * len(dtypes)
        self._written: list[NDArray[np.bool_] | None] = [None] * len(dtypes)
        """None where all threads have written, or nobody has."""

    def read(self, number: int, indices: NDArray[np.intp] | None) -> Value:
        """Return what the threads with these indices, or all threads, have in a register."""
        value, written = self._values[number], self._written[number]
        if value is None:
            raise UnwrittenRegisterError(0)
        if written is not None:
            of_these = written if indices is None else written[indices]
            if not of_these.all():
                raise UnwrittenRegisterError(int(np.flatnonzero(~of_these)[0]))
        return value if indices is None or value.size == 1 else value[indices]

    def write(self, number: int, value: Value, indices: NDArray[np.intp] | None, *, everyone: bool) -> None:
        """Set a register of the threads with these indices; `everyone` says that no other thread is still running."""
        value = reinterpret(value, self._dtypes[number])
        if indices is None or (everyone and value.size == 1):
            self._values[number], self._written[number] = value, None
            return
        before, written = self._values[number], self._written[number]
        if before is None:
            before, written = np.zeros(1, value.dtype), np.zeros(self._threads, np.bool_)
        merged = np.empty(self._threads, value.dtype)
        merged[:] = before
        merged[indices] = value
        if written is not None:
            written[indices] = True
        self._values[number] = merged
        self._written[number] = None if everyone or written is None or written.all() else written
