"""Compare the CPU with a GPU, stage by stage: ``python -m benchmarks.gpu``, ``make bench-gpu``.

A filter is measured twice on the GPU: as users call it, from array to array, and with the whole image as a single tile
in the device's memory, so that events tell the copy there, the kernels and the copy back apart. What the kernels have
to move (see `gpu_traffic`) is compared with what a copy within the device moves in the same time.

``--arithmetic`` prints what bandwidths allow, which takes no device.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import blurfast
from benchmarks.gpu_traffic import BANDWIDTHS, arithmetic, bytes_per_pixel
from blurfast.bench.blurfast_runs import filter_of, plan_case
from blurfast.bench.cases import Case
from blurfast.bench.description import describe_machine
from blurfast.bench.markdown import giga, milliseconds, percent, table
from blurfast.bench.measure import interleaved_medians
from blurfast.boundary import index_map
from blurfast.cuda import probe
from blurfast.cuda.device import Device, DeviceError, HostBytes
from blurfast.cuda.memory import DeviceJob, available_memory, plan_tile, row_pitch
from blurfast.cuda.resident import keep
from blurfast.cuda.tiles import DeviceImage, PaddedSource, TileOperator
from blurfast.methods import Job, Method, OnDevice, make_operator
from blurfast.resources import MEGABYTE, thread_count

SIDES = (1024, 2048, 4096, 8192, 16384)
PIXELS = ("float32", "uint8")
SIGMAS = (1.0, 5.0, 20.0, 50.0)
KERNEL_SIDES = (7, 31, 127)

_MOST_COPIED_BYTES = 256 * MEGABYTE
_COPIED_ROW_BYTES = 65536

Image = NDArray[Any]


@dataclass(frozen=True)
class Stages:
    """Seconds of an image's way through a device: the copy there, the kernels, and the copy back."""

    upload: float
    kernels: float
    download: float


@dataclass(frozen=True)
class Result:
    """What a case comes to.

    Parameters
    ----------
    title
        The case in words.
    cpu_method, method
        What blurfast takes on the CPU and on the GPU.
    cpu, total
        Seconds from array to array on either.
    stages
        None where the device has no room for the whole image at a time.
    moved
        Bytes that the kernels have to move.
    share
        What they move in a second, as a share of what a copy does.
    difference
        The largest between the two results: in levels, or for floats in shares of the range.
    """

    title: str
    cpu_method: str
    method: str
    cpu: float
    total: float
    stages: Stages | None
    moved: float
    share: float | None
    difference: float


def all_cases(sides: Iterable[int], pixels: Sequence[str], threads: int) -> list[Case]:
    """Return every filter for each image, those for one image together."""
    gaussians = [Case("gaussian", 0, "", sigma=sigma, threads=threads) for sigma in SIGMAS]
    convolutions = [Case("convolve", 0, "", kernel_side=side, threads=threads) for side in KERNEL_SIDES]
    return [
        replace(case, side=side, pixels=kind)
        for side, kind in itertools.product(sides, pixels)
        for case in (*gaussians, *convolutions)
    ]


# -------------------------------------------------------------------------------------------------------- measuring


def measure(case: Case, device: Device, ceiling: float, *, repeats: int, budget: float) -> Result:
    """Measure a case on the CPU and on a device, within which a copy moves `ceiling` bytes per second."""
    cuda = f"cuda:{device.properties.index}"
    plans = {backend: plan_case(replace(case, backend=backend)) for backend in ("cpu", cuda)}
    filter, image = filter_of(case), case.image
    runs = {
        backend: functools.partial(
            blurfast.apply, filter, image, backend=backend, out=np.empty_like(image), threads=case.threads
        )
        for backend in plans
    }
    timed = interleaved_medians(runs, repeats, budget)
    operation = plans[cuda].operation
    assert isinstance(operation, OnDevice)
    stages = measure_stages(device, operation.method, image, repeats)
    moved = bytes_per_pixel(operation.method) * image.size
    return Result(
        title=case.title,
        cpu_method=plans["cpu"].method,
        method=operation.name,
        cpu=timed["cpu"].seconds,
        total=timed[cuda].seconds,
        stages=stages,
        moved=moved,
        share=moved / stages.kernels / ceiling if stages else None,
        difference=largest_difference(timed["cpu"].result, timed[cuda].result),
    )


def largest_difference(left: Image, right: Image) -> float:
    """Return by how much two results differ at most: in levels, or for floats in shares of the range.

    Examples
    --------
    >>> largest_difference(np.uint8([[3, 250]]), np.uint8([[4, 250]]))
    1.0
    """
    difference = float(np.abs(left.astype(np.float64) - right).max())
    return difference / float(np.ptp(left)) if left.dtype.kind == "f" and difference else difference


def measure_stages(device: Device, method: Method, image: Image, repeats: int) -> Stages | None:
    """Return the median times of an image of one channel, as a single tile; None where it does not fit."""
    job = method.job
    with device.activate(), ExitStack() as resources:
        operator = make_operator(method, device)
        resources.callback(operator.close)
        whole = DeviceJob(*image.shape, 1, image.dtype, job.target_dtype, job.mode, image.shape)
        if plan_tile(operator, whole, *image.shape, depth=1).memory > available_memory(device.free_memory()):
            return None
        run = WholeImage(operator, job, image, resources)
        run()
        turns = [run() for _ in range(repeats)]
    return Stages(*(statistics.median(stage) for stage in zip(*turns, strict=True)))


class WholeImage:
    """An image of one channel that passes through a device as a single tile.

    Parameters
    ----------
    operator
        Filters it; its device is active.
    job
        What is done.
    image
        The pixels.
    resources
        Gives all memory back when it is closed.
    """

    def __init__(self, operator: TileOperator, job: Job, image: Image, resources: ExitStack) -> None:
        self._operator, self._resources = operator, resources
        self._device = operator.device
        rows, columns = image.shape
        self._staged_source, source = self._memory(image.shape, image.dtype)
        self._staged_target, self._target = self._memory(image.shape, job.target_dtype)
        pixels_of(self._staged_source, source)[...] = image
        maps = [
            index_map(*span, length, job.mode).astype(np.int32)
            for span, length in ((operator.row_span(0, rows), rows), (operator.column_span(0, columns), columns))
        ]
        addresses = [keep(self._device, positions, resources) for positions in maps]
        self._source = PaddedSource(source, *addresses, *(positions.size for positions in maps))
        self._scratch = self._allocate(max(1, operator.scratch_bytes(rows, columns)))
        self._stream = self._device.open_stream()
        resources.callback(self._device.close_stream, self._stream)
        self._events = [self._device.open_event() for _ in range(4)]
        for event in self._events:
            resources.callback(self._device.close_event, event)

    @property
    def result(self) -> Image:
        """The filtered pixels, after a call."""
        return pixels_of(self._staged_target, self._target)

    def __call__(self) -> tuple[float, float, float]:
        """Filter once; return the seconds of the copy there, the kernels, and the copy back."""
        device, stream, (start, uploaded, computed, downloaded) = self._device, self._stream, self._events
        device.record(start, stream)
        device.upload(self._source.image.address, self._staged_source, stream)
        device.record(uploaded, stream)
        self._operator.enqueue(self._source, self._target, (0, 0), self._scratch, stream)
        device.record(computed, stream)
        device.download(self._staged_target, self._target.address, stream)
        device.record(downloaded, stream)
        device.synchronize(downloaded)
        return (
            device.elapsed(start, uploaded),
            device.elapsed(uploaded, computed),
            device.elapsed(computed, downloaded),
        )

    def _memory(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> tuple[HostBytes, DeviceImage]:
        """Return memory for an image, on the host and on the device."""
        rows, columns = shape
        pitch = row_pitch(columns, 1, dtype)
        staged = self._device.allocate_host(rows * pitch * dtype.itemsize)
        self._resources.callback(self._device.release_host, staged)
        return staged, DeviceImage(self._allocate(staged.size), pitch, rows, columns, 1, dtype)

    def _allocate(self, count: int) -> int:
        address = self._device.allocate(count)
        self._resources.callback(self._device.release, address)
        return address


def pixels_of(staged: HostBytes, image: DeviceImage) -> Image:
    """Return the pixels in memory that has the layout of an image of a device."""
    return staged.view(image.dtype).reshape(image.rows, image.pitch)[:, : image.columns]


def copied_bytes(device: Device, repeats: int) -> float:
    """Return the bytes per second that a copy within a device's memory reads and writes."""
    with device.activate(), ExitStack() as resources:
        rows = min(_MOST_COPIED_BYTES, device.free_memory() // 4) // _COPIED_ROW_BYTES
        size = rows * _COPIED_ROW_BYTES
        source, target = device.allocate(size), device.allocate(size)
        stream, start, stop = device.open_stream(), device.open_event(), device.open_event()
        for give_back, handle in (
            (device.release, source),
            (device.release, target),
            (device.close_stream, stream),
            (device.close_event, start),
            (device.close_event, stop),
        ):
            resources.callback(give_back, handle)
        device.clear(source, size, stream)
        seconds = []
        for _ in range(1 + repeats):
            device.record(start, stream)
            device.copy_rows(
                target,
                _COPIED_ROW_BYTES,
                source,
                _COPIED_ROW_BYTES,
                row_bytes=_COPIED_ROW_BYTES,
                rows=rows,
                stream=stream,
            )
            device.record(stop, stream)
            device.synchronize(stop)
            seconds.append(device.elapsed(start, stop))
    return 2 * size / statistics.median(seconds[1:])


# -------------------------------------------------------------------------------------------------------- reporting


def render(device: str, ceiling: float, results: Iterable[Result]) -> str:
    """Return a report as Markdown."""
    header = ["case", "CPU takes", "GPU takes", "CPU", "GPU", "CPU / GPU", "copy there", "kernels", "copy back"]
    introduction = (
        f"{device}, within which a copy moves {giga(ceiling)} GB/s. Medians in milliseconds. `GPU` is from array to "
        "array, in tiles whose copies and kernels overlap; the columns after the ratio are of the whole image as one "
        "tile. The traffic is the least that the kernels can have, over their time.\n"
    )
    return f"{introduction}\n" + table([*header, "GB/s", "of a copy", "difference"], map(_row, results))


def _row(result: Result) -> list[str]:
    stages, times = result.stages, ["-"] * 5
    if stages is not None and result.share is not None:
        times = [milliseconds(seconds) for seconds in (stages.upload, stages.kernels, stages.download)]
        times += [giga(result.moved / stages.kernels), percent(result.share)]
    return [
        result.title,
        result.cpu_method,
        result.method,
        milliseconds(result.cpu),
        milliseconds(result.total),
        f"**{result.cpu / result.total:.1f}**",
        *times,
        f"{result.difference:.1g}",
    ]


def main(words: Sequence[str] | None = None) -> int:
    """Run the cases, print the table, and write the figures to a file; return the exit status."""
    arguments = _arguments(words)
    if arguments.arithmetic:
        print(arithmetic([1e9 * rate for rate in arguments.bandwidth]), end="")
        return 0
    try:
        device = probe.open_device(arguments.device)
    except DeviceError as error:
        print(f"there is no GPU to measure: {error}", file=sys.stderr)
        return DeviceError.exit_status
    ceiling = copied_bytes(device, arguments.repeats)
    results = []
    for case in all_cases(arguments.side, arguments.pixels, arguments.threads):
        print(case.title, file=sys.stderr)
        results.append(measure(case, device, ceiling, repeats=arguments.repeats, budget=arguments.budget))
    print(render(device.properties.name, ceiling, results), end="")
    report = {
        "machine": describe_machine(arguments.threads),
        "device": asdict(device.properties),
        "copied bytes per second": ceiling,
        "results": [asdict(result) for result in results],
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {arguments.json}", file=sys.stderr)
    return 0


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--side", type=int, nargs="+", default=SIDES, help="rows and columns of the images")
    parser.add_argument("--pixels", choices=PIXELS, nargs="+", default=PIXELS)
    parser.add_argument("--device", type=int, help="the number of the GPU, if not the first")
    parser.add_argument("--threads", type=int, default=thread_count(None))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--budget", type=float, default=4.0, help="seconds for one backend and case")
    parser.add_argument("--json", type=Path, default=Path("build/bench-gpu.json"))
    parser.add_argument("--arithmetic", action="store_true", help="print what bandwidths allow, and measure nothing")
    parser.add_argument(
        "--bandwidth", type=float, nargs="+", default=[rate / 1e9 for rate in BANDWIDTHS], help="in GB/s, for that"
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
