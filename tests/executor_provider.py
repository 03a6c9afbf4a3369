"""Lets the whole of blurfast find the executor of PTX where it looks for GPUs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from blurfast.cuda import probe
from blurfast.cuda.device import Address, DeviceError, DeviceProperties
from tests.ptx.device import ExecutorDevice


class ExecutorProvider:
    """Some devices, each of which is an executor.

    Parameters
    ----------
    count
        How many there are.
    memory
        How much a device has, in bytes.
    failure
        Raised where a device is opened.
    """

    def __init__(self, count: int = 1, memory: int = 2**30, failure: DeviceError | None = None) -> None:
        self.devices = [ExecutorDevice(memory=memory) for _ in range(count)]
        self._failure = failure

    def properties(self) -> list[DeviceProperties]:
        return [replace(device.properties, index=index) for index, device in enumerate(self.devices)]

    def open(self, index: int) -> ExecutorDevice:
        if self._failure is not None:
            raise self._failure
        return self.devices[index]

    def locate(self, address: Address) -> int:
        return 0


@contextlib.contextmanager
def executors(count: int, memory: int = 2**30, failure: DeviceError | None = None) -> Iterator[list[ExecutorDevice]]:
    """Offer executors as the only devices; in the end, all that they lent must be back."""
    provider = ExecutorProvider(count, memory, failure)
    with probe.use(provider):
        yield provider.devices
    for device in provider.devices:
        device.assert_nothing_is_left()


@contextlib.contextmanager
def executor(memory: int = 2**30, failure: DeviceError | None = None) -> Iterator[ExecutorDevice]:
    """Offer one executor."""
    with executors(1, memory, failure) as (device,):
        yield device
