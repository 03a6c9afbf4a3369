"""Turns exceptions into one line for the user and an exit status.

======  ==========================================================
status  meaning
======  ==========================================================
0       all done
1       some of several files failed
2       wrong usage; or the output exists, or cannot be at its place
3       unreadable input
4       not supported
5       out of memory or disk, or the output may not be written
70      an internal error: a bug in blurfast
130     interrupted; any other signal: 128 and its number
======  ==========================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import click

from blurfast.errors import BlurfastError, MemoryBudgetError

SOME_FAILED = 1
INTERNAL_ERROR = 70
BROKEN_PIPE = 141

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Failure:
    """Why something was not done.

    Parameters
    ----------
    message
        One line: what is wrong, with which file, what to do.
    exit_status
        Of the process, if this is its only failure.
    error
        The exception behind it.
    """

    message: str
    exit_status: int
    error: Exception

    @property
    def label(self) -> str:
        """What kind of failure it is, in words."""
        return "internal error" if self.exit_status == INTERNAL_ERROR else "error"


def attempt(action: Callable[[], _Result], path: str | None = None) -> _Result | Failure:
    """Return what `action` returns, or why it failed. `path` is the file that it is about."""
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - a bug, too, has to become one line, and must not stop other files
        return failure_of(error, path)


def failure_of(error: Exception, path: str | None = None) -> Failure:
    """Describe an exception raised by work on the file `path`."""
    prefix = f"{path}: " if path is not None else ""
    match error:
        case BlurfastError():
            return Failure(_one_line(f"{'' if error.path else prefix}{error}"), error.exit_status, error)
        case MemoryError():
            message = f"{prefix}the memory ran out; use a smaller --max-memory or fewer --threads"
            return Failure(message, MemoryBudgetError.exit_status, error)
        case RuntimeError(args=("can't start new thread",)):
            message = f"{prefix}the system starts no more threads; use fewer --threads or --jobs, or raise its limits"
            return Failure(message, MemoryBudgetError.exit_status, error)
        case click.ClickException():
            return Failure(_one_line(_usage_message(error)), error.exit_code, error)
        case _:
            fact = f"{prefix}{type(error).__name__}: {error}"
            return Failure(_one_line(f"{fact}; run again with --debug and report it"), INTERNAL_ERROR, error)


def _usage_message(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message}; see '{context.command_path} --help'" if context else message


def _one_line(text: str) -> str:
    return " ".join(text.split())
