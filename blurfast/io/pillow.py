"""Images that are read and written whole, by Pillow."""

from __future__ import annotations

import dataclasses
import functools
import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PpmImagePlugin import PpmImageFile

from blurfast.cpu.catalogue import Kernel
from blurfast.errors import UnreadableError, UnsupportedError
from blurfast.io.base import Grain, ImageSpec
from blurfast.io.metadata import Metadata
from blurfast.io.output import AtomicFile
from blurfast.io.pillow_metadata import left_out_images, read_metadata, save_options
from blurfast.io.png_chunks import SIGNATURE, is_changed_as_text
from blurfast.io.png_samples import few_bits_notice, palette_notice
from blurfast.pixels import Pixels, Window

# Those that hold pixels and nothing else: some of Pillow's readers start other programs.
_READABLE_FORMATS = ("BMP", "GIF", "JPEG", "PPM", "QOI", "TGA", "WEBP")

_STRIP_BYTES = 1 << 20

_DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, EOFError, ArithmeticError, struct.error,
)  # fmt: skip
"""What Pillow's readers raise on files that are not as they should be."""

# No more pixels than this can come from one byte of the file: a bit each without compression, or the longest runs.
# JPEG spends at least a bit on each block of 8 x 8.
_MOST_PIXELS_PER_BYTE = {"BMP": 8, "PPM": 8, "QOI": 62, "TGA": 128, "JPEG": 512}

_UNSUPPORTED_BMP = "Unsupported BMP"
"""What Pillow says of valid files that it does not read."""

_JPEG_START = b"\xff\xd8\xff"

_BMP_RUN_LENGTHS = (1, 2)  # compressions in which empty rows take no room

_open_lock = threading.Lock()


class _Layout(NamedTuple):
    """How the pixels of a mode of Pillow's lie in an array, and how many bytes Pillow itself spends on each."""

    channels: int
    dtype: type[np.generic]
    pillow_bytes: int
    has_alpha: bool = False


_LAYOUTS = {
    "L": _Layout(1, np.uint8, 1),
    "LA": _Layout(2, np.uint8, 4, has_alpha=True),
    "RGB": _Layout(3, np.uint8, 4),
    "RGBA": _Layout(4, np.uint8, 4, has_alpha=True),
    "I": _Layout(1, np.uint16, 4),  # of 16-bit PGM, the only one among the readable formats
    "F": _Layout(1, np.float32, 4),
}

_CONVERSIONS = {"1": "L", "P": "RGB"}
_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}


class PillowSource:
    """An image that Pillow decodes whole: JPEG, WebP, BMP, GIF and the like.

    Palettes become RGB or, with transparency, RGBA; bits become 0 and 255; of an animation, the first frame is
    read. The orientation that Exif may ask for is left to it.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    images
        The one image, as its header describes it.
    metadata
        Resolution, colour profile, Exif and texts.
    notices
        What is changed or left out, one sentence each.

    Raises
    ------
    UnreadableError
        If the file cannot be opened, is damaged, or is of no known format.
    UnsupportedError
        If it is CMYK or the like, too large for Pillow, or of 16 bits where Pillow would keep 8.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with _opened(self.path) as image:
            self._mode = _target_mode(image, self.path)
            _refuse_impossible_size(image, self.path)
            self._size = image.size
            self.images: Sequence[ImageSpec] = [_spec(image, self._mode)]
            self.metadata = read_metadata(image)
            self._format = image.format or "unknown"
            self.notices = [*_conversion_notices(image, self._mode), *left_out_images(image)]
        self.kernels: list[Kernel] = []

    def read_tasks(self, image: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
        """Return the one task that decodes the image; `window` is all of it."""
        return [functools.partial(self._decode, target)]

    @property
    def layout_description(self) -> list[dict[str, Any]]:
        """How the image is stored, in plain words and numbers."""
        spec = self.images[0]
        return [
            {
                "format": self._format,
                "shape": [spec.height, spec.width, spec.channels],
                "dtype": spec.dtype.name,
                "layout": "read whole",
                "alpha": spec.alpha is not None,
            }
        ]

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    def _decode(self, target: Pixels) -> None:
        with _opened(self.path) as image:
            if image.size != self._size or _target_mode(image, self.path) != self._mode:
                raise UnreadableError("has changed while it was read", path=self.path, remedy="try again")
            image.load()
            converted = image if image.mode == self._mode else image.convert(self._mode)
        _copy_pixels(converted, target)


class PillowSink:
    """An image that is collected in memory, and encoded by Pillow in the end.

    Parameters
    ----------
    path
        The output; its suffix, one of `SUFFIXES`, names the format.
    images
        The one image: `uint8`, of 1 or 3 channels, or with alpha as the fourth for WebP.
    metadata
        What to say about the image. BMP keeps the resolution only.
    quality
        Of JPEG and WebP, from 1 to 100; 95 by default.
    overwrite
        Whether a file that is there already may be replaced.

    Attributes
    ----------
    images
        The image, written by whole rows and kept in memory until the end.
    notices
        What of the metadata is not kept, one sentence each.

    Raises
    ------
    UnsupportedError
        If the format cannot hold such images.
    OutputExistsError, UnwritableError
        As `AtomicFile` does.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        images: Sequence[ImageSpec],
        *,
        metadata: Metadata = Metadata(),
        quality: int | None = None,
        overwrite: bool = False,
    ) -> None:
        self._format = _FORMATS[Path(path).suffix.lower()]
        self._format.refuse_unsupported(path, images)
        spec = images[0]
        saving = save_options(self._format.name, metadata, spec.width, spec.height)
        self._options = {**saving.options, **self._format.quality_options(quality)}
        self.notices = saving.notices
        self.images: Sequence[ImageSpec] = [
            dataclasses.replace(
                spec,
                grain=Grain(1, spec.width),
                sequential=False,
                task_bytes=0,
                held_bytes=spec.height * spec.row_bytes,
            )
        ]
        self.kernels: list[Kernel] = []
        self._pixels = np.empty((spec.height, spec.width, spec.channels), np.uint8)
        self._output = AtomicFile(path, overwrite=overwrite)

    def encode_tasks(self, image: int, window: Window, pixels: Pixels) -> list[Callable[[], None]]:
        """Return the one task that collects the pixels of `window`."""
        collected = self._pixels[window.row_start : window.row_stop, window.column_start : window.column_stop]
        return [functools.partial(np.copyto, collected, pixels)]

    def append(self, image: int, segment: None) -> None:
        """Do nothing: the pixels are in their place."""

    def commit(self) -> None:
        """Encode the image, and move the file to its place."""
        flat = self._pixels[:, :, 0] if self._pixels.shape[2] == 1 else self._pixels
        with self._output.translated_errors():
            Image.fromarray(flat).save(self._output.file, self._format.name.upper(), **self._options)
        self._output.commit()

    def abort(self) -> None:
        """Remove what was written."""
        self._output.abort()


@dataclasses.dataclass(frozen=True)
class _Format:
    """A format to write: what it holds, and how Pillow, which names formats in capitals, is told."""

    name: str
    channels: tuple[int, ...]
    largest_side: int
    has_quality: bool = True
    largest_bytes: int = 2**63

    def refuse_unsupported(self, path: str | os.PathLike[str], images: Sequence[ImageSpec]) -> None:
        """Raise `UnsupportedError` if the format cannot hold the images."""
        if len(images) != 1:
            fact = f"{self.name} holds one image, not {len(images)}"
            raise UnsupportedError(fact, path=path, remedy="write TIFF instead")
        spec = images[0]
        fits_png = spec.dtype in (np.uint8, np.uint16) and spec.channels <= 4
        remedy = f"write {'TIFF or PNG' if fits_png else 'TIFF'} instead"
        if spec.dtype != np.uint8:
            fact = f"{self.name} holds uint8, not {spec.dtype}"
            raise UnsupportedError(fact, path=path, remedy=f"{remedy}, or add --dtype uint8 and a --scale")
        if spec.channels not in self.channels:
            allowed = f"{', '.join(map(str, self.channels[:-1]))} or {self.channels[-1]}"
            fact = f"{self.name} holds {allowed} channels, not {spec.channels}"
            raise UnsupportedError(fact, path=path, remedy=remedy)
        sides = (spec.width, spec.height)
        if min(sides) < 1 or max(sides) > self.largest_side or spec.height * spec.row_bytes > self.largest_bytes:
            fact = f"{self.name} does not hold images of {spec.width} x {spec.height} pixels"
            raise UnsupportedError(fact, path=path, remedy=remedy)

    def quality_options(self, quality: int | None) -> dict[str, Any]:
        """Return Pillow's options for a quality."""
        if quality is not None and not 1 <= quality <= 100:
            raise ValueError(f"quality must be from 1 to 100, not {quality}")
        return {"quality": 95 if quality is None else quality} if self.has_quality else {}


_JPEG = _Format("JPEG", (1, 3), largest_side=65500)
_WEBP = _Format("WebP", (1, 3, 4), largest_side=16383)
_BMP = _Format("BMP", (1, 3), largest_side=2**31 - 1, has_quality=False, largest_bytes=2**31)

_FORMATS = {".jpg": _JPEG, ".jpeg": _JPEG, ".webp": _WEBP, ".bmp": _BMP}

SUFFIXES = frozenset(_FORMATS)
"""The suffixes of the files that `PillowSink` writes."""


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file, and turn the many errors of Pillow's readers into ours."""
    try:
        with _identified(path) as image:
            yield image
    except Image.DecompressionBombError as error:
        fact = f"has more than the {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels that Pillow decodes"
        raise UnsupportedError(fact, path=path, remedy="convert it to TIFF or PNG, which are read in parts") from error
    except UnidentifiedImageError as error:
        raise _unidentified(path) from error
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.strerror is not None:
            # Only errors of opening name the file.
            fact, remedy = "cannot be opened", "check its name and permissions"
            if error.filename is None:
                fact, remedy = "cannot be read", "check the disk"
            raise UnreadableError(f"{fact} ({error.strerror})", path=path, remedy=remedy) from error
        if _UNSUPPORTED_BMP in str(error):
            fact, remedy = "is of a kind of BMP that is not read", "save it as PNG or TIFF"
            raise UnsupportedError(fact, path=path, remedy=remedy) from error
        if _is_cut_off(path, error):
            fact = "the file ends before the image is complete"
            raise UnreadableError(fact, path=path, remedy="get an intact copy") from error
        raise _damaged(path) from error


def _damaged(path: Path) -> UnreadableError:
    """Return the error for a file that Pillow takes for damaged, as it does with JPEG files that it cannot decode."""
    if not _first_bytes(path).startswith(_JPEG_START):
        return UnreadableError("is damaged", path=path, remedy="get an intact copy")
    fact = "is damaged, or a rare kind of JPEG (with arithmetic coding, or more than 8 bits)"
    return UnreadableError(fact, path=path, remedy="get an intact copy, or convert it to TIFF or PNG")


def _unidentified(path: Path) -> UnreadableError:
    """Return the error for a file that is none of the formats; text-mode copies are the usual damage to PNG."""
    start = _first_bytes(path)
    if len(start) < len(SIGNATURE):
        fact = f"holds no image in its {len(start)} byte{'s' * (len(start) != 1)}"
        return UnreadableError(fact, path=path, remedy="get an intact copy")
    if start.startswith(_JPEG_START):
        return _damaged(path)
    if is_changed_as_text(start):
        fact = "is a PNG file that was changed in text mode"
        return UnreadableError(fact, path=path, remedy="copy the original again, in binary mode")
    remedy = "get an intact copy, or convert it to TIFF or PNG"
    return UnreadableError("is not an image of a known format", path=path, remedy=remedy)


def _is_cut_off(path: Path, error: Exception) -> bool:
    """Return whether a file ends too early, by what Pillow says of it, or by what WebP files say of their size."""
    start = _first_bytes(path)
    declared = int.from_bytes(start[4:8], "little") + 8 if start.startswith(b"RIFF") else 0
    return "truncated" in str(error).lower() or path.stat().st_size < declared


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(16)


def _identified(path: Path) -> Image.Image:
    """Open an image file without a warning of its size, which the caller judges by what memory there is.

    The lock keeps two threads from restoring each other's warning filters.
    """
    with _open_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(path, formats=_READABLE_FORMATS)


def _target_mode(image: Image.Image, path: Path) -> str:
    """Return the mode that the image is decoded to."""
    mode = _CONVERSIONS.get(image.mode, image.mode)
    if mode not in _LAYOUTS:
        raise UnsupportedError(f"its pixels are {image.mode}", path=path, remedy="convert it to RGB first")
    if image.has_transparency_data and not _LAYOUTS[mode].has_alpha:
        mode = _WITH_ALPHA[mode]
    if _LAYOUTS[mode].dtype is np.uint8 and _has_16_bits(image):
        fact = "has 16 bits per sample, of which 8 would be lost"
        raise UnsupportedError(fact, path=path, remedy="save it as TIFF or PNG")
    return mode


def _conversion_notices(image: Image.Image, mode: str) -> list[str]:
    """Return what is to be said where the pixels are stored otherwise than they are decoded."""
    if image.mode == "P":
        return [palette_notice(_LAYOUTS[mode].channels)]
    return [few_bits_notice(1)] if image.mode == "1" else []


def _has_16_bits(image: Image.Image) -> bool:
    """Return whether the samples of a PPM file, the only one that may have them, are wider than 8 bits."""
    if not isinstance(image, PpmImageFile):
        return False
    arguments = image.tile[0].args  # a tuple with the largest value, where that is not the type's own
    return isinstance(arguments, tuple) and arguments[1] > 255


def _refuse_impossible_size(image: Image.Image, path: Path) -> None:
    """Refuse a header that declares more pixels than the file can hold, before there is memory for them."""
    size = path.stat().st_size
    is_unlimited = image.format == "BMP" and image.info.get("compression") in _BMP_RUN_LENGTHS
    most = _MOST_PIXELS_PER_BYTE.get(image.format or "")
    if most is not None and not is_unlimited and image.width * image.height > most * size:
        fact = f"{size} bytes cannot hold {image.width} x {image.height} pixels"
        raise UnreadableError(fact, path=path, remedy="get an intact copy")


def _spec(image: Image.Image, mode: str) -> ImageSpec:
    layout = _LAYOUTS[mode]
    decoded_bytes = _LAYOUTS[image.mode].pillow_bytes if image.mode in _LAYOUTS else 1
    if "progressive" in image.info:  # a JPEG image of which the decoder keeps all coefficients
        decoded_bytes += 2 * layout.channels
    converted_bytes = 0 if mode == image.mode else layout.pillow_bytes
    return ImageSpec(
        height=image.height,
        width=image.width,
        channels=layout.channels,
        dtype=np.dtype(layout.dtype),
        grain=Grain(image.height, image.width),
        sequential=True,
        task_bytes=image.width * image.height * (decoded_bytes + converted_bytes) + 2 * _STRIP_BYTES,
        alpha=layout.channels - 1 if layout.has_alpha else None,
    )


def _copy_pixels(image: Image.Image, target: Pixels) -> None:
    """Copy strip by strip: an array of the whole image would be one more copy of it."""
    rows_per_strip = max(1, _STRIP_BYTES // (4 * image.width))
    for first in range(0, image.height, rows_per_strip):
        last = min(first + rows_per_strip, image.height)
        strip = np.asarray(image.crop((0, first, image.width, last)))
        target[first:last] = strip.reshape(last - first, image.width, -1)
