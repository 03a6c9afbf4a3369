"""TIFF files as a sink of pixels: strips or tiles are encoded in tasks and written as they come.

The container is written here and not by tifffile's `TiffWriter`, which pulls pixels where the engine pushes them, and
can neither copy tags bit by bit nor write a single strip piece by piece. Smaller versions of images follow the last
segment, and all directories follow them, so the pages of an uncompressed file stay contiguous, as readers of ImageJ's
stacks expect. Until then the smaller versions wait in a spool. In a cloud-optimised GeoTIFF the order is another one,
see `cog`, for which all segments have to wait. The codecs are those of tifffile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from blurfast.cpu.catalogue import Kernel
from blurfast.errors import UnwritableError
from blurfast.io import cog as cog_layout
from blurfast.io.base import ImageSpec
from blurfast.io.edits import Edits
from blurfast.io.metadata import Metadata
from blurfast.io.output import AtomicFile
from blurfast.io.spool import Spool
from blurfast.io.tiff_codecs import CODECS, JPEG_QUALITY, parse_compression
from blurfast.io.tiff_metadata import page_tags
from blurfast.io.tiff_options import TiffOptions, parse_bigtiff, parse_predictor, parse_tile
from blurfast.io.tiff_output import CLASSIC_LIMIT, OutputPage, output_byte_layout, output_pages
from blurfast.io.tiff_page_writer import (
    EncodedSegment,
    ImageWriter,
    PageWriter,
    chain_of_directories,
    directory_numbers,
)
from blurfast.io.tiff_source import TiffSource
from blurfast.pixels import Pixels, Window

_DEFAULT_METADATA = Metadata()
_NO_EDITS = Edits()


class TiffSink:
    """A TIFF file that is written segment by segment, and appears when it is complete.

    Parameters
    ----------
    path
        The output.
    images
        What will be written. With `like`, as many images of the same shape as that source has.
    like
        The file whose layout and tags the output takes over: strips or tiles, planes, byte order, compression.
        Strips too large to be written piece by piece become smaller.
    metadata
        What to say about the images if there is no `like`.
    compression
        One of `COMPRESSIONS`, with a level after a colon if it has levels: ``"deflate:9"``. Default: that of `like`,
        or none.
    predictor
        What is encoded: ``"none"``, the pixels; ``"horizontal"``, their differences; ``"float"``, the differences of
        the bytes of floating-point pixels. Default: as in `like`, or the one that suits another compression.
    tile
        Rows and columns of a tile, multiples of 16, as two numbers or as text such as ``"256x256"``; or ``"strips"``.
        Default: as in `like`, or strips.
    bigtiff
        ``"yes"``, ``"no"``, or ``"auto"``: where the output may need it, and where `like` is one.
    pyramid
        Whether each image comes with smaller versions, each half the size of the one before, as SubIFDs. Default: with
        the scales that `like` has, made anew, in the same place.
    cog
        Whether the file is laid out as a cloud-optimised GeoTIFF. Default: as `like`.
    edits
        How the images differ from those of `like`.
    overwrite
        Whether a file that is there already may be replaced.

    Attributes
    ----------
    notices
        What the user may not expect of the output, one sentence each.
    byte_layout
        Byte order, and whether the output is a BigTIFF.

    Raises
    ------
    ValueError
        If `compression`, `predictor`, `tile` or `bigtiff` is unknown, or `images` does not fit to `like`.
    UnsupportedError
        If the compression cannot hold the images, or not with this predictor, or a classic file not all of them, or a
        cloud-optimised GeoTIFF not such images.
    OutputExistsError, UnwritableError
        If the output cannot be created.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        images: Sequence[ImageSpec],
        *,
        like: TiffSource | None = None,
        metadata: Metadata = _DEFAULT_METADATA,
        compression: str | None = None,
        predictor: str | None = None,
        tile: str | tuple[int, int] | None = None,
        bigtiff: str | bool | None = None,
        pyramid: bool | None = None,
        cog: bool | None = None,
        edits: Edits = _NO_EDITS,
        overwrite: bool = False,
    ) -> None:
        self.path = os.fspath(path)
        self.notices: list[str] = []
        options = TiffOptions(
            None if compression is None else parse_compression(compression),
            None if predictor is None else parse_predictor(predictor),
            None if tile is None else parse_tile(tile),
            None if bigtiff is None else parse_bigtiff(bigtiff),
            pyramid,
            cog,
        )
        outputs, self._is_cog, notices = output_pages(images, like, options, edits, self.path)
        self.notices += notices
        self._note_compressions(outputs, options)
        self.byte_layout = output_byte_layout(outputs, options, like, self.path)
        self._pages = [PageWriter(output, self.byte_layout.order) for output in outputs]
        planes = [(page, plane) for page in self._pages for plane in range(page.layout.planes)]
        self._writers = [
            ImageWriter(page, plane, image.alpha) for image, (page, plane) in zip(images, planes, strict=True)
        ]
        self._images = [writer.spec for writer in self._writers]
        self.kernels: list[Kernel] = list(
            dict.fromkeys(kernel for writer in self._writers for kernel in writer.kernels)
        )
        self._copied_tags, notices = page_tags(
            like, metadata, directory_numbers(self._pages), self.byte_layout, os.path.basename(self.path), edits
        )
        self.notices += notices
        # What comes later in the file than it is encoded: all levels, and with them the image of which they are.
        self._spooled: dict[PageWriter, list[int]] = {}
        self._spool: Spool | None = None
        self._position = 0
        self._output = AtomicFile(path, overwrite=overwrite)
        try:
            self._begin()
        except UnwritableError:
            self.abort()
            raise

    def _begin(self) -> None:
        waiting = [level for page in self._pages for level in page.levels.values()]
        if self._is_cog:
            waiting += self._pages
        if waiting:
            self._spool = Spool(self.path)
            self._spooled = {page: [0] * len(page.sizes) for page in waiting}
        if not self._is_cog:
            self._write(self.byte_layout.header(0))

    def _note_compressions(self, outputs: Sequence[OutputPage], options: TiffOptions) -> None:
        notices = []
        for output in outputs:
            if output.obstacle is not None:
                notices.append(f"{output.obstacle}: {output.codec} compression is used")
            elif options.compression is None and output.codec == "jpeg":
                notices.append(f"jpeg is lossy: encoded once more, with quality {JPEG_QUALITY}")
            elif options.compression is None and CODECS[output.codec].is_image:
                notices.append(f"{output.codec} is written without loss, which can make a larger file")
        self.notices += dict.fromkeys(notices)

    @property
    def images(self) -> list[ImageSpec]:
        """The images to be written, in order."""
        return self._images

    def encode_tasks(self, image: int, window: Window, pixels: Pixels) -> list[Callable[[], list[EncodedSegment]]]:
        """Return tasks that each encode a segment of `window`, or several small ones, and tasks for the levels."""
        return self._writers[image].encode_tasks(window, pixels)

    def append(self, image: int, segment: list[EncodedSegment]) -> None:
        """Write what the next encode task returned. Called in order, from one thread at a time."""
        for page, number, data in segment:
            page.sizes[number] = len(data)
            if page in self._spooled:
                assert self._spool is not None
                self._spooled[page][number] = self._spool.append(data)
            else:
                page.offsets[number] = self._position
                self._write(data)

    def commit(self) -> None:
        """All segments are there: write the directories, and let the file appear under its name."""
        if not all(page.is_complete for page in self._pages):
            raise RuntimeError("segments are missing")
        if self._is_cog:
            self._write_cog()
        else:
            self._write_levels_and_directories()
        self._discard_spool()
        self._output.commit()

    def _write_cog(self) -> None:
        (page,), (copied,) = self._pages, self._copied_tags
        self._write(cog_layout.start_of_file(page, copied, self.byte_layout))
        for part in cog_layout.in_file_order(page):
            for segment in self._spooled_segments(part):
                self._write(cog_layout.framed(segment))

    def _write_levels_and_directories(self) -> None:
        for level in self._spooled:
            for index, segment in enumerate(self._spooled_segments(level)):
                level.offsets[index] = self._position
                self._write(segment)
        self._write(bytes(self._position % 2))
        directories = chain_of_directories(self._pages, self._copied_tags, self.byte_layout)
        first_directory = self._position
        self._write(self.byte_layout.directories(directories, first_directory))
        with self._output.translated_errors():
            self._output.file.seek(0)
            self._output.file.write(self.byte_layout.header(first_directory))

    def _spooled_segments(self, page: PageWriter) -> Iterator[bytes]:
        assert self._spool is not None
        for position, size in zip(self._spooled[page], page.sizes, strict=True):
            yield self._spool.read(position, size)

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.byte_layout.big and self._position + len(data) > CLASSIC_LIMIT:
            fact = "the output grows beyond the 4 GiB of a classic TIFF file"
            raise UnwritableError(fact, path=self.path, remedy="use --bigtiff yes")
        self._output.write(data)
        self._position += len(data)

    def abort(self) -> None:
        """Leave nothing behind. Harmless after `commit`."""
        self._discard_spool()
        self._output.abort()

    def _discard_spool(self) -> None:
        if self._spool is not None:
            self._spool.remove()
