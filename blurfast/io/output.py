"""Output files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path
from typing import BinaryIO

from blurfast.errors import BlurfastError, OutputExistsError, UnwritableError


class AtomicFile:
    """A file that is written beside its final place, and moved there once it is complete.

    Parameters
    ----------
    path
        The final place. A symbolic link is followed: its target is replaced.
    overwrite
        Whether a file that is there already may be replaced. It keeps its permissions.

    Raises
    ------
    OutputExistsError
        If `path` exists and `overwrite` is false.
    UnwritableError
        If no file can be made in the directory of `path`.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._final = Path(os.path.realpath(path))
        self._overwrite = overwrite
        if self._final.is_dir():
            raise UnwritableError("is a directory", path=path, remedy="name a file")
        if self._final.exists() and not self._final.is_file():
            raise UnwritableError("is not a regular file", path=path, remedy="name a file")
        self._refuse_existing()
        self.temporary = self._final.with_name(f".blurfast-{secrets.token_hex(6)}.part")
        with self.translated_errors():
            self.file: BinaryIO = open(self.temporary, "xb+")  # noqa: SIM115 - closed by commit or abort

    def _refuse_existing(self) -> None:
        if self._final.exists() and not self._overwrite:
            raise OutputExistsError("the output exists", path=self.path, remedy="use --overwrite to replace it")

    @contextlib.contextmanager
    def translated_errors(self):  # type: ignore[no-untyped-def]
        """Turn an `OSError` of the block into an `UnwritableError` that names the output."""
        try:
            yield
        except OSError as error:
            raise unwritable(error, self.path) from error

    def commit(self) -> None:
        """Flush everything to the disk and move the file to its final place."""
        with self.translated_errors():
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            self._refuse_existing()
            if self._final.exists():
                shutil.copymode(self._final, self.temporary)
            os.replace(self.temporary, self._final)
        with contextlib.suppress(OSError):  # the file is in its place, also where the directory cannot be synced
            _sync_directory(self._final.parent)

    def abort(self) -> None:
        """Remove what was written so far. Harmless after `commit`."""
        with contextlib.suppress(OSError):  # a full disk may refuse the last buffered bytes
            self.file.close()
        self.temporary.unlink(missing_ok=True)


def unwritable(error: OSError, path: str | os.PathLike[str]) -> BlurfastError:
    """Return the error to raise for an `OSError` met while writing `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UnwritableError("the disk is full", path=path, remedy="free some space or write elsewhere")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return UnwritableError("its directory does not exist", path=path, remedy="create the directory first")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UnwritableError("its directory is not writable", path=path, remedy="write elsewhere")
    return UnwritableError(f"cannot be written ({error.strerror or error})", path=path, remedy="write elsewhere")


def _sync_directory(directory: Path) -> None:
    """Make a rename durable, on systems that let a directory be opened."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
