"""Unfinished files: how a run marks its own, and removes those of runs that were killed.

As long as a run lives, it holds a lock on each file that it has not finished. The system releases the lock when the
process ends, however it ends. So an unfinished file that can be locked has been left behind.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import secrets
import stat
import sys
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl


def unfinished_name() -> str:
    """Return a new name for a file that is to be renamed once it is complete."""
    return f".blurfast-{_machine()}-{secrets.token_hex(6)}.part"


@functools.cache
def _machine() -> str:
    """Return what tells this machine's files from others': network drives may not pass locks on to other machines."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def mark_in_use(file: BinaryIO) -> bool:
    """Lock a new file, and return whether it is still there: someone may have taken it for left behind before."""
    if sys.platform == "win32":
        return True
    try:
        _lock(file.fileno())
    except BlockingIOError:
        return False
    except OSError:  # there are no locks on its drive, so nobody can have locked and removed it
        return True
    return os.fstat(file.fileno()).st_nlink > 0


def remove_leftovers_once(directory: Path) -> None:
    """Remove leftovers, unless this process has done so: a directory of many outputs is not searched for each."""
    _remove_leftovers_once(directory, os.getpid())  # whose parent may have done so long ago


@functools.lru_cache(maxsize=256)
def _remove_leftovers_once(directory: Path, _process: int) -> None:
    remove_leftovers(directory)


def remove_leftovers(directory: Path) -> None:
    """Remove unfinished files that a killed run of this user on this machine has left behind.

    All other files stay, and so do those that cannot be removed. On Windows, which has no locks that stay unnoticed
    by other programs, nothing is removed.
    """
    if sys.platform == "win32":
        return
    pattern = re.compile(rf"\.blurfast-{_machine()}-[0-9a-f]{{12}}\.part")
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove_unless_in_use(entry.path)


def _remove_unless_in_use(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        _lock(descriptor)
        status = os.fstat(descriptor)
        is_own = status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode)
        if is_own and os.path.samestat(status, os.lstat(path)):
            os.unlink(path)
    finally:
        os.close(descriptor)


def _lock(file: int) -> None:
    """Lock a file until it is closed. Raise `BlockingIOError` if it is locked, another `OSError` if it cannot be."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
