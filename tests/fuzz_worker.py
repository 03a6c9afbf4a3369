"""Filters files that may be damaged, within narrow limits: ``python -m tests.fuzz_worker DIRECTORY < NAMES``.

After a line that says that it is ready, it prints a line for each name on stdin: empty, or what is wrong with how the
file was handled. A file that kills the process, as by a crash of a codec or by taking too long, gets none.
"""

# ruff: noqa: T201 - a program, which prints

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import tifffile

from blurfast import Gaussian
from blurfast.dtypes import SUPPORTED
from blurfast.errors import BlurfastError
from blurfast.files import describe_file, filter_file

SECONDS = 20
FREE_BYTES = 1 << 30
BUDGET_BYTES = 150_000_000

FILTER = Gaussian(1)


def compile_kernels(directory: Path) -> None:
    """Filter an image of each type: compilers need more time and memory than a case may."""
    for dtype in sorted({*SUPPORTED} - {"bool"}):
        tifffile.imwrite(directory / "in.tif", np.zeros((20, 20, 3), dtype), photometric="rgb")
        filter_file(directory / "in.tif", directory / "out.tif", FILTER, overwrite=True)
    for path in directory.iterdir():
        path.unlink()


def limit_memory() -> None:
    import resource  # not on Windows

    size = psutil.Process().memory_info().vms + FREE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def complaint(path: Path, directory: Path) -> str:
    """Filter a file into an empty directory, and return what should not have happened."""
    if path.suffix == ".png":
        return complaint_about(path, directory / "out.png")
    # Once with a copy of the layout, and once more, as there are compressions that can only be read.
    return complaint_about(path, directory / "out.tif") or complaint_about(path, directory / "out.tif", "none")


def complaint_about(path: Path, target: Path, compression: str | None = None) -> str:
    budget = psutil.Process().memory_info().rss + BUDGET_BYTES
    wrong, succeeded = "", False
    try:
        describe_file(path)
        filter_file(path, target, FILTER, threads=1, max_memory=budget, compression=compression)
        succeeded = True
    except BlurfastError as error:
        if any(isinstance(cause, MemoryError) for cause in causes(error)):
            wrong = f"asks for too much memory: {error}"
        elif not error.remedy:
            wrong = f"no remedy: {error}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what this program looks for
        wrong = f"{type(error).__name__}: {error}"
    left = [entry.name for entry in target.parent.iterdir()]
    target.unlink(missing_ok=True)
    if left != [target.name] * succeeded:
        wrong = wrong or f"leaves {left}"
    return wrong


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def main() -> None:
    source = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        compile_kernels(directory)
        limit_memory()
        os.fsync = lambda _file: None  # which takes longer than all else, and is of no interest here
        print("ready", flush=True)
        for name in sys.stdin:
            signal.alarm(SECONDS)  # kills the process
            print(" ".join(complaint(source / name.strip(), directory).split()), flush=True)


if __name__ == "__main__":
    main()
