"""Which module reads or writes which file. Format modules are imported when a file needs them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

from blurfast.errors import MisplacedError, UnreadableError, UnsupportedError
from blurfast.io.base import FileSink, FileSource, ImageSpec
from blurfast.io.edits import Edits
from blurfast.io.output_options import PNG_KEYWORDS, TIFF_KEYWORDS, OutputKeywords
from blurfast.io.page_selection import Pages, PageSelection

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_BIG_TIFF_SUFFIXES = (".btf", ".tf2", ".tf8")
# Not those of formats that have more than a TIFF file keeps when it is filtered, such as .ndpi, .scn, .bif and .lsm.
_TIFF_SUFFIXES = (".tif", ".tiff", ".gtiff", ".geotiff", ".svs", ".qptiff", *_BIG_TIFF_SUFFIXES)
_PILLOW_SUFFIXES = (".jpg", ".jpeg", ".webp", ".bmp")

_NO_EDITS = Edits()

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
        from blurfast.io.png_source import PngSource

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
    edits: Edits = _NO_EDITS,
    overwrite: bool = False,
    **options: Unpack[OutputKeywords],
) -> FileSink:
    """Create an output file, whose format is told by its name's suffix.

    Parameters
    ----------
    images
        What will be written.
    source
        The file that layout and metadata are taken from: all of them where the formats are the same.
    edits
        How the images differ from those of `source`.
    overwrite
        Whether a file that is there already may be replaced.
    **options
        How the output is stored, as `TiffSink` and `PngSink` take it. What is for another format must be left out.

    Raises
    ------
    UnsupportedError
        If the suffix is of no known format, or the format cannot hold the images, or not their colours, or has no such
        option.
    MisplacedError, OutputExistsError, UnwritableError
        If the output cannot be created.
    """
    _refuse_options(path, unsuitable_options(path, options))
    suffix = Path(path).suffix.lower()
    if suffix in _TIFF_SUFFIXES:
        from blurfast.io.tiff_sink import TiffSink
        from blurfast.io.tiff_source import TiffSource

        tiff: dict[str, Any] = {name: value for name, value in options.items() if name in TIFF_KEYWORDS}
        if suffix in _BIG_TIFF_SUFFIXES and tiff.get("bigtiff") in (None, "auto"):
            tiff["bigtiff"] = "yes"
        like = source if isinstance(source, TiffSource) else None
        return TiffSink(path, images, like=like, metadata=source.metadata, edits=edits, overwrite=overwrite, **tiff)
    _refuse_colour_model(path, suffix, source)
    if suffix == ".png":
        from blurfast.io.png_sink import PngSink
        from blurfast.io.png_source import PngSource

        model, level = source if isinstance(source, PngSource) else None, options.get("png_level")
        return PngSink(path, images, like=model, metadata=source.metadata, level=level, overwrite=overwrite)
    if suffix in _PILLOW_SUFFIXES:
        from blurfast.io.pillow import PillowSink

        return PillowSink(path, images, metadata=source.metadata, overwrite=overwrite)
    if os.path.isdir(path) or not os.path.basename(path):
        remedy = "name a file in it, or give it as --out-dir"
        raise MisplacedError("is a directory", path=path, remedy=remedy)
    allowed = ", ".join((*_TIFF_SUFFIXES[:2], ".png", *_PILLOW_SUFFIXES))
    fact = f"no output has the suffix {suffix!r}" if suffix else "has no suffix, which would name its format"
    raise UnsupportedError(fact, path=path, remedy=f"give an output named {allowed}")


def is_output_name(path: str | os.PathLike[str]) -> bool:
    """Return whether a file's suffix names a format that is written.

    Examples
    --------
    >>> is_output_name("slide.svs"), is_output_name("slide.ndpi")
    (True, False)
    """
    return Path(path).suffix.lower() in (*_TIFF_SUFFIXES, ".png", *_PILLOW_SUFFIXES)


def unsuitable_options(path: str | os.PathLike[str], options: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of options that ask for what outputs of another format have than the one at `path`.

    Parameters
    ----------
    path
        The output, whose suffix names the format.
    options
        `OutputKeywords`, and any others, which suit every output.

    Examples
    --------
    >>> sorted(unsuitable_options("out.png", {"compression": "zstd", "tile": None, "png_level": 0, "dtype": "uint8"}))
    ['compression']
    """
    suffix = Path(path).suffix.lower()
    suitable = TIFF_KEYWORDS if suffix in _TIFF_SUFFIXES else PNG_KEYWORDS if suffix == ".png" else frozenset()
    return frozenset(name for name in (TIFF_KEYWORDS | PNG_KEYWORDS) - suitable if _is_chosen(options.get(name)))


def _is_chosen(value: object) -> bool:
    """Return whether the value of an option asks for anything: a level of 0 does, a flag that is not set does not."""
    return value is not None and value is not False and value != "auto"


def _refuse_options(path: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Refuse options that are for files of one format, where the output is of another."""
    for name in sorted(names):
        format_name = "PNG" if name in PNG_KEYWORDS else "TIFF"
        suffix = Path(path).suffix.lower() or "a name without a suffix"
        fact = f"--{name.replace('_', '-')} is for {format_name} outputs, not for {suffix}"
        raise UnsupportedError(fact, path=path, remedy="leave it out")


def _refuse_colour_model(path: str | os.PathLike[str], suffix: str, source: FileSource) -> None:
    if source.metadata.colour_model is not None:
        fact = f"{suffix} files cannot hold {source.metadata.colour_model}"
        raise UnsupportedError(fact, path=path, remedy="write a TIFF file")


def _first_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe waits for someone to write into it
            fact, remedy = "is a pipe or a device, not a file", "redirect it to stdin, and name IN '-'"
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
