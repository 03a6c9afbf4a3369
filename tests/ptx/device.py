"""A device that executes kernels' PTX on the processor, each operation at once.

Memory that nobody wrote, accesses out of bounds and races are faults (`tests.ptx.faults`). What each launch did is
counted.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from blurfast.cuda import programs
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import (
    Address,
    DeviceError,
    DeviceMemoryError,
    DeviceProperties,
    Event,
    FftLibrary,
    HostBytes,
    Launch,
    Stream,
)
from tests.ptx import Counters, Entry, GlobalMemory, execute, parse
from tests.scipy_fft import ScipyFft

CAPABILITY = (8, 0)
"""For which kernels are compiled, unless a test says otherwise."""


class Executed(NamedTuple):
    """A launch, and what it did."""

    launch: Launch
    counters: Counters


class ExecutorDevice:
    """A `Device` whose work is done when a call returns.

    Parameters
    ----------
    capability
        Which instructions the device has.
    memory
        How much there is, in bytes.
    multiprocessors
        What an operator may cut its work for.

    Attributes
    ----------
    executed
        All launches so far.
    memory
        What addresses point to, also for tests.
    fft
        The device's transforms.
    """

    def __init__(
        self,
        *,
        capability: tuple[int, int] = CAPABILITY,
        memory: int = 2**30,
        multiprocessors: int = 1,
    ) -> None:
        self.executed: list[Executed] = []
        self.memory = GlobalMemory()
        self._capability = capability
        self._size = memory
        self._multiprocessors = multiprocessors
        self.fft: FftLibrary = ScipyFft(self.memory)
        self._numbers = 0
        self._streams: set[Stream] = set()
        self._events: dict[Event, float] = {}
        self._host: dict[int, HostBytes] = {}

    def assert_nothing_is_left(self) -> None:
        """Assert that all has been given back."""
        left = {
            "bytes": self.memory.used,
            "host allocations": len(self._host),
            "streams": len(self._streams),
            "events": len(self._events),
        }
        assert not any(left.values()), left

    @property
    def properties(self) -> DeviceProperties:
        return DeviceProperties(0, "executor", self._capability, self._size, 1e12, self._multiprocessors, 48 * 1024)

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        yield

    def free_memory(self) -> int:
        return self._size - self.memory.used

    def allocate(self, count: int) -> Address:
        if count < 1:
            raise DeviceError(f"{count} bytes are asked for")
        if count > self.free_memory():
            raise DeviceMemoryError(f"{count} bytes are asked for, and {self.free_memory()} are free")
        return self.memory.allocate(count)

    def release(self, address: Address) -> None:
        self.memory.free(address)

    def allocate_host(self, count: int) -> HostBytes:
        memory = np.full(count, 0xA7, np.uint8)
        self._host[memory.ctypes.data] = memory
        return memory

    def release_host(self, memory: HostBytes) -> None:
        del self._host[memory.ctypes.data]

    def open_stream(self) -> Stream:
        stream = Stream(self._number())
        self._streams.add(stream)
        return stream

    def close_stream(self, stream: Stream) -> None:
        self._streams.remove(stream)

    def open_event(self) -> Event:
        event = Event(self._number())
        self._events[event] = time.perf_counter()
        return event

    def close_event(self, event: Event) -> None:
        del self._events[event]

    def record(self, event: Event, stream: Stream) -> None:
        self._check(stream)
        self._events[event] = time.perf_counter()

    def wait(self, stream: Stream, event: Event) -> None:
        self._check(stream)
        assert event in self._events, f"event {event} is not open"

    def synchronize(self, event: Event) -> None:
        assert event in self._events, f"event {event} is not open"

    def synchronize_stream(self, stream: Stream) -> None:
        self._check(stream)

    def elapsed(self, start: Event, stop: Event) -> float:
        return self._events[stop] - self._events[start]

    def upload(self, target: Address, source: HostBytes, stream: Stream) -> None:
        self._check(stream)
        self.memory.write(target, source)

    def download(self, target: HostBytes, source: Address, stream: Stream) -> None:
        self._check(stream)
        target[...] = self.memory.read(source, np.uint8, target.shape)

    def copy_rows(
        self,
        target: Address,
        target_pitch: int,
        source: Address,
        source_pitch: int,
        *,
        row_bytes: int,
        rows: int,
        stream: Stream,
    ) -> None:
        self._check(stream)
        for row in range(rows):
            self.memory.copy(target + row * target_pitch, source + row * source_pitch, row_bytes)

    def clear(self, address: Address, count: int, stream: Stream) -> None:
        self._check(stream)
        self.memory.write(address, np.zeros(count, np.uint8))

    def launch(self, launch: Launch, stream: Stream) -> None:
        self._check(stream)
        counters = execute(
            _entry(launch.kernel, self._capability),
            self.memory,
            grid=launch.grid,
            block=launch.block,
            arguments=launch.arguments,
            shared_bytes=launch.shared_bytes,
        )
        self.executed.append(Executed(launch, counters))

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _check(self, stream: Stream) -> None:
        assert stream in self._streams, f"stream {stream} is not open"


@functools.cache
def _entry(kernel: Kernel, capability: tuple[int, int]) -> Entry:
    (program,) = programs.obtain([kernel], capability)
    return parse(program.ptx).entries[program.entry]
