"""Which module reads or writes which file. Format modules are imported when a file needs them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.base import FileSink, FileSource, ImageSpec

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
_PILLOW_SUFFIXES = (".jpg", ".jpeg", ".webp", ".bmp")


def open_source(path: str | os.PathLike[str]) -> FileSource:
    """Open an image file, whose format is told by its first bytes.

    Raises
    ------
    UnreadableError
        If there is no such file, or it is damaged or not an image.
    UnsupportedError
        If it is an image of a kind that cannot be filtered.
    """
    start = _first_bytes(path)
    if start.startswith(_TIFF_STARTS):
        from blurfast.io.tiff_source import TiffSource

        return TiffSource(path)
    if start.startswith(_PNG_START):
        from blurfast.io.png_source import PngSource, is_streamable

        if is_streamable(path):
            return PngSource(path)
    from blurfast.io.pillow import PillowSource

    return PillowSource(path)


def open_sink(
    path: str | os.PathLike[str],
    images: Sequence[ImageSpec],
    source: FileSource,
    *,
    compression: str | None = None,
    overwrite: bool = False,
) -> FileSink:
    """Create an output file, whose format is told by its name's suffix.

    Parameters
    ----------
    images
        What will be written.
    source
        The file that layout and metadata are taken from: all of them where the formats are the same.
    compression
        Of a TIFF file, as `TiffSink` takes it.

    Raises
    ------
    UnsupportedError
        If the suffix is of no known format, or the format cannot hold the images.
    OutputExistsError, UnwritableError
        If the output cannot be created.
    """
    suffix = Path(path).suffix.lower()
    if compression is not None and suffix not in _TIFF_SUFFIXES:
        raise UnsupportedError(
            f"compression is chosen for TIFF only, not for {suffix or 'a name without a suffix'}",
            path=path,
            remedy="leave it out",
        )
    if suffix in _TIFF_SUFFIXES:
        from blurfast.io.tiff_sink import TiffSink
        from blurfast.io.tiff_source import TiffSource

        like = source if isinstance(source, TiffSource) else None
        return TiffSink(path, images, like=like, metadata=source.metadata, compression=compression, overwrite=overwrite)
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


def _first_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
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
