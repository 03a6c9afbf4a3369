"""Which file goes where, and what is refused because names collide, before anything is written."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NoReturn

import click

from blurfast.errors import MisplacedError, UnreadableError
from blurfast.io.output import unwritable
from blurfast.io.registry import is_output_name, recognized_format
from blurfast_cli.batch import STREAM, Job, label_jobs
from blurfast_cli.streams import SUFFIXES


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
    inputs = list_inputs(paths)
    if out_dir is not None:
        if STREAM in paths:
            _refuse(
                "with --out-dir, '-' is an input, stdin, which gives no name for its output; give IN and OUT instead"
            )
        return label_jobs([Job(path, os.path.join(out_dir, _output_name(path))) for path in paths])
    if need_output:
        missing = "OUT is missing" if len(paths) == 1 else "several inputs need --out-dir"
        _refuse(f"{missing}; give IN and OUT, or inputs and --out-dir")
    return inputs


def _output_name(path: str) -> str:
    """Return what the output of an input is called: its name, with a suffix of its format if no output has its own."""
    if not is_output_name(path):
        with contextlib.suppress(UnreadableError):  # whoever reads it tells why
            recognized = recognized_format(path)
            if recognized is not None:
                return Path(path).with_suffix(SUFFIXES[recognized]).name
    return Path(path).name


def renaming_notes(jobs: Sequence[Job]) -> list[str]:
    """Return what to say of outputs in a directory that have another suffix than their inputs."""
    suffixes = {(Path(job.source).suffix.lower(), Path(job.target).suffix) for job in jobs if job.target is not None}
    return [
        f"outputs of {f'{before} files' if before else 'files without a suffix'} are named {after}"
        for before, after in sorted(suffixes)
        if before != after.lower()
    ]


def stray_output(paths: Sequence[str], out_dir: str | None) -> str | None:
    """Return the second of two inputs if it seems to be meant as the output of the first, though there is a directory.

    Then the first exists, and neither the second nor its output, which would be left as it is by --skip-existing.
    """
    if out_dir is None or len(paths) != 2:
        return None
    first, second = paths
    missing = (second, os.path.join(out_dir, Path(second).name))
    return second if os.path.exists(first) and not any(map(os.path.lexists, missing)) else None


def list_inputs(paths: Sequence[str]) -> list[Job]:
    """Return the inputs that the paths of a command line stand for, where there are no outputs.

    Raises
    ------
    click.UsageError
        If stdin is to be read twice.
    """
    if paths.count(STREAM) > 1:
        _refuse("stdin can be read only once")
    return label_jobs([Job(path) for path in paths])


def refuse_collisions(jobs: Sequence[Job], *, overwrite: bool, manifest: str | None = None) -> None:
    """Refuse outputs that would replace each other, an input or the manifest.

    Files are told apart by what they are, not by their names: symbolic and hard links to a file are that file. Names
    are the same if they are so after Unicode normalisation, as on macOS, or if they differ in case only and the file
    system does not see that.

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
    inputs, outputs = _Files(), _Files()
    for job in jobs:
        if job.source != STREAM and os.path.exists(job.source):
            inputs.add(job.source, job)
    for job in jobs:
        if job.target is None or job.target == STREAM:
            continue
        if (other := outputs.find(job.target)) is not None:
            _refuse(f"{other.source} and {job.source} would both become {job.target}{_REMEDY}")
        outputs.add(job.target, job)
        if (replaced := inputs.find(job.target)) is None:
            continue
        if inputs.find(job.source) is not replaced:
            _refuse(f"the output of {job.source} would replace the input {replaced.source}{_REMEDY}")
        if not overwrite:
            _refuse(f"the output {job.target} is the input itself; use --overwrite to replace it")
    if manifest is not None and any(files.find(manifest) is not None for files in (inputs, outputs)):
        _refuse(f"the manifest {manifest} is an input or an output, too; give it another name")


def make_directory(path: str) -> None:
    """Create the directory for outputs, unless it is there.

    Raises
    ------
    MisplacedError, UnwritableError
        If it cannot be created.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        raise MisplacedError("is not a directory", path=path, remedy="name a directory") from None
    except OSError as error:
        raise unwritable(error, path) from error


_REMEDY = "; filter them one by one, or rename them"


def _refuse(fact: str) -> NoReturn:
    raise click.UsageError(fact, click.get_current_context())


class _Files:
    """The inputs or the outputs of a batch, found by any name of theirs."""

    def __init__(self) -> None:
        self._by_identity: dict[Hashable, Job] = {}
        self._by_folded_path: dict[str, Job] = {}

    def add(self, path: str, job: Job) -> None:
        """Add a file of a job."""
        path = os.path.realpath(path)
        self._by_identity.setdefault(_identity(path), job)
        self._by_folded_path.setdefault(_folded(path), job)

    def find(self, path: str) -> Job | None:
        """Return the first job with this file."""
        path = os.path.realpath(path)
        if (job := self._by_identity.get(_identity(path))) is not None:
            return job
        # Not every file system gives all spellings of a name the same number.
        job = self._by_folded_path.get(_folded(path))
        return job if job is not None and ignores_case(os.path.dirname(path)) else None


def _identity(path: str) -> Hashable:
    """Return what a file is told by, or will be: equal for all its names, as far as the file system tells.

    A file that exists is told by its device and number; one that does not by the identity of its directory and its
    name.
    """
    try:
        status = os.stat(path)
    except OSError:
        directory, name = os.path.split(path)
        if directory == path:  # the root of a drive that is not there
            return os.path.normcase(path)
        return _identity(directory), unicodedata.normalize("NFC", name)
    # Not every file system of Windows numbers its files.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.normcase(path)


def _folded(path: str) -> str:
    """Return what is equal for paths that may be the same on some file systems."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


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
