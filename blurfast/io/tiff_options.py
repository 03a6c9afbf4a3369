"""What can be asked of a TIFF output: the keywords, and what their values stand for."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, TypedDict

Tile = tuple[int, int] | Literal["strips"]
"""Rows and columns of a tile, or no tiles."""

PREDICTOR_NUMBERS = {"none": 1, "horizontal": 2, "float": 3}
"""The names of the predictors, and how a TIFF file numbers them."""
PREDICTORS = tuple(PREDICTOR_NUMBERS)
BIGTIFF_RULES = ("auto", "yes", "no")

_LARGEST_TILE_SIDE = 1 << 16


class TiffKeywords(TypedDict, total=False):
    """The keywords that choose the layout of a TIFF output; what is left out is as in the input."""

    compression: str | None
    predictor: str | None
    tile: str | tuple[int, int] | None
    bigtiff: str | bool | None
    pyramid: bool | None
    cog: bool | None


class TiffOptions(NamedTuple):
    """What is asked of a TIFF output. None leaves it to the input.

    Parameters
    ----------
    compression
        Name and level of a codec.
    predictor
        As a TIFF file numbers it.
    tile
        Rows and columns of a tile, or ``"strips"``.
    big
        Whether the output is a BigTIFF.
    pyramid
        Whether each image comes with smaller versions.
    cog
        Whether the output is a cloud-optimised GeoTIFF.
    """

    compression: tuple[str, int | None] | None = None
    predictor: int | None = None
    tile: Tile | None = None
    big: bool | None = None
    pyramid: bool | None = None
    cog: bool | None = None


def parse_predictor(predictor: str) -> int:
    """Return the number of a predictor.

    Examples
    --------
    >>> parse_predictor("horizontal")
    2
    """
    if predictor not in PREDICTOR_NUMBERS:
        raise ValueError(f"predictor is {predictor!r}; it must be one of {', '.join(PREDICTORS)}")
    return PREDICTOR_NUMBERS[predictor]


def parse_tile(tile: str | tuple[int, int]) -> Tile:
    """Return rows and columns of a tile that is given so, or as text, or the word ``"strips"``.

    Examples
    --------
    >>> parse_tile("256x512")
    (256, 512)
    """
    if tile == "strips":
        return "strips"
    match = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", tile) if isinstance(tile, str) else None
    sides = match.groups() if match else () if isinstance(tile, str) else tile
    if len(sides) != 2:
        raise ValueError(f"tile is {tile!r}; it must be rows x columns, such as 256x512, or strips")
    rows, columns = map(int, sides)
    if not all(0 < side <= _LARGEST_TILE_SIDE and side % 16 == 0 for side in (rows, columns)):
        raise ValueError(f"tile is {tile!r}; its sides must be multiples of 16, up to {_LARGEST_TILE_SIDE}")
    return rows, columns


def parse_bigtiff(rule: str | bool) -> bool | None:
    """Return whether an output must be a BigTIFF, None where that depends on its size.

    Examples
    --------
    >>> parse_bigtiff("yes"), parse_bigtiff(False), parse_bigtiff("auto")
    (True, False, None)
    """
    if isinstance(rule, bool):
        return rule
    if rule not in BIGTIFF_RULES:
        raise ValueError(f"bigtiff is {rule!r}; it must be one of {', '.join(BIGTIFF_RULES)}")
    return None if rule == "auto" else rule == "yes"
