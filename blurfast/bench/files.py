"""Image files that are filtered end to end: read, filtered and written, by a process for each run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blurfast.bench.cases import Case
from blurfast.bench.ideal import CROP, Edges, largest_error, reach
from blurfast.bench.scene import tissue
from blurfast.io.registry import open_source
from blurfast.pixels import Window

MAX_MEMORY = "400MB"
"""What blurfast may use for a file."""

_TILE = 512
# Beside the input and the output, what a library may need in between.
_ROOM = 3


_EDGES: dict[str, Edges] = {"pyvips": "nearest"}


class FileRun(NamedTuple):
    """What one process took, and by how much its result is off at most."""

    seconds: float
    peak_memory: int
    error: float


def lacks_room(case: Case, folder: Path) -> str | None:
    """Return why a folder cannot take the files of a case, or None if it can."""
    needed = _ROOM * case.side**2 * np.dtype(case.pixels).itemsize
    free = shutil.disk_usage(folder).free
    return None if free > needed else f"{folder} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are needed"


def write_image(case: Case, path: Path) -> None:
    """Write the image of a case as an uncompressed TIFF in tiles, one tile at a time."""
    import tifffile

    shape, dtype = (case.side, case.side), np.dtype(case.pixels)
    tifffile.imwrite(
        path,
        _tiles(case.side, dtype),
        shape=shape,
        dtype=dtype,
        tile=(_TILE, _TILE),
        photometric="minisblack",
        bigtiff=True,
    )


def _tiles(side: int, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    for row in range(0, side, _TILE):
        for column in range(0, side, _TILE):
            yield tissue(row, column, min(_TILE, side - row), min(_TILE, side - column), (side, side), dtype)


def filter_file(library: str, case: Case, source: Path) -> FileRun:
    """Filter a file by a library, in a process of its own.

    Raises
    ------
    RuntimeError
        If that failed; with the last line of what the process said.
    """
    target = source.with_name(f"out{source.suffix}")
    arguments = [library, source, target, case.sigma, case.threads, MAX_MEMORY]
    command = [sys.executable, "-m", "blurfast.bench.file_run", *map(str, arguments)]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    if finished.returncode != 0:
        raise RuntimeError((finished.stderr.strip().splitlines() or [f"exit status {finished.returncode}"])[-1])
    error = _error(case, target, _EDGES.get(library, "reflect"))
    target.unlink()
    return FileRun(**json.loads(finished.stdout), error=error)


def _error(case: Case, target: Path, edges: Edges) -> float:
    """Return by how much the top left corner of a file is off, at most, without reading much more of it."""
    seen = min(reach(case), case.side)
    source = open_source(target)
    rows, columns = (min(-(-CROP // length) * length, case.side) for length in source.images[0].grain)
    result = np.empty((rows, columns, 1), dtype=case.pixels)
    for task in source.read_tasks(0, Window(0, rows, 0, columns), result):
        task()
    source.close()
    return largest_error(case, result, edges, tissue(0, 0, seen, seen, (case.side, case.side), result.dtype))
