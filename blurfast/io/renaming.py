"""Renames a file without replacing another that appears at the same time."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

# From Linux's fcntl.h and fs.h.
_WORKING_DIRECTORY = -100
_NO_REPLACE = 1


def rename_without_replacing(old: Path, new: Path) -> None:
    """Rename a file, unless there is one of the new name, whoever makes that, and whenever.

    Windows does this in one step, and so does Linux on most drives. Elsewhere a link under the new name is made, which
    fails where there is a file, and the old name is removed: if the process is killed in between, both are the same
    file. Drives without links (FAT and exFAT outside Linux, some network drives) leave nothing but to look first: there
    a file that appears in the few microseconds after the look is replaced.

    Raises
    ------
    FileExistsError
        If there is a file, or anything else, of the new name.
    """
    if os.name == "nt":
        os.rename(old, new)  # never replaces a file there
        return
    try:
        _rename_in_one_step(old, new)
    except FileExistsError:
        raise
    except OSError:
        _rename_by_link(old, new)


def _rename_in_one_step(old: Path, new: Path) -> None:
    """Rename in one step that fails if there is a file of the new name. Raise `OSError` where there is no such step."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import ctypes  # NumPy has loaded it wherever there are pixels to write

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # not every C library has it
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    names = os.fsencode(old), os.fsencode(new)
    if rename(_WORKING_DIRECTORY, names[0], _WORKING_DIRECTORY, names[1], _NO_REPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(new))


def _rename_by_link(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except FileExistsError:
        raise
    except OSError:
        _look_and_rename(old, new)
    else:
        os.unlink(old)


def _look_and_rename(old: Path, new: Path) -> None:
    if os.path.lexists(new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(new))
    os.replace(old, new)
