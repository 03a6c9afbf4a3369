"""Runs of the command line: inside the tests' process, or as a process of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile

from blurfast_cli.main import main

# A shell that starts the tests in the background may have them ignore SIGINT, which a child would inherit.
_PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from blurfast_cli.main import main
sys.exit(main())
"""


class Run(NamedTuple):
    status: int
    stdout: str
    stderr: str


def run(*arguments: str | os.PathLike[str]) -> Run:
    """Run the command line here. Nothing but an exit status may come out of it."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        status = main([os.fspath(argument) for argument in arguments])
    return Run(status, stdout.getvalue(), stderr.getvalue())


def command(*arguments: str | os.PathLike[str]) -> list[str]:
    """Return the command that runs the command line as a process of its own."""
    return [sys.executable, "-c", _PROGRAM, *map(os.fspath, arguments)]


def run_process(*arguments: str | os.PathLike[str], directory: Path | None = None, **environment: str) -> Run:
    """Run the command line in a process of its own."""
    done = subprocess.run(
        command(*arguments),
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Run(done.returncode, done.stdout, done.stderr)


def noise(shape: Sequence[int], dtype: str = "uint8", seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, size=shape).astype(dtype)


def write_tiff(path: Path, shape: Sequence[int] = (40, 60), dtype: str = "uint8") -> Path:
    tifffile.imwrite(path, noise(shape, dtype), photometric="minisblack")
    return path


def single_line(text: str) -> str:
    """Return the only line of `text`."""
    (line,) = text.splitlines()
    return line


def assert_refused(done: Run, status: int, fact: str) -> None:
    """Assert that a run ended with a status, and printed nothing but an error of one line that states a fact."""
    assert (done.status, done.stdout) == (status, ""), done.stderr
    line = single_line(done.stderr)
    assert line.startswith("blurfast: error: "), line
    assert fact in line, line
