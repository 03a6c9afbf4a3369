"""Arrays that live on a GPU are filtered there: nothing is copied to the host.

Whatever has the attribute ``__cuda_array_interface__`` goes in, as arrays of CuPy, PyTorch and Numba do, and an array
of the same kind comes out. The work is queued into the stream that the array names.

The interface is described in Numba's documentation, "CUDA Array Interface (Version 3)".
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from blurfast.boundary import IndexMap
from blurfast.cuda.device import ALIGNMENT, Device, Stream
from blurfast.cuda.memory import MOST_SAMPLES, DeviceJob, TilePlan, available_memory, plan_tile, row_pitch
from blurfast.cuda.pipeline import Line, runs
from blurfast.cuda.tiles import DeviceImage, PaddedSource, TileOperator
from blurfast.dtypes import require_supported
from blurfast.filters import Filter
from blurfast.io.base import Grain, ImageSpec
from blurfast.methods import OnDevice, make_operator, plan_operator_tiles
from blurfast.pixels import Window
from blurfast.planning import Plan, plan_array

_INTERFACE = "__cuda_array_interface__"
_LEGACY_STREAM = 1  # of the driver's own, which waits for all others
# Kernels read and write so many samples at a time.
_SAMPLES_AT_A_TIME = 4


class DeviceArray(NamedTuple):
    """Where an array lies in the memory of a device.

    Parameters
    ----------
    address
        Of its first element.
    shape, strides, dtype
        As in numpy.
    stream
        The stream to work in.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: Stream

    @classmethod
    def of(cls, array: Any, argument: str, *, writeable: bool = False) -> Self:
        """Return what an array's interface tells.

        Raises
        ------
        TypeError, ValueError
            If the array is none that can be filtered, or written to; the message names the `argument`.
        """
        interface = getattr(array, _INTERFACE)
        dtype = np.dtype(interface["typestr"])
        require_supported(dtype, argument)
        if not dtype.isnative:
            raise TypeError(f"{argument} is in the byte order of other processors; convert it first")
        if interface.get("mask") is not None:
            raise TypeError(f"{argument} has a mask; fill in what it hides first")
        address, is_read_only = interface["data"]
        if writeable and is_read_only:
            raise ValueError(f"{argument} is read-only; it must be writeable")
        shape = tuple(interface["shape"])
        strides = interface.get("strides") or np.empty(shape, np.void(dtype.itemsize).dtype).strides
        return cls(address, shape, tuple(strides), dtype, Stream(interface.get("stream") or _LEGACY_STREAM))

    def planes(self, channel_axis: int | None, argument: str) -> list[DeviceImage]:
        """Return images: one with interleaved channels, or one for each channel.

        Raises
        ------
        ValueError
            If neighbours in a row do not lie side by side.
        """
        size = self.dtype.itemsize
        if channel_axis is None:
            return [self._image(self.address, *self.shape, 1, *self.strides, size, argument)]
        axis = channel_axis % 3
        rows, columns = (index for index in range(3) if index != axis)
        shape, strides = (self.shape[rows], self.shape[columns]), (self.strides[rows], self.strides[columns])
        if axis == 2:
            return [self._image(self.address, *shape, self.shape[2], *strides, self.strides[2], argument)]
        first = (self.address + channel * self.strides[axis] for channel in range(self.shape[axis]))
        return [self._image(address, *shape, 1, *strides, size, argument) for address in first]

    def _image(self, address: int, rows: int, columns: int, channels: int, *strides_and_argument: Any) -> DeviceImage:
        row_stride, column_stride, channel_stride, argument = strides_and_argument
        size = self.dtype.itemsize
        if row_stride % size or row_stride < 0 or (column_stride, channel_stride) != (channels * size, size):
            raise ValueError(f"{argument} has rows whose pixels do not lie side by side; make it contiguous first")
        return DeviceImage(address, row_stride // size, rows, columns, channels, self.dtype)


def apply_on_device(
    filter: Filter,
    image: Any,
    *,
    channel_axis: int | None,
    out: Any,
    options: dict[str, Any],
) -> Any:
    """Filter an array that lives on a GPU; see `arrays.apply`.

    Returns when the work is done, since its scratch memory is given back then.

    Raises
    ------
    TypeError, ValueError
        As `arrays.apply`, and if `image` cannot be filtered where it lies.
    DeviceError
        If the device fails.
    """
    source = DeviceArray.of(image, "image")
    if len(source.shape) != (2 if channel_axis is None else 3):
        raise ValueError(f"image has {len(source.shape)} dimensions; it must have {2 if channel_axis is None else 3}")
    if options["backend"] == "cpu":
        raise ValueError("image lives on a GPU, and backend is 'cpu'; copy it to the host first")
    source_planes = source.planes(channel_axis, "image")
    result = empty_like(image) if out is None else out
    target = DeviceArray.of(result, "out", writeable=True)
    if target.shape != source.shape:
        raise ValueError(f"out has the shape {target.shape}; it must have the image's, {source.shape}")
    if 0 in source.shape:
        return result
    from blurfast.cuda.probe import device_of

    device = device_of(source.address)
    options = {**options, "backend": f"cuda:{device.properties.index}"}
    target_planes = target.planes(channel_axis, "out")
    with device.activate():
        for source_plane, target_plane in zip(source_planes, target_planes, strict=True):
            plan = plan_array(filter, _spec(source_plane), target.dtype, 1, **options)
            _filter_plane(plan, device, source_plane, target_plane, source.stream)
    return result


def empty_like(array: Any) -> Any:
    """Return a new array of the same kind, shape and dtype.

    Raises
    ------
    TypeError
        If the library that the array is of has no function for that.
    """
    name = type(array).__module__.partition(".")[0]
    if name.startswith("numba"):
        make = sys.modules["numba.cuda"].device_array_like
    else:
        make = getattr(sys.modules.get(name), "empty_like", None)
    if make is None:
        raise TypeError(f"image is of type {type(array).__name__}, of which no other can be made; give an out array")
    return make(array)


def _spec(image: DeviceImage) -> ImageSpec:
    return ImageSpec(image.rows, image.columns, image.channels, image.dtype, Grain(1, image.columns))


def _filter_plane(plan: Plan, device: Device, source: DeviceImage, target: DeviceImage, stream: Stream) -> None:
    """Filter one image into another of the same size, which may be the same."""
    assert isinstance(plan.operation, OnDevice)
    job = DeviceJob(source.rows, source.columns, source.channels, source.dtype, target.dtype, plan.mode, source[2:4])
    with ExitStack() as resources:
        operator = make_operator(plan.operation.method, device)
        resources.callback(operator.close)
        tile = _choose_tile(operator, job)
        memory = _Memory(device, stream, resources)
        readable = source if _is_aligned(source) and source.address != target.address else memory.copy(source)
        writeable = target if _is_aligned(target) else memory.image_like(target)
        scratch = memory.take(tile.scratch_bytes)
        for window, padded in _padded_tiles(operator, readable, job, tile, memory):
            part = writeable._replace(
                address=_address(writeable, window.row_start, window.column_start),
                rows=window.rows,
                columns=window.columns,
            )
            operator.enqueue(padded, part, (window.row_start, window.column_start), scratch, stream)
        if writeable is not target:
            copy_image(device, writeable, target, stream)
        device.synchronize_stream(stream)


def _is_aligned(image: DeviceImage) -> bool:
    """Return whether kernels can read rows, and write them, some samples at a time."""
    return image.address % (_SAMPLES_AT_A_TIME * image.dtype.itemsize) == 0 and image.pitch % _SAMPLES_AT_A_TIME == 0


def _address(image: DeviceImage, row: int, column: int) -> int:
    return image.address + (row * image.pitch + column * image.channels) * image.dtype.itemsize


class _Memory:
    """Memory of a device that is needed until `resources` are closed."""

    def __init__(self, device: Device, stream: Stream, resources: ExitStack) -> None:
        self._device, self._stream, self._resources = device, stream, resources

    def take(self, count: int) -> int:
        """Return the address of so many bytes."""
        address = self._device.allocate(max(1, count))
        self._resources.callback(self._device.release, address)
        return address

    def image_like(self, image: DeviceImage) -> DeviceImage:
        """Return an image of the same size whose rows are aligned."""
        pitch = row_pitch(image.columns, image.channels, image.dtype)
        return image._replace(address=self.take(image.rows * pitch * image.dtype.itemsize), pitch=pitch)

    def copy(self, image: DeviceImage) -> DeviceImage:
        """Return a copy of an image whose rows are aligned."""
        copied = self.image_like(image)
        copy_image(self._device, image, copied, self._stream)
        return copied

    def copy_crossing(self, image: DeviceImage, rows: IndexMap, columns: IndexMap, address: int) -> DeviceImage:
        """Copy the pixels where some rows and columns of an image cross to an address, with rows that are aligned."""
        pitch = row_pitch(columns.size, image.channels, image.dtype)
        copied = image._replace(address=address, pitch=pitch, rows=rows.size, columns=columns.size)
        for (to_rows, from_rows), (to_columns, from_columns) in itertools.product(runs(rows), list(runs(columns))):
            target = copied._replace(
                address=_address(copied, to_rows.start, to_columns.start),
                rows=to_rows.stop - to_rows.start,
                columns=to_columns.stop - to_columns.start,
            )
            source = image._replace(address=_address(image, from_rows.start, from_columns.start))
            copy_image(self._device, source._replace(rows=target.rows, columns=target.columns), target, self._stream)
        return copied

    def upload(self, arrays: Sequence[NDArray[np.int32]]) -> list[int]:
        """Copy arrays to the device; return their addresses there."""
        sizes = [-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays]
        starts = list(itertools.accumulate(sizes, initial=0))
        staged = self._device.allocate_host(starts[-1])
        self._resources.callback(self._device.release_host, staged)
        for start, array in zip(starts, arrays, strict=False):
            staged[start : start + array.nbytes] = array.view(np.uint8)
        address = self.take(starts[-1])
        self._device.upload(address, staged, self._stream)
        return [address + start for start in starts[:-1]]


def copy_image(device: Device, source: DeviceImage, target: DeviceImage, stream: Stream) -> None:
    """Queue a copy of an image into another of the same size and dtype, which does not overlap with it."""
    size = source.dtype.itemsize
    device.copy_rows(
        target.address,
        target.pitch * size,
        source.address,
        source.pitch * size,
        row_bytes=source.columns * source.channels * size,
        rows=source.rows,
        stream=stream,
    )


def _choose_tile(operator: TileOperator, job: DeviceJob) -> TilePlan:
    """Return the whole image as a tile, if there is scratch memory for that, or else smaller tiles."""
    whole = plan_tile(operator, job, job.height, job.width, depth=1)
    if whole.most_samples <= MOST_SAMPLES and whole.scratch_bytes <= available_memory(operator.device.free_memory()):
        return whole
    return plan_operator_tiles(operator, job)[0]


def _padded_tiles(
    operator: TileOperator, image: DeviceImage, job: DeviceJob, tile: TilePlan, memory: _Memory
) -> Iterator[tuple[Window, PaddedSource]]:
    """Yield the tiles of an image, each with the pixels that it depends on.

    Operators take an image for the pixels of one tile. So where there are several, each is copied out of the whole.
    """
    row_ranges, column_ranges = _ranges(job.height, tile.rows), _ranges(job.width, tile.columns)
    row_lines = [Line.of(operator.row_span(*rows), job.height, job.mode) for rows in row_ranges]
    column_lines = [Line.of(operator.column_span(*columns), job.width, job.mode) for columns in column_ranges]
    addresses = memory.upload([line.places for line in (*row_lines, *column_lines)])
    is_whole = len(row_lines) == len(column_lines) == 1
    copied = 0 if is_whole else memory.take(tile.source.size)
    for row_index, column_index in itertools.product(range(len(row_lines)), range(len(column_lines))):
        rows, columns = row_lines[row_index], column_lines[column_index]
        part = image if is_whole else memory.copy_crossing(image, rows.sources, columns.sources, copied)
        padded = PaddedSource(
            part,
            addresses[row_index],
            addresses[len(row_lines) + column_index],
            rows.places.size,
            columns.places.size,
        )
        yield Window(*row_ranges[row_index], *column_ranges[column_index]), padded


def _ranges(length: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, length)) for start in range(0, length, size)]
