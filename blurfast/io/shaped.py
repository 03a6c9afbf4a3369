"""tifffile's own descriptions: the shape of a series of pages, and whatever the user has put beside it, as JSON."""

from __future__ import annotations

import json
import math
from typing import Any

from blurfast.io.stacks import Description, OutdatedError, StackChanges, ordered_sub_stack
from blurfast.io.tiff_layout import PageLayout

_TRUNCATED = "truncated"


def is_shaped(text: bytes) -> bool:
    """Return whether a description is tifffile's."""
    return text.startswith(b'{"shape":')


def updated_shape(text: bytes, page: PageLayout, changes: StackChanges) -> Description:
    """Return a description that is true of an output.

    Parameters
    ----------
    text
        The description.
    page
        Any page of the series, as it is in the input.
    changes
        What the output shows of it.

    Raises
    ------
    OutdatedError
        If it cannot be made true.
    """
    is_palette = page.stored is not None and page.stored.is_palette
    is_as_it_was = changes.region is None and not changes.is_excerpt and not is_palette
    if is_as_it_was and _TRUNCATED.encode() not in text:
        return Description(text, [])
    try:
        values: dict[str, Any] = json.loads(text.rstrip(b"\0"))
        values.pop(_TRUNCATED, None)  # every page of the output has a directory
        if is_as_it_was:
            return _description(values)
        shape = [int(size) for size in values["shape"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise OutdatedError("it is damaged") from error
    inner = _page_shape(page, 1 if is_palette else page.samples, page.height, page.width)
    leading = _leading_sizes(shape, inner)
    if changes.is_excerpt:
        kept = ordered_sub_stack(changes.pages, leading)
        if kept is None:
            raise OutdatedError("the pages that are left are no regular part of its series")
        leading = [len(indices) for indices in kept]
    rows, columns = page.height, page.width
    if changes.region is not None:
        rows, columns = changes.region.rows, changes.region.columns
    values["shape"] = [*leading, *_page_shape(page, page.samples, rows, columns)]
    if isinstance(values.get("axes"), str):
        values["axes"] = _axes(values["axes"], len(shape), is_palette=is_palette)
    if len(values["shape"]) != len(shape) + is_palette:
        raise OutdatedError("it does not fit its pages")
    return _description(values)


def _description(values: dict[str, Any]) -> Description:
    return Description(json.dumps(values).encode() + b"\0", [])


def _page_shape(page: PageLayout, samples: int, rows: int, columns: int) -> list[int]:
    """Return the shape of a page as tifffile has it."""
    if samples == 1:
        return [rows, columns]
    return [samples, rows, columns] if page.planar else [rows, columns, samples]


def _leading_sizes(shape: list[int], inner: list[int]) -> list[int]:
    """Return the sizes of a series' axes but for those within a page."""
    if shape[-len(inner) :] != inner or math.prod(shape) < 1:
        raise OutdatedError("it does not fit its pages")
    return shape[: -len(inner)]


def _axes(axes: str, dimensions: int, *, is_palette: bool) -> str:
    return f"{axes}S" if is_palette and len(axes) == dimensions else axes
