"""The memories of a GPU, every byte of which knows whether it was ever written."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tests.ptx.faults import OutOfBounds
from tests.ptx.scalars import Value

ALIGNMENT = 256
"""Of allocations, as on a GPU."""

WIDEST = 32
"""The bytes of the widest access."""

RED_ZONE = 1 << 20
"""Addresses between two allocations that belong to nobody."""

FIRST_ADDRESS = 0x7F00_0000_0000 + ALIGNMENT

UNWRITTEN = 0xFF
"""Memory that nobody wrote holds NaN, whatever the type."""


class Buffer:
    """Some bytes, and which of them were written.

    Parameters
    ----------
    size
        How many.
    """

    def __init__(self, size: int):
        padded = -(-size // WIDEST) * WIDEST
        self.size = size
        self.complete = False
        self._data = np.full(padded, UNWRITTEN, np.uint8)
        self._written = np.zeros(padded, np.bool_)

    @property
    def data(self) -> NDArray[np.uint8]:
        return self._data[: self.size]

    @property
    def written(self) -> NDArray[np.bool_]:
        return self._written[: self.size]

    def put(self, offset: int, content: NDArray[np.uint8]) -> None:
        """Write consecutive bytes."""
        self._data[offset : offset + content.size] = content
        self._written[offset : offset + content.size] = True

    def notice_completion(self) -> None:
        """Find out whether every byte has been written, after which loads need not be checked any more."""
        self.complete = self.complete or bool(self.written.all())

    def first_unwritten(self, offsets: NDArray[np.int64], size: int) -> int | None:
        """Return the first of some accesses of `size` bytes that meets a byte nobody wrote."""
        if self.complete:
            return None
        written = self._written.reshape(-1, size)[offsets // size]
        return None if written.all() else int(np.flatnonzero(~written.all(axis=1))[0])

    def load(self, offsets: NDArray[np.int64], dtype: np.dtype, count: int) -> Sequence[Value]:
        """Return `count` consecutive elements for each of these aligned offsets."""
        elements = self._data.view(dtype)
        if count == 1:
            return [elements[offsets // dtype.itemsize]]
        return list(elements.reshape(-1, count)[offsets // (dtype.itemsize * count)].T)

    def store(self, offsets: NDArray[np.int64], values: Sequence[Value]) -> None:
        """Write consecutive elements, as many as there are values, to each of these aligned offsets."""
        dtype, size = values[0].dtype, values[0].itemsize * len(values)
        rows = self._data.view(dtype).reshape(-1, len(values))
        places = offsets // size
        for column, value in enumerate(values):
            rows[places, column] = value
        if not self.complete:
            self._written.reshape(-1, size)[places] = True


class Allocation(Buffer):
    """Global memory that belongs together."""

    def __init__(self, address: int, size: int):
        super().__init__(size)
        self.address = address

    @property
    def end(self) -> int:
        return self.address + self.size


class GlobalMemory:
    """Memory that outlives a launch.

    Examples
    --------
    >>> memory = GlobalMemory()
    >>> address = memory.allocate(12)
    >>> memory.write(address, np.array([1, 2, 3], np.int32))
    >>> memory.read(address + 4, np.int32, (2,)).tolist()
    [2, 3]
    >>> memory.free(address)
    """

    def __init__(self) -> None:
        self._next_address = FIRST_ADDRESS
        self._addresses: list[int] = []
        self._allocations: dict[int, Allocation] = {}
        self._freed: list[tuple[int, int]] = []

    @property
    def used(self) -> int:
        """The bytes of all allocations."""
        return sum(allocation.size for allocation in self._allocations.values())

    def allocate(self, size: int) -> int:
        """Return the address of `size` new bytes, which no earlier allocation ever had."""
        address = self._next_address
        self._next_address += -(-(size + RED_ZONE) // ALIGNMENT) * ALIGNMENT
        self._allocations[address] = Allocation(address, size)
        self._addresses.append(address)
        return address

    def free(self, address: int) -> None:
        """Give an allocation back."""
        allocation = self._allocations.pop(address, None)
        if allocation is None:
            raise OutOfBounds(f"no allocation begins at {self.describe(address)}")
        self._addresses.remove(address)
        self._freed.append((allocation.address, allocation.end))

    def write(self, address: int, array: NDArray[Any]) -> None:
        """Copy an array to the memory."""
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        allocation = self._containing(address, content.size)
        allocation.put(address - allocation.address, content)
        allocation.notice_completion()

    def read(self, address: int, dtype: DTypeLike, shape: Sequence[int]) -> NDArray[Any]:
        """Return a copy of the memory, 255 for each byte that nobody wrote."""
        size = np.dtype(dtype).itemsize * math.prod(shape)
        allocation = self._containing(address, size)
        start = address - allocation.address
        return allocation.data[start : start + size].view(dtype).reshape(shape).copy()

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy bytes, of which those that nobody wrote remain such."""
        origin, destination = self._containing(source, size), self._containing(target, size)
        start = source - origin.address
        content, written = origin.data[start : start + size].copy(), origin.written[start : start + size].copy()
        start = target - destination.address
        destination.data[start : start + size] = content
        destination.written[start : start + size] = written
        destination.complete = False
        destination.notice_completion()

    def written(self, address: int, size: int) -> NDArray[np.bool_]:
        """Return which of these bytes have been written."""
        allocation = self._containing(address, size)
        start = address - allocation.address
        return allocation.written[start : start + size].copy()

    def find(self, address: int) -> Allocation | None:
        """Return the allocation that an address lies in."""
        position = bisect.bisect(self._addresses, address) - 1
        if position < 0:
            return None
        allocation = self._allocations[self._addresses[position]]
        return allocation if address < allocation.end else None

    def numbers(self, addresses: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return for each address how many allocations begin at it or before."""
        return np.searchsorted(np.array(self._addresses, np.int64), addresses, side="right")

    def describe(self, address: int) -> str:
        """Say where an address is, in relation to the allocations."""
        if allocation := self.find(address):
            return f"byte {address - allocation.address} of an allocation of {allocation.size} bytes"
        for start, end in self._freed:
            if start <= address < end:
                return f"byte {address - start} of freed memory of {end - start} bytes"
        if not self._allocations:
            return f"address {address:#x}, with nothing allocated"
        nearest = min(self._allocations.values(), key=lambda each: max(each.address - address, address - each.end))
        if address < nearest.address:
            return f"{nearest.address - address} bytes before an allocation of {nearest.size} bytes"
        return f"byte {address - nearest.address} of an allocation of {nearest.size} bytes"

    def _containing(self, address: int, size: int) -> Allocation:
        allocation = self.find(address)
        if allocation is None or address + size > allocation.end:
            raise OutOfBounds(f"{size} bytes from {self.describe(address)}")
        return allocation
