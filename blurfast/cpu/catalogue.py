"""The names of kernels, and which there are."""

from __future__ import annotations

from typing import NamedTuple

from blurfast.dtypes import FLOAT32_SUMS, FLOAT64_SUMS, SUPPORTED

_FUNCTIONS = (
    ("separable", "vertical"),
    ("separable", "horizontal"),
    ("separable", "along_rows"),
    ("multirate", "interpolate"),
    ("panel", "pack"),
    ("panel", "finish"),
    ("direct", "correlate"),
    ("direct", "correlate_carefully"),
)
_IN_FILES = tuple(pixel for pixel in SUPPORTED if pixel != "bool")
_PNG_FUNCTIONS = ("unfilter", "filter_rows")


class Kernel(NamedTuple):
    """One entry point of a kernel module, for one type of pixel and of sums."""

    module: str
    function: str
    pixel: str
    sums: str

    def __str__(self) -> str:
        return ".".join(self)

    @classmethod
    def parse(cls, text: str) -> Kernel:
        """Return the kernel whose `str` is `text`."""
        return cls(*text.split("."))


def all_kernels() -> list[Kernel]:
    """Return every kernel that blurfast may load, those for one type of pixels together.

    All types may be summed in float64: the other end of the filter may need it, or the number of taps.

    Examples
    --------
    >>> print(all_kernels()[0])
    separable.vertical.bool.float32
    """
    sums = dict.fromkeys(FLOAT32_SUMS, ("float32", "float64")) | dict.fromkeys(FLOAT64_SUMS, ("float64",))
    filters = [
        Kernel(module, function, pixel, sum_type)
        for pixel, sum_types in sums.items()
        for sum_type in sum_types
        for module, function in _FUNCTIONS
    ]
    levels = [Kernel("halving", "halve", pixel, "float64") for pixel in _IN_FILES]
    conversions = [Kernel("conversion", "convert", pixel, sum_type) for pixel in _IN_FILES for sum_type in sums[pixel]]
    png = [Kernel("png", function, "uint8", "uint8") for function in _PNG_FUNCTIONS]
    return [*filters, *levels, *conversions, *png, Kernel("lzw", "check", "uint8", "uint8")]
