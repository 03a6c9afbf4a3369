"""Which pages of a TIFF file are images of their own: the chain of directories, and what in it is left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import tifffile

from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.page_selection import PageSelection, page_names
from blurfast.io.positioned import PositionedFile


class ChosenPages(NamedTuple):
    """The pages to be filtered, whether others of the same rank are left out, and what is to be said about it."""

    pages: list[tifffile.TiffPage]
    is_excerpt: bool
    notices: list[str]


def choose_pages(tiff: tifffile.TiffFile, file: PositionedFile, selection: PageSelection | None) -> ChosenPages:
    """Return the selected pages of a file, by default all but smaller versions and masks of others.

    Raises
    ------
    UnreadableError
        If the chain of pages is damaged, or empty.
    UnsupportedError
        If there is no such page, or all are meant and some have no directory of their own.
    """
    pages = _chained_pages(tiff, file)
    if not pages:
        raise UnreadableError("holds no image", path=file.path, remedy="check where it comes from")
    if selection is not None:
        numbers = selection.of(len(pages), file.path)
        return ChosenPages([pages[number] for number in numbers], numbers != list(range(len(pages))), [])
    _refuse_hidden_images(tiff, len(pages), file.path)
    return _own_images(pages)


def _own_images(pages: list[tifffile.TiffPage]) -> ChosenPages:
    """Leave out pages that say that they are parts of another one."""
    smaller = [] if pages[0].is_reduced else [page for page in pages if page.is_reduced]  # some programs mark all pages
    masks = [] if pages[0].is_mask else [page for page in pages if page.is_mask and page not in smaller]
    notices = []
    for kind, left_out in {"smaller version": smaller, "mask": masks}.items():
        if left_out:
            names = page_names([page.index for page in left_out])
            is_one = len(left_out) == 1
            notices.append(f"{len(left_out)} {kind}{'s' * (not is_one)} ({names}) {'is' if is_one else 'are'} not kept")
    return ChosenPages([page for page in pages if page not in smaller and page not in masks], False, notices)


def _chained_pages(tiff: tifffile.TiffFile, file: PositionedFile) -> list[tifffile.TiffPage]:
    """Return all pages; tifffile itself ends the chain in silence where it is damaged."""
    pages: list[tifffile.TiffPage] = []
    seen: set[int] = set()
    for page in _pages_in_order(tiff):
        if page.offset in seen:
            raise UnreadableError(f"page {len(pages)} is an earlier page again", path=file.path, remedy="copy it again")
        seen.add(page.offset)
        pages.append(page)
    offset_bytes = int(tiff.tiff.offsetsize)
    if any(file.read(tiff.pages.next_page_offset or 0, offset_bytes)):
        raise UnreadableError(f"page {len(pages)} is damaged", path=file.path, remedy="copy it again")
    return pages


def _pages_in_order(tiff: tifffile.TiffFile) -> Iterator[tifffile.TiffPage]:
    for index in itertools.count():
        try:
            page = tiff.pages[index]
        except IndexError:
            return
        yield page.aspage()


def _refuse_hidden_images(tiff: tifffile.TiffFile, pages: int, path: str) -> None:
    """Refuse files whose further images have no directories of their own, as they would be lost."""
    imagej = tiff.imagej_metadata or {}
    shaped = tiff.shaped_metadata or ()
    if imagej.get("images", 1) > pages or any(series.get("truncated") for series in shaped) or tiff.is_stk:
        fact = "holds images without directories of their own"
        raise UnsupportedError(fact, path=path, remedy="save it as a TIFF file with one page per image")
