"""The names of the kernels for GPUs, and which there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from blurfast.dtypes import FLOAT32_SUMS, FLOAT64_SUMS

_FROM_PIXELS_TO_SUMS = (
    ("separable", "vertical"),
    ("separable", "resample_vertical"),
    ("separable", "resample_horizontal"),
    ("panel", "find_references"),
    ("panel", "pack"),
    ("panel", "weight"),
)
_FROM_SUMS_TO_SUMS = (
    ("separable", "vertical"),
    ("separable", "horizontal"),
    ("separable", "resample_vertical"),
    ("separable", "resample_horizontal"),
    ("panel", "multiply"),
)
_FROM_SUMS_TO_PIXELS = (
    ("separable", "horizontal"),
    ("separable", "resample_vertical"),
    ("separable", "resample_horizontal"),
    ("separable", "add_up"),
    ("panel", "finish"),
    ("panel", "unweight"),
)
_DIRECT = (("direct", "correlate"),)
_FROM_PIXELS_TO_PIXELS = (
    ("separable", "vertical"),
    ("separable", "horizontal"),
    ("separable", "resample_horizontal"),
    *_DIRECT,
)
# In float64, those that reach farther would need more registers than a thread has.
_FUSED = {
    "float32": (("fused", "fused4"), ("fused", "fused8"), ("fused", "fused12"), ("fused", "fused16")),
    "float64": (("fused", "fused4"), ("fused", "fused8")),
}


class Kernel(NamedTuple):
    """One entry point of a kernel module, for one type of pixels that it reads, of those it writes, and of sums."""

    module: str
    function: str
    pixel: str
    target: str
    sums: str

    def __str__(self) -> str:
        return ".".join(self)

    @classmethod
    def parse(cls, text: str) -> Kernel:
        """Return the kernel whose `str` is `text`."""
        return cls(*text.split("."))


def all_kernels() -> list[Kernel]:
    """Return the kernels for images of any type whose results are of the same type, float32 or float64.

    That is all that files need. An array may also be filtered into one of another type; what only that needs is
    compiled when it is first used. All types may be summed in float64: the weights may need it, or the number of taps.
    Kernels for one type of pixels come together.

    Examples
    --------
    >>> print(all_kernels()[0])
    separable.vertical.bool.float32.float32
    """
    sums = dict.fromkeys(FLOAT32_SUMS, ("float32", "float64")) | dict.fromkeys(FLOAT64_SUMS, ("float64",))
    kernels = (kernel for pixel, sum_types in sums.items() for total in sum_types for kernel in _kernels(pixel, total))
    return list(dict.fromkeys(kernels))


def _kernels(pixel: str, sums: str) -> Iterator[Kernel]:
    """Yield what is launched for one type of pixels and of sums, some of it more than once."""
    whole = _FROM_PIXELS_TO_PIXELS + _FUSED[sums]
    for functions, source, target in (
        (_FROM_PIXELS_TO_SUMS, pixel, sums),
        (_FROM_SUMS_TO_SUMS, sums, sums),
        (_FROM_SUMS_TO_PIXELS, sums, pixel),
        (whole, pixel, pixel),
        (whole, pixel, "float32"),
        # Sums in float32 serve for float64 only where they are integers, all of which are exact.
        (whole if sums == "float64" else _DIRECT, pixel, "float64"),
    ):
        yield from (Kernel(module, function, source, target, sums) for module, function in functions)
