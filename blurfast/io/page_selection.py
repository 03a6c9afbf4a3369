"""Which pages of a file are meant, counted from 0 as other programs do: ``0``, ``"0,3-7"``, ``"2-"``."""

from __future__ import annotations

import itertools
import operator
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from blurfast.errors import UnsupportedError

Pages = int | str | Sequence[int]
"""What `PageSelection.parse` takes."""


@dataclass(frozen=True)
class PageSelection:
    """Pages by number, in the order in which they are asked for.

    Parameters
    ----------
    spans
        First and last page of each span; None as the last one stands for the end of the file.
    """

    spans: tuple[tuple[int, int | None], ...]

    @classmethod
    def parse(cls, page: Pages) -> PageSelection:
        """Return the selection that a number, several, or text such as ``"0,3-7"`` stands for.

        Raises
        ------
        ValueError
            If it is no such selection.
        TypeError
            If it is of another type.

        Examples
        --------
        >>> PageSelection.parse("0,3-7,9-").spans
        ((0, 0), (3, 7), (9, None))
        """
        if isinstance(page, str):
            spans = [_parse_span(part, page) for part in page.split(",")]
        else:
            spans = [(number, number) for number in _page_numbers(page)]
        for (_, last), (following, _) in itertools.pairwise(sorted(spans, key=operator.itemgetter(0))):
            if last is None or following <= last:
                raise ValueError(f"page is {page!r}; it names page {following} twice")
        return cls(tuple(spans))

    def of(self, count: int, path: str | os.PathLike[str]) -> list[int]:
        """Return the numbers of the selected pages of a file with `count` pages.

        Raises
        ------
        UnsupportedError
            If the file has too few pages.
        """
        numbers: list[int] = []
        for first, last in self.spans:
            greatest = first if last is None else last
            if greatest >= count:
                having = "its only page is 0" if count == 1 else f"its pages are 0 to {count - 1}"
                raise UnsupportedError(f"has no page {greatest}", path=path, remedy=having)
            numbers += range(first, (count - 1 if last is None else last) + 1)
        return numbers


def _page_numbers(page: int | Sequence[int]) -> list[int]:
    numbers = list(page) if isinstance(page, Sequence) else [page]
    if not numbers or any(isinstance(number, bool) or not isinstance(number, int) for number in numbers):
        raise TypeError(f"page is {page!r}; it must be numbers, or text such as '0,3-7'")
    if min(numbers) < 0:
        raise ValueError(f"page is {page!r}; pages are counted from 0")
    return numbers


def _parse_span(part: str, text: str) -> tuple[int, int | None]:
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:(-)\s*([0-9]{1,9})?\s*)?", part)
    if match is None:
        raise ValueError(f"page is {text!r}; it must be numbers from 0 on and ranges of them, such as 0,3-7")
    first = int(match[1])
    if match[2] is None:
        return first, first
    last = None if match[3] is None else int(match[3])
    if last is not None and last < first:
        raise ValueError(f"page is {text!r}; {first}-{last} goes backwards")
    return first, last


def page_names(numbers: Sequence[int]) -> str:
    """Return what to call pages in a message.

    Examples
    --------
    >>> page_names([2]), page_names([0, 1, 2, 5])
    ('page 2', 'pages 0-2, 5')
    """
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    names = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
    return f"page{'s' * (len(numbers) > 1)} {names}"
