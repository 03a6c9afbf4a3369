"""Which cases one run measures: those that are compared in tables, and the sweeps that are drawn as curves.

This is the one table of cases: `blurfast bench`, the developers' benchmarks and the tests take theirs from here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from blurfast.bench.cases import FILTERS, PIXELS, Case
from blurfast.bench.measure import Effort

SIGMAS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Those that libraries are compared at."""

PEERS = ("opencv", "scipy", "skimage", "pillow", "pyvips", "torch", "cupy")
"""The other libraries, by the names that options have for them: the keys in `blurfast.bench.libraries`."""

SWEPT_PIXELS = "float32"
SWEPT_SIGMA = 5.0
"""What stays the same while something else is swept."""


@dataclass(frozen=True)
class Selection:
    """What one run is about.

    Parameters
    ----------
    threads
        That every library may use.
    filters, pixels, sizes, sigmas, kernel_sides
        What the tables compare: every combination.
    backends
        ``cpu``, ``cuda`` or both.
    peers
        The other libraries, as far as they are installed.
    sweeps
        What the curves show; None for no curves.
    effort
        How long to measure each.
    """

    threads: int
    filters: Sequence[str] = FILTERS
    pixels: Sequence[str] = PIXELS
    sizes: Sequence[int] = (4096,)
    sigmas: Sequence[float] = SIGMAS
    kernel_sides: Sequence[int] = (7, 31, 127)
    backends: Sequence[str] = ("cpu",)
    peers: Sequence[str] = PEERS
    sweeps: Sweeps | None = None
    effort: Effort = field(default_factory=Effort)

    def cases(self) -> list[Case]:
        """Return every case once, those with the same image one after the other."""
        swept = [] if self.sweeps is None else list(self.sweeps.cases(self.filters, self.threads))
        every = dict.fromkeys([*self._compared(), *swept])
        on_backends = [replace(case, backend=backend) for backend in self.backends for case in every]
        return sorted(filter(self._can_be, on_backends), key=_neighbourhood)

    def _can_be(self, case: Case) -> bool:
        """Return whether a case makes sense: files are filtered on the CPU, whose threads a GPU does not have."""
        return case.backend == "cpu" or (case.source == "memory" and case.threads == self.threads)

    def _compared(self) -> Iterator[Case]:
        for side, pixels in itertools.product(self.sizes, self.pixels):
            if "gaussian" in self.filters:
                for sigma in self.sigmas:
                    yield Case("gaussian", side, pixels, sigma=sigma, threads=self.threads)
            if "convolve" in self.filters:
                for kernel_side in self.kernel_sides:
                    yield Case("convolve", side, pixels, kernel_side=kernel_side, threads=self.threads)


def _neighbourhood(case: Case) -> tuple[bool, int, int]:
    return case.source == "file", case.side, PIXELS.index(case.pixels)


@dataclass(frozen=True)
class Sweeps:
    """The curves: time against sigma, the side of kernels, the size of the image, and the number of threads.

    Parameters
    ----------
    side
        Of the image, where another quantity is swept.
    sigmas, kernel_sides, sizes
        The quantities that are swept; images of `sizes` are filtered in memory.
    file_sizes
        Images that are filtered from file to file.
    """

    side: int = 2048
    sigmas: Sequence[float] = (0.5, 1, 2, 3, 4, 5, 7, 10, 14, 20, 30, 50, 70, 100)
    kernel_sides: Sequence[int] = (3, 5, 7, 9, 11, 15, 21, 31, 45, 63, 91, 127, 181, 255)
    sizes: Sequence[int] = (256, 512, 1024, 2048, 4096, 8192)
    file_sizes: Sequence[int] = (1024, 2048, 4096, 8192, 20_000)

    def cases(self, filters: Sequence[str], threads: int) -> Iterator[Case]:
        """Yield the cases of some of the filters."""
        if "convolve" in filters:
            for rank, kernel_side in itertools.product((None, 1), self.kernel_sides):
                yield Case("convolve", self.side, SWEPT_PIXELS, kernel_side=kernel_side, rank=rank, threads=threads)
        if "gaussian" not in filters:
            return
        swept = Case("gaussian", self.side, SWEPT_PIXELS, sigma=SWEPT_SIGMA, threads=threads)
        for sigma in self.sigmas:
            yield replace(swept, sigma=float(sigma))
        for side in self.sizes:
            yield replace(swept, side=side)
        for count in range(1, threads):
            yield replace(swept, threads=count)
        for side in self.file_sizes:
            yield replace(swept, side=side, pixels="uint16", source="file")


QUICK_SWEEPS = Sweeps(
    side=512, sigmas=(1, 2, 5, 10, 20, 50), kernel_sides=(3, 7, 15, 31), sizes=(256, 512, 1024), file_sizes=(1024,)
)


def quick(threads: int) -> Selection:
    """Return a selection that takes less than half a minute."""
    return Selection(
        threads,
        pixels=("float32", "uint8"),
        sizes=(1024,),
        sigmas=(1.0, 5.0, 20.0),
        kernel_sides=(7, 21),
        sweeps=QUICK_SWEEPS,
        effort=Effort(repeats=5, budget=0.15),
    )
