"""Arrays that stay on a device while an operator works: taps and spectra."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.cuda.device import Address, Device
from blurfast.resources import MEGABYTE

_MOST_STAGED_BYTES = 16 * MEGABYTE


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
