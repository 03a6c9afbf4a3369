"""What a GPU is to blurfast: the few operations that all else is built of.

Everything in `blurfast.cuda` speaks to a `Device`. `driver` makes one of a real GPU. The tests have two more: one that
executes the kernels' PTX on the processor, and one that runs queued work in every order that a GPU might.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, NewType, Protocol

import numpy as np
from numpy.typing import NDArray

from blurfast.cuda.catalogue import Kernel
from blurfast.errors import BlurfastError

Address = int
"""Of a byte in the memory of a device."""

Stream = NewType("Stream", int)
"""A queue of a device: what is in one stream runs in order, what is in different ones in any order."""

Event = NewType("Event", int)
"""A mark in a stream, which other streams and the host can wait for."""

HostBytes = NDArray[np.uint8]
"""Host memory that a device may copy from and to while the host does something else."""

ALIGNMENT = 256
"""Every allocation begins at a multiple of this many bytes."""


class DeviceError(BlurfastError):
    """A device is missing, or failed."""

    exit_status = 4


class DeviceMemoryError(DeviceError):
    """A device has too little free memory."""

    exit_status = 5


@dataclass(frozen=True)
class DeviceProperties:
    """What is known of a device before it is used.

    Parameters
    ----------
    index
        Its number among the devices of the machine.
    name
        As the maker calls it.
    capability
        Major and minor number of the compute capability.
    memory
        All its memory, in bytes.
    bandwidth
        Of its memory, in bytes per second, by its clock and width.
    multiprocessors
        How many there are.
    shared_memory
        The most bytes that one block of threads can share.
    """

    index: int
    name: str
    capability: tuple[int, int]
    memory: int
    bandwidth: float
    multiprocessors: int
    shared_memory: int


class Launch(NamedTuple):
    """One kernel over a grid of blocks of threads.

    Parameters
    ----------
    kernel
        Which.
    grid, block
        Blocks, and threads of each block, along x, y and z.
    arguments
        In the order of the kernel's parameters; numpy scalars where a parameter is not a 64-bit address.
    shared_bytes
        Memory that the threads of a block share beyond what the kernel declares.
    """

    kernel: Kernel
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: Sequence[int | np.generic]
    shared_bytes: int = 0


class FftLibrary(Protocol):
    """The calls to cuFFT that blurfast makes, in its words.

    A plan is a number. The order is `create`, `disable_auto_allocation`, `make_plan`, `set_work_area`, `set_stream`,
    any number of transforms, `destroy`.
    """

    def create(self) -> int:
        """Return a new, empty plan."""

    def disable_auto_allocation(self, plan: int) -> None:
        """Leave the work area to the caller."""

    def make_plan(self, plan: int, shape: tuple[int, int], sums: np.dtype[Any], *, inverse: bool, batch: int) -> int:
        """Plan transforms of `batch` tiles one after the other, rows padded to whole spectra; return the work size.

        Real rows are ``2 * (shape[1] // 2 + 1)`` elements apart, and spectra ``shape[1] // 2 + 1``.
        """

    def set_work_area(self, plan: int, address: Address) -> None:
        """Name the memory that the plan may use while it runs."""

    def set_stream(self, plan: int, stream: Stream) -> None:
        """Queue the plan's transforms into a stream."""

    def execute(self, plan: int, source: Address, target: Address) -> None:
        """Queue the transforms; unnormalised, as in cuFFT."""

    def destroy(self, plan: int) -> None:
        """Forget a plan."""


class Device(Protocol):
    """One GPU, as the calling thread sees it.

    All that takes a stream is only queued when the call returns. Every method raises a `DeviceError` where the device
    refuses, among them errors of work that was queued earlier.
    """

    @property
    def properties(self) -> DeviceProperties:
        """What does not change."""

    @property
    def fft(self) -> FftLibrary:
        """The transforms of this device."""

    def activate(self) -> AbstractContextManager[None]:
        """Make this the device of the calling thread until the context ends, then the one before."""

    def free_memory(self) -> int:
        """Return how many bytes could be allocated now."""

    def allocate(self, count: int) -> Address:
        """Return `count` bytes of device memory; raise a `DeviceMemoryError` if there are not so many."""

    def release(self, address: Address) -> None:
        """Give back what `allocate` returned, once no queued work uses it."""

    def allocate_host(self, count: int) -> HostBytes:
        """Return page-locked host memory, which copies to and from the device need to be asynchronous."""

    def release_host(self, memory: HostBytes) -> None:
        """Give back what `allocate_host` returned."""

    def open_stream(self) -> Stream:
        """Return a new stream, which does not wait for any other."""

    def close_stream(self, stream: Stream) -> None:
        """Give back what `open_stream` returned."""

    def open_event(self) -> Event:
        """Return a new event, which counts as reached."""

    def close_event(self, event: Event) -> None:
        """Give back what `open_event` returned."""

    def record(self, event: Event, stream: Stream) -> None:
        """Let `event` be reached when all that is in `stream` now has run."""

    def wait(self, stream: Stream, event: Event) -> None:
        """Let what comes into `stream` from now on run after `event`, as it was last recorded."""

    def synchronize(self, event: Event) -> None:
        """Block until `event`, as it was last recorded, is reached."""

    def synchronize_stream(self, stream: Stream) -> None:
        """Block until all that is in `stream` has run."""

    def elapsed(self, start: Event, stop: Event) -> float:
        """Return the seconds between two events that are reached."""

    def upload(self, target: Address, source: HostBytes, stream: Stream) -> None:
        """Queue a copy to the device; `source` must stay as it is until it has run."""

    def download(self, target: HostBytes, source: Address, stream: Stream) -> None:
        """Queue a copy from the device."""

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
        """Queue a copy within the device, of rows that lie a pitch in bytes apart."""

    def clear(self, address: Address, count: int, stream: Stream) -> None:
        """Queue the filling of `count` bytes with zeros."""

    def launch(self, launch: Launch, stream: Stream) -> None:
        """Queue a kernel."""
