"""Plans and layouts as text, with equal pages told together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

from blurfast.planning import Plan

_Item = TypeVar("_Item")


def explain_plans(source: str, plans: Sequence[Plan]) -> str:
    """Return how a file would be filtered, and why, as text."""
    lines = [source]
    for span, text in group_equal([plan.explain() for plan in plans]):
        if len(plans) > 1:
            lines.append(f"  {span_name('image', span)}")
        lines += [f"  {line}" for line in text.splitlines()]
    return "\n".join(lines)


def group_equal(items: Sequence[_Item]) -> list[tuple[range, _Item]]:
    """Return neighbours that are equal once, with the range of their positions.

    Examples
    --------
    >>> group_equal(["a", "a", "b"])
    [(range(0, 2), 'a'), (range(2, 3), 'b')]
    """
    groups = []
    for item, members in groupby(enumerate(items), key=itemgetter(1)):
        positions = [position for position, _ in members]
        groups.append((range(positions[0], positions[-1] + 1), item))
    return groups


def span_name(noun: str, span: range) -> str:
    """Return what to call a range of pages or images, counted from 0.

    Examples
    --------
    >>> span_name("page", range(0, 1)), span_name("page", range(1, 4))
    ('page 0', 'pages 1-3')
    """
    return f"{noun} {span.start}" if len(span) == 1 else f"{noun}s {span.start}-{span.stop - 1}"
