"""Which file goes where, and what is refused because names collide, before anything is written."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import click

from blurfast.errors import UnwritableError
from blurfast.io.output import unwritable
from blurfast_cli.batch import Job, label_jobs

STREAM = "-"
"""Stands for stdin where an input is named, and for stdout where an output is named."""


def pair_files(paths: Sequence[str], out_dir: str | None, *, need_output: bool = True) -> list[Job]:
    """Return the inputs and outputs that the paths of a command line stand for.

    Two paths without `out_dir` are an input and its output, otherwise all are inputs.

    Raises
    ------
    click.UsageError
        If an output is missing although needed, or stdin is to be read twice or has no name for its output.
    """
    if out_dir is None and len(paths) == 2:
        return label_jobs([Job(paths[0], paths[1])])
    if paths.count(STREAM) > 1:
        _refuse("stdin can be read only once")
    if out_dir is not None:
        if STREAM in paths:
            _refuse("stdin has no name for an output in --out-dir; give IN and OUT")
        return label_jobs([Job(path, os.path.join(out_dir, Path(path).name)) for path in paths])
    if need_output:
        missing = "OUT is missing" if len(paths) == 1 else "several inputs need --out-dir"
        _refuse(f"{missing}; give IN and OUT, or inputs and --out-dir")
    return label_jobs([Job(path) for path in paths])


def refuse_collisions(jobs: Sequence[Job], *, overwrite: bool, manifest: str | None = None) -> None:
    """Refuse outputs that would replace each other, an input or the manifest.

    Files are told apart by what they are, not by their names: symbolic and hard links to a file are that file. Names
    of files that do not exist yet are the same if they are so after Unicode normalisation, as on macOS, or if they
    differ in case only and the file system does not see that.

    Parameters
    ----------
    overwrite
        Whether an output may replace its own input.
    manifest
        The file that is neither to be replaced nor taken for an image.

    Raises
    ------
    click.UsageError
        If there is a collision.
    """
    inputs = {_place(job.source): job.source for job in jobs if os.path.exists(job.source) and job.source != STREAM}
    outputs = _Outputs()
    for job in jobs:
        if job.target is None or job.target == STREAM:
            continue
        place = _place(job.target)
        if (other := outputs.add(place, job)) is not None:
            _refuse(f"{other.source} and {job.source} would both become {job.target}{_REMEDY}")
        if place not in inputs:
            continue
        if job.source == STREAM or place != _place(job.source):
            _refuse(f"the output of {job.source} would replace the input {inputs[place]}{_REMEDY}")
        if not overwrite:
            _refuse(f"the output {job.target} is the input itself; use --overwrite to replace it")
    if manifest is not None and (_place(manifest) in inputs or outputs.find(_place(manifest)) is not None):
        _refuse(f"the manifest {manifest} is an input or an output, too; give it another name")


def make_directory(path: str) -> None:
    """Create the directory for outputs, unless it is there.

    Raises
    ------
    UnwritableError
        If it cannot be created.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        raise UnwritableError("is not a directory", path=path, remedy="name a directory") from None
    except OSError as error:
        raise unwritable(error, path) from error


_REMEDY = "; filter them one by one, or rename them"


def _refuse(fact: str) -> NoReturn:
    raise click.UsageError(fact, click.get_current_context())


@dataclass(frozen=True)
class _Place:
    """Where a file is, or will be: equal for all names of the same file.

    A file that exists is told by its device and number, and has no name. One that does not is told by the place of its
    directory and its name.
    """

    identity: Hashable
    name: str = ""
    directory: str = field(default="", compare=False)

    @property
    def folded(self) -> Hashable:
        """What is equal where names may be the same on some file systems."""
        return self.identity, self.name.casefold()


def _place(path: str) -> _Place:
    path = os.path.realpath(path)
    try:
        status = os.stat(path)
    except OSError:
        directory, name = os.path.split(path)
        if directory == path:  # the root of a drive that is not there
            return _Place(os.path.normcase(path))
        return _Place(_place(directory), unicodedata.normalize("NFC", name), directory)
    # Not every file system of Windows numbers its files.
    return _Place((status.st_dev, status.st_ino) if status.st_ino else os.path.normcase(path))


class _Outputs:
    """The outputs of a batch, found by their places."""

    def __init__(self) -> None:
        self._by_name: dict[Hashable, Job] = {}
        self._by_folded_name: dict[Hashable, Job] = {}

    def add(self, place: _Place, job: Job) -> Job | None:
        """Add an output, or return the job that has the same."""
        if (other := self.find(place)) is not None:
            return other
        self._by_name[place] = job
        self._by_folded_name[place.folded] = job
        return None

    def find(self, place: _Place) -> Job | None:
        """Return the job with this output."""
        if place in self._by_name:
            return self._by_name[place]
        other = self._by_folded_name.get(place.folded)
        return other if other is not None and ignores_case(place.directory) else None


def ignores_case(directory: str) -> bool:
    """Return whether names that differ in case only are the same in a directory, which need not exist yet.

    File systems do not tell, so that is tried out with a temporary file.
    """
    import tempfile  # is needed for this rare question only

    while not os.path.isdir(directory) and directory != os.path.dirname(directory):
        directory = os.path.dirname(directory)
    try:
        with tempfile.NamedTemporaryFile(prefix=".blurfast-", dir=directory) as probe:
            return os.path.exists(os.path.join(directory, Path(probe.name).name.upper()))
    except OSError:  # it cannot be written, so we go by what is usual
        return sys.platform in ("darwin", "win32")
