"""How an output differs from its input on purpose, beside what the filter does to its pixels."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import DTypeLike

from blurfast.errors import UnsupportedError
from blurfast.io.base import Grain, ImageSpec
from blurfast.pixels import Window

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
"""The types of samples that outputs can have."""

Scale = Literal["none", "full"] | tuple[float, float]
"""How values become those of another type: not at all, range to range, or from between two numbers."""


class EditKeywords(TypedDict, total=False):
    """The keywords that choose which pixels an output has, and of which type."""

    region: str | Sequence[int] | None
    dtype: DTypeLike | None
    scale: str | tuple[float, float] | None


class Edits(NamedTuple):
    """What is asked of an output that makes statements of the input about its pixels untrue.

    Parameters
    ----------
    region
        The part of the input that the output shows; None for all of it.
    dtype
        Of the output's samples; None for the input's own.
    scale
        How values become those of `dtype`.
    """

    region: Window | None = None
    dtype: np.dtype[Any] | None = None
    scale: Scale = "none"

    @classmethod
    def parse(
        cls,
        region: str | Sequence[int] | None = None,
        dtype: DTypeLike | None = None,
        scale: str | tuple[float, float] | None = None,
    ) -> Edits:
        """Return what `EditKeywords` stand for.

        Raises
        ------
        TypeError, ValueError
            If one is of the wrong kind, or no such thing.

        Examples
        --------
        >>> Edits.parse("10,0,300,200", "uint8").region
        Window(row_start=0, row_stop=200, column_start=10, column_stop=310)
        """
        return cls(
            None if region is None else parse_region(region),
            None if dtype is None else parse_dtype(dtype),
            "none" if scale is None else parse_scale(scale),
        )

    @property
    def is_rescaled(self) -> bool:
        """Whether the same numbers mean something else than in the input."""
        return self.scale != "none"

    def applied(self, image: ImageSpec, path: str | os.PathLike[str]) -> ImageSpec:
        """Return what becomes of an image of the file at `path`.

        Raises
        ------
        UnsupportedError
            If the image does not contain the region.
        """
        dtype = self.dtype or image.dtype
        if self.region is None:
            return dataclasses.replace(image, dtype=dtype)
        region = self.region
        if region.row_stop > image.height or region.column_stop > image.width:
            fact = f"an image of {image.width} x {image.height} pixels does not contain the region {spelled(region)}"
            raise UnsupportedError(fact, path=path, remedy="choose one inside of it")
        grain = Grain(min(image.grain.rows, region.rows), min(image.grain.columns, region.columns))
        return dataclasses.replace(image, height=region.rows, width=region.columns, dtype=dtype, grain=grain)


def parse_region(region: str | Sequence[int]) -> Window:
    """Return the rectangle that column, row, width and height in pixels stand for, as numbers or as text.

    Examples
    --------
    >>> parse_region("10,0,300,200") == parse_region((10, 0, 300, 200))
    True
    """
    if isinstance(region, str):
        match = re.fullmatch(r"\s*([0-9]{1,9})" + r"\s*,\s*([0-9]{1,9})" * 3 + r"\s*", region)
        numbers = [int(number) for number in match.groups()] if match else []
    else:
        numbers = list(region)
        if any(isinstance(number, bool) or not isinstance(number, int | np.integer) for number in numbers):
            raise TypeError(f"region is {region!r}; it must be four integers")
    if len(numbers) != 4:
        raise ValueError(f"region is {region!r}; it must be column, row, width and height, such as 10,0,300,200")
    column, row, width, height = map(int, numbers)
    if min(column, row) < 0 or min(width, height) < 1:
        raise ValueError(f"region is {region!r}; it must begin inside the image and have a width and a height")
    return Window(row, row + height, column, column + width)


def spelled(region: Window) -> str:
    """Return a region as `parse_region` takes it.

    Examples
    --------
    >>> spelled(parse_region((10, 0, 300, 200)))
    '10,0,300,200'
    """
    return f"{region.column_start},{region.row_start},{region.columns},{region.rows}"


def parse_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the type of samples that is given so, or by its name.

    Examples
    --------
    >>> parse_dtype("uint8")
    dtype('uint8')
    """
    try:
        parsed = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        parsed = None
    if parsed is None or parsed.name not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}")
    return parsed


def parse_scale(scale: str | tuple[float, float]) -> Scale:
    """Return the scaling that is given so, or as text such as ``"0,4095"``.

    Examples
    --------
    >>> parse_scale("-1,1"), parse_scale("full")
    ((-1.0, 1.0), 'full')
    """
    if scale in ("none", "full"):
        return scale  # type: ignore[return-value]
    try:
        numbers = tuple(float(number) for number in (scale.split(",") if isinstance(scale, str) else scale))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"scale is {scale!r}; it must be none, full, or two numbers such as 0,4095")
    low, high = numbers
    if low >= high:
        raise ValueError(f"scale is {scale!r}; the first number must be less than the second one")
    return low, high
