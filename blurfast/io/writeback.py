"""Has the system store a file while the rest of it is still computed, so that nobody waits for all of it in the end."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

# From Linux's fs.h: begin to write, and wait for nothing.
_SYNC_FILE_RANGE_WRITE = 2


def begin_storing(descriptor: int, start: int, stop: int) -> None:
    """Have the system begin to write a part of a file to the disk, where it can be asked to.

    That is a hint: what fails is told by `os.fsync`, which has to follow in any case.
    """
    sync_file_range = _sync_file_range()
    if sync_file_range is not None:
        sync_file_range(descriptor, start, stop - start, _SYNC_FILE_RANGE_WRITE)


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    try:
        return prototype(("sync_file_range", ctypes.CDLL(None)))
    except AttributeError:  # not every C library has it
        return None
