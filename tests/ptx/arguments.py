"""The arguments of a launch, as the bytes of the kernel's parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.ptx.scalars import DTYPES
from tests.ptx.syntax import Entry, Parameter


def pack_arguments(entry: Entry, arguments: Sequence[int | float | np.generic]) -> dict[str, bytes]:
    """Return the bytes of each parameter.

    Raises
    ------
    ValueError
        There are more or fewer arguments than parameters, or one does not fit.
    """
    if len(arguments) != len(entry.parameters):
        raise ValueError(f"{entry.name}: {len(arguments)} arguments for {len(entry.parameters)} parameters")
    return {
        parameter.name: _pack(parameter, argument)
        for parameter, argument in zip(entry.parameters, arguments, strict=True)
    }


def _pack(parameter: Parameter, argument: int | float | np.generic) -> bytes:
    dtype = DTYPES[parameter.type]
    if parameter.count > 1:
        raise ValueError(f"{parameter.name} takes {parameter.count} elements; only scalars are passed")
    if isinstance(argument, np.generic):
        # A kernel may declare its parameters as plain bits.
        if argument.dtype.itemsize != dtype.itemsize or (dtype.kind == "f") != (argument.dtype.kind == "f"):
            raise ValueError(f"{parameter.name} is {dtype}, and {argument!r} is {argument.dtype}")
        return argument.tobytes()
    if dtype.kind == "f":
        return dtype.type(argument).tobytes()
    bits = 8 * dtype.itemsize
    if not isinstance(argument, int) or not -(1 << bits - 1) <= argument < 1 << bits:
        raise ValueError(f"{parameter.name} has {bits} bits, which {argument!r} does not fit into")
    return (argument & (1 << bits) - 1).to_bytes(dtype.itemsize, "little")
