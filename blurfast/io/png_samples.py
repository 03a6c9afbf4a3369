"""What the samples of PNG files stand for: pixels as they are, few levels of grey, or the colours of a palette.

Greys of 1, 2 and 4 bits are spread over the range of uint8, indices become the colours they stand for, and a colour
that stands for transparency becomes an alpha channel; libpng expands files so, too. What the file says of gamma and
significant bits changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.io.png_chunks import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, Header, damaged
from blurfast.pixels import Pixels

_INDEX_BYTES = np.dtype(np.intp).itemsize


@dataclass(frozen=True, eq=False)
class Samples:
    """How stored rows become pixels.

    Parameters
    ----------
    channels, dtype, alpha
        Of the pixels; `alpha` is the channel of the opacity, if there is one.
    stored_dtype
        Of the samples in the file, in its byte order.
    table
        Where a byte holds one sample or several: the pixels that each value of a byte stands for, shaped
        (256, pixels, channels). None where the samples are the pixels' values.
    beyond_palette
        Which of the pixels in `table` have an index that the palette has no colour for; None without any.
    key
        The samples of the colour that stands for transparency, where there is one and no `table`.
    """

    channels: int
    dtype: np.dtype[Any]
    alpha: int | None
    stored_dtype: np.dtype[Any]
    table: NDArray[np.uint8] | None = None
    beyond_palette: NDArray[np.bool_] | None = None
    key: NDArray[np.uint16] | None = None

    @property
    def are_pixels(self) -> bool:
        """Whether stored rows differ from rows of pixels in the order of bytes at most."""
        return self.table is None and self.key is None

    @property
    def scratch_per_byte(self) -> int:
        """The most memory in bytes that `pixels` needs for each byte of a row."""
        if self.table is not None:
            _, pixels, channels = map(int, self.table.shape)
            return _INDEX_BYTES + 2 * pixels * channels
        return 1 if self.key is None else 4

    def pixels(self, stored: NDArray[np.uint8], width: int) -> Pixels:
        """Return what stored rows, shaped (rows, bytes), stand for, shaped (rows, `width`, channels)."""
        rows = len(stored)
        if self.table is not None:
            expanded = _look_up(self.table.reshape(256, -1), stored)
            return expanded.reshape(rows, -1, self.channels)[:, :width]
        samples = stored.view(self.stored_dtype).reshape(rows, width, -1)
        if self.key is None:
            return samples.astype(self.dtype, copy=False)
        pixels = np.empty((rows, width, self.channels), self.dtype)
        pixels[:, :, :-1] = samples
        is_opaque = (samples != self.key).any(axis=2)
        np.multiply(is_opaque, np.iinfo(self.dtype).max, out=pixels[:, :, -1], dtype=self.dtype, casting="unsafe")
        return pixels

    def has_unknown_colours(self, stored: NDArray[np.uint8], width: int) -> bool:
        """Return whether stored rows have indices that the palette has no colour for."""
        if self.beyond_palette is None:
            return False
        return bool(_look_up(self.beyond_palette.view(np.uint8), stored)[:, :width].any())


def palette_notice(channels: int) -> str:
    """Return what is to be said where the indices of a palette become colours of 8 bits."""
    return f"palette colours are written as {'RGBA' if channels == 4 else 'RGB'}, in uint8"


def few_bits_notice(bits: int) -> str:
    """Return what is to be said where greys of fewer than 8 bits are spread over the range of uint8."""
    return f"{bits}-bit samples are written as uint8, {'as 0 and 255' if bits == 1 else 'spread from 0 to 255'}"


def samples_of(header: Header, palette: bytes | None, transparency: bytes | None, path: Path) -> Samples:
    """Return what the samples of an image stand for.

    Parameters
    ----------
    palette, transparency
        Data of the PLTE and tRNS chunks, where the file has them.
    path
        The file that an error is about.

    Raises
    ------
    UnreadableError
        If an image of indices has no palette, or a chunk has an impossible size.
    """
    if header.colour_type == PALETTE:
        return _indices(header, palette, transparency, path)
    dtype = np.dtype(np.uint16 if header.bit_depth == 16 else np.uint8)
    key = None
    if transparency is not None and header.colour_type in (GREY, RGB):  # others have no use for it
        if len(transparency) != 2 * header.stored_channels:
            raise damaged("its tRNS chunk has the wrong size", path)
        key = np.frombuffer(transparency, ">u2").astype(np.uint16) & np.uint16((1 << header.bit_depth) - 1)
    if header.colour_type == GREY and (header.bit_depth < 8 or (header.bit_depth == 8 and key is not None)):
        return _greys(header, None if key is None else int(key[0]))
    channels = header.stored_channels + (key is not None)
    has_alpha = header.colour_type in (GREY_ALPHA, RGBA) or key is not None
    alpha = channels - 1 if has_alpha else None
    return Samples(channels, dtype, alpha, dtype.newbyteorder(">"), key=key)


def _greys(header: Header, key: int | None) -> Samples:
    levels = np.arange(1 << header.bit_depth)
    colours = (levels * 255 // levels[-1])[:, None]
    if key is not None:
        colours = np.column_stack([colours, np.where(levels == key, 0, 255)])
    return _looked_up(header, colours.astype(np.uint8))


def _indices(header: Header, palette: bytes | None, transparency: bytes | None, path: Path) -> Samples:
    if palette is None:
        raise damaged("its palette is missing", path)
    if not palette or len(palette) % 3 or len(palette) > 3 * 256:
        raise damaged("its palette has the wrong size", path)
    count = 1 << header.bit_depth
    known = np.frombuffer(palette, np.uint8).reshape(-1, 3)[:count]
    colours = np.zeros((count, 3), np.uint8)  # black where the palette has none, as the standard proposes
    colours[: len(known)] = known
    if transparency is not None:
        if len(transparency) > len(palette) // 3:
            raise damaged("its tRNS chunk has the wrong size", path)
        opacity = np.frombuffer(transparency, np.uint8)[:count]
        colours = np.column_stack([colours, np.full(count, 255, np.uint8)])
        colours[: len(opacity), 3] = opacity
    return _looked_up(header, colours, known=len(known))


def _looked_up(header: Header, colours: NDArray[np.uint8], known: int | None = None) -> Samples:
    """Return samples that stand for `colours`, shaped (samples, channels), of which the first ones are `known`."""
    bits, channels = header.bit_depth, colours.shape[1]
    first_bits = np.arange(8 - bits, -1, -bits)  # the leftmost pixel lies in the highest bits
    values = (np.arange(256)[:, None] >> first_bits) & ((1 << bits) - 1)
    beyond_palette = values >= known if known is not None and known < len(colours) else None
    alpha = channels - 1 if channels in (2, 4) else None
    byte = np.dtype(np.uint8)
    return Samples(channels, byte, alpha, byte, colours[values], beyond_palette)


def _look_up(table: NDArray[np.uint8], stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the rows of `table` that bytes stand for, one after the other: `stored`, but as many times wider.

    NumPy takes an entry of many bytes faster as one value.
    """
    entries = np.ascontiguousarray(table).view(f"V{table.shape[1]}")[:, 0]
    return entries.take(stored).view(np.uint8)
