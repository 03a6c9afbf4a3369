"""Which pages of a TIFF file are to be filtered: the chain of directories, and what in it is left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import tifffile

from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.page_selection import PageSelection
from blurfast.io.positioned import PositionedFile
from blurfast.io.tiff_frames import FrameStack, frame_stack
from blurfast.io.tiff_levels import PageLevels, sub_directory_exponents
from blurfast.io.tiff_roles import PageRoles, chain_roles, is_slide, not_kept, slide_roles
from blurfast.io.tiff_tags import ByteLayout


class ChosenPages(NamedTuple):
    """The pages to be filtered, whether others of the same rank are left out, and what is to be said about it.

    `numbers` holds their places in the file, and `levels` what smaller versions of each page there are that can be made
    anew. Frames of a `stack` share the one directory that there is.
    """

    pages: list[tifffile.TiffPage]
    numbers: list[int]
    is_excerpt: bool
    notices: list[str]
    levels: list[PageLevels]
    stack: FrameStack | None = None


def choose_pages(
    tiff: tifffile.TiffFile, file: PositionedFile, byte_layout: ByteLayout, selection: PageSelection | None
) -> ChosenPages:
    """Return the selected pages of a file, by default all but smaller versions and masks of others.

    Of slides as scanners write them, these are the pages of full size.

    Raises
    ------
    UnreadableError
        If the chain of pages is damaged, or empty, or all images are meant and the file ends before the last one.
    UnsupportedError
        If there is no such page, or all are meant and some have neither a directory of their own nor a place behind
        the pixels of the only one.
    """
    pages = _chained_pages(tiff, file)
    if not pages:
        raise UnreadableError("holds no image", path=file.path, remedy="check where it comes from")
    roles = slide_roles(pages) if is_slide(pages[0]) else chain_roles(pages)
    stack = _frame_stack(pages, file, selection)
    if stack is not None:
        return _choose_frames(stack, roles, file, byte_layout, selection)
    if selection is None:
        chosen, is_excerpt, notices = roles.images, False, roles.notices
    else:
        chosen = [pages[number] for number in selection.of(len(pages), file.path)]
        is_excerpt = chosen not in (pages, roles.images)
        notices = []
    levels, lost = _levels(chosen, roles, file, byte_layout)
    numbers = [page.index for page in chosen]
    return ChosenPages(chosen, numbers, is_excerpt, [*notices, *_lost_levels(lost)], levels)


def _frame_stack(
    pages: Sequence[tifffile.TiffPage], file: PositionedFile, selection: PageSelection | None
) -> FrameStack | None:
    """Return the images without directories of their own, if there are any that can be read."""
    try:
        return frame_stack(pages, file)
    except UnsupportedError:
        if selection is None:
            raise
        return None  # pages that have directories can be chosen


def _choose_frames(
    stack: FrameStack,
    roles: PageRoles,
    file: PositionedFile,
    byte_layout: ByteLayout,
    selection: PageSelection | None,
) -> ChosenPages:
    if selection is None:
        stack.refuse_if_short(file.path)
        numbers = list(range(stack.count))
    else:
        numbers = selection.of(stack.count, file.path)
    (first_levels,), lost = _levels([stack.directory], roles, file, byte_layout)
    levels = [PageLevels() if number else first_levels for number in numbers]
    is_excerpt = numbers != list(range(stack.claimed))
    return ChosenPages([stack.directory] * len(numbers), numbers, is_excerpt, _lost_levels(lost), levels, stack)


def _lost_levels(pages: Sequence[tifffile.TiffPage]) -> list[str]:
    return not_kept("image", pages, " in SubIFDs")


def _levels(
    pages: Sequence[tifffile.TiffPage], roles: PageRoles, file: PositionedFile, byte_layout: ByteLayout
) -> tuple[list[PageLevels], list[tifffile.TiffPage]]:
    """Return the smaller versions of pages, and the page of each SubIFD that is something else."""
    numbers = {page.index for page in pages}
    levels, lost = [], []
    for page in pages:
        chained = roles.exponents(page, without=numbers)
        exponents = set(chained)
        for exponent in sub_directory_exponents(page, file, byte_layout):
            if exponent is None:
                lost.append(page)
            else:
                exponents.add(exponent)
        levels.append(
            PageLevels(
                tuple(sorted(exponents)),
                are_chained=bool(chained),
                come_last=roles.levels_come_last,
                are_marked=roles.levels_are_marked,
                has_thumbnail=bool(chained) and page.index == roles.thumbnail_of,
            )
        )
    return levels, lost


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
