"""The stages of a run on a GPU, each on its own: the copy there, the filter, and the copy back."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.arrays import apply
from blurfast.bench.prepared import FROM_DEVICE, ON_DEVICE, TO_DEVICE, Run
from blurfast.cuda.device import Device, Stream
from blurfast.filters import Filter


class DeviceCopy:
    """An array in the memory of a device, as others see it; given back with the object.

    Parameters
    ----------
    device
        Where.
    pixels
        Whose shape and dtype the array has, and which is copied from and to.
    """

    def __init__(self, device: Device, pixels: NDArray[Any]) -> None:
        self._device = device
        self._bytes = pixels.reshape(-1).view(np.uint8)
        with device.activate():
            self._stream: Stream = device.open_stream()
            self._address = device.allocate(pixels.nbytes)
        self.__cuda_array_interface__ = {
            "shape": pixels.shape,
            "typestr": pixels.dtype.str,
            "data": (self._address, False),
            "strides": None,
            "stream": int(self._stream),
            "version": 3,
        }

    def upload(self) -> None:
        """Copy to the device, and wait until it is done."""
        with self._device.activate():
            self._device.upload(self._address, self._bytes, self._stream)
            self._device.synchronize_stream(self._stream)

    def download(self) -> None:
        """Copy from the device, and wait until it is done."""
        with self._device.activate():
            self._device.download(self._bytes, self._address, self._stream)
            self._device.synchronize_stream(self._stream)

    def __del__(self) -> None:
        with self._device.activate():
            self._device.release(self._address)
            self._device.close_stream(self._stream)


def device_stages(filter: Filter, image: NDArray[Any], options: Mapping[str, Any]) -> dict[str, Run]:
    """Return the stages of filtering an array on the preferred device; empty where there is none."""
    from blurfast.cuda import probe

    if not probe.devices():
        return {}
    device = probe.open_device()
    source: Any = DeviceCopy(device, image)
    target: Any = DeviceCopy(device, np.empty_like(image))
    return {
        TO_DEVICE: source.upload,
        ON_DEVICE: functools.partial(apply, filter, source, out=target, **options),
        FROM_DEVICE: target.download,
    }
