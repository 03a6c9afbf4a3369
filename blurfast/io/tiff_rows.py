"""Reading strips row by row: those without compression, and deflated ones that are too large to be decoded whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from blurfast.errors import UnreadableError
from blurfast.io.base import Grain
from blurfast.io.positioned import PositionedFile
from blurfast.io.tiff_layout import PageLayout
from blurfast.io.tiff_options import PREDICTOR_NUMBERS
from blurfast.io.tiff_segments import SegmentTable
from blurfast.io.tiff_tags import NATIVE_ORDER
from blurfast.pixels import Pixels, Window

_BAND_BYTES = 1 << 20
_READ_BYTES = 1 << 18
# Bytes of rows, samples, differences undone, and pixels: so many bands may be in memory at once while one is decoded.
_COPIES_OF_A_BAND = 4


class RowFormat:
    """How the bytes of whole rows become pixels.

    Parameters
    ----------
    layout
        Of the page.
    order
        ``"<"`` or ``">"``: the byte order of the file.
    """

    def __init__(self, layout: PageLayout, order: str) -> None:
        dtype = layout.dtype if layout.stored is None else layout.stored.dtype
        self._layout = layout
        self._bits = layout.bits
        self._is_packed = self._bits != 8 * dtype.itemsize
        self._native_dtype = dtype
        self._stored_dtype = np.dtype(f"{order}{dtype.str[1:]}")
        self.row_bytes = layout.stored_row_bytes
        self.is_swapped = order != NATIVE_ORDER and dtype.itemsize > 1

    @property
    def has_plain_pixels(self) -> bool:
        """Whether the bytes are those of the pixels, but for the order of the bytes in each number."""
        return self._layout.stored is None and self._layout.predictor == 1

    def pixels(self, data: bytes | bytearray, rows: int) -> Pixels:
        """Return the pixels of `rows` whole rows, shaped (rows, columns, channels)."""
        layout = self._layout
        samples = self._samples(data).reshape(rows, layout.width, layout.stored_channels)
        return samples if layout.stored is None else layout.stored.pixels(samples)

    def _samples(self, data: bytes | bytearray) -> NDArray[Any]:
        layout = self._layout
        row_samples = layout.width * layout.stored_channels
        if self._is_packed:
            unpacked: NDArray[Any] = imagecodecs.packints_decode(
                data, self._native_dtype, self._bits, runlen=row_samples
            )
            return unpacked
        shape = (-1, layout.width, layout.stored_channels)
        if layout.predictor == PREDICTOR_NUMBERS["float"]:  # has an order of its own
            differences = np.frombuffer(data, self._native_dtype).reshape(shape)
            return np.asarray(imagecodecs.floatpred_decode(differences, axis=-2))
        samples = np.frombuffer(data, self._stored_dtype).astype(self._native_dtype, copy=False).reshape(shape)
        if layout.predictor == PREDICTOR_NUMBERS["horizontal"]:
            unsigned = samples.view(f"u{samples.itemsize}")
            return np.asarray(imagecodecs.delta_decode(unsigned, axis=-2)).view(samples.dtype)
        return samples

    @property
    def band_rows(self) -> int:
        """The rows to decode at a time: enough to make the calls cheap, few enough for the caches."""
        return max(1, _BAND_BYTES // max(self._layout.row_bytes, self.row_bytes))

    @property
    def decoding_bytes(self) -> int:
        """The memory that decoding so many rows takes."""
        return _COPIES_OF_A_BAND * self.band_rows * max(self._layout.row_bytes, self.row_bytes)


class RawRowReader:
    """Reads the rows of strips that are not compressed; right into the target where they hold plain pixels."""

    def __init__(
        self, layout: PageLayout, table: SegmentTable, fill: Pixels, file: PositionedFile, row_format: RowFormat
    ) -> None:
        task_bytes = 0 if row_format.has_plain_pixels else row_format.decoding_bytes
        self.spec = layout.image_spec(Grain(1, layout.width), task_bytes)
        self._rows_per_strip = layout.rows_per_strip
        self._strips = layout.segment_grid[0]
        self._table = table
        self._fill = fill
        self._file = file
        self._format = row_format

    def tasks(self, plane: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
        """Return tasks that fill `target`."""
        rows = self._format.band_rows
        return [
            partial(self._read, plane, window.row_start + start, window.column_start, target[start : start + rows])
            for start in range(0, window.rows, rows)
        ]

    def _read(self, plane: int, first_row: int, first_column: int, target: Pixels) -> None:
        filled = 0
        while filled < len(target):
            offset, rows = self._run(plane, first_row + filled, len(target) - filled)
            self._read_run(offset, first_column, target[filled : filled + rows])
            filled += rows

    def _read_run(self, offset: int | None, first_column: int, target: Pixels) -> None:
        if offset is None:
            target[...] = self._fill
        elif not self._format.has_plain_pixels:
            data = self._file.read(offset, len(target) * self._format.row_bytes)
            target[...] = self._format.pixels(data, len(target))[:, first_column : first_column + target.shape[1]]
        else:
            self._read_plain(offset, first_column, target)
            if self._format.is_swapped:
                target.byteswap(inplace=True)

    def _read_plain(self, offset: int, first_column: int, target: Pixels) -> None:
        if target.shape[1] == self.spec.width:
            self._file.read_rows(offset, target)
            return
        offset += first_column * target.shape[2] * target.itemsize
        for row in range(len(target)):
            self._file.read_rows(offset + row * self._format.row_bytes, target[row : row + 1])

    def _run(self, plane: int, row: int, most_rows: int) -> tuple[int | None, int]:
        """Return where `row` lies in the file, and how many rows follow it there without a gap."""
        strip, row_in_strip = divmod(row, self._rows_per_strip)
        rows = self._rows_per_strip - row_in_strip
        index = plane * self._strips + strip
        if self._table.sizes[index] == 0:
            return None, min(rows, most_rows)
        row_bytes = self._format.row_bytes
        offset = int(self._table.offsets[index]) + row_in_strip * row_bytes
        while rows < most_rows:
            index += 1
            if not self._table.sizes[index] or int(self._table.offsets[index]) != offset + rows * row_bytes:
                break
            rows += self._rows_per_strip
        return offset, min(rows, most_rows)


class _Place(NamedTuple):
    """The next row to be inflated."""

    plane: int
    row: int


class InflatingRowReader:
    """Reads the rows of deflated strips from the top down, in memory that does not depend on the strips' size."""

    def __init__(
        self,
        layout: PageLayout,
        table: SegmentTable,
        fill: Pixels,
        file: PositionedFile,
        row_format: RowFormat,
        page_number: int,
    ) -> None:
        task_bytes = row_format.decoding_bytes + 3 * _READ_BYTES
        self.spec = layout.image_spec(Grain(1, layout.width), task_bytes, sequential=True)
        self._layout = layout
        self._table = table
        self._fill = fill
        self._file = file
        self._format = row_format
        self._page_number = page_number
        self._next = _Place(0, 0)
        self._strip: _InflatedStrip | None = None

    def tasks(self, plane: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
        """Return the one task that fills `target`."""
        return [partial(self._read, plane, window, target)]

    def _read(self, plane: int, window: Window, target: Pixels) -> None:
        if window.row_start == 0:
            self._next = _Place(plane, 0)
        if self._next != (plane, window.row_start):
            raise ValueError(f"rows are read in order, so row {window.row_start} is not the next one")
        filled = 0
        while filled < len(target):
            filled += self._read_band(plane, window.row_start + filled, target[filled:])
        self._next = _Place(plane, window.row_stop)

    def _read_band(self, plane: int, row: int, target: Pixels) -> int:
        """Fill the first rows of `target`, as many as are decoded at a time, and return how many these are."""
        strip, row_in_strip = divmod(row, self._layout.rows_per_strip)
        strip_rows = min(self._layout.rows_per_strip, self._layout.height - strip * self._layout.rows_per_strip)
        rows = min(self._format.band_rows, strip_rows - row_in_strip, len(target))
        index = plane * self._layout.segment_grid[0] + strip
        if self._table.sizes[index] == 0:
            target[:rows] = self._fill
            return rows
        try:
            if row_in_strip == 0:
                self._strip = _InflatedStrip(self._file, int(self._table.offsets[index]), int(self._table.sizes[index]))
            assert self._strip is not None  # rows are read in order
            target[:rows] = self._format.pixels(self._strip.read(rows * self._format.row_bytes), rows)
            if row_in_strip + rows == strip_rows:
                self._strip.finish()
        except EOFError as error:
            raise self._damaged(index, str(error)) from error
        except isal_zlib.IsalError as error:  # type: ignore[misc]  # the stub declares an instance
            raise self._damaged(index, f"cannot be inflated ({error})") from error
        return rows

    def _damaged(self, index: int, fact: str) -> UnreadableError:
        where = f"segment {index} of page {self._page_number}"
        return UnreadableError(f"{where} {fact}", path=self._file.path, remedy="copy the file again")


class _InflatedStrip:
    """Inflates a strip piece by piece."""

    def __init__(self, file: PositionedFile, offset: int, size: int) -> None:
        self._file = file
        self._offset = offset
        self._stop = offset + size
        self._pending = b""
        self._inflater = isal_zlib.decompressobj()

    def read(self, size: int) -> bytearray:
        """Return the next `size` bytes.

        Raises
        ------
        EOFError
            If there are fewer.
        isal_zlib.IsalError
            If they are damaged.
        """
        data = bytearray(size)
        filled = 0
        while filled < size:
            piece = self._inflate(size - filled)
            if not piece:
                raise EOFError("has fewer pixels than it should")
            data[filled : filled + len(piece)] = piece
            filled += len(piece)
        return data

    def finish(self) -> None:
        """Let the checksum be verified, unless rows follow that do not belong to the image: some programs write them.

        Raises
        ------
        EOFError, isal_zlib.IsalError
            If there is no checksum, or a wrong one.
        """
        if not self._inflate(1) and not self._inflater.eof:
            raise EOFError("ends before its checksum")

    def _inflate(self, most: int) -> bytes:
        """Return some more bytes, at most so many, or none where the data end."""
        piece = b""
        while not piece and not self._inflater.eof:
            piece = self._inflater.decompress(self._pending, most)
            self._pending = self._inflater.unconsumed_tail
            if not piece and not self._pending and not self._inflater.eof:
                count = min(_READ_BYTES, self._stop - self._offset)
                if count == 0:
                    break
                self._pending = bytes(self._file.read(self._offset, count))
                self._offset += count
        return piece
