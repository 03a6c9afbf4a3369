"""Where a kernel's variables lie in shared or local memory.

To the kernel, every variable is in a window of addresses of its own, far from the others, so that an access beside it
never meets another one. In the buffer they are packed as a GPU packs them, which is what alignment and banks depend on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.ptx.syntax import Entry, Variable

WINDOW_BITS = 20
BASE_ALIGNMENT = 16
"""No two blocks' shared memory begins at a distance that is not a multiple of this."""


def variables_of(entry: Entry, space: str) -> list[Variable]:
    """Return the variables in one memory that the kernel mentions."""
    mentioned = set(entry.symbols())
    return [variable for variable in entry.variables if variable.space == space and variable.name in mentioned]


class Layout:
    """The variables of one memory.

    Parameters
    ----------
    variables
        In the order of their declaration, which numbers the windows.
    dynamic_size
        Bytes of those variables whose size only the launch says. They all begin behind the others, at the same place.
    """

    def __init__(self, variables: Sequence[Variable], dynamic_size: int = 0):
        self._variables = list(variables)
        self._offsets = [0] * len(variables)
        self._sizes = [dynamic_size if variable.size is None else variable.size for variable in variables]
        end = 0
        for number in sorted(range(len(variables)), key=lambda number: variables[number].size is None):
            alignment = variables[number].alignment
            self._offsets[number] = -(-end // alignment) * alignment
            if variables[number].size is not None:
                end = self._offsets[number] + self._sizes[number]
        ends = [offset + size for offset, size in zip(self._offsets, self._sizes, strict=True)]
        self.size = max(ends, default=0)
        self.pitch = -(-self.size // BASE_ALIGNMENT) * BASE_ALIGNMENT

    def locate(self, addresses: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], int | None]:
        """Return where in the buffer accesses are, and the first of them that is beside its variable."""
        lowest, highest = int(addresses.min()), int(addresses.max())
        window = lowest >> WINDOW_BITS
        base = window << WINDOW_BITS
        if 0 <= window < len(self._sizes) and highest - base + size <= self._sizes[window]:
            return addresses + (self._offsets[window] - base), None
        return self._locate_each(addresses, size)

    def _locate_each(self, addresses: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], int | None]:
        windows = addresses >> WINDOW_BITS
        known = (windows >= 0) & (windows < len(self._sizes))
        numbers = np.where(known, windows, 0)
        distances = addresses - (windows << WINDOW_BITS)
        inside = known & (distances + size <= np.array([*self._sizes, 0])[numbers])
        if not inside.all():
            return addresses, int(np.flatnonzero(~inside)[0])
        return distances + np.array(self._offsets)[numbers], None

    def describe(self, address: int) -> str:
        """Say where an address is, in relation to the variables."""
        if not self._variables:
            return f"address {address}, with nothing declared"
        number = min(max((address + (1 << (WINDOW_BITS - 1))) >> WINDOW_BITS, 0), len(self._variables) - 1)
        distance = address - (number << WINDOW_BITS)
        return f"byte {distance} of {self._variables[number].name}, which has {self._sizes[number]} bytes"


def window(number: int) -> int:
    """Return the address that a variable has in the eyes of the kernel."""
    return number << WINDOW_BITS
