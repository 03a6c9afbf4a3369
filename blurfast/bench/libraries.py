"""The libraries that are compared: each turns a case into a callable that only filters, with set-up outside."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from blurfast.bench import blurfast_runs, convolution_runs, gaussian_runs
from blurfast.bench.cases import Case
from blurfast.bench.prepared import Prepare, Prepared

OWN = "blurfast"
"""blurfast as users call it: what all ratios are about."""

SAME_KERNEL = "blurfast, same kernel"
METHODS = ("direct", "separable", "fft")


@dataclass(frozen=True)
class Library:
    """A contestant.

    Parameters
    ----------
    key
        The name for it in options.
    module
        What must be importable for it.
    gaussian, convolve
        What prepares the filters.
    distribution
        The package that it comes in.
    single_threaded
        Whether it can only use one thread.
    backends
        What it can compute with.
    """

    key: str
    module: str
    gaussian: Prepare | None = None
    convolve: Prepare | None = None
    distribution: str = ""
    single_threaded: bool = False
    backends: Collection[str] = ("cpu",)

    def prepares(self, case: Case) -> Prepare | None:
        """Return what prepares cases of this kind, or None where the library has no such filter."""
        if case.backend not in self.backends:
            return None
        return self.gaussian if case.filter == "gaussian" else self.convolve

    def prepare(self, case: Case) -> Prepared | None:
        """Return what is to be timed for a case in memory, or None where the library cannot do it."""
        prepare = self.prepares(case)
        return None if prepare is None else prepare(case)


_one_thread = functools.partial(Library, single_threaded=True)
_BOTH = ("cpu", "cuda")
_OPENCV, _SCIPY, _VIPS = "opencv-python-headless", "scipy", "pyvips-binary"

LIBRARIES: dict[str, Library] = {
    OWN: Library(OWN, "blurfast", blurfast_runs.as_called, blurfast_runs.as_called, OWN, backends=_BOTH),
    SAME_KERNEL: Library(OWN, "blurfast", blurfast_runs.same_kernel),
    **{f"{OWN}, {method}": Library(OWN, "blurfast", convolve=blurfast_runs.by_method(method)) for method in METHODS},
    "OpenCV": Library("opencv", "cv2", gaussian_runs.opencv, convolution_runs.opencv, _OPENCV),
    "scipy": _one_thread("scipy", "scipy.ndimage", gaussian_runs.scipy, None, _SCIPY),
    "scipy, oaconvolve": _one_thread("scipy", "scipy.signal", None, convolution_runs.scipy_overlap_add, _SCIPY),
    "scipy, fftconvolve": _one_thread("scipy", "scipy.signal", None, convolution_runs.scipy_fft, _SCIPY),
    "scikit-image": _one_thread("skimage", "skimage.filters", gaussian_runs.scikit_image, None, "scikit-image"),
    "Pillow": _one_thread("pillow", "PIL.ImageFilter", gaussian_runs.pillow, None, "pillow"),
    "pyvips": Library("pyvips", "pyvips", gaussian_runs.pyvips_float, convolution_runs.pyvips, _VIPS),
    "pyvips, integer": Library("pyvips", "pyvips", gaussian_runs.pyvips_integer, None, _VIPS),
    "torch": Library("torch", "torch", gaussian_runs.torch, convolution_runs.torch, "torch", backends=_BOTH),
    "CuPy": Library("cupy", "cupy", gaussian_runs.cupy, convolution_runs.cupy, "cupy", backends=("cuda",)),
}
"""What is compared, in the order of columns."""

_THREAD_VARIABLES = ("VIPS_CONCURRENCY", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Contestants:
    """The libraries that take part, and why the others don't."""

    present: Mapping[str, Library]
    absent: Mapping[str, str] = field(default_factory=dict)


def find_contestants(peers: Collection[str], threads: int) -> Contestants:
    """Import blurfast and some other libraries; tell which are not there, and why.

    A library that reads its number of threads when it is imported gets it here.

    Parameters
    ----------
    peers
        Their keys.
    threads
        For all of them.
    """
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    present, absent = {}, {}
    for name, library in LIBRARIES.items():
        if library.key != OWN and library.key not in peers:
            continue
        try:
            importlib.import_module(library.module)
        except (ImportError, OSError) as error:  # OSError: the package is there, the library that it wraps is not
            absent[name] = str(error)
        else:
            present[name] = library
    return Contestants(present, absent)
