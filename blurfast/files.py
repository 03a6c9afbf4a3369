"""The filters as functions of files, which stream through bounded memory."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Unpack, cast, get_args

from blurfast.boundary import Mode
from blurfast.conversion import Conversion, conversion_of, lost_signs
from blurfast.dtypes import SUPPORTED
from blurfast.engine import Progress, filter_stream
from blurfast.errors import UnsupportedError
from blurfast.filters import Filter
from blurfast.io.base import FileSink, FileSource, ImageSpec
from blurfast.io.changes import refusing_changes
from blurfast.io.edits import EditKeywords, Edits
from blurfast.io.output_options import OutputKeywords
from blurfast.io.page_selection import Pages
from blurfast.io.registry import open_sink, open_source
from blurfast.planning import Plan, plan_stream
from blurfast.resources import MEGABYTE, Resources, peak_memory, resident_memory
from blurfast.transforms import PlanningEffort

Alpha = Literal["weighted", "independent"]
ALPHA_RULES: tuple[Alpha, ...] = get_args(Alpha)

# What importing llvmlite and loading a kernel add to a process, and what one with kernels keeps resident at least.
_KERNEL_LOADER_BYTES = 54 * MEGABYTE
_LEAST_LOADED_BYTES = 94 * MEGABYTE
_LOADED_BY_RUNS = ("blurfast.cpu.objects", "blurfast.io.pillow", "blurfast.io.png", "blurfast.io.tiff_sink")

_Path = str | os.PathLike[str]


class FileKeywords(EditKeywords, OutputKeywords):
    """The keywords that choose what an output shows, and how it is stored."""


class MemoryShare(NamedTuple):
    """What one of several runs may use that go on in this process at the same time; made by `share_memory`.

    Parameters
    ----------
    limit
        Bytes that the process may keep resident, if no other run used any.
    process
        Bytes of them that the process needs whatever is run.
    """

    limit: int
    process: int


@dataclass(frozen=True)
class FileReport:
    """What `filter_file` did."""

    source: str
    target: str
    pixels: int
    seconds: float
    peak_memory: int
    plans: tuple[Plan, ...]
    notices: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        return {
            "source": self.source,
            "target": self.target,
            "images": len(self.plans),
            "pixels": self.pixels,
            "seconds": round(self.seconds, 4),
            "megapixels_per_second": round(self.pixels / 1e6 / max(self.seconds, 1e-9), 1),
            "peak_memory": self.peak_memory,
            "notices": list(self.notices),
        }


def filter_file(
    source: _Path,
    target: _Path,
    filter: Filter,
    *,
    mode: Mode = "reflect",
    cval: float = 0.0,
    alpha: Alpha = "weighted",
    method: str = "auto",
    backend: str = "auto",
    fft_planning: PlanningEffort = "measure",
    threads: int | None = None,
    max_memory: int | str | MemoryShare | None = None,
    device_memory: int | str | None = None,
    page: Pages | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **output: Unpack[FileKeywords],
) -> FileReport:
    """Filter an image file of any size into another.

    Parameters
    ----------
    source
        A TIFF or PNG file, which is streamed, or another that Pillow reads, which must fit into the memory.
    target
        The output. Its suffix names the format. It appears when it is complete; it may be `source` itself if
        `overwrite` is set.
    filter
        What to do, such as ``Gaussian(5)``.
    mode, cval
        What lies beyond the edges; see `blurfast.gaussian`.
    alpha
        ``weighted``: colours count by their opacity, so that transparent pixels don't bleed into their neighbours.
        ``independent``: all channels are filtered alike.
    method, backend, fft_planning
        See `blurfast.gaussian`.
    threads
        Threads that compute and run codecs; by default one for each processor.
    max_memory
        Limit of the whole process's resident memory: bytes, or text such as ``"512MB"``. By default a quarter of what
        is available, at least 256 MB. Where several runs go on at the same time, a `MemoryShare`.
    device_memory
        The most of a GPU's memory to use, likewise; by default what is free there.
    page
        The pages of a TIFF file to be filtered, counted from 0: a number, several, or text such as ``"0,3-7"``. By
        default all but smaller versions and masks of others.
    overwrite
        Whether an existing output may be replaced.
    progress
        Called with the pixels done and the pixels in all; an exception that it raises cancels the run.
    region
        The part of each image to be filtered: column, row, width and height in pixels, as numbers or as text such as
        ``"10,0,300,200"``. The output shows that part of the whole filtered image, and little more is read.
    dtype
        Of the output's samples: uint8, int8, uint16, int16, uint32, int32, float16, float32 or float64; by default the
        input's. Results are rounded to it and to no other type before.
    scale
        How the values of the result become those of `dtype`. ``"none"`` (the default): they stay. ``"full"``: 0 stays
        0, and the largest value of the input's type becomes the largest of the output's, where that of floats is 1.
        Two numbers, or text such as ``"0,4095"``: they become the smallest and the largest value of the output's type,
        0 and 1 for floats, and all others are mapped linearly. An opacity that is not multiplied into the colours is
        then mapped as with ``"full"``. Integers are rounded half to even. What lies outside their range is clipped, and
        NaN becomes 0; `FileReport.notices` counts both. It only tells, and does not count, where negative results of
        derivatives and the like are lost in an unsigned `dtype` that is the input's own.
    compression
        Of a TIFF output, such as ``"none"``, ``"deflate"`` or ``"zstd:10"``; by default the input's.
    predictor
        Of a TIFF output: ``"none"``, ``"horizontal"`` or ``"float"``; by default the input's.
    tile
        Rows and columns of a TIFF output's tiles, such as ``"256x256"`` or ``(256, 256)``, or ``"strips"``; by default
        the input's.
    bigtiff
        Whether a TIFF output is a BigTIFF: ``"yes"``, ``"no"``, or ``"auto"`` (the default) where the input is one or
        the output may need it.
    pyramid
        Whether smaller versions of each image are added to a TIFF output; by default those that the input has.
    cog
        Whether a TIFF output is a cloud-optimised GeoTIFF; by default as the input.
    png_level
        How hard a PNG output is compressed, from 0, not at all, to 9; by default 2.

    Returns
    -------
    FileReport
        Time, peak memory, and how it was done.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or outside its range.
    BlurfastError
        If the input cannot be read, the output cannot be written, or the memory does not suffice. The output is then
        as it was before.

    Examples
    --------
    >>> import numpy, pathlib, tempfile, tifffile
    >>> from blurfast import Gaussian
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> tifffile.imwrite(folder / "in.tif", numpy.eye(300, dtype="float32"))
    >>> report = filter_file(folder / "in.tif", folder / "out.tif", Gaussian(5), max_memory="4GB")
    >>> report.pixels, tifffile.imread(folder / "out.tif").shape
    (90000, (300, 300))
    """
    edits, storage = _sorted_out(output)
    started = time.perf_counter()
    resources, process_memory = _limits(threads, max_memory, device_memory)
    with contextlib.ExitStack() as cleanup:
        refuse_change = cleanup.enter_context(refusing_changes(source))
        opened = open_source(source, page=page)
        cleanup.callback(opened.close)
        images = _images(opened, source, alpha, edits)
        sink = open_sink(
            target, [image.output for image in images], opened, edits=edits, overwrite=overwrite, **storage
        )
        cleanup.callback(sink.abort)
        options: dict[str, Any] = {"mode": mode, "cval": cval, "method": method, "backend": backend}
        options |= {"fft_planning": fft_planning, "region": edits.region}
        plans = _plan_images(filter, images, sink.images, resources, process_memory, source, options)
        _load_kernels(plans, opened, sink)
        losses = filter_stream(plans, opened, sink, progress, before_commit=refuse_change)
        losses += lost_signs(filter, [plan.target_dtype for plan in plans if plan.conversion is None])
        notices = (*opened.notices, *sink.notices, *losses)
    pixels = sum(plan.area.rows * plan.area.columns for plan in plans)
    elapsed = time.perf_counter() - started
    return FileReport(os.fspath(source), os.fspath(target), pixels, elapsed, peak_memory(), tuple(plans), notices)


def _sorted_out(output: FileKeywords) -> tuple[Edits, OutputKeywords]:
    """Return what an output shows, and how it is stored, after a check that all keywords exist."""
    storage: dict[str, Any] = dict(output)
    edits = {name: storage.pop(name) for name in EditKeywords.__annotations__ if name in storage}
    for name in storage:
        if name not in OutputKeywords.__annotations__:
            raise TypeError(f"filter_file() got an unexpected keyword argument {name!r}")
    return Edits.parse(**edits), cast(OutputKeywords, storage)


def _load_kernels(plans: Sequence[Plan], source: FileSource, sink: FileSink) -> None:
    from blurfast.cpu import objects  # imports llvmlite, which planning does not need

    needed = [kernel for plan in plans for kernel in plan.kernels()]
    objects.load(dict.fromkeys([*needed, *source.kernels, *sink.kernels]))


def plan_file(
    source: _Path,
    filter: Filter,
    *,
    mode: Mode = "reflect",
    cval: float = 0.0,
    alpha: Alpha = "weighted",
    method: str = "auto",
    backend: str = "auto",
    fft_planning: PlanningEffort = "measure",
    threads: int | None = None,
    max_memory: int | str | MemoryShare | None = None,
    device_memory: int | str | None = None,
    page: Pages | None = None,
    **edits: Unpack[EditKeywords],
) -> list[Plan]:
    """Return how `filter_file` would filter each image of a file into a copy of its own layout.

    The parameters are those of `filter_file`.

    Examples
    --------
    >>> import numpy, pathlib, tempfile, tifffile
    >>> from blurfast import Gaussian
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "in.tif"
    >>> tifffile.imwrite(path, numpy.zeros((300, 400), dtype="uint8"))
    >>> plan_file(path, Gaussian(2))[0].halo
    (9, 9)
    """
    parsed = Edits.parse(**edits)
    resources, process_memory = _limits(threads, max_memory, device_memory)
    with refusing_changes(source) as refuse_change, contextlib.closing(open_source(source, page=page)) as opened:
        images = _images(opened, source, alpha, parsed)
        options: dict[str, Any] = {"mode": mode, "cval": cval, "method": method, "backend": backend}
        options |= {"fft_planning": fft_planning, "region": parsed.region}
        outputs = [image.output for image in images]
        plans = _plan_images(filter, images, outputs, resources, process_memory, source, options)
        refuse_change()
    return plans


def share_memory(limit: int, count: int) -> MemoryShare:
    """Return what each of `count` runs at the same time may use, so that together they keep within `limit` bytes.

    All that any run loads is loaded now, since it counts once, whereas the pixels of each run count for themselves.

    Examples
    --------
    >>> share = share_memory(4_000_000_000, 2)
    >>> share.limit == share.process + (4_000_000_000 - share.process) // 2
    True
    """
    for module in _LOADED_BY_RUNS:
        importlib.import_module(module)
    process = resident_memory()
    return MemoryShare(process + max(0, limit - process) // count, process)


def describe_file(path: _Path) -> list[dict[str, Any]]:
    """Return how each page of a file is stored, as plain data.

    Examples
    --------
    >>> import numpy, pathlib, tempfile, tifffile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "in.tif"
    >>> tifffile.imwrite(path, numpy.zeros((300, 400), dtype="uint8"))
    >>> describe_file(path)[0]["shape"]
    [300, 400, 1]
    """
    with refusing_changes(path) as refuse_change, contextlib.closing(open_source(path)) as opened:
        description = opened.layout_description
        refuse_change()
    return description


def _limits(
    threads: int | None, max_memory: int | str | MemoryShare | None, device_memory: int | str | None
) -> tuple[Resources, int | None]:
    """Return what a run may use, and what the process needs beside, if that is known already."""
    if isinstance(max_memory, MemoryShare):
        return Resources.choose(threads, max_memory.limit, device_memory), max_memory.process
    return Resources.choose(threads, max_memory, device_memory), None


class _Image(NamedTuple):
    """An image of a file as it is filtered, as it is written, and what lies between the two."""

    input: ImageSpec
    output: ImageSpec
    conversion: Conversion | None


def _images(source: FileSource, path: _Path, alpha: str, edits: Edits) -> list[_Image]:
    """Return the images of a file, after a check that they can be filtered, and contain the region."""
    if alpha not in ALPHA_RULES:
        raise ValueError(f"alpha is {alpha!r}; it must be one of {', '.join(ALPHA_RULES)}")
    images = []
    for image in source.images:
        if image.dtype.name not in SUPPORTED:
            raise UnsupportedError(
                f"pixels of type {image.dtype.name} cannot be filtered", path=path, remedy="convert it to float64"
            )
        filtered = dataclasses.replace(image, alpha=None) if alpha == "independent" else image
        images.append(_Image(filtered, edits.applied(filtered, path), conversion_of(image, edits)))
    return images


def _plan_images(
    filter: Filter,
    images: Sequence[_Image],
    targets: Sequence[ImageSpec],
    resources: Resources,
    process_memory: int | None,
    path: _Path,
    options: dict[str, Any],
) -> list[Plan]:
    if process_memory is None:
        to_load = 0 if "llvmlite" in sys.modules else _KERNEL_LOADER_BYTES
        process_memory = max(resident_memory() + to_load, _LEAST_LOADED_BYTES)
    options = {**options, "image_count": len(images), "path": os.fspath(path)}

    @functools.cache  # stacks have thousands of images of one kind
    def plan(image: _Image, target: ImageSpec) -> Plan:
        return plan_stream(
            filter, image.input, target, resources, process_memory, conversion=image.conversion, **options
        )

    return [plan(image, target) for image, target in zip(images, targets, strict=True)]
