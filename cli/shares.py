"""What each of several files may use of the machine that are filtered at the same time."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from blurfast.errors import MemoryBudgetError
from blurfast.files import MemoryShare, share_memory
from blurfast.resources import Resources

_Result = TypeVar("_Result")
_Limits = Mapping[str, Any]

_M_ARENA_MAX = -8  # from the GNU C library's malloc.h


class Shares:
    """The limits of threads and memory, divided among runs at the same time.

    Parameters
    ----------
    whole
        What all runs may use together.
    files
        How many there are to be run, one or several at a time.
    at_once
        How many go on at the same time, at most.
    backends
        Which the runs take in turns, if there is more than one: ``cuda:0`` and ``cuda:1``.

    Examples
    --------
    >>> shares = Shares(Resources(threads=5, max_memory=4_000_000_000), files=9, at_once=2)
    >>> shares.use(lambda **limits: limits["threads"])
    3
    """

    def __init__(self, whole: Resources, files: int, at_once: int, backends: Sequence[str] = ()) -> None:
        self._at_once = at_once
        memory: int | MemoryShare = whole.max_memory
        if files > 1:
            # What a run has freed stays with the process, for later ones. So what the process itself needs is measured
            # once, before the first run.
            _use_one_heap()
            memory = share_memory(whole.max_memory, 1)
        self._whole = _limits(whole.threads, memory, whole.device_memory)
        self._free: queue.SimpleQueue[_Limits] = queue.SimpleQueue()
        self._collecting = threading.Lock()
        shares = [self._whole] if at_once == 1 else _divide(whole, at_once, len(backends) or 1)
        for share, backend in zip(shares, itertools.cycle(backends or [None])):
            self._free.put(share if backend is None else {**share, "backend": backend})

    def use(self, run: Callable[..., _Result]) -> _Result:
        """Return what `run` returns, called with the limits of a share as ``filter_file`` takes them.

        What does not fit into the memory of a share is run again alone, once the others are done, with the whole.
        """
        with self._taken() as share:
            try:
                return run(**share)
            except MemoryBudgetError:
                if self._at_once == 1:
                    raise
        with self._all_taken():
            return run(**self._whole)

    @contextlib.contextmanager
    def _taken(self) -> Iterator[_Limits]:
        share = self._free.get()
        try:
            yield share
        finally:
            self._free.put(share)

    @contextlib.contextmanager
    def _all_taken(self) -> Iterator[None]:
        with self._collecting, contextlib.ExitStack() as taken:  # two that each have some would wait for each other
            for _ in range(self._at_once):
                taken.enter_context(self._taken())
            yield


def _use_one_heap() -> None:
    """Let all threads allocate from one heap: what a run frees in one of its own would not serve a run elsewhere."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # other C libraries than GNU's have no such choice
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _divide(whole: Resources, count: int, devices: int) -> list[_Limits]:
    memory = share_memory(whole.max_memory, count)
    device_memory = None if whole.device_memory is None else whole.device_memory // -(-count // devices)
    threads, more = divmod(whole.threads, count)
    return [_limits(max(1, threads + (number < more)), memory, device_memory) for number in range(count)]


def _limits(threads: int, max_memory: int | MemoryShare, device_memory: int | None) -> _Limits:
    return {"threads": threads, "max_memory": max_memory, "device_memory": device_memory}
