"""What operators launch: filters of every kind, made for any type of pixels, on a device that only takes notes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pytest

from blurfast.cuda import programs
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import Launch, Stream
from blurfast.cuda.tiles import DeviceImage, PaddedSource, TileOperator
from blurfast.filters import Convolution, Filter, Gaussian
from blurfast.io.base import Grain, ImageSpec
from blurfast.methods import IdentityMethod, Job, Method, candidates, make_operator
from tests.queue_device import QueueDevice

_SIDE = 600  # of the image, and of its only tile
_HUGE_WEIGHTS = 1e31  # sums of these do not fit into float32


class Shape(NamedTuple):
    """What a launch takes of a multiprocessor for each block."""

    kernel: Kernel
    threads: int
    shared_bytes: int


class _Transforms:
    """Plans of transforms that nobody carries out."""

    def create(self):
        return 1

    def make_plan(self, *_arguments, **_options):
        return 256

    def __getattr__(self, name):
        return lambda *_arguments: None


class _Recorder(QueueDevice):
    """A device whose kernels do nothing but be named."""

    def __init__(self) -> None:
        super().__init__(0)
        self.obtained: set[Kernel] = set()
        self.shapes: set[Shape] = set()

    def obtain(self, kernels: Iterable[Kernel], capability: tuple[int, int]) -> None:
        """Take the place of `programs.obtain`: nothing is compiled."""
        assert capability == self.properties.capability
        self.obtained.update(kernels)

    @property
    def fft(self):
        return _Transforms()

    def launch(self, launch: Launch, stream: Stream) -> None:
        self.shapes.add(Shape(launch.kernel, int(np.prod(launch.block)), launch.shared_bytes))

    def clear(self, address: int, count: int, stream: Stream) -> None:
        pass


@functools.cache
def launches(pixel: str, target: str) -> frozenset[Shape]:
    """Return what all filters launch for images of one type that are filtered into another."""
    device = _Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "obtain", device.obtain)
        for method in _methods(pixel, target):
            _run(make_operator(method, device), method.job)
    assert {shape.kernel for shape in device.shapes} == device.obtained, "compiled too late, or in vain"
    return frozenset(device.shapes)


def _methods(pixel: str, target: str) -> Iterator[Method]:
    for filter, (channels, alpha) in itertools.product(_filters(), [(1, None), (2, 1), (3, None)]):
        image = ImageSpec(_SIDE, _SIDE, channels, np.dtype(pixel), Grain(1, _SIDE), alpha=alpha)
        found = candidates(Job(filter, image, np.dtype(target), "reflect", 0.0)).values()
        # Copies are not for devices.
        yield from (method for method in found if not isinstance(method, str | IdentityMethod))


@functools.cache
def _filters() -> list[Filter]:
    """Return filters of every kind, for sums in float32 where pixels allow it and in float64 in any case."""
    gaussians = [Gaussian(sigma, tolerance=1e-6) for sigma in (20, (0, 20), (20, 0), 1000, (0, 1000), (1000, 0))]
    lines = [np.hanning(2 * radius + 3)[1:-1] / (radius + 1) for radius in (3, 8, 11, 16, 30)]
    kernels = [np.outer(line, line) for line in lines]
    kernels += [lines[1][:, np.newaxis], *(np.full((1, count), 1 / count) for count in (1, 9, 701, 2001, 4001))]
    kernels += [np.outer(line, line) - np.outer(np.gradient(line), line**2) for line in (lines[0], lines[4])]
    kernels += [np.random.default_rng(0).uniform(-1, 1, shape) for shape in ((5, 4), (16, 32))]
    return gaussians + [Convolution(scale * kernel) for scale in (1, _HUGE_WEIGHTS) for kernel in kernels]


def _run(operator: TileOperator, job: Job) -> None:
    """Queue one tile, with all the padding that it needs."""
    rows, columns = (stop - start for start, stop in (operator.row_span(0, _SIDE), operator.column_span(0, _SIDE)))
    channels = job.image.channels
    source = DeviceImage(0, columns * channels, rows, columns, channels, job.image.dtype)
    target = DeviceImage(0, _SIDE * channels, _SIDE, _SIDE, channels, job.target_dtype)
    with operator.device.activate():
        operator.enqueue(PaddedSource(source, 0, 0, rows, columns), target, (0, 0), 0, Stream(1))
    operator.close()
