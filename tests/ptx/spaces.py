"""What an access meets in each memory: the bytes that it means, or a fault; on the way it is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.ptx.checks import Kind, Races
from tests.ptx.counters import SharedTraffic, Traffic
from tests.ptx.faults import Misaligned, OutOfBounds, PtxFault, Race, Uninitialised
from tests.ptx.launch import Lanes
from tests.ptx.layout import Layout
from tests.ptx.memory import Buffer
from tests.ptx.syntax import Instruction

Addresses = NDArray[np.int64]
"""One for each thread, or a single one for all."""

GENERIC_SHARED = 1 << 40
GENERIC_LOCAL = 1 << 41
GENERIC_END = 1 << 42
"""Where the windows to shared and local memory are among the generic addresses, far below all global ones."""


@dataclass(frozen=True)
class Access:
    """What a load, a store or an atomic operation says.

    Parameters
    ----------
    instruction
        Which.
    space
        The memory; "generic" where the address says it.
    dtype, count
        Of the elements for one thread, and how many.
    coherent
        False for loads by ``.nc``.
    """

    instruction: Instruction
    space: str
    dtype: np.dtype
    count: int
    coherent: bool

    @property
    def size(self) -> int:
        """The bytes for one thread."""
        return self.dtype.itemsize * self.count


def parts(
    access: Access, addresses: Addresses, lanes: Lanes
) -> Sequence[tuple[Lanes, NDArray[np.intp] | None, Addresses]]:
    """Return the threads in parts, each within one allocation: which of the threads, None for all, and addresses."""
    memory = lanes.chunk.launch.memory
    lowest = int(addresses.min())
    if access.space in ("shared", "local") or 0 <= lowest < GENERIC_END or addresses.size == 1:
        return [(lanes, None, addresses)]
    allocation = memory.find(lowest)
    if allocation and addresses.max() < allocation.end:
        return [(lanes, None, addresses)]
    numbers = memory.numbers(addresses)
    choices = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    return [(lanes.at(chosen), chosen, addresses[chosen]) for chosen in choices]


def reach(access: Access, kind: Kind, addresses: Addresses, lanes: Lanes) -> tuple[Buffer, Addresses]:
    """Return the bytes that an access means, and the offsets in them; `addresses` are one of `parts`.

    Raises
    ------
    OutOfBounds, Misaligned, Uninitialised, Race
        The access is wrong.
    """
    space, addresses = _space_of(access, addresses)
    target = {"global": _in_global, "shared": _in_shared, "local": _in_local}[space](access, addresses, lanes)
    _check_alignment(access, target, lanes)
    if kind is not Kind.WRITE:
        _check_written(access, target, lanes)
    if target.races:
        _check_races(access, kind, target, target.races, lanes)
    _count(access, kind, space, target, lanes)
    return target.buffer, target.offsets


class _Target(NamedTuple):
    """What an access means.

    Parameters
    ----------
    buffer, offsets
        The bytes, and where in them.
    places
        Offsets that decide on alignment and banks.
    races
        What watches these bytes, None where threads have their own.
    describe
        Says where the access of the thread at some position is.
    """

    buffer: Buffer
    offsets: Addresses
    places: Addresses
    races: Races | None
    describe: Callable[[int], str]


def _space_of(access: Access, addresses: Addresses) -> tuple[str, Addresses]:
    """Return the memory that an access means, and its addresses there."""
    if access.space != "generic":
        return access.space, addresses
    lowest = int(addresses.min())
    if GENERIC_SHARED <= lowest < GENERIC_LOCAL:
        return "shared", addresses - GENERIC_SHARED
    if GENERIC_LOCAL <= lowest < GENERIC_END:
        return "local", addresses - GENERIC_LOCAL
    return "global", addresses


def _in_global(access: Access, addresses: Addresses, lanes: Lanes) -> _Target:
    launch = lanes.chunk.launch

    def describe(position: int) -> str:
        return launch.memory.describe(int(lanes.spread(addresses)[position]))

    allocation = launch.memory.find(int(addresses[0]))
    if allocation is None:
        raise _beside(access, lanes, 0, describe)
    beside = addresses + access.size > allocation.end
    if beside.any():
        raise _beside(access, lanes, int(np.flatnonzero(beside)[0]), describe)
    offsets = addresses - allocation.address
    return _Target(allocation, offsets, offsets, launch.races(allocation), describe)


def _in_shared(access: Access, addresses: Addresses, lanes: Lanes) -> _Target:
    chunk, layout = lanes.chunk, lanes.chunk.launch.shared
    places, describe = _in_layout(layout, access, addresses, lanes)
    offsets = places + lanes.blocks.astype(np.int64) * layout.pitch
    return _Target(chunk.shared, offsets, places, chunk.shared_races, describe)


def _in_local(access: Access, addresses: Addresses, lanes: Lanes) -> _Target:
    chunk, layout = lanes.chunk, lanes.chunk.launch.local
    places, describe = _in_layout(layout, access, addresses, lanes)
    return _Target(chunk.local, places + lanes.positions() * layout.pitch, places, None, describe)


def _in_layout(
    layout: Layout, access: Access, addresses: Addresses, lanes: Lanes
) -> tuple[Addresses, Callable[[int], str]]:
    def describe(position: int) -> str:
        return layout.describe(int(lanes.spread(addresses)[position]))

    places, beside = layout.locate(addresses, access.size)
    if beside is not None:
        raise _beside(access, lanes, beside, describe)
    return places, describe


def _beside(access: Access, lanes: Lanes, position: int, describe: Callable[[int], str]) -> PtxFault:
    return lanes.fault(OutOfBounds, access.instruction, position, f"{access.size} bytes at {describe(position)}")


def _check_alignment(access: Access, target: _Target, lanes: Lanes) -> None:
    misaligned = target.places & (access.size - 1)
    if misaligned.any():
        position = int(np.flatnonzero(misaligned)[0])
        text = f"{access.size} bytes, which must be aligned, at {target.describe(position)}"
        raise lanes.fault(Misaligned, access.instruction, position, text)


def _check_written(access: Access, target: _Target, lanes: Lanes) -> None:
    position = target.buffer.first_unwritten(target.offsets, access.size)
    if position is not None:
        text = f"{access.size} bytes, not all of which were ever written, at {target.describe(position)}"
        raise lanes.fault(Uninitialised, access.instruction, position, text)


def _check_races(access: Access, kind: Kind, target: _Target, races: Races, lanes: Lanes) -> None:
    accessors = lanes.accessors(coherent=access.coherent)
    conflict = races.access(kind, lanes.spread(target.offsets), access.size, accessors)
    if conflict:
        other = lanes.chunk.launch.name_thread(conflict.other)
        text = f"{access.size} bytes at {target.describe(conflict.position)}, also {conflict.kind.value} by {other}"
        text += ", and no barrier orders the two"
        raise lanes.fault(Race, access.instruction, conflict.position, text)


def _count(access: Access, kind: Kind, space: str, target: _Target, lanes: Lanes) -> None:
    counters, loads = lanes.chunk.launch.counters, kind is Kind.READ
    if space == "global":
        traffic: Traffic | SharedTraffic = counters.global_loads if loads else counters.global_stores
    elif space == "shared":
        traffic = counters.shared_loads if loads else counters.shared_stores
    else:
        return
    traffic.add(target.places, access.size, lanes.threads)
