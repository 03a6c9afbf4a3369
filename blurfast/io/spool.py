"""What has to wait until its place in the output is known."""

from __future__ import annotations

import os

from blurfast.io.output import AtomicFile


class Spool:
    """Pieces of an output that are kept in a file beside it.

    It has the name of an unfinished output, so that the next run removes it if this one is killed.

    Parameters
    ----------
    path
        The output.

    Raises
    ------
    UnwritableError
        If no file can be made in the output's directory, or the disk is full.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._unfinished = AtomicFile(path, overwrite=True)  # which is never completed
        self._size = 0

    def append(self, data: bytes | bytearray | memoryview) -> int:
        """Keep a piece, and return the position by which to ask for it."""
        position = self._size
        with self._unfinished.translated_errors():
            self._unfinished.file.write(data)
        self._size += len(data)
        return position

    def read(self, position: int, size: int) -> bytes:
        """Return a piece, once all have been appended."""
        with self._unfinished.translated_errors():
            self._unfinished.file.seek(position)
            return self._unfinished.file.read(size)

    def remove(self) -> None:
        """Remove the file. Harmless if that has been done."""
        self._unfinished.abort()
