"""PNG files: `PngSource` reads all of them, `PngSink` writes 8 and 16-bit images."""

from blurfast.io.png_deflate import FILTER_ROWS
from blurfast.io.png_scanlines import UNFILTER
from blurfast.io.png_sink import PngSink
from blurfast.io.png_source import PngSource

__all__ = ["KERNELS", "PngSink", "PngSource"]

KERNELS = (UNFILTER, FILTER_ROWS)
"""The kernels that reading and writing need."""
