"""The filters as functions of files, which stream through bounded memory."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from blurfast.boundary import Mode
from blurfast.dtypes import SUPPORTED
from blurfast.engine import Progress, filter_stream
from blurfast.errors import UnsupportedError
from blurfast.filters import Filter
from blurfast.io.base import FileSink, FileSource, ImageSpec
from blurfast.io.registry import open_sink, open_source
from blurfast.planning import Plan, plan_stream
from blurfast.resources import MEGABYTE, Resources, peak_memory, resident_memory
from blurfast.transforms import PlanningEffort

Alpha = Literal["weighted", "independent"]
ALPHA_RULES: tuple[Alpha, ...] = get_args(Alpha)

# What loading a kernel adds to a process that has not loaded one yet.
_KERNEL_LOADER_BYTES = 48 * MEGABYTE

_Path = str | os.PathLike[str]


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
    max_memory: int | str | None = None,
    compression: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
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
        is available, at least 256 MB.
    compression
        Of a TIFF output, such as ``"none"``, ``"deflate"`` or ``"zstd:10"``; by default the input's.
    overwrite
        Whether an existing output may be replaced.
    progress
        Called with the pixels done and the pixels in all; an exception that it raises cancels the run.

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
    started = time.perf_counter()
    resources = Resources.choose(threads, max_memory)
    with contextlib.ExitStack() as cleanup:
        opened = open_source(source)
        cleanup.callback(opened.close)
        images = _images(opened, source, alpha)
        sink = open_sink(target, images, opened, compression=compression, overwrite=overwrite)
        cleanup.callback(sink.abort)
        options = {"mode": mode, "cval": cval, "method": method, "backend": backend, "fft_planning": fft_planning}
        plans = _plan_images(filter, images, sink.images, resources, source, options)
        _load_kernels(plans, opened, sink)
        filter_stream(plans, opened, sink, progress)
        notices = (*opened.notices, *sink.notices)
    pixels = sum(image.height * image.width for image in images)
    elapsed = time.perf_counter() - started
    return FileReport(os.fspath(source), os.fspath(target), pixels, elapsed, peak_memory(), tuple(plans), notices)


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
    max_memory: int | str | None = None,
) -> list[Plan]:
    """Return how `filter_file` would filter each image of a file into a copy of its own layout.

    Examples
    --------
    >>> import numpy, pathlib, tempfile, tifffile
    >>> from blurfast import Gaussian
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "in.tif"
    >>> tifffile.imwrite(path, numpy.zeros((300, 400), dtype="uint8"))
    >>> plan_file(path, Gaussian(2))[0].halo
    (9, 9)
    """
    resources = Resources.choose(threads, max_memory)
    with contextlib.closing(open_source(source)) as opened:
        images = _images(opened, source, alpha)
        options = {"mode": mode, "cval": cval, "method": method, "backend": backend, "fft_planning": fft_planning}
        return _plan_images(filter, images, images, resources, source, options)


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
    with contextlib.closing(open_source(path)) as opened:
        return opened.layout_description


def _images(source: FileSource, path: _Path, alpha: str) -> list[ImageSpec]:
    """Return the images of a file, after a check that they can be filtered."""
    if alpha not in ALPHA_RULES:
        raise ValueError(f"alpha is {alpha!r}; it must be one of {', '.join(ALPHA_RULES)}")
    for image in source.images:
        if image.dtype.name not in SUPPORTED:
            raise UnsupportedError(
                f"pixels of type {image.dtype.name} cannot be filtered", path=path, remedy="convert it to float64"
            )
    if alpha == "independent":
        return [dataclasses.replace(image, alpha=None) for image in source.images]
    return list(source.images)


def _plan_images(
    filter: Filter,
    images: Sequence[ImageSpec],
    targets: Sequence[ImageSpec],
    resources: Resources,
    path: _Path,
    options: dict[str, Any],
) -> list[Plan]:
    baseline = resident_memory() + (0 if "llvmlite" in sys.modules else _KERNEL_LOADER_BYTES)
    return [
        plan_stream(filter, image, target, resources, baseline, path=os.fspath(path), **options)
        for image, target in zip(images, targets, strict=True)
    ]
