"""Inputs that change while they are read."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from blurfast.errors import UnreadableError


@contextmanager
def refusing_changes(path: str | os.PathLike[str]) -> Iterator[Callable[[], None]]:
    """Watch a file inside the block, which yields a function that fails if the file is not what it was.

    The block need not call it when the file turns out to be unreadable: whatever is wrong with it, if it has changed,
    that is said.

    Raises
    ------
    UnreadableError
        If the size of the file or the time of its last change differ from those at the beginning.
    """
    before = _state(path)

    def refuse_change() -> None:
        after = _state(path)
        if after != before:
            fact = "has changed while it was read" + _sizes(before, after)
            raise UnreadableError(fact, path=path, remedy="run again once nobody writes to it")

    try:
        yield refuse_change
    except UnreadableError:
        refuse_change()
        raise


def _state(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return the size of a file and when it was changed last; None if it is no file, or not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _sizes(before: tuple[int, int] | None, after: tuple[int, int] | None) -> str:
    if before is None or after is None or before[0] == after[0]:
        return ""
    return f", from {before[0]} to {after[0]} bytes"
