"""TIFF files as a source of pixels: which pages there are, what they hold, and what of it outlives a filter.

tifffile parses the directories. Pages and segments are numbered from 0 in messages, as by `--page` and by the tools of
libtiff.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import tifffile

from blurfast.cpu.catalogue import Kernel
from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io import tiff_tags
from blurfast.io.base import ImageSpec
from blurfast.io.metadata import Metadata
from blurfast.io.page_selection import PageSelection, page_names
from blurfast.io.positioned import PositionedFile
from blurfast.io.tiff_layout import PageLayout, page_layout
from blurfast.io.tiff_limits import check_directories
from blurfast.io.tiff_pages import choose_pages
from blurfast.io.tiff_readers import DAMAGE, PageReader, page_reader
from blurfast.io.tiff_tags import ByteLayout, Tag
from blurfast.pixels import Pixels, Window

# What tifffile finds odd is checked below and becomes an error or a notice; without any handler at all, Python would
# print the log to stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class TiffSource:
    """The pages of a TIFF file as images, read segment by segment or row by row.

    A page whose channels are stored in separate planes counts as one image per channel. Smaller versions of an image
    (pyramid levels, reduced pages) and masks are left out, with a notice. Samples with too few bits to calculate with
    and indices of a palette become pixels as `StoredSamples` says, with a notice.

    Parameters
    ----------
    path
        The file.
    selection
        The pages to be read, smaller versions and masks included; by default all other pages.

    Attributes
    ----------
    notices
        What the file holds that is left out or changed, one sentence each.
    pages
        The layout of every page.
    page_numbers
        Their places in the chain of pages.
    byte_layout
        Byte order, and whether the file is a BigTIFF.
    metadata
        What the first page says about its image.

    Raises
    ------
    UnreadableError
        If the file is missing, damaged, or not a TIFF file.
    UnsupportedError
        If there is no such page, or one has samples, colours or a compression that cannot be filtered.
    """

    def __init__(self, path: str | os.PathLike[str], selection: PageSelection | None = None) -> None:
        self.path = os.fspath(path)
        self.notices: list[str] = []
        self.kernels: list[Kernel] = []
        self.pages: list[PageLayout] = []
        self.page_numbers: list[int] = []
        self._tags: list[tuple[Tag, ...]] = []
        self._readers: list[PageReader] = []
        with contextlib.ExitStack() as undo:
            self._file = PositionedFile(self.path)
            undo.callback(self._file.close)
            if self._file.size == 0:
                raise UnreadableError("the file is empty", path=self.path, remedy="copy it again")
            check_directories(self._file)
            with _damage_reported(self.path), tifffile.TiffFile(self.path) as tiff:
                self.byte_layout = ByteLayout(tiff.byteorder, tiff.is_bigtiff)
                self._add_pages(tiff, selection)
            undo.pop_all()
        self._planes = [(page, plane) for page, layout in enumerate(self.pages) for plane in range(layout.planes)]
        self._images = [self._readers[page].spec for page, _ in self._planes]

    def _add_pages(self, tiff: tifffile.TiffFile, selection: PageSelection | None) -> None:
        pages, is_excerpt, self.notices = choose_pages(tiff, self._file, selection)
        for page in pages:
            self._add_page(page, is_excerpt=is_excerpt, has_others=len(tiff.pages) > 1)
        self.metadata: Metadata = tiff_tags.shared_metadata(pages[0], self.pages[0].colour_model)
        dropped = dict.fromkeys(name for page in pages for name in tiff_tags.dropped_data(page))
        self.notices += [f"{name} are not kept" for name in dropped]
        self._note_conversions()

    def _add_page(self, page: tifffile.TiffPage, *, is_excerpt: bool, has_others: bool) -> None:
        try:
            layout = page_layout(page, self.path)
        except UnsupportedError as error:
            if not has_others:
                raise
            remedy = f"{error.remedy}, or choose other pages with --page"
            raise UnsupportedError(error.fact, path=error.path, remedy=remedy) from error
        stale = _stale_tags(page, layout, is_excerpt=is_excerpt)
        if not self.pages and tiff_tags.DESCRIPTION in stale:
            self.notices.append("the description of all images together is not kept, since it no longer fits")
        self.pages.append(layout)
        self.page_numbers.append(page.index)
        self._tags.append(tiff_tags.copied_tags(page, self._file.read, stale))
        self._readers.append(page_reader(page, layout, self._file, self.byte_layout.order))

    def _note_conversions(self) -> None:
        numbers: dict[str, list[int]] = {}
        for number, layout in zip(self.page_numbers, self.pages, strict=True):
            if layout.stored is not None:
                numbers.setdefault(layout.stored.notice, []).append(number)
        for notice, concerned in numbers.items():
            self.notices.append(notice if len(self.pages) == 1 else f"{page_names(concerned)}: {notice}")

    @property
    def images(self) -> list[ImageSpec]:
        """The images, in the order in which they are read."""
        return self._images

    @property
    def layout_description(self) -> list[dict[str, Any]]:
        """How each page is stored, in plain words and numbers."""
        return [layout.description(self.byte_layout) for layout in self.pages]

    def tags(self, page: int) -> tuple[Tag, ...]:
        """Return the tags of a page that outlive a filter, in the byte order of the file."""
        return self._tags[page]

    def read_tasks(self, image: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
        """Return tasks that together fill `target` with the pixels of `window`, whole segments of image `image`."""
        page, plane = self._planes[image]
        return self._readers[page].tasks(plane, window, target)

    def close(self) -> None:
        """Release the file. No task runs any more."""
        self._file.close()


def _stale_tags(page: tifffile.TiffPage, layout: PageLayout, *, is_excerpt: bool) -> frozenset[int]:
    """Return the codes of tags that are true of this page in this file only."""
    stale: set[int] = set()
    if layout.stored is not None and layout.stored.table is not None:
        stale |= tiff_tags.VALUE_TAGS
    if is_excerpt:
        stale |= tiff_tags.SERIES_TAGS | tiff_tags.KIND_TAGS
    has_other_shape = is_excerpt or (layout.stored is not None and layout.stored.is_palette)
    if has_other_shape and tiff_tags.describes_series(page):
        stale.add(tiff_tags.DESCRIPTION)
    return frozenset(stale)


@contextlib.contextmanager
def _damage_reported(path: str) -> Iterator[None]:
    """Turn what goes wrong while tifffile parses into an error that names the file."""
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, OSError) and error.strerror is not None:
            fact = f"cannot be read ({error.strerror})"
            raise UnreadableError(fact, path=path, remedy="check the disk") from error
        fact = f"is not a TIFF file, or a damaged one ({error})"
        raise UnreadableError(fact, path=path, remedy="check where it comes from") from error
