"""Descriptions that speak of all images of a file together: what has changed for them, and what is left of a stack."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from blurfast.pixels import Window


class OutdatedError(Exception):
    """A description cannot be made true of the output, for the reason that is the message."""


class Description(NamedTuple):
    """A description that is true of the output, and what is to be said about it."""

    text: bytes
    notices: list[str]


@dataclass(frozen=True)
class StackChanges:
    """What an output shows of the images that a description speaks of.

    Parameters
    ----------
    pages
        The numbers, in the input, of the pages of the output.
    numbers
        Their numbers in the output, where smaller versions may lie between them.
    is_excerpt
        Whether the input has further ones.
    dtype
        The name of the type of the output's samples.
    has_dtype
        Whether that is another one than the input's.
    is_rescaled
        Whether the samples' numbers mean something else than in the input.
    region
        The part of each image that is left; None for all of it.
    source_name, file_name
        The names of input and output, without their directories.
    """

    pages: tuple[int, ...]
    numbers: tuple[int, ...]
    is_excerpt: bool
    dtype: str
    has_dtype: bool
    is_rescaled: bool
    region: Window | None
    source_name: str
    file_name: str

    @property
    def is_renumbered(self) -> bool:
        """Whether pages have other numbers than in the input."""
        return self.pages != self.numbers

    @property
    def is_none(self) -> bool:
        """Whether the images are as they were."""
        return not (self.is_excerpt or self.has_dtype or self.is_rescaled) and self.region is None


def sub_stack(planes: Collection[int], sizes: Sequence[int]) -> list[list[int]] | None:
    """Return the indices along each axis whose combinations are the given planes.

    Parameters
    ----------
    planes
        Numbers of planes, the last axis counted fastest.
    sizes
        Of the axes of the whole stack.

    Returns
    -------
    list of list of int or None
        Ascending indices for each axis; None if the planes are not all combinations of any, or outside the stack.

    Examples
    --------
    >>> sub_stack([0, 1, 6, 7], [3, 3, 2])
    [[0, 1], [0], [0, 1]]
    >>> sub_stack([0, 1, 6], [3, 3, 2]) is None
    True
    """
    if not planes or min(planes) < 0 or max(planes) >= math.prod(sizes):
        return None
    indices: list[list[int]] = []
    left = set(planes)
    for size in reversed(sizes):
        indices.insert(0, sorted({plane % size for plane in left}))
        left = {plane // size for plane in left}
    is_complete = math.prod(map(len, indices)) == len(set(planes)) == len(planes)
    return indices if is_complete else None


def ordered_sub_stack(planes: Sequence[int], sizes: Sequence[int]) -> list[list[int]] | None:
    """Return what `sub_stack` returns, but None also where the planes are not in ascending order."""
    is_ascending = all(first < second for first, second in itertools.pairwise(planes))
    return sub_stack(planes, sizes) if is_ascending else None
