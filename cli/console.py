"""What the program prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, TextIO

import click

from blurfast.errors import UnwritableError
from blurfast_cli.failures import BROKEN_PIPE, Failure
from blurfast_cli.interrupts import Stopped
from blurfast_cli.progress import hidden_bars

STDIN, STDOUT, STDERR = "stdin", "stdout", "stderr"
"""What messages call the standard streams. On command lines, and in results for programs, the first two are ``-``."""

_PIECE_BYTES = 1 << 20


class Console:
    """Where a command's results and messages go.

    Attributes
    ----------
    quiet
        Whether stderr gets nothing but errors and warnings.
    debug
        Whether errors come with a traceback.
    """

    def __init__(self) -> None:
        self.quiet = False
        self.debug = False

    @classmethod
    def current(cls) -> Console:
        """Return the console of the command that is running."""
        return click.get_current_context().ensure_object(cls)

    @property
    def shows_progress(self) -> bool:
        """Whether somebody watches a progress bar on stderr."""
        return not self.quiet and sys.stderr is not None and sys.stderr.isatty()

    def result(self, text: str) -> None:
        """Print a result."""
        _write(sys.stdout, text)

    def record(self, record: Mapping[str, Any]) -> None:
        """Print a result for programs, as one line of JSON."""
        self.result(json.dumps(record))

    def image(self, file: BinaryIO) -> None:
        """Send a whole image file to stdout."""
        if sys.stdout is None:
            raise UnwritableError("is closed", path=STDOUT, remedy="redirect it into a file or a pipe")
        with _guarded(sys.stdout):
            shutil.copyfileobj(file, sys.stdout.buffer, _PIECE_BYTES)
            sys.stdout.flush()

    def message(self, text: str) -> None:
        """Tell the user something that may be of interest."""
        if not self.quiet:
            _write(sys.stderr, text)

    def warning(self, text: str) -> None:
        """Tell the user something that should not be missed."""
        _write(sys.stderr, f"blurfast: warning: {text}")

    def failure(self, failure: Failure) -> None:
        """Tell the user what went wrong."""
        if self.debug:
            _write(sys.stderr, "".join(traceback.format_exception(failure.error)).rstrip())
        _write(sys.stderr, f"blurfast: {failure.label}: {failure.message}")

    def stopped(self, stop: Stopped) -> None:
        """Tell the user why the run ends early."""
        if stop.reason is not None:
            _write(sys.stderr, f"blurfast: {stop.reason}")

    @contextmanager
    def showing_log(self) -> Iterator[None]:
        """Show what the library logs inside the block."""
        logger = logging.getLogger("blurfast")
        handler, level = _ConsoleHandler(self), logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.setLevel(level)
            logger.removeHandler(handler)


class _ConsoleHandler(logging.Handler):
    """Prints log records as messages or warnings."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        if record.levelno >= logging.WARNING:
            self._console.warning(record.getMessage())
        else:
            self._console.message(f"blurfast: {record.getMessage()}")


def _write(stream: TextIO | None, text: str) -> None:
    """Print a line at once, whatever characters the stream can show, and nothing if it is closed."""
    if stream is None:
        return
    encoding = stream.encoding or "utf-8"
    printable = text.encode(encoding, "backslashreplace").decode(encoding)
    with _guarded(stream), hidden_bars(stream):
        stream.write(f"{printable}\n")
        stream.flush()


@contextmanager
def _guarded(stream: TextIO) -> Iterator[None]:
    """End the run, silently, if nobody reads `stream` any more; tell if it cannot be written for another reason."""
    try:
        yield
    except BrokenPipeError:
        _discard(stream)
        raise Stopped(BROKEN_PIPE) from None
    except OSError as error:
        _discard(stream)
        fact, name = f"cannot be written ({error.strerror or error})", STDOUT if stream is sys.stdout else STDERR
        raise UnwritableError(fact, path=name, remedy="write elsewhere") from error


def _discard(stream: TextIO) -> None:
    """Point a stream that is broken to nowhere, or Python complains when it flushes it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
