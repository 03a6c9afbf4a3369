"""What can be asked of outputs of any format."""

from __future__ import annotations

from blurfast.io.png_options import PngKeywords
from blurfast.io.tiff_options import TiffKeywords


class OutputKeywords(TiffKeywords, PngKeywords):
    """The keywords that choose how an output is stored. Each is for one format, and refused for the others."""


TIFF_KEYWORDS = frozenset(TiffKeywords.__annotations__)
PNG_KEYWORDS = frozenset(PngKeywords.__annotations__)
