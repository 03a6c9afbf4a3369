"""Images on stdin and stdout, which a command line calls ``-``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn, TextIO

import click

from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.registry import recognized_format
from blurfast_cli.batch import STREAM, Job
from blurfast_cli.console import STDIN, STDOUT, Console

SUFFIXES = {"png": ".png", "tiff": ".tif"}
"""The formats that an image on stdout can have, and what files of them are called."""


class Paths(NamedTuple):
    """The files that stand for the input and the output of a job while it is done."""

    source: str
    target: str


def refuse_misuse(jobs: Sequence[Job], *, output_format: str | None, as_json: bool) -> None:
    """Refuse what stdin and stdout cannot be used for, before anything is read.

    Raises
    ------
    click.UsageError
        If an image would come from, or go to, a terminal, or would mix with other results, or a format is chosen for
        a file, whose suffix tells it.
    """
    if any(job.source == STREAM for job in jobs) and _is_terminal(sys.stdin):
        _refuse("no image can be typed on a terminal; redirect stdin, as with '< in.png'")
    if not any(job.target == STREAM for job in jobs):
        if output_format is not None:
            _refuse("--format is for OUT '-' only; a file's suffix names its format")
        return
    if as_json:
        _refuse("the image and the results of --json would mix on stdout; use --manifest instead")
    if _is_terminal(sys.stdout):
        _refuse("no image is written to a terminal; redirect stdout, as with '> out.png'")


@contextlib.contextmanager
def file_of(source: str) -> Iterator[str]:
    """Yield the path of an input, which is that of a copy where the input is stdin."""
    if source != STREAM:
        yield source
        return
    from blurfast.io.pipes import readable_path

    if sys.stdin is None:
        raise UnreadableError("is closed", path=STDIN, remedy="redirect it from a file or a pipe")
    with readable_path(sys.stdin.buffer, STDIN) as path:
        yield path


@contextlib.contextmanager
def files_of(job: Job, output_format: str | None, console: Console) -> Iterator[Paths]:
    """Yield the paths for a job's input and output, and send the output to stdout afterwards if it belongs there.

    Parameters
    ----------
    output_format
        Of an image on stdout; by default the input's.

    Raises
    ------
    UnsupportedError
        If the input's format cannot be that of an image on stdout.
    """
    assert job.target is not None
    with file_of(job.source) as source:
        if job.target != STREAM:
            yield Paths(source, job.target)
            return
        from blurfast.io.pipes import writable_path

        with writable_path(SUFFIXES[output_format or _own_format(source)], STDOUT) as target:
            yield Paths(source, target)
            with open(target, "rb") as image:
                console.image(image)


def _own_format(source: str) -> str:
    """Return the format of an input, if it can be written to stdout, too."""
    recognized = recognized_format(source)
    if recognized is None:
        raise UnsupportedError(
            "the input's format is not written there", path=STDOUT, remedy=f"choose --format {' or '.join(SUFFIXES)}"
        )
    return recognized


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _refuse(fact: str) -> NoReturn:
    raise click.UsageError(fact, click.get_current_context())
