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

    A link under the new name is made, which fails where there is a file, and the old name is removed. If the process is
    killed in between, both are the same file. Drives without links (FAT, exFAT, some network drives) are asked to
    rename without replacing, which most of Linux's own drivers can do. Elsewhere such drives leave nothing but to look
    first: there a file that appears in the few microseconds after the look is replaced.

    Raises
    ------
    FileExistsError
        If there is a file, or anything else, of the new name.
    """
    if os.name == "nt":
        os.rename(old, new)  # never replaces a file there
        return
    try:
        os.link(old, new)
    except FileExistsError:
        raise
    except OSError:
        _rename_without_links(old, new)
    else:
        os.unlink(old)


def _rename_without_links(old: Path, new: Path) -> None:
    try:
        _rename_exclusively(old, new)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(new)) from None
        os.replace(old, new)


def _rename_exclusively(old: Path, new: Path) -> None:
    """Rename in one step that fails if there is a file of the new name. Raise `OSError` where there is no such step."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import ctypes  # is needed for these rare drives only

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # not every C library has it
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    names = os.fsencode(old), os.fsencode(new)
    if rename(_WORKING_DIRECTORY, names[0], _WORKING_DIRECTORY, names[1], _NO_REPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(new))
