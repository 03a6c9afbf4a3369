"""Which tags of a TIFF page are taken along: all but those that are of this file only."""

from __future__ import annotations

from typing import NamedTuple

from tifffile import TiffPage

from blurfast.io.tiff_directories import DirectoryReader, Entry
from blurfast.io.tiff_tags import COLOR_MAP, IFD, IFD8, Tag

_LAYOUT_TAGS = {256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 330, 338, 339, 530}
_CODEC_TAGS = {266, 292, 293, 347, *range(512, 522), 50674}
_DROPPED = {
    280: "MinSampleValue",  # it and its kin describe the pixels before the filter
    281: "MaxSampleValue",
    340: "SMinSampleValue",
    341: "SMaxSampleValue",
    **dict.fromkeys(range(33628, 33632), "MetaMorph's data of STK files"),  # they hold offsets, and count the planes
    34412: "Zeiss' data of LSM files",  # it holds offsets into the old file
    37724: "Photoshop layers",  # they hold unfiltered pixels
}
_FREE_SPACE_TAGS = {288, 289}
_NOT_COPIED = frozenset(_LAYOUT_TAGS | _CODEC_TAGS | _FREE_SPACE_TAGS | _DROPPED.keys() | {COLOR_MAP})
_NDPI_TAGS = range(65420, 65536)


class CopiedTags(NamedTuple):
    """The tags of a page, and the names of what is left out that the user may miss."""

    tags: tuple[Tag, ...]
    dropped: list[str]


def copied_tags(page: TiffPage, directories: DirectoryReader) -> CopiedTags:
    """Return the tags of a page that can stay true when its pixels are filtered and stored anew.

    Parameters
    ----------
    page
        The page as tifffile sees it.
    directories
        What reads the file's directories. It remembers what of them is damaged.
    """
    tags: dict[int, Tag] = {}
    dropped = []
    for entry in _entries(page, directories):
        if entry.code in _DROPPED:
            dropped.append(_DROPPED[entry.code])
        elif page.is_ndpi and (entry.code in _NDPI_TAGS or entry.value_type in (IFD, IFD8)):
            dropped.append("Hamamatsu's own data")  # among them are offsets
        elif entry.code not in _NOT_COPIED and entry.code not in tags:
            tag = directories.tag(entry)
            if tag is not None:
                tags[tag.code] = tag
    return CopiedTags(tuple(tags.values()), dropped)


def _entries(page: TiffPage, directories: DirectoryReader) -> list[Entry]:
    """Return the entries of a page's directory."""
    listed = None if page.is_ndpi else directories.entries(page.offset)
    if listed is None:  # these have offsets of 64 bits in a classic file, which tifffile knows of
        return [Entry(int(tag.code), int(tag.dtype), tag.count, tag.valueoffset) for tag in page.tags]
    return listed[0]
