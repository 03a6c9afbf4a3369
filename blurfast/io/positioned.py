"""Files that many threads read at once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import numpy as np

from blurfast.errors import UnreadableError
from blurfast.pixels import Pixels

_BUFFERS_PER_READ = 1024  # POSIX guarantees 16, Linux and macOS allow 1024


class PositionedFile:
    """A file that many threads read at once, each at its own place.

    Raises
    ------
    UnreadableError
        If the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close
            self.size = os.fstat(self._file.fileno()).st_size
        except FileNotFoundError as error:
            raise UnreadableError("no such file", path=path, remedy="check the name") from error
        except IsADirectoryError as error:
            raise UnreadableError("is a directory", path=path, remedy="name a file") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise UnreadableError(f"cannot be opened ({reason})", path=path, remedy="check its permissions") from error
        self._lock = threading.Lock()

    def read(self, offset: int, size: int) -> bytearray:
        """Return `size` bytes from `offset`."""
        if offset + size > self.size:
            raise self._too_short(offset + size)
        data = bytearray(size)
        self._fill(offset, memoryview(data))
        return data

    def read_rows(self, offset: int, rows: Pixels) -> None:
        """Fill rows that follow each other in the file, but not always in memory."""
        row_bytes = rows[0].nbytes
        if rows.flags.c_contiguous:
            self._fill(offset, _bytes_of(rows))
            return
        for start in range(0, len(rows), _BUFFERS_PER_READ):
            buffers = [_bytes_of(row) for row in rows[start : start + _BUFFERS_PER_READ]]
            self._fill_all(offset + start * row_bytes, buffers)

    def _fill_all(self, offset: int, buffers: list[memoryview]) -> None:
        if hasattr(os, "preadv"):
            with self._errors_reported():
                if os.preadv(self._file.fileno(), buffers, offset) == sum(map(len, buffers)):
                    return
        for buffer in buffers:
            self._fill(offset, buffer)
            offset += len(buffer)

    def _fill(self, offset: int, buffer: memoryview) -> None:
        filled = 0
        while filled < len(buffer):
            with self._errors_reported():
                count = self._read_some(offset + filled, buffer[filled:])
            if count == 0:
                raise self._too_short(offset + len(buffer))
            filled += count

    def _read_some(self, offset: int, buffer: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [buffer], offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.readinto(buffer) or 0

    @contextlib.contextmanager
    def _errors_reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise UnreadableError(f"cannot be read ({reason})", path=self.path, remedy="check the disk") from error

    def _too_short(self, needed: int) -> UnreadableError:
        fact = f"the file ends after {os.fstat(self._file.fileno()).st_size} of {needed} bytes"
        return UnreadableError(fact, path=self.path, remedy="copy it again")

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def _bytes_of(pixels: Pixels) -> memoryview:
    """Return the memory of C-contiguous pixels."""
    return pixels.reshape(-1).view(np.uint8).data
