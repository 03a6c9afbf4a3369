"""Arrays of any memory layout as a source and a sink, so that they pass through the same engine as files."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from blurfast.io.base import Grain, ImageSpec
from blurfast.pixels import Pixels, Window


def describe(pixels: Pixels) -> ImageSpec:
    """Return the spec of an array shaped (rows, columns, channels)."""
    height, width, channels = pixels.shape
    return ImageSpec(height, width, channels, pixels.dtype.newbyteorder("="), Grain(1, width))


def is_direct(pixels: Pixels) -> bool:
    """Return whether kernels can work on the array where it lies: native, and with pixels side by side."""
    _, width, channels = pixels.shape
    strides = [pixels.strides[1] if width > 1 else 0, pixels.strides[2] if channels > 1 else 0]
    expected = [channels * pixels.itemsize if width > 1 else 0, pixels.itemsize if channels > 1 else 0]
    return strides == expected and pixels.strides[0] % pixels.itemsize == 0 and pixels.dtype.isnative


class ArraySource:
    """Reads windows of an array."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self.images = [describe(pixels)]

    def read_tasks(self, image: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
        """See `Source.read_tasks`."""
        part = self._pixels[window.row_start : window.row_stop, window.column_start : window.column_stop]
        return [functools.partial(np.copyto, target, part)]

    def close(self) -> None:
        """Do nothing: the array belongs to the caller."""


class ArraySink:
    """Writes windows into an array."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self.images = [describe(pixels)]

    def encode_tasks(self, image: int, window: Window, pixels: Pixels) -> list[Callable[[], Any]]:
        """See `Sink.encode_tasks`; the pixels are copied here, and `append` has nothing left to do."""
        part = self._pixels[window.row_start : window.row_stop, window.column_start : window.column_stop]
        return [functools.partial(np.copyto, part, pixels)]

    def append(self, image: int, segment: Any) -> None:
        """Do nothing: the pixels are in their place."""

    def commit(self) -> None:
        """Do nothing: the array is complete."""

    def abort(self) -> None:
        """Do nothing: there is no way back."""
