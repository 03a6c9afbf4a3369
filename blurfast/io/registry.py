"""Which module reads or writes which file. Format modules are imported when a file needs them."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Unpack

from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.base import FileSink, FileSource, ImageSpec
from blurfast.io.page_selection import Pages, PageSelection
from blurfast.io.tiff_options import TiffKeywords

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
_PILLOW_SUFFIXES = (".jpg", ".jpeg", ".webp", ".bmp")

RecognizedFormat = Literal["png", "tiff"]


def open_source(path: str | os.PathLike[str], *, page: Pages | None = None) -> FileSource:
    """Open an image file, whose format is told by its first bytes.

    Parameters
    ----------
    page
        The pages to be read, as `PageSelection.parse` takes them; by default all.

    Raises
    ------
    TypeError, ValueError
        If `page` is no selection of pages.
    UnreadableError
        If there is no such file, or it is damaged or not an image.
    UnsupportedError
        If it is an image of a kind that cannot be filtered, or has no such page.
    """
    selection = None if page is None else PageSelection.parse(page)
    recognized = recognized_format(path)
    if recognized == "tiff":
        from blurfast.io.tiff_source import TiffSource

        return TiffSource(path, selection)
    if selection is not None:
        selection.of(1, path)  # other formats have one page
    if recognized == "png":
        from blurfast.io.png_source import PngSource, is_streamable

        if is_streamable(path):
            return PngSource(path)
    from blurfast.io.pillow import PillowSource

    return PillowSource(path)


def recognized_format(path: str | os.PathLike[str]) -> RecognizedFormat | None:
    """Return PNG or TIFF where that is what a file's first bytes tell, None for all others.

    Raises
    ------
    UnreadableError
        If the file cannot be read, or is empty.
    """
    start = _first_bytes(path)
    if start.startswith(_TIFF_STARTS):
        return "tiff"
    return "png" if start.startswith(_PNG_START) else None


def open_sink(
    path: str | os.PathLike[str],
    images: Sequence[ImageSpec],
    source: FileSource,
    *,
    overwrite: bool = False,
    **tiff: Unpack[TiffKeywords],
) -> FileSink:
    """Create an output file, whose format is told by its name's suffix.

    Parameters
    ----------
    images
        What will be written.
    source
        The file that layout and metadata are taken from: all of them where the formats are the same.
    overwrite
        Whether a file that is there already may be replaced.
    **tiff
        Compression and layout of a TIFF file, as `TiffSink` takes them.

    Raises
    ------
    UnsupportedError
        If the suffix is of no known format, or the format cannot hold the images, or not their colours.
    OutputExistsError, UnwritableError
        If the output cannot be created.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _TIFF_SUFFIXES:
        _refuse_what_needs_tiff(path, suffix, source, tiff)
    if suffix in _TIFF_SUFFIXES:
        from blurfast.io.tiff_sink import TiffSink
        from blurfast.io.tiff_source import TiffSource

        like = source if isinstance(source, TiffSource) else None
        return TiffSink(path, images, like=like, metadata=source.metadata, overwrite=overwrite, **tiff)
    if suffix == ".png":
        from blurfast.io.png_sink import PngSink
        from blurfast.io.png_source import PngSource

        model = source if isinstance(source, PngSource) else None
        return PngSink(path, images, like=model, metadata=source.metadata, overwrite=overwrite)
    if suffix in _PILLOW_SUFFIXES:
        from blurfast.io.pillow import PillowSink

        return PillowSink(path, images, metadata=source.metadata, overwrite=overwrite)
    allowed = ", ".join((*_TIFF_SUFFIXES[:2], ".png", *_PILLOW_SUFFIXES))
    raise UnsupportedError(
        f"no format is known for the suffix {suffix!r}", path=path, remedy=f"name the output {allowed}"
    )


def _refuse_what_needs_tiff(path: str | os.PathLike[str], suffix: str, source: FileSource, tiff: TiffKeywords) -> None:
    for name, value in tiff.items():
        if value not in (None, "auto"):
            fact = f"{name} is chosen for TIFF only, not for {suffix or 'a name without a suffix'}"
            raise UnsupportedError(fact, path=path, remedy="leave it out")
    if source.metadata.colour_model is not None:
        fact = f"{suffix} files cannot hold {source.metadata.colour_model}"
        raise UnsupportedError(fact, path=path, remedy="write a TIFF file")


def _first_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe waits for someone to write into it
            fact, remedy = "is a pipe or a device, not a file", "redirect it to standard input, and name IN '-'"
            raise UnreadableError(fact, path=path, remedy=remedy)
        with open(path, "rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise UnreadableError("no such file", path=path, remedy="check the name") from None
    except IsADirectoryError:
        raise UnreadableError("is a directory", path=path, remedy="name the files in it") from None
    except OSError as error:
        raise UnreadableError(
            f"cannot be opened ({error.strerror or error})", path=path, remedy="check its permissions"
        ) from error
    if not start:
        raise UnreadableError("the file is empty", path=path, remedy="copy it again")
    return start
