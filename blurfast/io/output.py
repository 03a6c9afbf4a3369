"""Output files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import threading
import weakref
from pathlib import Path
from typing import BinaryIO

from blurfast.errors import MisplacedError, OutputExistsError, UnwritableError
from blurfast.io.attributes import resemble
from blurfast.io.leftovers import mark_in_use, remove_leftovers_once, unfinished_name
from blurfast.io.renaming import rename_without_replacing
from blurfast.io.writeback import begin_storing

_EVERYBODY, _OWNER_ONLY = 0o666, 0o600
_STORED_AT_ONCE = 1 << 23

# The files that are being written, each with the process that has begun it.
_unfinished: set[tuple[Path, int]] = set()
_abandoned = threading.Event()


class AtomicFile:
    """A file that is written beside its final place, and moved there once it is complete.

    What killed runs have left behind in the same directory is removed first.

    Parameters
    ----------
    path
        The final place. A symbolic link is followed: its target is replaced, and made where there is none. Other hard
        links to a file that is replaced keep what it was.
    overwrite
        Whether a file that is there already may be replaced; see `attributes.resemble` for what is kept of it. If not,
        no file is replaced that appears before the end; see `renaming.rename_without_replacing`.

    Raises
    ------
    OutputExistsError
        If `path` exists and `overwrite` is false.
    MisplacedError
        If there is no such directory, or something else than a file at `path`.
    UnwritableError
        If no file can be made in the directory of `path`.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._final = Path(os.path.realpath(path))
        self._overwrite = overwrite
        self._size = self._stored = 0
        with self.translated_errors():
            self._refuse_other_kinds()
            self._refuse_existing()
            remove_leftovers_once(self._final.parent)
            self._create()
            while not mark_in_use(self.file):
                self.abort()
                self._create()

    def _refuse_other_kinds(self) -> None:
        if self._final.is_dir():
            raise MisplacedError("is a directory", path=self.path, remedy="name a file")
        if self._final.is_symlink():  # although all links have been followed
            raise MisplacedError("is a symbolic link that leads in a circle", path=self.path, remedy="name a file")
        if self._final.exists() and not self._final.is_file():
            raise MisplacedError("is not a regular file", path=self.path, remedy="name a file")

    def _create(self) -> None:
        # What replaces a private file must not be open to others while it grows.
        mode = _OWNER_ONLY if self._final.exists() else _EVERYBODY
        self.temporary = self._final.with_name(unfinished_name())
        # An interrupt can come between any two lines, also before anybody has this object to call `abort`.
        self._removal = weakref.finalize(self, _remove, self.temporary, os.getpid())
        _unfinished.add((self.temporary, os.getpid()))
        opener = functools.partial(os.open, mode=mode)
        self.file: BinaryIO = open(self.temporary, "xb+", opener=opener)  # noqa: SIM115 - closed by commit or abort
        if _abandoned.is_set():  # a file that `abandon_unfinished` could not see yet sees that it was called
            self.abort()
            raise UnwritableError("is not begun any more", path=self.path, remedy="run again")

    def _refuse_existing(self) -> None:
        if self._final.exists() and not self._overwrite:
            raise self._exists()

    def _exists(self) -> OutputExistsError:
        return OutputExistsError("the output exists", path=self.path, remedy="use --overwrite to replace it")

    @contextlib.contextmanager
    def translated_errors(self):  # type: ignore[no-untyped-def]
        """Turn an `OSError` of the block into an `UnwritableError` that names the output."""
        try:
            yield
        except OSError as error:
            raise unwritable(error, self.path) from error

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write what comes next, and have the system store it before all is there: `commit` has to wait for that."""
        with self.translated_errors():
            self.file.write(data)
        self._size += len(data)
        if self._size - self._stored >= _STORED_AT_ONCE:
            begin_storing(self.file.fileno(), self._stored, self._size)
            self._stored = self._size

    def commit(self) -> None:
        """Flush everything to the disk and move the file to its final place."""
        with self.translated_errors():
            self.file.flush()
            if self._final.exists():
                resemble(self.temporary, self._final)
            os.fsync(self.file.fileno())
            if os.name == "nt":  # which renames no open file; elsewhere the lock has to last until the file is moved
                self.file.close()
            self._move()
            self.file.close()
        self._settle()
        with contextlib.suppress(OSError):  # the file is in its place, also where the directory cannot be synced
            _sync_directory(self._final.parent)

    def _move(self) -> None:
        if self._overwrite:
            os.replace(self.temporary, self._final)
            return
        try:
            rename_without_replacing(self.temporary, self._final)
        except FileExistsError:
            raise self._exists() from None

    def abort(self) -> None:
        """Remove what was written so far. Harmless after `commit`."""
        with contextlib.suppress(OSError):  # a full disk may refuse the last buffered bytes
            self.file.close()
        self.temporary.unlink(missing_ok=True)
        self._settle()

    def _settle(self) -> None:
        self._removal.detach()
        _unfinished.discard((self.temporary, os.getpid()))


def _remove(temporary: Path, creator: int) -> None:
    """Remove an unfinished file that nobody has committed or aborted, but not for a process that was forked since."""
    _unfinished.discard((temporary, creator))
    if os.getpid() == creator:
        with contextlib.suppress(OSError):
            temporary.unlink()


def abandon_unfinished() -> None:
    """Remove all unfinished files of this process, which is to end while threads still write them.

    No other can be begun afterwards, nor can those be completed. On Windows, which removes no open file, they stay.
    """
    _abandoned.set()
    for temporary, creator in list(_unfinished):
        _remove(temporary, creator)


_SPACE = "free some space or write elsewhere"
_LIMIT = "raise the limit, as with 'ulimit -f', or write elsewhere"
_NO_DIRECTORY = (MisplacedError, "its directory does not exist", "create the directory first")
_NO_PERMISSION = (UnwritableError, "its directory is not writable", "write elsewhere")

# By the number of an `OSError`: the kind of ours, what is wrong, and what to do.
_REASONS: dict[int | None, tuple[type[UnwritableError], str, str]] = {
    errno.ENOSPC: (UnwritableError, "the disk is full", _SPACE),
    errno.EDQUOT: (UnwritableError, "the quota is used up", _SPACE),
    errno.EFBIG: (UnwritableError, "grows beyond the largest file that is allowed", _LIMIT),
    errno.ENOENT: _NO_DIRECTORY,
    errno.ENOTDIR: _NO_DIRECTORY,
    errno.ENAMETOOLONG: (MisplacedError, "its name is too long for the file system", "choose a shorter one"),
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.EROFS: _NO_PERMISSION,
}


def unwritable(error: OSError, path: str | os.PathLike[str]) -> UnwritableError:
    """Return the error to raise for an `OSError` met while writing `path`."""
    if error.errno in _REASONS:
        kind, fact, remedy = _REASONS[error.errno]
        return kind(fact, path=path, remedy=remedy)
    return UnwritableError(f"cannot be written ({error.strerror or error})", path=path, remedy="write elsewhere")


def _sync_directory(directory: Path) -> None:
    """Make a rename durable, on systems that let a directory be opened."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
