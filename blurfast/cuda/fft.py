"""The FFT method on a GPU: overlap-save through cuFFT.

Channels are transformed apart, as a batch. A tile may be larger than a transform: then it takes several, one after
the other, in the same scratch memory.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from blurfast.cuda import programs
from blurfast.cuda.device import ALIGNMENT, Address, Device, Stream
from blurfast.cuda.direct import DirectOperator, direct_kernel
from blurfast.cuda.panels import KernelSpans, Panel, Panels, cut
from blurfast.cuda.resident import ResidentOperator, keep
from blurfast.cuda.tiles import DeviceImage, PaddedSource
from blurfast.errors import UnsupportedError
from blurfast.rounding import exact_gain
from blurfast.transforms import Transform, kernel_spectrum
from blurfast.weights import Kernel2D

# Kernels count elements in 32 bits.
_MOST_ELEMENTS = 2**32 - 1


def work_bytes(shape: tuple[int, int], batch: int, sums: np.dtype[Any]) -> int:
    """Return about the work area of cuFFT's plans, in bytes, where there is no driver to ask.

    A model, since there is no published formula: one batch of spectra, which is what passes from the rows' transforms
    to the columns'. With a driver, `FftOperator` has the size that the library asks for.

    Parameters
    ----------
    shape
        Rows and columns of the real tiles.
    batch
        How many tiles are transformed together.
    sums
        float32 or float64: the real elements.

    Examples
    --------
    >>> work_bytes((1024, 1024), 3, np.dtype("float32")) / 2**20
    12.0234375
    """
    rows, columns = shape
    return batch * rows * (columns // 2 + 1) * 2 * sums.itemsize


class _Scratch(NamedTuple):
    """Where parts of the scratch memory begin, in bytes, and where it ends."""

    work: int
    references: int
    extreme_count: int
    size: int


@dataclass(frozen=True)
class FftNeeds(KernelSpans):
    """What an `FftOperator` needs for a tile: the same for all, since larger ones take several transforms.

    Parameters
    ----------
    kernel
        The weights.
    transform
        Of one channel.
    channels
        How many are transformed together.
    sums
        float32 or float64.
    work
        The size of cuFFT's work area in bytes; without it, it is estimated.
    """

    transform: Transform
    channels: int
    sums: np.dtype[Any]
    work: int | None = None

    @property
    def pitch(self) -> int:
        """Elements from the start of one row of a panel to that of the next: whole spectra."""
        return 2 * (self.transform.columns // 2 + 1)

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of the results of one transform."""
        transform = self.transform
        return transform.rows - transform.kernel_rows + 1, transform.columns - transform.kernel_columns + 1

    @property
    def scratch(self) -> _Scratch:
        """The layout of the scratch memory; the panel comes first."""
        elements = self.channels * self.transform.rows * self.pitch
        shape = self.transform.rows, self.transform.columns
        work_size = work_bytes(shape, self.channels, self.sums) if self.work is None else self.work
        work = _aligned(elements * self.sums.itemsize)
        references = work + _aligned(work_size)
        extreme_count = references + _aligned(self.channels * self.sums.itemsize)
        return _Scratch(work, references, extreme_count, extreme_count + ALIGNMENT)

    def scratch_bytes(self, rows: int, columns: int) -> int:
        """See `tiles.TileOperator.scratch_bytes`."""
        return self.scratch.size

    def check(self) -> None:
        """Raise an error unless a transform can be carried out."""
        transform = self.transform
        if transform.channels != 1 or min(self.tile) < 1:
            raise ValueError(f"{transform} is not for one channel, or smaller than its kernel")
        elements = self.channels * transform.rows * self.pitch
        if elements > _MOST_ELEMENTS:
            raise UnsupportedError(
                f"a transform would have {elements} elements, more than kernels can count",
                remedy="use a smaller kernel, or the cpu backend",
            )


class FftOperator(ResidentOperator[FftNeeds]):
    """Correlate with a 2-D kernel.

    NaN, infinite and huge pixels would spoil a whole tile, or let its sums overflow. Where `panel_kernels.pack` meets
    one, the results of that transform are computed once more by all taps, as `direct` does it, so that it reaches
    exactly as far as the weights that are not zero. The device decides that by itself; nobody waits for it.

    Parameters
    ----------
    device
        Where.
    kernel
        The weights.
    transform
        The size of a transform of one channel; at least that of the kernel.
    pixel_dtype, target_dtype
        Of the pixels that are read and of those that are written.
    sums
        float32 or float64: the precision of the arithmetic, and of the transform.
    channels
        Interleaved channels, each filtered by itself.
    cval
        The value of positions outside the image.

    Raises
    ------
    UnsupportedError
        If a transform has more elements than kernels can count.
    ValueError
        If the transform is not for one channel, or smaller than the kernel.
    """

    def __init__(
        self,
        device: Device,
        kernel: Kernel2D,
        transform: Transform,
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        channels: int,
        cval: float = 0.0,
    ) -> None:
        weights = kernel.weights
        needs = FftNeeds(kernel, transform, channels, sums)
        needs.check()
        dtypes = {"pixel_dtype": pixel_dtype, "target_dtype": target_dtype}
        self._device = device
        self._panels = Panels(device, **dtypes, sums=sums, cval=cval)
        self._gain = exact_gain(weights)
        # No sum of a transform overflows below.
        self._most = float(np.finfo(sums).max) / (4 * transform.points * max(1.0, float(np.abs(weights).sum())))
        self._direct: DirectOperator | None = None
        self._bound: tuple[Address, Stream] | None = None
        is_direct = pixel_dtype.kind == "f" or not abs(cval) < self._most
        # In float64, since kernels worth a transform have many taps, whose rounding errors would add up.
        precise = np.dtype(np.float64)
        direct = [direct_kernel(pixel_dtype, target_dtype, precise)] if is_direct else []
        with device.activate(), ExitStack() as resources:
            programs.obtain([*self._panels.kernels, *direct], device.properties.capability)
            self._spectrum = keep(device, kernel_spectrum(weights, transform), resources)
            self._forward, forward_work = self._plan(needs, resources, inverse=False)
            self._backward, backward_work = self._plan(needs, resources, inverse=True)
            if is_direct:
                self._direct = DirectOperator(device, kernel, **dtypes, sums=precise, channels=channels, cval=cval)
                resources.callback(self._direct.close)
            self._resources = resources.pop_all()
        self._needs = replace(needs, work=max(forward_work, backward_work))

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of the results of one transform: tiles that are multiples of it waste none."""
        return self._needs.tile

    def enqueue(
        self,
        source: PaddedSource,
        target: DeviceImage,
        position: tuple[int, int],
        scratch: Address,
        stream: Stream,
    ) -> None:
        """See `tiles.TileOperator`."""
        self._bind(scratch + self._needs.scratch.work, stream)
        for part, result in cut(source, target, self._needs.kernel, self._needs.tile):
            self._filter(part, result, scratch, stream)
            if self._direct is not None:
                condition = scratch + self._needs.scratch.extreme_count
                self._direct.enqueue(part, result, position, scratch, stream, condition)

    def _plan(self, needs: FftNeeds, resources: ExitStack, *, inverse: bool) -> tuple[int, int]:
        """Make a plan; return it and the size of its work area."""
        fft = self._device.fft
        plan = fft.create()
        resources.callback(fft.destroy, plan)
        fft.disable_auto_allocation(plan)
        shape = needs.transform.rows, needs.transform.columns
        return plan, fft.make_plan(plan, shape, needs.sums, inverse=inverse, batch=needs.channels)

    def _bind(self, work: Address, stream: Stream) -> None:
        """Let both plans use one work area, since they never run at the same time, and one stream."""
        if self._bound != (work, stream):
            for plan in (self._forward, self._backward):
                self._device.fft.set_work_area(plan, work)
                self._device.fft.set_stream(plan, stream)
            self._bound = work, stream

    def _filter(self, source: PaddedSource, target: DeviceImage, scratch: Address, stream: Stream) -> None:
        """Queue the transforms of a part."""
        needs, layout, fft = self._needs, self._needs.scratch, self._device.fft
        panel = Panel(scratch, needs.channels, needs.transform.rows, needs.pitch)
        references, extreme_count = scratch + layout.references, scratch + layout.extreme_count
        self._device.clear(extreme_count, ALIGNMENT, stream)
        self._panels.find_references(source, references, stream)
        self._panels.pack(source, panel, references, self._most, extreme_count, stream)
        fft.execute(self._forward, panel.address, panel.address)
        self._panels.multiply(panel, self._spectrum, stream)
        fft.execute(self._backward, panel.address, panel.address)
        self._panels.finish(panel, references, self._gain, target, stream)


def _aligned(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT
