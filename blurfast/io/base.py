"""What the engine knows of images: where pixels come from, and where they go.

A `Source` and a `Sink` hand out *tasks*, plain callables that decode or encode one segment each. The engine
decides which thread runs them and when, so no format needs threads of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from blurfast.cpu.catalogue import Kernel
from blurfast.io.metadata import Metadata
from blurfast.pixels import Pixels, Window


class Grain(NamedTuple):
    """The rows and columns of the segments that a file is made of.

    Windows that are written start at multiples of the grain and end at one or at the edge of the image. What is read of
    an image that is sequential has whole segments, too; of others, any part can be read, though segments are decoded as
    a whole.
    """

    rows: int
    columns: int


@dataclass(frozen=True)
class ImageSpec:
    """The shape of one two-dimensional image with interleaved channels.

    A page of a file is one image, or one per channel where the channels are stored in separate planes.

    Parameters
    ----------
    height, width, channels
        Size in pixels, and samples per pixel.
    dtype
        Of the samples, in native byte order.
    grain
        The smallest part that can be decoded, or encoded, on its own. An image that can be read row by row has a
        grain of (1, width).
    sequential
        Whether rows can only be read once, from the top down, and in full width.
    task_bytes
        Memory that one running task needs beside its part of the target, and beside what it returns.
    encoded_bytes
        Memory of what a task that encodes returns, unless it grows: noise does, by up to a third.
    held_bytes
        Memory that is occupied until the image is complete.
    alpha
        The channel that holds the opacity by which the others are to be weighted; None without one.
    is_opacity
        Whether the image is itself the opacity of others, which are stored in planes of their own.
    """

    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    grain: Grain
    sequential: bool = False
    task_bytes: int = 0
    encoded_bytes: int = 0
    held_bytes: int = 0
    alpha: int | None = None
    is_opacity: bool = False

    @property
    def row_bytes(self) -> int:
        """The size of one row of pixels in memory."""
        return self.width * self.channels * self.dtype.itemsize


class Source(Protocol):
    """Something that pixels can be read from."""

    @property
    def images(self) -> Sequence[ImageSpec]:
        """The images, in the order in which they are read."""

    def read_tasks(self, image: int, window: Window, target: Pixels) -> list[Callable[[], None]]:
        """Return tasks that together fill `target` with the pixels of `window`, a part of image `image`.

        The tasks of one call may run at the same time and in any order. Where the image is sequential, there is one
        task, and the engine runs the tasks of successive calls one after the other.
        """

    def close(self) -> None:
        """Release the file. No task runs any more."""


class FileSource(Source, Protocol):
    """A source that is a file."""

    @property
    def metadata(self) -> Metadata:
        """What the file says about its first image."""

    @property
    def notices(self) -> Sequence[str]:
        """What the file holds that is left out or changed, one sentence each."""

    @property
    def kernels(self) -> Sequence[Kernel]:
        """What its tasks run, so that all of a run can be compiled together."""

    @property
    def layout_description(self) -> list[dict[str, Any]]:
        """How each page is stored, in plain words and numbers."""


class Sink(Protocol):
    """Something that pixels can be written to, in raster order of segments, one image after the other."""

    @property
    def images(self) -> Sequence[ImageSpec]:
        """The images to be written, in order."""

    def encode_tasks(self, image: int, window: Window, pixels: Pixels) -> list[Callable[[], Any]]:
        """Return one task per segment of `window`, in raster order; each returns its segment ready for `append`.

        The tasks may run at the same time. `pixels` stays unchanged until all that they return is appended.
        """

    def append(self, image: int, segment: Any) -> None:
        """Write the next segment. Called in order, from one thread at a time."""

    def commit(self) -> None:
        """All segments are there: complete the output and make it appear under its name."""

    def abort(self) -> None:
        """Leave nothing behind. Harmless after `commit`."""


class FileSink(Sink, Protocol):
    """A sink that is a file."""

    @property
    def kernels(self) -> Sequence[Kernel]:
        """What its tasks run, so that all of a run can be compiled together."""

    @property
    def notices(self) -> Sequence[str]:
        """What the user may not expect of the output, one sentence each."""
