"""The methods on a GPU: the same sums as on the CPU, but other costs, and memory of two kinds.

What a method needs is asked of its twin on the CPU, and only what a device changes is answered here. No device is
opened before `window_filter` is called.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from blurfast.costs import Costs
from blurfast.cpu.catalogue import Kernel
from blurfast.cuda.device import Device, DeviceProperties
from blurfast.cuda.memory import UNIT, DeviceJob, TileNeeds, TilePlan, pipeline_seconds, plan_tiles
from blurfast.cuda.tiles import TileOperator
from blurfast.errors import MemoryBudgetError, UnsupportedError
from blurfast.methods.base import Job, Method, Sums
from blurfast.methods.device_traffic import bytes_per_sample, weighted_bytes_per_sample
from blurfast.methods.direct import DirectMethod
from blurfast.methods.fft import FftMethod
from blurfast.methods.identity import IdentityMethod
from blurfast.methods.multirate import MultirateMethod
from blurfast.methods.separable import SeparableMethod
from blurfast.resources import MEGABYTE
from blurfast.transforms import Transform, choose_transform
from blurfast.window_filter import WindowFilter

# What a driver's context takes of the process's memory, by what is commonly seen. Assumed.
_CONTEXT_BYTES = 192 * MEGABYTE
_MOST_TRANSFORM_BYTES = 512 * MEGABYTE
# Windows of fewer bytes would keep the device waiting between them.
_LEAST_WINDOW_BYTES = 64 * MEGABYTE
# What starting a device takes a process. Assumed.
_START_SECONDS = 0.3
# Single-precision operations that a multiprocessor issues in a second, and how many times as long double ones take on
# the devices that are commonly met. Assumed.
_OPERATIONS_PER_SECOND = 128 * 1.5e9
_SLOWNESS_OF_FLOAT64 = 32


class Gpu(NamedTuple):
    """A device, and how much of its memory may be used.

    Parameters
    ----------
    properties
        Of the device.
    limit
        The most bytes of its memory that the user allows; None for all that is free.
    """

    properties: DeviceProperties
    limit: int | None = None


@dataclass(frozen=True)
class OnDevice:
    """A method, carried out by a GPU."""

    method: Method
    gpu: Gpu

    @property
    def name(self) -> str:
        """See `Method`."""
        return self.method.name

    @property
    def job(self) -> Job:
        """See `Method`."""
        return self.method.job

    @property
    def sums(self) -> Sums:
        """See `Method`."""
        return self.method.sums

    @property
    def halo(self) -> tuple[int, int]:
        """See `Method`."""
        return self.method.halo

    @property
    def error(self) -> float:
        """See `Method`."""
        return self.method.error

    @property
    def nature(self) -> str:
        """See `Method`."""
        plan = self.plan((self.job.image.height, self.job.image.width))
        return f"{self.method.nature}, on {self.gpu.properties.name} in {plan.explain()}"

    def seconds(self, costs: Costs) -> float:
        """See `Method`; transfers both ways are included, and so is the start of the device."""
        image, properties = self.job.image, self.gpu.properties
        job = _device_job(self.job, (image.height, image.width))
        moved = bytes_per_sample if image.alpha is None else weighted_bytes_per_sample
        sizes = (dtype.itemsize for dtype in (*self.job.dtypes, self.sums.dtype))
        kernel_bytes = round(self.job.sample_count * moved(device_needs(self.method), *sizes))
        computing = self.job.sample_count * self._operations / (_OPERATIONS_PER_SECOND * properties.multiprocessors)
        bandwidth = properties.bandwidth or 100e9
        passing = pipeline_seconds(job, self.plan(job.window), kernel_bytes, bandwidth)
        return _START_SECONDS + passing + computing

    @property
    def _operations(self) -> int:
        """Operations for each sample: a difference and a product to add, for each tap."""
        slowness = 1 if self.sums.slowness == 1 else _SLOWNESS_OF_FLOAT64
        match self.method:
            case SeparableMethod(terms=terms):
                taps = sum(resampler.tap_count for term in terms for resampler in term)
            case DirectMethod(kernel=kernel):
                taps = math.prod(kernel.shape)
            case FftMethod(transform=transform):
                taps = int(5 * math.log2(transform.points))
            case _:
                taps = 30
        return 2 * taps * slowness

    def plan(self, window: tuple[int, int]) -> TilePlan:
        """Return about how windows will be cut into tiles; the device decides when its free memory is known."""
        return _plan(self.method, self.gpu, window)

    def tile(self, rows: int, columns: int, threads: int) -> tuple[int, int]:
        """See `Method`."""
        plan = self.plan((rows, columns))
        return plan.rows, plan.columns

    def least_rows(self, threads: int) -> int:
        """See `Method`: a device waits at the end of each window."""
        return min(self.job.image.height, -(-_LEAST_WINDOW_BYTES // max(1, self.job.image.row_bytes)))

    def memory(self, rows: int, columns: int, threads: int) -> int:
        """See `Method`; this is memory of the host."""
        return _CONTEXT_BYTES + self.plan((rows, columns)).host_memory

    def kernels(self) -> list[Kernel]:
        """See `Method`: none of the CPU's."""
        return []

    def window_filter(self, tile: tuple[int, int] | None, threads: int, window: tuple[int, int]) -> WindowFilter:
        """See `Method`: this opens the device."""
        from blurfast.cuda.pipeline import DeviceTiles
        from blurfast.cuda.probe import open_device

        device = open_device(self.gpu.properties.index)
        job = _device_job(self.job, window)
        operator = make_operator(self.method, device)
        try:
            with device.activate():
                plans = plan_operator_tiles(operator, job, self.gpu.limit)
        except BaseException:
            operator.close()
            raise
        return DeviceTiles(operator, job, plans)


class LackOfMemory(str):
    """Why a method cannot serve, where it is that a device, or its limit, has too little memory.

    Attributes
    ----------
    error
        To be raised where no other method will do.
    """

    error: MemoryBudgetError

    @classmethod
    def of(cls, error: MemoryBudgetError) -> LackOfMemory:
        """Return the reason that an error gives."""
        reason = cls(error)
        reason.error = error
        return reason


def on_device(method: Method | str, gpu: Gpu) -> Method | str:
    """Return a method as `gpu` carries it out, or why it cannot: a `LackOfMemory` if it is that."""
    if isinstance(method, str):
        return method
    if isinstance(method, IdentityMethod):
        return "pixels that stay as they are need not go to a device"
    image = method.job.image
    found = OnDevice(method, gpu)
    try:
        found.plan((image.height, image.width))
    except MemoryBudgetError as error:
        return LackOfMemory.of(error)
    except UnsupportedError as error:
        return str(error)
    return found


def make_operator(method: Method, device: Device) -> TileOperator:
    """Return what carries out a method on a device."""
    job, sums = method.job, method.sums.dtype
    settings = {"pixel_dtype": job.image.dtype, "target_dtype": job.target_dtype, "sums": sums}
    channels, alpha = job.image.channels, job.image.alpha
    if alpha is None:
        return _make_plain(method, device, channels=channels, cval=job.cval, **settings)
    from blurfast.cuda.weighted import WeightedOperator

    plain = _make_plain(
        method, device, channels=channels, cval=job.cval, pixel_dtype=sums, target_dtype=sums, sums=sums
    )
    return WeightedOperator(plain, channels=channels, alpha=alpha, **settings)


def _make_plain(method: Method, device: Device, **settings: Any) -> TileOperator:
    """Return what carries out a method on a device, all channels alike."""
    match method:
        case SeparableMethod(terms=((vertical, horizontal),)):
            from blurfast.cuda.separable import SeparableOperator

            return SeparableOperator(device, vertical, horizontal, **settings)
        case SeparableMethod(terms=terms):
            from blurfast.cuda.separable_sum import SeparableSumOperator

            return SeparableSumOperator(device, terms, **settings)
        case MultirateMethod(designs=(vertical_design, horizontal_design)):
            from blurfast.cuda.multirate import MultirateOperator

            return MultirateOperator(device, vertical_design, horizontal_design, **settings)
        case DirectMethod(kernel=kernel):
            from blurfast.cuda.direct import DirectOperator

            return DirectOperator(device, kernel, **settings)
        case FftMethod(kernel=kernel):
            from blurfast.cuda.fft import FftOperator

            return FftOperator(device, kernel, _transform(method), **settings)
    raise AssertionError(f"{method.name} has no operator for a device")


def _transform(method: FftMethod) -> Transform:
    """Return the size of the transforms of one channel; a device has room for larger ones than a cache."""
    image, itemsize = method.job.image, method.sums.dtype.itemsize
    size = max(2, image.height), max(2, image.width)
    chosen = choose_transform(method.kernel.shape, 1, itemsize, size, _MOST_TRANSFORM_BYTES)
    assert chosen is not None, "the CPU's are smaller"
    return chosen


def _device_job(job: Job, window: tuple[int, int]) -> DeviceJob:
    image = job.image
    return DeviceJob(image.height, image.width, image.channels, image.dtype, job.target_dtype, job.mode, window)


def device_needs(method: Method) -> TileNeeds:
    """Return what the operator of a method will need; with opacity some more, which only the operator itself tells."""
    channels, sums = method.job.image.channels, method.sums.dtype
    match method:
        case SeparableMethod(terms=((vertical, horizontal),)):
            from blurfast.cuda.separable import SeparableNeeds

            return SeparableNeeds.of(vertical, horizontal, channels, sums)
        case SeparableMethod(terms=terms):
            from blurfast.cuda.separable_sum import SeparableSumNeeds

            return SeparableSumNeeds(terms, channels, sums)
        case MultirateMethod(designs=designs):
            from blurfast.cuda.multirate import multirate_needs

            return multirate_needs(*designs, channels, sums)
        case DirectMethod(kernel=kernel):
            from blurfast.cuda.direct import DirectNeeds

            return DirectNeeds(kernel)
        case FftMethod(kernel=kernel):
            from blurfast.cuda.fft import FftNeeds

            return FftNeeds(kernel, _transform(method), channels, sums)
    raise AssertionError(f"{method.name} has no operator for a device")


@functools.lru_cache(maxsize=64)
def _plan(method: Method, gpu: Gpu, window: tuple[int, int]) -> TilePlan:
    needs, job = device_needs(method), _device_job(method.job, window)
    return plan_tiles(needs, job, gpu.properties.memory, gpu.limit, unit=_unit(needs))[0]


def plan_operator_tiles(operator: TileOperator, job: DeviceJob, limit: int | None = None) -> tuple[TilePlan, ...]:
    """Plan tiles for an operator, whose device is active, by the memory that is free there; see `plan_tiles`."""
    return plan_tiles(operator, job, operator.device.free_memory(), limit, unit=_unit(operator))


def _unit(needs: TileNeeds) -> tuple[int, int]:
    """Return the size of which larger tiles are multiples: those of transforms, if there are any."""
    from blurfast.cuda.fft import FftNeeds, FftOperator

    return needs.tile if isinstance(needs, FftNeeds | FftOperator) else UNIT
