"""What the pages of a TIFF output say beside their pixels: the input's tags, as far as they are or can be made true."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from blurfast.io import imagej
from blurfast.io.edits import Edits
from blurfast.io.exif import HEIGHT, MAKER_NOTE, SUBJECT_TAGS, WIDTH, with_size
from blurfast.io.geotiff import check_nodata, move_georeference, update_gdal_metadata
from blurfast.io.metadata import Metadata
from blurfast.io.ome import is_ome, updated_ome
from blurfast.io.photoshop import updated_resources
from blurfast.io.shaped import is_shaped, updated_shape
from blurfast.io.shared_tags import ratio
from blurfast.io.stacks import Description, OutdatedError, StackChanges
from blurfast.io.tiff_directories import EXIF
from blurfast.io.tiff_layout import PageLayout
from blurfast.io.tiff_source import TiffSource
from blurfast.io.tiff_tags import (
    ASCII,
    DESCRIPTION,
    KIND_TAGS,
    LONG,
    RATIONAL,
    SHORT,
    ByteLayout,
    Tag,
    classic_tags,
)
from blurfast.io.tiff_terms import PHOTOSHOP, metadata_tags, series_name, tag_name
from blurfast.pixels import Window

_NO_EDITS = Edits()

_PAGE_NUMBER = 297
_SIDES = ((286, 282), (287, 283))
"""The tags that say how far an image is from the left and the upper side of a page, and those of the resolution."""

_VALUE_TAGS = frozenset({263, 264, 265, 290, 291, 301, 321})
"""The tags that speak of values of samples, such as grey curves, beside that of the value of missing pixels."""

_FOREIGN_SERIES_TAGS = frozenset({*range(33628, 33632), 34361, 34362})
"""The tags in which MetaMorph and FluoView speak of all pages."""

_Tags = dict[int, Tag]
_Numbering = tuple[tuple[int, ...], tuple[int, ...]]
"""The numbers of pages in the input, and those in the output."""


class PageTags(NamedTuple):
    """The tags of each page beside those of its layout, and what is to be said about those that are lost."""

    pages: list[tuple[Tag, ...]]
    notices: list[str]


def page_tags(
    like: TiffSource | None,
    metadata: Metadata,
    numbers: Sequence[int],
    byte_layout: ByteLayout,
    file_name: str = "",
    edits: Edits = _NO_EDITS,
) -> PageTags:
    """Return the tags of an output's pages.

    Parameters
    ----------
    like
        The TIFF file that they are copied from.
    metadata
        What they say where there is none.
    numbers
        The place of each page in the output's chain of directories, where smaller versions may lie between them.
    byte_layout
        How the output writes numbers; its byte order is that of `like`.
    file_name
        The output's name without its directory, for metadata that name their own file.
    edits
        What the output has of its input.
    """
    if like is None:
        tags, notices = metadata_tags(_of_region(metadata, edits.region), byte_layout)
        return PageTags([tags] * len(numbers), notices)
    pages, notices = _updated_pages(like, tuple(numbers), file_name, edits)
    if byte_layout.big:
        return PageTags(pages, notices)
    classic = _as_classic(pages, byte_layout.order)
    return PageTags(classic.pages, [*notices, *classic.notices])


def _of_region(metadata: Metadata, region: Window | None) -> Metadata:
    """Return what is said of an image as it is true of a part of it."""
    if region is None or metadata.exif is None:
        return metadata
    return dataclasses.replace(metadata, exif=with_size(metadata.exif, region.columns, region.rows))


def _as_classic(tags: Sequence[tuple[Tag, ...]], order: str) -> PageTags:
    """Return tags that may come from a BigTIFF as a classic file can hold them."""
    converted = [classic_tags(page, order) for page in tags]
    lost = sorted({code for _, codes in converted for code in codes})
    names = ", ".join(map(str, lost))
    notices = [f"tags whose numbers are too large for a classic TIFF file are not kept: {names}"] if lost else []
    return PageTags([tuple(kept) for kept, _ in converted], notices)


def _updated_pages(like: TiffSource, numbers: tuple[int, ...], file_name: str, edits: Edits) -> PageTags:
    """Return the tags of all pages of a file as they are true of an output."""
    pages: list[_Tags] = [{tag.code: tag for tag in like.tags(number)} for number in range(len(like.pages))]
    notices: dict[str, None] = {}
    for number, (tags, layout) in enumerate(zip(pages, like.pages, strict=True)):
        page = _Page(layout, number, len(pages), like.byte_layout.order, edits, like.is_excerpt)
        for update in _UPDATES:
            notices |= dict.fromkeys(update(tags, page))
    numbering = tuple(like.page_numbers), numbers
    notices |= dict.fromkeys(_update_descriptions(pages, like, numbering, file_name, edits))
    return PageTags([tuple(tags.values()) for tags in pages], list(notices))


class _Page(NamedTuple):
    """A page of the output: its layout in the input, its number, how many there are, and what has changed."""

    layout: PageLayout
    number: int
    page_count: int
    order: str
    edits: Edits
    is_excerpt: bool

    @property
    def has_other_values(self) -> bool:
        """Whether the same numbers mean something else than in the input."""
        stored = self.layout.stored
        return self.edits.is_rescaled or (stored is not None and stored.table is not None)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the samples of the output."""
        return self.layout.dtype if self.edits.dtype is None else self.edits.dtype


# ------------------------------------------------------------------------------------------- page by page


def _update_numbering(tags: _Tags, page: _Page) -> list[str]:
    """Let a page of an excerpt no longer say what it was among others."""
    if not page.is_excerpt:
        return []
    for code in KIND_TAGS:
        tags.pop(code, None)
    numbering = tags.get(_PAGE_NUMBER)
    if numbering is not None and numbering.value_type == SHORT and numbering.value_count == 2:
        is_counted = struct.unpack(f"{page.order}2H", numbering.value)[1] > 0
        values = page.number & 0xFFFF, page.page_count if is_counted and page.page_count < 1 << 16 else 0
        tags[_PAGE_NUMBER] = numbering._replace(value=struct.pack(f"{page.order}2H", *values))
    return _dropped(tags, _FOREIGN_SERIES_TAGS, "tags that speak of all pages are not kept, since these are some only")


def _update_values(tags: _Tags, page: _Page) -> list[str]:
    """Drop what is said of values of samples, where these are of another kind."""
    notices = []
    if page.has_other_values or page.dtype != page.layout.dtype:
        notices = _dropped(tags, _VALUE_TAGS, "tags that speak of the values of samples are not kept")
    return notices + check_nodata(tags, page.dtype, is_rescaled=page.has_other_values)


def _update_gdal_metadata(tags: _Tags, page: _Page) -> list[str]:
    return update_gdal_metadata(tags, is_rescaled=page.has_other_values)


def _update_place(tags: _Tags, page: _Page) -> list[str]:
    """Let a part of an image be where it was, on Earth and on paper."""
    region = page.edits.region
    if region is None:
        return []
    notices = move_georeference(tags, region, page.order)
    for (side, resolution), offset in zip(_SIDES, (region.column_start, region.row_start), strict=True):
        before, per_unit = (ratio(tags.get(code), page.order) for code in (side, resolution))
        if side not in tags:
            continue
        after = None if before is None or not per_unit else _storable(before + offset / per_unit)
        if after is None:
            notices += _dropped(tags, {side}, "tags that do not fit a part of the image are not kept")
        else:
            packed = struct.pack(f"{page.order}2I", *after.as_integer_ratio())
            tags[side] = Tag(side, RATIONAL, 1, packed)
    return notices


def _storable(value: Fraction) -> Fraction | None:
    """Return the nearest fraction of 32-bit numbers, None if there is none near."""
    limited = value.limit_denominator(1 << 16)
    return limited if limited.numerator < 1 << 32 else None


def _update_exif(tags: _Tags, page: _Page) -> list[str]:
    """Let Exif data tell the size of the output."""
    exif = tags.get(EXIF)
    if exif is None or len(exif.directories) != 1:
        return []
    inner = {tag.code: tag for tag in exif.directories[0]}
    notices = []
    if MAKER_NOTE in inner:
        notices.append("the camera's own notes (MakerNote) are kept as they are; offsets in them lead nowhere any more")
    if page.edits.region is not None:
        layout = ByteLayout(page.order, big=False)
        for code, size in ((WIDTH, page.edits.region.columns), (HEIGHT, page.edits.region.rows)):
            if code in inner:
                inner[code] = layout.integers(code, LONG, [size])
        notices += _dropped(inner, SUBJECT_TAGS, "tags that do not fit a part of the image are not kept")
    tags[EXIF] = exif._replace(directories=(tuple(inner.values()),))
    return notices


def _update_photoshop(tags: _Tags, _page: _Page) -> list[str]:
    """Take out small pictures of the image as it was."""
    resources = tags.get(PHOTOSHOP)
    if resources is None:
        return []
    value, notices = updated_resources(resources.value)
    if notices and value is not None:
        tags[PHOTOSHOP] = resources._replace(value=value, value_count=len(value))
    return notices


def _dropped(tags: _Tags, codes: Iterable[int], reason: str) -> list[str]:
    """Drop tags, and return what is to be said if there were any."""
    names = ", ".join(tag_name(code) for code in sorted(codes) if tags.pop(code, None) is not None)
    return [f"{reason}: {names}"] if names else []


_UPDATES: tuple[Callable[[_Tags, _Page], list[str]], ...] = (
    _update_numbering, _update_values, _update_gdal_metadata, _update_place, _update_exif, _update_photoshop,
)  # fmt: skip


# --------------------------------------------------------------------------------------- all pages together


def _update_descriptions(
    pages: Sequence[_Tags], like: TiffSource, numbering: _Numbering, file_name: str, edits: Edits
) -> list[str]:
    """Make true what the pages say of all images of the file."""
    notices: list[str] = []
    if like.is_excerpt:
        notices += _move_series_description(pages, like)
    for number, tags in enumerate(pages):
        description = tags.get(DESCRIPTION)
        name = None if description is None else series_name(description.value)
        if description is None or name is None:
            continue
        if like.is_excerpt and number > 0:
            del tags[DESCRIPTION]
            continue
        layout = like.pages[number]
        changes = _stack_changes(like, layout, numbering, file_name, edits)
        notices += _update_imagej_metadata(tags, description.value, like.byte_layout.order, changes)
        try:
            updated = _updated(description.value, layout, changes)
        except OutdatedError as error:
            del tags[DESCRIPTION]
            notices.append(f"{name} is not kept: {error}")
        else:
            tags[DESCRIPTION] = Tag(DESCRIPTION, ASCII, len(updated.text), updated.text)
            notices += updated.notices
    return notices


def _updated(text: bytes, layout: PageLayout, changes: StackChanges) -> Description:
    if is_shaped(text):
        return updated_shape(text, layout, changes)
    if imagej.is_imagej(text):
        return imagej.updated_imagej(text, changes)
    if not is_ome(text):
        raise OutdatedError("it speaks of pages of the input")
    if layout.stored is not None and layout.stored.is_palette:
        raise OutdatedError("its channels are indices of a palette")
    updated = updated_ome(text.rstrip(b"\0"), changes)
    return updated._replace(text=updated.text + b"\0")


def _stack_changes(
    like: TiffSource, layout: PageLayout, numbering: _Numbering, file_name: str, edits: Edits
) -> StackChanges:
    stored = layout.stored
    dtype = layout.dtype if edits.dtype is None else edits.dtype
    return StackChanges(
        pages=numbering[0],
        numbers=numbering[1],
        is_excerpt=like.is_excerpt,
        dtype=dtype.name,
        has_dtype=dtype != layout.dtype,
        is_rescaled=edits.is_rescaled or (stored is not None and stored.table is not None),
        region=edits.region,
        source_name=like.file_name,
        file_name=file_name,
    )


def _move_series_description(pages: Sequence[_Tags], like: TiffSource) -> list[str]:
    """Let the first page of an excerpt say what the first page of the file says of all pages."""
    series = {tag.code: tag for tag in like.first_page_tags}
    description = series.get(DESCRIPTION)
    if description is None or series_name(description.value) is None:
        return []
    own = pages[0].get(DESCRIPTION)
    moved = (DESCRIPTION, imagej.METADATA_SIZES, imagej.METADATA)
    for tags in pages:
        for code in moved[1:]:
            tags.pop(code, None)
    pages[0].update({code: series[code] for code in moved if code in series})
    if own is None or own == description or series_name(own.value) is not None:
        return []
    return ["the description of the first page that is left gives way to the one of all pages"]


def _update_imagej_metadata(tags: _Tags, description: bytes, order: str, changes: StackChanges) -> list[str]:
    if imagej.METADATA not in tags or imagej.METADATA_SIZES not in tags:
        return []
    sizes, metadata = tags.pop(imagej.METADATA_SIZES), tags.pop(imagej.METADATA)
    updated, notices = imagej.updated_metadata(sizes, metadata, order, description, changes)
    tags.update({tag.code: tag for tag in updated})
    return notices
