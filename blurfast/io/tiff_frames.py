"""Stacks whose images have no directories of their own: their pixels follow those of the first page, frame by frame.

ImageJ writes such files where a stack is larger than 4 GB, tifffile where it is told to truncate, and MetaMorph always
(STK). How many frames there are is told by a description, which is not to be trusted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.positioned import PositionedFile
from blurfast.io.tiff_layout import NO_COMPRESSION, PageLayout, page_layout
from blurfast.io.tiff_rows import RawRowReader, RowFormat
from blurfast.io.tiff_segments import SegmentTable, segment_table
from blurfast.io.tiff_tags import GDAL_NODATA, YCBCR_TAGS, Tag

_METAMORPH_PLANES = 33629
_IMAGEJ_COUNT, _IMAGEJ_CHANNELS = (re.compile(rf"^{key}=([0-9]+)\s*$", re.MULTILINE) for key in ("images", "channels"))

_MOST_SMALL_FRAMES = 1 << 16
_LEAST_FILE_BYTES = 1 << 10
"""What a file has to have for each frame beyond those: a page takes more memory than that."""

_ORIENTATION, _RESOLUTION, _ICC_PROFILE = 274, (282, 283, 296), 34675
_TAGS_OF_EACH_FRAME = YCBCR_TAGS | {_ORIENTATION, *_RESOLUTION, _ICC_PROFILE, GDAL_NODATA}


@dataclass(frozen=True)
class FrameStack:
    """Images of the same layout whose pixels follow each other without a gap.

    Parameters
    ----------
    directory
        The page that stands for all of them.
    layout
        Of each image.
    start
        Where the pixels of the first one are in the file.
    claimed
        How many there are said to be.
    count
        How many of these the file has in full.
    """

    directory: TiffPage
    layout: PageLayout
    start: int
    claimed: int
    count: int

    def refuse_if_short(self, path: str) -> None:
        """Refuse a file that ends before its last image.

        Raises
        ------
        UnreadableError
            If it does.
        """
        if self.count < self.claimed:
            fact = f"is said to hold {self.claimed} images, but ends after {self.count} of them"
            remedy = f"copy it again, or choose what is there with --page {page_span(self.count)}"
            raise UnreadableError(fact, path=path, remedy=remedy)

    def reader(self, file: PositionedFile, order: str) -> RawRowReader:
        """Return what reads all frames, which are so many planes to it: those of a frame follow each other.

        Parameters
        ----------
        file
            The file.
        order
            ``"<"`` or ``">"``: its byte order.
        """
        layout = replace(self.layout, rows_per_strip=self.layout.height)
        planes = np.arange(self.count * layout.planes, dtype=np.uint64)
        sizes = np.full(len(planes), _plane_bytes(layout), np.uint64)
        table = SegmentTable(np.uint64(self.start) + planes * sizes, sizes)
        return RawRowReader(layout, table, np.zeros(1, layout.dtype), file, RowFormat(layout, order))

    def tags_of_each(self, tags: Sequence[Tag]) -> tuple[Tag, ...]:
        """Return those of the directory's tags that each frame needs to be shown as the first one is.

        Tags larger than the pixels are not among them, lest many small frames make a huge file.
        """
        most_bytes = self.layout.pixel_bytes
        return tuple(tag for tag in tags if tag.code in _TAGS_OF_EACH_FRAME and len(tag.value) <= most_bytes)


def page_span(count: int) -> str:
    """Return the pages of a file with `count` pages, as `--page` takes them.

    Examples
    --------
    >>> page_span(1), page_span(12)
    ('0', '0-11')
    """
    return f"0-{count - 1}" if count > 1 else "0"


def frame_stack(pages: Sequence[TiffPage], file: PositionedFile) -> FrameStack | None:
    """Return the images that have no directories of their own, with the one that has; None if all have.

    Parameters
    ----------
    pages
        All pages that have.
    file
        The file.

    Raises
    ------
    UnsupportedError
        If there are such images, but not as frames behind the pixels of a single page, or too many.
    UnreadableError
        If not even the first one is in the file.
    """
    claimed = _claimed_images(pages)
    if claimed <= len(pages):
        return None
    if len(pages) > 1:
        raise _not_readable(claimed, f"{len(pages)} directories", len(pages), file)
    page = pages[0]
    layout = page_layout(page, file.path)
    if layout.compression != NO_COMPRESSION or layout.tile is not None or layout.predictor != 1 or page.fillorder != 1:
        raise _not_readable(claimed, "a directory for one whose pixels are not stored plainly", 1, file)
    table = segment_table(page, layout, file)
    if not (table.sizes.all() and np.array_equal(table.offsets, table.offsets[0] + _strip_positions(layout))):
        raise _not_readable(claimed, "a directory for one whose pixels lie apart", 1, file)
    if claimed > max(_MOST_SMALL_FRAMES, file.size // _LEAST_FILE_BYTES):
        raise _not_readable(claimed, f"{file.size} bytes", 1, file)
    start = int(table.offsets[0])
    count = min(claimed, (file.size - start) // (_plane_bytes(layout) * layout.planes))
    return FrameStack(page, layout, start, claimed, count)


def _not_readable(claimed: int, having: str, pages: int, file: PositionedFile) -> UnsupportedError:
    fact = f"is said to hold {claimed} images, but has {having}"
    remedy = f"save it with one page per image, or choose what has a directory with --page {page_span(pages)}"
    return UnsupportedError(fact, path=file.path, remedy=remedy)


def _plane_bytes(layout: PageLayout) -> int:
    return layout.stored_row_bytes * layout.height


def _strip_positions(layout: PageLayout) -> NDArray[np.uint64]:
    """Return where strips are that follow each other without a gap, counted from the first one."""
    strip_bytes, plane_bytes = layout.rows_per_strip * layout.stored_row_bytes, _plane_bytes(layout)
    strips = np.arange(layout.segment_grid[0], dtype=np.uint64) * np.uint64(strip_bytes)
    planes = np.arange(layout.planes, dtype=np.uint64) * np.uint64(plane_bytes)
    return (planes[:, np.newaxis] + strips).ravel()


# ------------------------------------------------------------------------------------------ what descriptions claim


def _claimed_images(pages: Sequence[TiffPage]) -> int:
    """Return how many images a file is said to hold, in the way that its own kind of description tells it."""
    first = pages[0]
    if first.is_stk:
        planes = first.tags.get(_METAMORPH_PLANES)
        return 1 if planes is None else int(planes.count)
    return max(_imagej_images(first), sum(_truncated_images(page) for page in pages))


def _imagej_images(page: TiffPage) -> int:
    """Return how many images ImageJ's description tells of; 1 without one."""
    description = page.imagej_description or ""
    count, channels = (
        int(match[1]) if (match := pattern.search(description)) else 1 for pattern in (_IMAGEJ_COUNT, _IMAGEJ_CHANNELS)
    )
    # Bio-Formats counts the planes of a page as channels.
    samples = page.samplesperpixel if page.planarconfig == 2 else 1
    return count // samples if samples == channels and count % samples == 0 else count


def _truncated_images(page: TiffPage) -> int:
    """Return how many images tifffile's description of a page says it stands for, where it says so."""
    description = page.shaped_description or ""
    if '"truncated"' not in description:
        return 1
    try:
        values = json.loads(description)
        size = math.prod(int(side) for side in values["shape"]) if values["truncated"] else 0
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return 1
    return max(1, size // max(1, math.prod(page.shape)))
