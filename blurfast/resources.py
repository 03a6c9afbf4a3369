"""What a run may use of the machine: threads and memory."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 1_000_000
LEAST_DEFAULT_MEMORY = 256 * MEGABYTE

_OWN_STATUS = "/proc/self/status"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


@dataclass(frozen=True)
class Resources:
    """What one run may use.

    Parameters
    ----------
    threads
        Threads that compute and run codecs.
    max_memory
        Bytes that the whole process may keep resident.
    device_memory
        Bytes of a GPU's memory to use at most; None for what is free there.
    """

    threads: int
    max_memory: int
    device_memory: int | None = None

    @classmethod
    def choose(
        cls,
        threads: int | None = None,
        max_memory: int | str | None = None,
        device_memory: int | str | None = None,
    ) -> Resources:
        """Return the given limits, or the defaults: all processors, and a quarter of the available memory."""
        return cls(
            thread_count(threads),
            parse_memory(max_memory) if max_memory is not None else default_memory(),
            parse_memory(device_memory, "device_memory") if device_memory is not None else None,
        )


def thread_count(threads: int | None) -> int:
    """Return `threads`, checked, or the number of processors that this process may run on."""
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"threads is {threads!r}; it must be an integer")
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1")
    return threads


def parse_memory(size: int | str, argument: str = "max_memory") -> int:
    """Return a number of bytes given as such or as text like ``512MB``, ``1.5 GiB`` or ``2G``.

    Errors name the `argument`.

    Examples
    --------
    >>> parse_memory("512MB"), parse_memory("1GiB")
    (512000000, 1073741824)
    """
    if isinstance(size, int) and not isinstance(size, bool):
        count = float(size)
    elif isinstance(size, str):
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?I?)B?\s*", size.upper())
        if match is None or match[2] not in _UNITS:
            raise ValueError(f"{argument} is {size!r}; it must be a size such as 512MB or 2GiB")
        count = float(match[1]) * _UNITS[match[2]]
    else:
        raise TypeError(f"{argument} is {size!r}; it must be a number of bytes or text such as 512MB")
    if not 1 <= count <= sys.maxsize:
        raise ValueError(f"{argument} is {size!r}; it must be from 1 byte to {sys.maxsize} bytes")
    return int(count)


def default_memory() -> int:
    """Return a quarter of the memory that is available now, but at least 256 MB."""
    return max(LEAST_DEFAULT_MEMORY, available_memory() // 4)


def available_memory() -> int:
    """Return the bytes that processes can use now without making others swap."""
    available = _read_bytes("/proc/meminfo", "MemAvailable") if sys.platform == "linux" else None
    if available is not None:
        return available
    import psutil  # takes 10 ms

    return int(psutil.virtual_memory().available)


def resident_memory() -> int:
    """Return the bytes that this process keeps resident now."""
    resident = _read_bytes(_OWN_STATUS, "VmRSS") if sys.platform == "linux" else None
    if resident is not None:
        return resident
    import psutil  # takes 10 ms

    return int(psutil.Process().memory_info().rss)


def peak_memory() -> int:
    """Return the most bytes that this process has kept resident so far."""
    if sys.platform == "win32":
        import psutil  # takes 10 ms

        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform == "linux":  # whose getrusage counts what the parent process kept before it started this one
        most = _read_bytes(_OWN_STATUS, "VmHWM")
        if most is not None:
            return most
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _read_bytes(path: str, field: str) -> int | None:
    """Return a number of bytes that Linux tells in a file, or None where it has no such field."""
    found = re.search(rf"^{field}:\s*(\d+) kB$", Path(path).read_text(), re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


def format_memory(count: int) -> str:
    """Return a number of bytes for people.

    Examples
    --------
    >>> format_memory(123_456_789)
    '124 MB'
    """
    return f"{-(-count // MEGABYTE)} MB"
