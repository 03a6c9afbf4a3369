"""Kernels from files: matrices of numbers as NumPy arrays, as text, or as the pixels of small images."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.base import FileSource
from blurfast.kernel_shapes import LARGEST_SIDE, Weights, choice_of_names, is_shape_name, parse_shape
from blurfast.pixels import Window

# Numbers that are spelt out take 25 characters at most.
_LONGEST_LINE = 32 * LARGEST_SIDE

_NPY_DAMAGE = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError,
    ValueError, tokenize.TokenError,
)  # fmt: skip
"""What NumPy's parser of headers raises on files that are not as they should be."""


def load_kernel(source: str | os.PathLike[str]) -> Weights:
    """Return a kernel by its name or from a file.

    Parameters
    ----------
    source
        A text such as ``disk:7``, or the path of a file. A file that is called like a shape is read as ``./disk``.

    Returns
    -------
    Weights
        As `parse_shape` or `read_kernel` returns them.

    Raises
    ------
    ValueError
        If the parameters of a named kernel are wrong.
    UnreadableError
        If there is neither such a name nor such a file, or the file cannot be read.
    UnsupportedError
        If kernels cannot be read from such files.

    Examples
    --------
    >>> load_kernel("box:1x2").tolist()
    [[0.5, 0.5]]
    """
    if isinstance(source, str):
        if is_shape_name(source):
            return parse_shape(source)
        if not os.path.lexists(source):
            fact = "there is neither a file nor a kernel of this name"
            remedy = f"name a file, or {choice_of_names(source)}"
            raise UnreadableError(fact, path=source, remedy=remedy)
    return read_kernel(source)


def read_kernel(path: str | os.PathLike[str]) -> Weights:
    """Read a kernel from a file, whose format is told by its name's suffix.

    Parameters
    ----------
    path
        ``.npy``: a 2-D array of real numbers. ``.csv``, ``.tsv`` or ``.txt``: a row of numbers per line, between them
        commas, semicolons, tabs or blanks; what follows a ``#`` is a comment. ``.png``, ``.tif`` or ``.tiff``: an
        image in shades of grey, whose pixels are the numbers as they are (bits count as 0 and 255).

    Returns
    -------
    Weights
        An array of its own, C-contiguous, of finite numbers, with at most `LARGEST_SIDE` rows and columns.

    Raises
    ------
    UnreadableError
        If the file is missing, damaged, or not a matrix of finite numbers.
    UnsupportedError
        If the suffix or the type of the numbers is of no known kind, or the matrix is too large.
    """
    path = Path(path)
    _refuse_what_is_no_file(path)
    readers = {
        ".csv": _read_text,
        ".npy": _read_npy,
        ".png": _read_image,
        ".tif": _read_image,
        ".tiff": _read_image,
        ".tsv": _read_text,
        ".txt": _read_text,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        suffix = f"files with the suffix {path.suffix!r}" if path.suffix else "files without a suffix"
        fact = f"kernels are not read from {suffix}"
        raise UnsupportedError(fact, path=path, remedy=f"the suffix must be one of {', '.join(readers)}")
    with _opening_reported(path):
        weights = reader(path)
    _refuse_infinite(weights, path)
    return weights


def _refuse_what_is_no_file(path: Path) -> None:
    with _opening_reported(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError("is not a regular file", path=path, remedy="name a file")
    if status.st_size == 0:
        raise UnreadableError("the file is empty", path=path, remedy="copy it again")


@contextlib.contextmanager
def _opening_reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fact = f"cannot be read ({error.strerror or error})"
        raise UnreadableError(fact, path=path, remedy="check its name and permissions") from error


def _read_npy(path: Path) -> Weights:
    try:
        # Maps the numbers into memory, so that the header is checked before any of them is read.
        with np.errstate(over="raise"):
            array = np.lib.format.open_memmap(path, mode="r")
    except _NPY_DAMAGE as error:
        fact = "is not a NumPy array of numbers, or a damaged one"
        raise UnreadableError(fact, path=path, remedy="save it by numpy.save as float64") from error
    _refuse_other_types(array.dtype, path)
    if array.ndim != 2 or array.size == 0:
        fact = f"has the shape {array.shape}, which is not a matrix's"
        raise UnreadableError(fact, path=path, remedy="save an array of rows and columns")
    _refuse_large(array.shape[0], array.shape[1], path)
    return _as_weights(array)


def _refuse_other_types(dtype: np.dtype[Any], path: Path) -> None:
    if dtype.kind not in "biuf":
        raise UnsupportedError(f"its numbers are {dtype}", path=path, remedy="save it as float64")


def _refuse_large(rows: int, columns: int, path: Path) -> None:
    if max(rows, columns) > LARGEST_SIDE:
        fact = f"has more than {LARGEST_SIDE} rows or columns"
        raise UnsupportedError(fact, path=path, remedy="cut off what has next to no weight")


def _as_weights(numbers: NDArray[Any]) -> Weights:
    with np.errstate(over="ignore"):  # what is too large for float64 becomes infinite, which is refused
        return np.array(numbers, dtype=np.float64, order="C")


def _refuse_infinite(weights: Weights, path: Path) -> None:
    bad = np.argwhere(~np.isfinite(weights))
    if bad.size:
        row, column = bad[0]
        fact = f"the number in row {row + 1}, column {column + 1} is {weights[row, column]}"
        raise UnreadableError(fact, path=path, remedy="replace it by a finite one")


def _read_text(path: Path) -> Weights:
    rows: list[Weights] = []
    with open(path, encoding="utf-8-sig") as file:
        for line, text in _lines(file, path):
            row = _parse_row(text, line, path)
            if rows and row.size != rows[0].size:
                fact = f"line {line} has {row.size} numbers where the lines before it have {rows[0].size}"
                raise UnreadableError(fact, path=path, remedy="give all rows as many numbers")
            rows.append(row)
            _refuse_large(len(rows), row.size, path)
    if not rows:
        raise UnreadableError("holds no numbers", path=path, remedy="write a row of numbers per line")
    return np.stack(rows)


def _lines(file: TextIO, path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that hold more than comments, with their numbers."""
    # Read piece by piece: a file without any line breaks need not fit into memory.
    lines = iter(functools.partial(file.readline, _LONGEST_LINE), "")
    try:
        for number, line in enumerate(lines, 1):
            if len(line) == _LONGEST_LINE:
                fact = f"line {number} is longer than {LARGEST_SIDE} numbers"
                raise UnsupportedError(fact, path=path, remedy="write a row of numbers per line")
            text = line.partition("#")[0].strip()
            if text:
                yield number, text
    except UnicodeDecodeError as error:
        raise UnreadableError("is not text in UTF-8", path=path, remedy="save it as such") from error


def _parse_row(text: str, line: int, path: Path) -> Weights:
    if "," in text and ";" in text:
        fact = f"line {line} has both commas and semicolons"
        remedy = "separate numbers by one of them, and write decimal points"
        raise UnreadableError(fact, path=path, remedy=remedy)
    separator = next((mark for mark in ",;" if mark in text), None)
    return np.array([_parse_number(field.strip(), line, path) for field in text.split(separator)])


def _parse_number(field: str, line: int, path: Path) -> float:
    try:
        return float(field)
    except ValueError:
        fact = f"line {line} holds {field[:40]!r}, which is not a number"
        remedy = "separate numbers by commas, semicolons, tabs or blanks"
        raise UnreadableError(fact, path=path, remedy=remedy) from None


def _read_image(path: Path) -> Weights:
    with contextlib.closing(_open_image(path)) as source:
        if len(source.images) != 1:
            fact = f"holds {len(source.images)} images"
            raise UnsupportedError(fact, path=path, remedy="save the kernel in a file of its own")
        spec = source.images[0]
        _refuse_large(spec.height, spec.width, path)
        if spec.channels not in (1, 3):
            fact = f"has {spec.channels} channels"
            raise UnsupportedError(fact, path=path, remedy="save it in shades of grey, without opacity")
        pixels = np.empty((spec.height, spec.width, spec.channels), spec.dtype)
        for task in source.read_tasks(0, Window(0, spec.height, 0, spec.width), pixels):
            task()
    if (pixels[:, :, 1:] != pixels[:, :, :1]).any():
        raise UnsupportedError("has colours", path=path, remedy="save it in shades of grey")
    return _as_weights(pixels[:, :, 0])


def _open_image(path: Path) -> FileSource:
    """Open an image by the readers that know what can be wrong with one."""
    if path.suffix.lower() == ".png":
        from blurfast.io.png_source import PngSource

        return PngSource(path)
    from blurfast.io.tiff_source import TiffSource

    return TiffSource(path)
