"""What the pages of a TIFF file are to each other: images, smaller versions and masks of them, labels of slides."""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from tifffile import TiffPage

from blurfast.io.page_selection import page_names
from blurfast.io.tiff_levels import exponent_of


@dataclass
class PageRoles:
    """The roles of all pages of a file.

    Parameters
    ----------
    images
        The pages that are images of their own.
    levels
        The smaller versions that can be made anew, by the number of their image's page: the numbers of their own
        pages, and how often the image is halved for them.
    levels_come_last
        Whether the smaller versions follow all images.
    levels_are_marked
        Whether the smaller versions say of themselves that they are such.
    thumbnail_of
        The number of the page that is followed by a thumbnail, which can be made anew, too; None if there is none.
    notices
        What is to be said about all others.
    """

    images: list[TiffPage] = field(default_factory=list)
    levels: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    levels_come_last: bool = False
    levels_are_marked: bool = True
    thumbnail_of: int | None = None
    notices: list[str] = field(default_factory=list)

    def exponents(self, image: TiffPage, *, without: Container[int]) -> tuple[int, ...]:
        """Return how often an image is halved for its smaller versions, but for those on the pages `without`."""
        levels = self.levels.get(image.index, ())
        return tuple(sorted({times for number, times in levels if number not in without}))


def is_slide(first: TiffPage) -> bool:
    """Return whether a file comes from a scanner of slides whose files don't tell the kinds of their pages.

    Aperio, Hamamatsu, Leica, Ventana, Philips and PerkinElmer make such.
    """
    return any((first.is_svs, first.is_ndpi, first.is_scn, first.is_bif, first.is_philips, first.is_qpi))


def slide_roles(pages: Sequence[TiffPage]) -> PageRoles:
    """Tell the pages of a slide apart by their sizes: some are as large as the largest, or halves of that.

    Several are as large where there are several focal planes, or channels.
    """
    base = max(pages, key=lambda page: math.prod(_shape(page)))
    roles = PageRoles()
    levels, others = [], []
    for page in pages:
        times = exponent_of(_shape(base), _shape(page))
        if _is_akin(page, base) and _shape(page) == _shape(base):
            roles.images.append(page)
        elif _is_akin(page, base) and times is not None:
            levels.append((page.index, times))
        else:
            others.append(page)
    roles.levels = dict.fromkeys([image.index for image in roles.images], levels)
    roles.levels_come_last = True
    thumbnail = next((page for page in others if _is_thumbnail(page, pages)), None) if levels else None
    if thumbnail is not None:
        others.remove(thumbnail)
        roles.thumbnail_of = thumbnail.index - 1
        roles.levels_are_marked = not base.is_svs
    roles.notices = not_kept("further image", others, " of the slide")
    return roles


def _is_thumbnail(page: TiffPage, pages: Sequence[TiffPage]) -> bool:
    """Return whether a page is where readers expect the thumbnail: behind the first image of Aperio, or all images."""
    first = pages[0]
    if first.is_svs:
        return page.index == 1
    same = itertools.takewhile(lambda other: _shape(other) == _shape(first), pages)
    return first.is_qpi and page.index == len(list(same))


def _is_akin(page: TiffPage, base: TiffPage) -> bool:
    """Return whether two pages of a slide may show the same: its labels are no tiled images, or have other samples."""
    return (page.is_tiled, page.samplesperpixel, page.dtype) == (base.is_tiled, base.samplesperpixel, base.dtype)


def chain_roles(pages: Sequence[TiffPage]) -> PageRoles:
    """Tell pages apart by what they say themselves. Smaller versions follow the image that they belong to."""
    has_smaller, has_masks = not pages[0].is_reduced, not pages[0].is_mask  # some programs mark all pages
    roles = PageRoles()
    lost, masks = [], []
    for page in pages:
        if has_masks and page.is_mask:
            masks.append(page)
        elif has_smaller and page.is_reduced:
            image = roles.images[-1]
            times = exponent_of(_shape(image), _shape(page))
            if times is None or page.samplesperpixel != image.samplesperpixel:
                lost.append(page)
            else:
                roles.levels.setdefault(image.index, []).append((page.index, times))
        else:
            roles.images.append(page)
    roles.notices = [*not_kept("smaller version", lost), *not_kept("mask", masks)]
    return roles


def _shape(page: TiffPage) -> tuple[int, int]:
    return int(page.imagelength), int(page.imagewidth)


def not_kept(kind: str, pages: Sequence[TiffPage], where: str = "") -> list[str]:
    """Return what to say about images that are left out, each on one of `pages`; nothing if there are none."""
    if not pages:
        return []
    names = page_names(list(dict.fromkeys(page.index for page in pages)))
    is_one = len(pages) == 1
    return [f"{len(pages)} {kind}{'s' * (not is_one)}{where} ({names}) {'is' if is_one else 'are'} not kept"]
