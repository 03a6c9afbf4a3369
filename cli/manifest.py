"""The list of what became of each file of a batch, kept on the disk so that an interrupted batch can go on."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO

import numpy as np

from blurfast.errors import MisplacedError
from blurfast.filters import Filter
from blurfast.io.output import unwritable
from blurfast_cli.batch import Job
from blurfast_cli.failures import failure_of

# Every line starts so, which tells a manifest from all other files.
_LINE_START = b'{"status": "'

# Settings that change how a result comes about, not what it is.
_WITHOUT_EFFECT = frozenset({"device_memory", "fft_planning", "max_memory", "overwrite", "threads"})

Record = dict[str, Any]
"""What a line of a manifest says, as plain data."""


class Manifest:
    """A file of JSON lines, one for each file that was done, skipped or failed.

    Lines are only ever added, each in one piece, and are safe on the disk when `append` returns. What a crash has left
    of a line is ignored.

    Parameters
    ----------
    path
        The file, which is created if there is none.

    Attributes
    ----------
    damaged_lines
        How many lines were ignored.

    Raises
    ------
    MisplacedError
        If the file is something else than a manifest, or its directory does not exist.
    UnwritableError
        If it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._done: dict[Any, Record] = {}  # by output: the last line that says so
        self._ends_with_line = True
        self.damaged_lines = 0
        if os.path.exists(path) and not os.path.isfile(path):
            raise MisplacedError("is not a regular file", path=path, remedy="name a file")
        with self._translated_errors(), contextlib.ExitStack() as on_failure:
            self._file: BinaryIO = on_failure.enter_context(open(path, "ab", buffering=0))
            with open(path, "rb") as lines:
                self._read(lines)
            on_failure.pop_all()

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line. Any thread may call this."""
        line = json.dumps(record).encode() + b"\n"
        with self._lock, self._translated_errors():
            rest = memoryview(line if self._ends_with_line else b"\n" + line)
            self._ends_with_line = False
            while rest:  # a full disk may take a part
                rest = rest[self._file.write(rest) :]
            self._ends_with_line = True
            os.fsync(self._file.fileno())

    @contextlib.contextmanager
    def recording(self, job: Job) -> Iterator[Record]:
        """Add a line about a job, which is done in the block: what the block adds to the record, or why it failed."""
        started = time.perf_counter()
        record: Record = {"status": "done", "source": job.source, "target": job.target}
        try:
            yield record
        except Exception as error:
            failure = failure_of(error, job.source_name)
            record |= {"status": "failed", "error": failure.message, "exit_status": failure.exit_status}
            self._append_with_time(record, started)
            raise
        self._append_with_time(record, started)

    def _append_with_time(self, record: Record, started: float) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.append({**record, "time": now, "seconds": round(time.perf_counter() - started, 4)})

    def lists_as_done(self, record: Record) -> bool:
        """Return whether an earlier run has made the output of a record from the same input with the same parameters.

        Failures since do not count, for they have left the output as it was.
        """
        before = self._done.get(record["target"], {})
        return "source_mtime_ns" in record and all(
            _spelled(before.get(name)) == _spelled(record[name])
            for name in ("source", "source_bytes", "source_mtime_ns", "parameters")
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, lines: BinaryIO) -> None:
        start = lines.read(len(_LINE_START))
        if not _LINE_START.startswith(start):
            remedy = "name a new file, or one that --manifest has made"
            raise MisplacedError("is not a manifest", path=self._path, remedy=remedy)
        lines.seek(0)
        for line in lines:
            self._ends_with_line = line.endswith(b"\n")
            record = _parsed(line)
            if record is None:
                self.damaged_lines += 1
            elif record["status"] == "done":
                self._done[record.get("target")] = record

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(error, self._path) from error


def _spelled(value: Any) -> str:
    return json.dumps(value, sort_keys=True)  # in which lists are equal to tuples, and NaN to NaN


def _parsed(line: bytes) -> Record | None:
    """Return what a line says, or None if it is damaged."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "status" in record else None


def parameters_of(filter: Filter, settings: Mapping[str, Any]) -> Record:
    """Return all that a result depends on beside its input, as plain data."""
    described: Any = filter  # a dataclass, as all filters are
    fields = {field.name: _plain(getattr(filter, field.name)) for field in dataclasses.fields(described)}
    options = {name: _plain(value) for name, value in settings.items() if name not in _WITHOUT_EFFECT}
    return {"filter": filter.name, **fields, **options}


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold; for an array, what tells it from all others."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} sha256:{hashlib.sha256(value.tobytes()).hexdigest()}"
    return value


def input_facts(path: str) -> Record:
    """Return what tells whether an input has changed since; nothing if it is missing."""
    try:
        status = os.stat(path)
    except OSError:  # whoever reads it tells why
        return {}
    return {"source_bytes": status.st_size, "source_mtime_ns": status.st_mtime_ns}


def output_facts(path: str) -> Record:
    """Return the size and the checksum of an output."""
    with open(path, "rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
        return {"target_bytes": os.fstat(file.fileno()).st_size, "sha256": checksum}
