"""What operators keep on a device while they work: taps and spectra."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from blurfast.cuda.device import Address, Device
from blurfast.cuda.memory import TileNeeds
from blurfast.resources import MEGABYTE

_MOST_STAGED_BYTES = 16 * MEGABYTE


_Needs = TypeVar("_Needs", bound=TileNeeds)


class ResidentOperator(Generic[_Needs]):
    """What all operators have in common: a device, and what they hold there from their making until `close`.

    Each sets `_device`, `_needs`, and `_resources`, which give back what it holds.
    """

    _device: Device
    _needs: _Needs
    _resources: ExitStack

    @property
    def device(self) -> Device:
        """See `tiles.TileOperator`."""
        return self._device

    def row_span(self, start: int, stop: int) -> tuple[int, int]:
        """See `tiles.TileOperator`."""
        return self._needs.row_span(start, stop)

    def column_span(self, start: int, stop: int) -> tuple[int, int]:
        """See `tiles.TileOperator`."""
        return self._needs.column_span(start, stop)

    def scratch_bytes(self, rows: int, columns: int) -> int:
        """See `tiles.TileOperator`."""
        return self._needs.scratch_bytes(rows, columns)

    def close(self) -> None:
        """See `tiles.TileOperator`."""
        with self._device.activate():
            self._resources.close()


def keep(device: Device, array: NDArray[Any], resources: ExitStack) -> Address:
    """Copy an array to a device that is active, in C order, and return its address there.

    Parameters
    ----------
    resources
        Gives the memory back when it is closed.
    """
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    address = device.allocate(content.size)
    resources.callback(device.release, address)
    staged_bytes = min(content.size, _MOST_STAGED_BYTES)
    with ExitStack() as temporary:
        staged = device.allocate_host(staged_bytes)
        temporary.callback(device.release_host, staged)
        stream = device.open_stream()
        temporary.callback(device.close_stream, stream)
        for start in range(0, content.size, staged_bytes):
            part = content[start : start + staged_bytes]
            staged[: part.size] = part
            device.upload(address + start, staged[: part.size], stream)
            device.synchronize_stream(stream)
    return address
