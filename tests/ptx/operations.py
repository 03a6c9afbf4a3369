"""What an arithmetic instruction is once it is decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tests.ptx.scalars import Value


class Operation(NamedTuple):
    """A function of arrays that broadcast, the dtypes of its operands, and that of its result."""

    function: Callable[..., Value]
    operands: tuple[np.dtype, ...]
    result: np.dtype


class UndefinedResultError(Exception):
    """PTX does not say what the result is."""

    def __init__(self, reason: str, where: np.ndarray):
        super().__init__(reason)
        self.position = int(np.flatnonzero(where)[0])


def uniform(function: Callable[..., Value], count: int, dtype: np.dtype) -> Operation:
    """Return an operation whose `count` operands and result have one dtype."""
    return Operation(function, (dtype,) * count, dtype)
