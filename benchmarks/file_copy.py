"""Copy the pixels of an image file without blurfast: ``python -m benchmarks.file_copy IN OUT THREADS``.

What no filter can do without: every segment is read, decoded, encoded alike and written. TIFF files are copied strip
by strip or tile by tile, by tifffile and imagecodecs with so many threads; PNG files whole, by imagecodecs, which has
one thread.
"""

from __future__ import annotations

import sys
from pathlib import Path

_BUFFER_BYTES = 1 << 25  # faster than smaller ones, and than tifffile's own 256 MiB
_PNG_LEVEL = 1


def copy_tiff(source: Path, target: Path, threads: int) -> None:
    """Copy the first page of a TIFF file."""
    import tifffile

    with tifffile.TiffFile(source) as tiff:
        page = tiff.pages.first
        segments = page.segments(maxworkers=threads, buffersize=_BUFFER_BYTES)
        tifffile.imwrite(
            target,
            (segment.reshape(segment.shape[1:]) for segment, _, _ in segments),
            shape=page.shape,
            dtype=page.dtype,
            photometric=page.photometric,
            compression=page.compression,
            predictor=page.predictor,
            tile=page.tile or None,
            rowsperstrip=None if page.tile else page.rowsperstrip,
            maxworkers=threads,
            buffersize=_BUFFER_BYTES,
            metadata=None,
        )


def copy_png(source: Path, target: Path) -> None:
    """Copy a PNG file."""
    import imagecodecs

    pixels = imagecodecs.png_decode(source.read_bytes())
    target.write_bytes(imagecodecs.png_encode(pixels, level=_PNG_LEVEL))


def main(source: str, target: str, threads: str) -> None:
    """Copy a file."""
    if Path(source).suffix == ".png":
        copy_png(Path(source), Path(target))
    else:
        copy_tiff(Path(source), Path(target), int(threads))


if __name__ == "__main__":
    main(*sys.argv[1:])
