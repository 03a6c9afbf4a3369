"""PNG files. `PngSource` and `PngSink` stream 8 and 16-bit images; `is_streamable` tells what is left to Pillow."""

from blurfast.io.png_sink import FILTER_ROWS, PngSink
from blurfast.io.png_source import UNFILTER, NotStreamableError, PngSource, is_streamable

__all__ = ["KERNELS", "NotStreamableError", "PngSink", "PngSource", "is_streamable"]

KERNELS = (UNFILTER, FILTER_ROWS)
"""The kernels that reading and writing need."""
