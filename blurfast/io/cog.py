"""The order of bytes in a cloud-optimised GeoTIFF, so that readers over a network need few requests.

First come all directories, then the pixels, those of the smallest version first. A text before the first directory
tells readers of this order, and that each tile is framed: its size stands before it, and its last bytes once more
behind it, so that the size need not be looked up, and a tile that was changed since shows. The text and the frames are
those of GDAL's driver: https://gdal.org/en/stable/drivers/raster/cog.html
"""

from __future__ import annotations

from collections.abc import Sequence

from blurfast.io.tiff_page_writer import PageWriter
from blurfast.io.tiff_tags import ByteLayout, Tag

_PROMISES = b"""\
LAYOUT=IFDS_BEFORE_DATA
BLOCK_ORDER=ROW_MAJOR
BLOCK_LEADER=SIZE_AS_UINT4
BLOCK_TRAILER=LAST_4_BYTES_REPEATED
KNOWN_INCOMPATIBLE_EDITION=NO
 """
# The blank at its end is for programs that change the file later: YES fits in the place of NO.
_LEADER_BYTES = _TRAILER_BYTES = 4


def framed(segment: bytes) -> bytes:
    """Return an encoded tile within its frame.

    Examples
    --------
    >>> framed(b"123456")[4:]
    b'1234563456'
    """
    return len(segment).to_bytes(_LEADER_BYTES, "little") + segment + segment[-_TRAILER_BYTES:]


def in_file_order(page: PageWriter) -> list[PageWriter]:
    """Return an image and its levels in the order of their pixels in the file."""
    return [*reversed(page.levels.values()), page]


def start_of_file(page: PageWriter, copied: Sequence[Tag], byte_layout: ByteLayout) -> bytes:
    """Return all that comes before the first framed tile, and tell the pages where their tiles will be.

    Parameters
    ----------
    page
        The image, all of whose segments have their sizes.
    copied
        Its tags beside those of the layout.
    """
    promises = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_PROMISES) + _PROMISES
    first_directory = len(byte_layout.header(0)) + len(promises)
    promises += bytes(first_directory % 2)
    first_directory += first_directory % 2
    # The directories have the same size whatever offsets they hold.
    position = first_directory + len(byte_layout.directories(page.directories(byte_layout, copied), first_directory))
    for writer in in_file_order(page):
        for index, size in enumerate(writer.sizes):
            writer.offsets[index] = position + _LEADER_BYTES
            position += _LEADER_BYTES + size + _TRAILER_BYTES
    directories = byte_layout.directories(page.directories(byte_layout, copied), first_directory)
    return byte_layout.header(first_directory) + promises + directories
