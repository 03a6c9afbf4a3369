"""A device that does what it is told as late, and in as strange an order, as a real one may.

Work is queued by stream. Whenever somebody waits, and now and then before, a random stream takes its next step: so
what is in one stream runs in order, and all else in any order that events allow. What a program forgets to wait for
happens too late with one seed or another, and then its result is wrong: memory is full of poison until it is written.

Kernels are Python functions. They get the device and the arguments of the launch, and see memory by `array`.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import (
    ALIGNMENT,
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

POISON = 0xA7
"""What every byte holds that nobody has written, on the host and on the device."""

_GAP = 16 * ALIGNMENT  # between allocations, so that what is written beyond one does not end up in the next


class Violation(AssertionError):  # noqa: N818 - it is what a test found, not an error of the device
    """Somebody did what no real device would forgive."""


@dataclass
class _Mark:
    """One recording of an event."""

    reached: bool = False
    step: int = 0


@dataclass
class _Work:
    """What a stream does next: something, or nothing before `after` is reached."""

    action: Callable[[], None] = lambda: None
    after: _Mark | None = None
    memory: tuple[int, ...] = ()  # the first addresses of the allocations that it uses

    @property
    def is_ready(self) -> bool:
        return self.after is None or self.after.reached


class QueueDevice:
    """A `Device` whose work runs in a random legal order.

    Parameters
    ----------
    seed
        Chooses the order, and how early work runs.
    memory
        Of the device, in bytes.
    kernels
        What stands for each kernel.
    failing_call
        The number of a call, counted from 0 in `calls`, that fails.
    losing_call
        The number of a call from which on all fail.
    failing_work
        The number of the copy, clearing or launch that fails when it runs; all calls fail from then on.
    """

    def __init__(
        self,
        seed: int,
        *,
        memory: int = 2**30,
        kernels: Mapping[Kernel, Callable[..., None]] | None = None,
        failing_call: int | None = None,
        losing_call: int | None = None,
        failing_work: int | None = None,
    ) -> None:
        self.calls: list[str] = []
        self.peak = self.used = self.host_used = self.host_peak = 0
        self.work_count = 0
        self._random = random.Random(seed)
        self._eagerness = self._random.choice([0.0, 0.2, 0.6, 0.9])
        self._memory = memory
        self._kernels = kernels or {}
        self._failing_call, self._losing_call, self._failing_work = failing_call, losing_call, failing_work
        self._is_lost = False
        self._active: Counter[int] = Counter()
        self._numbers = 0
        self._steps = 0
        self._next_address = 2**40
        self._allocations: dict[Address, HostBytes] = {}
        self._host: dict[int, HostBytes] = {}
        self._streams: dict[Stream, deque[_Work]] = {}
        self._haste: dict[Stream, float] = {}
        self._events: dict[Event, _Mark] = {}

    # ---------------------------------------------------------------------------------------------- what tests ask

    def array(self, address: Address, count: int, dtype: Any) -> np.ndarray:
        """Return device memory as an array, for kernels."""
        dtype = np.dtype(dtype)
        start, block = self._find(int(address), count * dtype.itemsize)
        if (address - start) % dtype.itemsize:
            raise Violation(f"{dtype.name} at address {address}")
        return block[address - start : address - start + count * dtype.itemsize].view(dtype)

    def assert_nothing_is_left(self) -> None:
        """Assert that all has been given back."""
        left = {
            "allocations": len(self._allocations),
            "host allocations": len(self._host),
            "streams": len(self._streams),
            "events": len(self._events),
            "activations": sum(self._active.values()),
        }
        assert not any(left.values()), left

    # ------------------------------------------------------------------------------------------------ the protocol

    @property
    def properties(self) -> DeviceProperties:
        return DeviceProperties(0, "queues", (8, 0), self._memory, 1e12, 80, 48 * 1024)

    @property
    def fft(self) -> FftLibrary:
        raise Violation("this device has no transforms")

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        thread = threading.get_ident()
        self._active[thread] += 1
        try:
            yield
        finally:
            self._active[thread] -= 1

    def free_memory(self) -> int:
        self._call("free_memory")
        return self._memory - self.used

    def allocate(self, count: int) -> Address:
        self._call("allocate", DeviceMemoryError)
        if count < 1:
            raise DeviceError(f"{count} bytes are asked for")
        size = -(-count // ALIGNMENT) * ALIGNMENT
        if self.used + size > self._memory:
            raise DeviceMemoryError(f"{count} bytes are asked for, and {self._memory - self.used} are free")
        self.used += size
        self.peak = max(self.peak, self.used)
        address = self._next_address
        self._next_address += size + _GAP
        self._allocations[address] = np.full(count, POISON, dtype=np.uint8)
        return address

    def release(self, address: Address) -> None:
        if address not in self._allocations:
            raise Violation(f"{address} is no allocation")
        for stream, queue in self._streams.items():
            if any(address in work.memory for work in queue):
                raise Violation(f"stream {stream} still uses the memory at {address}")
        self.used -= -(-self._allocations.pop(address).size // ALIGNMENT) * ALIGNMENT
        self._call("release")

    def allocate_host(self, count: int) -> HostBytes:
        self._call("allocate_host", DeviceMemoryError)
        block = np.full(count, POISON, dtype=np.uint8)
        self._host[block.ctypes.data] = block
        self.host_used += count
        self.host_peak = max(self.host_peak, self.host_used)
        return block

    def release_host(self, memory: HostBytes) -> None:
        address = memory.ctypes.data
        if address not in self._host:
            raise Violation("this is no page-locked memory")
        for stream, queue in self._streams.items():
            if any(address in work.memory for work in queue):
                raise Violation(f"stream {stream} still uses page-locked memory")
        self.host_used -= self._host.pop(address).size
        self._call("release_host")

    def open_stream(self) -> Stream:
        self._call("open_stream")
        stream = Stream(self._number())
        self._streams[stream] = deque()
        self._haste[stream] = self._random.choice([1.0, 1.0, 20.0])
        return stream

    def close_stream(self, stream: Stream) -> None:
        if self._streams.pop(stream):
            raise Violation(f"stream {stream} still has work")
        self._call("close_stream")

    def open_event(self) -> Event:
        self._call("open_event")
        event = Event(self._number())
        self._events[event] = _Mark(reached=True)
        return event

    def close_event(self, event: Event) -> None:
        del self._events[event]
        self._call("close_event")

    def record(self, event: Event, stream: Stream) -> None:
        self._call("record")
        mark = self._events[event] = _Mark()

        def reach() -> None:
            mark.reached, mark.step = True, self._steps

        self._streams[stream].append(_Work(reach))
        self._run_a_little()

    def wait(self, stream: Stream, event: Event) -> None:
        self._call("wait")
        self._streams[stream].append(_Work(after=self._events[event]))
        self._run_a_little()

    def synchronize(self, event: Event) -> None:
        self._call("synchronize")
        mark = self._events[event]
        self._run_until(lambda: mark.reached)

    def synchronize_stream(self, stream: Stream) -> None:
        self._call("synchronize_stream")
        self._run_until(lambda: not self._streams[stream])

    def elapsed(self, start: Event, stop: Event) -> float:
        self._call("elapsed")
        first, last = self._events[start], self._events[stop]
        if not (first.reached and last.reached):
            raise DeviceError("an event is not reached")
        return 1e-6 * (last.step - first.step)

    def upload(self, target: Address, source: HostBytes, stream: Stream) -> None:
        self._call("upload")
        memory = self.array(target, source.size, np.uint8)
        self._queue(lambda: np.copyto(memory, source), stream, self._start_of(target), self._host_start_of(source))

    def download(self, target: HostBytes, source: Address, stream: Stream) -> None:
        self._call("download")
        memory = self.array(source, target.size, np.uint8)
        self._queue(lambda: np.copyto(target, memory), stream, self._start_of(source), self._host_start_of(target))

    def clear(self, address: Address, count: int, stream: Stream) -> None:
        self._call("clear")
        memory = self.array(address, count, np.uint8)
        self._queue(lambda: memory.fill(0), stream, self._start_of(address))

    def launch(self, launch: Launch, stream: Stream) -> None:
        self._call("launch")
        function, arguments = self._kernels[launch.kernel], tuple(launch.arguments)
        used = [start for value in arguments if (start := self._start_of(int(value))) is not None]
        self._queue(lambda: function(self, *arguments), stream, *used)

    # ------------------------------------------------------------------------------------------------ how it runs

    def _call(self, name: str, failure: type[DeviceError] = DeviceError) -> None:
        """Count a call, and let it fail if it shall."""
        number = len(self.calls)
        self.calls.append(name)
        if not self._active[threading.get_ident()]:
            raise Violation(f"{name} is called where no device is active")
        if number == self._losing_call:
            self._lose()
        if self._is_lost:
            raise DeviceError(f"call {number}, {name}: the device is lost")
        if number == self._failing_call:
            raise failure(f"call {number}, {name}, shall fail")

    def _lose(self) -> None:
        """Fail for good, and do nothing any more."""
        self._is_lost = True
        for queue in self._streams.values():
            queue.clear()

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _queue(self, action: Callable[[], None], stream: Stream, *memory: int | None) -> None:
        used = tuple(start for start in memory if start is not None)
        self._streams[stream].append(_Work(lambda: self._do(action), memory=used))
        self._run_a_little()

    def _do(self, action: Callable[[], None]) -> None:
        number = self.work_count
        self.work_count += 1
        if number == self._failing_work:
            self._lose()
            raise DeviceError(f"work {number} shall fail")
        action()

    def _run_a_little(self) -> None:
        while self._random.random() < self._eagerness and self._step():
            pass

    def _run_until(self, is_done: Callable[[], bool]) -> None:
        while not is_done():
            if not self._step():
                raise Violation("a deadlock: all streams wait for each other")

    def _step(self) -> bool:
        """Let a random stream take its next step; return False if none can."""
        ready = [stream for stream, queue in self._streams.items() if queue and queue[0].is_ready]
        if not ready:
            return False
        (stream,) = self._random.choices(ready, [self._haste[stream] for stream in ready])
        self._steps += 1
        self._streams[stream].popleft().action()
        return True

    def _start_of(self, address: Address) -> Address | None:
        """Return where the allocation starts that an address lies in, if it lies in one."""
        for start, block in self._allocations.items():
            if start <= address < start + block.size:
                return start
        return None

    def _find(self, address: Address, count: int) -> tuple[Address, HostBytes]:
        start = self._start_of(address)
        if start is None or address + count > start + self._allocations[start].size:
            raise Violation(f"no allocation holds {count} bytes at {address}")
        return start, self._allocations[start]

    def _host_start_of(self, memory: HostBytes) -> int:
        """Return where the page-locked memory starts that an array lies in."""
        address = memory.ctypes.data
        for start, block in self._host.items():
            if start <= address and address + memory.nbytes <= start + block.nbytes:
                return start
        raise Violation("a copy from or to memory that is not page-locked would not wait for its turn")
