"""PNG files. `PngSource` and `PngSink` stream 8 and 16-bit images; `is_streamable` tells what is left to Pillow."""

from blurfast.io.png_sink import PngSink
from blurfast.io.png_source import NotStreamableError, PngSource, is_streamable

__all__ = ["NotStreamableError", "PngSink", "PngSource", "is_streamable"]
