"""Images that come or go through pipes, which cannot be read twice, nor written anywhere but at their end.

Readers and writers need files that they can move about in. So what comes through a pipe is first copied to a
temporary file, and what is to go through one is first completed in another; memory stays bounded.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from blurfast.errors import BlurfastError, UnreadableError, UnwritableError
from blurfast.io.leftovers import mark_in_use, remove_leftovers_once, unfinished_name

_PIECE_BYTES = 1 << 20
_PREFIX = "blurfast-"


class Stream(Protocol):
    """What bytes come from, such as ``sys.stdin.buffer``."""

    def fileno(self) -> int:
        """Return the number of the open file, or raise `OSError` if it is none."""

    def read(self, size: int, /) -> bytes | None:
        """Return some bytes, none at the end; None where there are none yet and reading does not wait."""


@contextlib.contextmanager
def readable_path(stream: Stream, name: str) -> Iterator[str]:
    """Give what comes from a stream a path, at which it can be opened any number of times.

    On Linux, a stream that is a regular file, at its start, is opened by its name. All others are copied, up to their
    end, into a file that nobody else can read in Python's directory for temporary files (``TMPDIR``). It is removed
    after the block; if the process is killed, the next one that needs a copy removes it.

    Parameters
    ----------
    stream
        What to read.
    name
        What errors call it, such as ``"stdin"``.

    Yields
    ------
    str
        A path that is valid inside the block.

    Raises
    ------
    UnreadableError
        If nothing comes, or reading fails; inside the block, with the stream's name in place of the path.
    UnwritableError
        If there is no room for the copy.

    Examples
    --------
    >>> import io, pathlib
    >>> with readable_path(io.BytesIO(b"an image"), "stdin") as path:
    ...     pathlib.Path(path).read_bytes()
    b'an image'
    """
    with contextlib.ExitStack() as cleanup:
        path = _name_of_regular_file(stream) or _copied(stream, name, cleanup)
        cleanup.enter_context(_told_as(path, unreadable=name, unwritable=name))
        yield path


@contextlib.contextmanager
def writable_path(suffix: str, name: str) -> Iterator[str]:
    """Give an output that is to go through a pipe a path, at which it can be completed first.

    Parameters
    ----------
    suffix
        Of the path: it tells the image's format.
    name
        What errors call the output, such as ``"stdout"``.

    Yields
    ------
    str
        A path in a private temporary directory, where no file is yet. The directory is removed after the block.

    Raises
    ------
    UnwritableError
        If the directory for temporary files cannot be written, or is full.
    """
    with contextlib.ExitStack() as cleanup:
        with _temporary_files_needed("output"):
            folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX))
        path = os.path.join(folder, f"image{suffix}")
        cleanup.enter_context(_told_as(path, unreadable=name, unwritable=tempfile.gettempdir()))
        yield path


def _name_of_regular_file(stream: Stream) -> str | None:
    """Return the name of the file that a stream reads from its first byte on; None for all else, and where unsure."""
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError, ValueError):  # the stream may be closed, or no file at all
        descriptor = stream.fileno()
        path, opened = os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor)
        is_at_start = stat.S_ISREG(opened.st_mode) and os.lseek(descriptor, 0, os.SEEK_CUR) == 0
        if is_at_start and os.path.samestat(opened, os.stat(path)) and os.access(path, os.R_OK):
            return path
    return None


def _copied(stream: Stream, name: str, cleanup: contextlib.ExitStack) -> str:
    """Return the path of a copy of all that comes from `stream`, which lasts until `cleanup`."""
    with _temporary_files_needed("input"):
        copy, path = _new_file(cleanup)
    size = 0
    while piece := _read(stream, name):
        with _temporary_files_needed("input"):
            copy.write(piece)
        size += len(piece)
    if size == 0:
        raise UnreadableError("nothing came in", path=name, remedy="check the program before the pipe")
    with _temporary_files_needed("input"):
        copy.flush()
    return path


def _new_file(cleanup: contextlib.ExitStack) -> tuple[BinaryIO, str]:
    """Return a temporary file that lasts until `cleanup`, and its path."""
    folder = Path(tempfile.gettempdir())
    remove_leftovers_once(folder)
    while True:
        path = folder / unfinished_name()
        file: BinaryIO = open(path, "xb", opener=functools.partial(os.open, mode=0o600))  # noqa: SIM115 - see below
        cleanup.callback(path.unlink, missing_ok=True)
        cleanup.callback(file.close)
        if mark_in_use(file):  # else another process has just removed it
            return file, str(path)


def _read(stream: Stream, name: str) -> bytes:
    """Return some bytes, none at the end."""
    try:
        while (piece := stream.read(_PIECE_BYTES)) is None:  # another program made the pipe non-blocking
            select.select([stream], [], [])
        return piece
    except (OSError, ValueError) as error:
        raise UnreadableError(f"cannot be read ({error})", path=name, remedy="redirect it from a file") from error


@contextlib.contextmanager
def _temporary_files_needed(kind: str) -> Iterator[None]:
    """Turn an `OSError` of the block into an error that tells where the room is missing."""
    try:
        yield
    except OSError as error:
        fact = f"the {kind} cannot be kept there ({error.strerror or error})"
        folder = tempfile.gettempdir() if tempfile.tempdir else "TMPDIR"
        raise UnwritableError(fact, path=folder, remedy="set TMPDIR to a directory with room for it") from error


@contextlib.contextmanager
def _told_as(path: str, *, unreadable: str, unwritable: str) -> Iterator[None]:
    """Let errors about a path, which the user has never seen, tell of something that the user knows."""
    try:
        yield
    except BlurfastError as error:
        if error.path == path:
            error.path = unwritable if isinstance(error, UnwritableError) else unreadable
        raise
