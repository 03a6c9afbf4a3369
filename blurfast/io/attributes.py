"""What a file is beside its content: its owner, its permissions, and what Linux attaches to files by name."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
from pathlib import Path

logger = logging.getLogger("blurfast")

# A list of more users and groups, with the rights of each.
_ACCESS_LIST = "system.posix_acl_access"
_OF_THE_USER = "user."


def resemble(new: Path, old: Path) -> None:
    """Give a new file the permissions and attributes of an old one; also its owner and group, if the system allows it.

    A list of access rights is kept (POSIX ACL), and what users have attached (``user.*``). What of these is lost is
    logged; a lost list gives nobody more rights. The labels of security modules are not taken over: the system gives
    every file its own.

    Parameters
    ----------
    new
        A file of this process; what only its owner may read and write stays so until all is done.
    old
        The file that it is to replace; both are in the same directory.

    Raises
    ------
    OSError
        If the permissions cannot be set.
    """
    status, attributes = old.stat(), _attributes(old)
    access_list = attributes.pop(_ACCESS_LIST, None)
    # Before the rights, which may not include that of writing.
    lost = [name for name, value in attributes.items() if not _attach(new, name, value)]
    if hasattr(os, "chown"):
        for owner, group in ((-1, status.st_gid), (status.st_uid, -1)):
            with contextlib.suppress(PermissionError):
                os.chown(new, owner, group)
    mode = stat.S_IMODE(status.st_mode)
    if access_list is None:
        _remove_access_list(new)
    elif not _attach(new, _ACCESS_LIST, access_list):
        lost.append("list of access rights")
        mode &= ~stat.S_IRWXG  # these are the most that anybody on the list has, not what the group has
    os.chmod(new, mode)  # after the owner, whose change would clear some bits
    if lost:
        logger.warning("%s: the new file has lost the old one's %s", old, ", ".join(lost))


def _attributes(path: Path) -> dict[str, bytes | None]:
    """Return the attributes to keep; None for what cannot be read."""
    if sys.platform != "linux":
        return {}
    try:
        names = os.listxattr(path)
    except OSError:  # its drive has none
        return {}
    return {name: _value(path, name) for name in names if name == _ACCESS_LIST or name.startswith(_OF_THE_USER)}


def _value(path: Path, name: str) -> bytes | None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.getxattr(path, name)
    return None


def _attach(path: Path, name: str, value: bytes | None) -> bool:
    """Set an attribute of a file, and return whether that was possible."""
    if sys.platform == "linux" and value is not None:
        with contextlib.suppress(OSError):
            os.setxattr(path, name, value)
            return True
    return False


def _remove_access_list(path: Path) -> None:
    """Remove the list that a file may have got from its directory: permissions would bring its entries to life."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # there is none
            os.removexattr(path, _ACCESS_LIST)
