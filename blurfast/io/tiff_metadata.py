"""What the pages of a TIFF output say beside their pixels: the input's tags, as far as they stay true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from blurfast.io import tiff_tags
from blurfast.io.metadata import Metadata
from blurfast.io.tiff_source import TiffSource
from blurfast.io.tiff_tags import ByteLayout, Tag


class PageTags(NamedTuple):
    """The tags of each page beside those of its layout, and what is to be said about those that are lost."""

    pages: list[tuple[Tag, ...]]
    notices: list[str]


def page_tags(like: TiffSource | None, metadata: Metadata, page_count: int, byte_layout: ByteLayout) -> PageTags:
    """Return the tags of an output's pages.

    Parameters
    ----------
    like
        The TIFF file that they are copied from.
    metadata
        What they say where there is none.
    page_count
        The number of pages.
    byte_layout
        How the output writes numbers; its byte order is that of `like`.
    """
    if like is not None:
        copied = [like.tags(page) for page in range(page_count)]
        return PageTags(copied, []) if byte_layout.big else _as_classic(copied, byte_layout.order)
    lost = tiff_tags.text_without_tag(metadata) + (["Exif"] if metadata.exif else [])
    notices = [f"metadata that TIFF has no tag for are not kept: {', '.join(lost)}"] if lost else []
    return PageTags([tiff_tags.metadata_tags(metadata, byte_layout)] * page_count, notices)


def _as_classic(tags: Sequence[tuple[Tag, ...]], order: str) -> PageTags:
    """Return tags that may come from a BigTIFF as a classic file can hold them."""
    converted = [tiff_tags.classic_tags(page, order) for page in tags]
    lost = sorted({code for _, codes in converted for code in codes})
    names = ", ".join(map(str, lost))
    notices = [f"tags whose numbers are too large for a classic TIFF file are not kept: {names}"] if lost else []
    return PageTags([tuple(kept) for kept, _ in converted], notices)
