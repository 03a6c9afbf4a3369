"""The errors that blurfast raises on purpose: each says what is wrong, with which file, and what to do.

Wrong arguments are Python's own `ValueError` and `TypeError`. Everything that depends on files and machines is a
`BlurfastError`, whose class fixes the exit status of the command line.
"""

from __future__ import annotations

import os


class BlurfastError(Exception):
    """Base of all errors about files, formats and resources.

    Parameters
    ----------
    fact
        What is wrong, as a clause: ``"the file ends after 1024 of 4096 rows"``.
    path
        The file concerned, if there is one.
    remedy
        What the user can do about it.

    Examples
    --------
    >>> print(UnreadableError("the file is empty", path="a.tif", remedy="copy it again"))
    a.tif: the file is empty; copy it again
    """

    exit_status = 1

    def __init__(self, fact: str, *, path: str | os.PathLike[str] | None = None, remedy: str | None = None) -> None:
        self.fact = fact
        self.path = None if path is None else os.fspath(path)
        self.remedy = remedy
        super().__init__(fact)

    def __str__(self) -> str:
        text = f"{self.path}: {self.fact}" if self.path else self.fact
        return f"{text}; {self.remedy}" if self.remedy else text


class OutputExistsError(BlurfastError):
    """The output is there already and may not be overwritten."""

    exit_status = 2


class UnreadableError(BlurfastError):
    """The input is missing, damaged, or not an image."""

    exit_status = 3


class UnsupportedError(BlurfastError):
    """The input, or what is asked for, is valid but not something that blurfast can do."""

    exit_status = 4


class MemoryBudgetError(BlurfastError):
    """The work does not fit into the memory that it was given."""

    exit_status = 5


class UnwritableError(BlurfastError):
    """The output cannot be written: no permission, no room."""

    exit_status = 5


class MisplacedError(UnwritableError):
    """No output can ever be where it is asked for: in a directory that does not exist, or in place of one."""

    exit_status = 2
