"""TIFF files as a source of pixels: which pages there are, what they hold, and what of it outlives a filter.

tifffile parses the directories. Pages and segments are numbered from 0 in messages, as by `--page` and by the tools of
libtiff.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import tifffile

from blurfast.cpu.catalogue import Kernel
from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.base import ImageSpec
from blurfast.io.metadata import Metadata
from blurfast.io.page_selection import PageSelection, page_names
from blurfast.io.positioned import PositionedFile
from blurfast.io.tiff_copies import CopiedTags, copied_tags
from blurfast.io.tiff_directories import DirectoryReader
from blurfast.io.tiff_frames import FrameStack
from blurfast.io.tiff_layout import LZW_COMPRESSION, PageLayout, page_layout
from blurfast.io.tiff_levels import is_cog
from blurfast.io.tiff_limits import check_directories
from blurfast.io.tiff_lzw import LZW_CHECK
from blurfast.io.tiff_pages import choose_pages
from blurfast.io.tiff_readers import DAMAGE, PageReader, page_reader
from blurfast.io.tiff_tags import ByteLayout, Tag
from blurfast.io.tiff_terms import shared_metadata, tag_name
from blurfast.pixels import Pixels, Window

# What tifffile finds odd is checked below and becomes an error or a notice; without any handler at all, Python would
# print the log to stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class TiffSource:
    """The pages of a TIFF file as images, read segment by segment or row by row.

    A page whose channels are stored in separate planes counts as one image per channel. Smaller versions of an image
    (pyramid levels, reduced pages) are left out, since they can be made anew; so are masks and the labels of slides,
    with a notice. Samples with too few bits to calculate with and indices of a palette become pixels as `StoredSamples`
    says, with a notice. Images of a stack without directories of their own are pages like others; see `FrameStack`.

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
    file_name
        The file's name without its directory.
    page_numbers
        Their places in the file.
    levels
        The smaller versions of every page that can be made anew.
    is_cog
        Whether the file is laid out as a cloud-optimised GeoTIFF.
    byte_layout
        Byte order, and whether the file is a BigTIFF.
    is_excerpt
        Whether further pages of the same rank are left out.
    first_page_tags
        The tags of the file's first page, which may speak of all pages, whether or not it is to be read.
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
        self.file_name = os.path.basename(self.path)
        self.notices: list[str] = []
        self.pages: list[PageLayout] = []
        self.page_numbers: list[int] = []
        self._planes: list[tuple[PageReader, int]] = []
        with contextlib.ExitStack() as undo:
            self._file = PositionedFile(self.path)
            undo.callback(self._file.close)
            if self._file.size == 0:
                raise UnreadableError("the file is empty", path=self.path, remedy="copy it again")
            check_directories(self._file)
            with _damage_reported(self.path), tifffile.TiffFile(self.path) as tiff:
                self.byte_layout = ByteLayout(tiff.byteorder, tiff.is_bigtiff)
                self.is_cog = is_cog(self._file, self.byte_layout)
                self._add_pages(tiff, selection)
            undo.pop_all()
        opacity = [layout.planar and plane == layout.alpha for layout in self.pages for plane in range(layout.planes)]
        self._images = [
            dataclasses.replace(reader.spec, is_opacity=True) if is_opacity else reader.spec
            for (reader, _), is_opacity in zip(self._planes, opacity, strict=True)
        ]

    def _add_pages(self, tiff: tifffile.TiffFile, selection: PageSelection | None) -> None:
        chosen = choose_pages(tiff, self._file, self.byte_layout, selection)
        pages, self.page_numbers, self.is_excerpt, self.notices, self.levels, stack = chosen
        directories = DirectoryReader(self._file.read, self._file.size, self.byte_layout)
        if stack is None:
            for page in pages:
                self._add_page(page, has_others=len(tiff.pages) > 1)
            copies = [copied_tags(page, directories) for page in pages]
            first_page = copied_tags(tiff.pages.first, directories) if self.is_excerpt else copies[0]
        else:
            self._add_frames(stack)
            first_page = copied_tags(stack.directory, directories)
            further = CopiedTags(stack.tags_of_each(first_page.tags), [])
            copies = [further if number else first_page for number in self.page_numbers]
        self._keep_tags(copies, first_page, directories)
        self._note_conversions()

    def _keep_tags(self, copies: list[CopiedTags], first_page: CopiedTags, directories: DirectoryReader) -> None:
        self._tags = [copy.tags for copy in copies]
        self.first_page_tags = first_page.tags
        self.metadata: Metadata = shared_metadata(self._tags[0], self.byte_layout.order, self.pages[0].colour_model)
        lost = [name for copy in copies for name in copy.dropped]
        lost += [f"{tag_name(code)} (damaged)" for code in directories.damaged]
        self.notices += [f"tags that cannot be kept are left out: {', '.join(dict.fromkeys(lost))}"] if lost else []

    def _add_page(self, page: tifffile.TiffPage, *, has_others: bool) -> None:
        try:
            layout = page_layout(page, self.path)
        except UnsupportedError as error:
            if not has_others:
                raise
            remedy = f"{error.remedy}, or choose other pages with --page"
            raise UnsupportedError(error.fact, path=error.path, remedy=remedy) from error
        self.pages.append(layout)
        reader = page_reader(page, layout, self._file, self.byte_layout.order)
        self._planes += [(reader, plane) for plane in range(layout.planes)]

    def _add_frames(self, stack: FrameStack) -> None:
        reader, planes = stack.reader(self._file, self.byte_layout.order), stack.layout.planes
        for number in self.page_numbers:
            self.pages.append(stack.layout)
            self._planes += [(reader, number * planes + plane) for plane in range(planes)]

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
        """Return the tags of a page that can outlive a filter, in the byte order of the file."""
        return self._tags[page]

    @property
    def kernels(self) -> list[Kernel]:
        """What its tasks run."""
        return [LZW_CHECK] * any(layout.compression == LZW_COMPRESSION for layout in self.pages)

    def read_tasks(self, image: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
        """Return tasks that together fill `target` with the pixels of `window`, a part of image `image`."""
        reader, plane = self._planes[image]
        return reader.tasks(plane, window, target)

    def close(self) -> None:
        """Release the file. No task runs any more."""
        self._file.close()


@contextlib.contextmanager
def _damage_reported(path: str) -> Iterator[None]:
    """Turn what goes wrong while tifffile parses into an error that names the file."""
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, OSError) and error.strerror is not None:
            fact = f"cannot be read ({error.strerror})"
            raise UnreadableError(fact, path=path, remedy="check the disk") from error
        fact = "is not a TIFF file, or one whose directories are damaged"
        raise UnreadableError(fact, path=path, remedy="get an intact copy") from error
