"""What can be asked of a PNG output: the keyword, and which values it takes."""

from __future__ import annotations

from typing import TypedDict

PNG_LEVELS = range(10)


class PngKeywords(TypedDict, total=False):
    """The keywords that choose how a PNG output is compressed."""

    png_level: int | None


def parse_png_level(level: int) -> int:
    """Return a level of compression, after a check.

    Examples
    --------
    >>> parse_png_level(6)
    6
    """
    if isinstance(level, bool) or not isinstance(level, int):
        raise TypeError(f"png_level is {level!r}; it must be an integer")
    if level not in PNG_LEVELS:
        raise ValueError(f"png_level is {level}; it must be from {PNG_LEVELS.start} to {PNG_LEVELS.stop - 1}")
    return level
