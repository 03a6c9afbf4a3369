"""Looks for files that the readers cannot bear: ``python -m tests.fuzz --cases 10000``.

Small files of every kind are damaged in seeded ways, and filtered by child processes. A case is found if it kills its
process, takes too long or too much memory, or ends with anything but a result or an error that was raised on purpose.
The bytes of what is found are kept; the same seed makes the same cases.
"""

# ruff: noqa: T201 - a program, which prints

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "tests" / "cases"

_BATCH = 500
_INTERESTING = (0, 1, 2, 7, 8, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)

# ---------------------------------------------------------------------------------------------------- whole files


def _noise(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def _tiff(pixels: np.ndarray, pages: int = 1, order: Any = "<", bigtiff: bool = False, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, byteorder=order, bigtiff=bigtiff) as writer:
        for _ in range(pages):
            writer.write(pixels, metadata=None, **{"photometric": "rgb", **options})
            options.pop("subifds", None)  # the next page is the one in the SubIFD
    return buffer.getvalue()


def _pillow(pixels: np.ndarray, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name, **options)
    return buffer.getvalue()


def _tiffs() -> dict[str, bytes]:
    colour, grey = _noise(20, 33, 3), {"photometric": "minisblack"}
    files = {
        "strips": _tiff(colour, rowsperstrip=7, description="text", resolution=(72, 72)),
        "big-endian": _tiff(_noise(20, 33, dtype="uint16"), order=">", **grey),
        "bigtiff": _tiff(colour, pages=3, bigtiff=True),
        "planar": _tiff(_noise(3, 20, 33), planarconfig="separate"),
        "predictor": _tiff(_noise(40, 33, dtype="uint16"), tile=(16, 16), compression="zlib", predictor=2, **grey),
        "float": _tiff(_noise(20, 33, dtype="float32"), compression="zlib", predictor=3, **grey),
        "alpha": _tiff(_noise(20, 33, 4), extrasamples=["unassalpha"], compression="zlib", pages=2),
        "subifds": _tiff(colour, subifds=1, pages=2),
    }
    for codec in ("lzw", "packbits", "zstd", "lzma", "jpeg", "jpeg2000", "webp", "jpegxl", "jpegxr", "png", "lerc"):
        for layout in ({"tile": (16, 16)}, {"rowsperstrip": 10}):
            files[f"{codec}-{next(iter(layout))}"] = _tiff(colour, compression=codec, **layout)
    files["jpeg-subsampled"] = _tiff(colour, compression="jpeg", tile=(16, 16), subsampling=(2, 2))
    files["jpeg2000-16"] = _tiff(_noise(20, 33, dtype="uint16"), compression="jpeg2000", **grey)
    bits = _noise(20, 33) > 90
    files["bits"] = _tiff(bits, compression="zlib", **grey)
    files["12-bit"] = _tiff(_noise(20, 33, dtype="uint16"), bitspersample=12, **grey)
    files["palette"] = _tiff(_noise(20, 33), photometric="palette", colormap=np.zeros((3, 256), "uint16"))
    for codec in ("tiff_ccitt", "group3", "group4"):
        files[codec] = _pillow(bits, "TIFF", compression=codec)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, _noise(2, 20, 33), imagej=True, metadata={"Labels": ["a", "b"]})
    files["imagej"] = buffer.getvalue()
    return {f"{name}.tif": data for name, data in files.items()}


def _others() -> dict[str, bytes]:
    colour, grey, alpha = _noise(20, 33, 3), _noise(20, 33), _noise(20, 33, 4)
    return {
        "colour.png": _pillow(colour, "PNG", dpi=(72, 72), icc_profile=bytes(200)),
        "grey16.png": imagecodecs.png_encode(_noise(20, 33, dtype="uint16")),
        "alpha.png": _pillow(alpha, "PNG"),
        "palette.png": _pillow(grey, "PNG", bits=4),
        "colour.jpg": _pillow(colour, "JPEG", comment="text"),
        "progressive.jpg": _pillow(grey, "JPEG", progressive=True),
        "lossy.webp": _pillow(colour, "WEBP"),
        "lossless.webp": _pillow(alpha, "WEBP", lossless=True),
        "colour.bmp": _pillow(colour, "BMP"),
        "grey.gif": _pillow(grey, "GIF"),
        "colour.ppm": _pillow(colour, "PPM"),
        "colour.tga": _pillow(colour, "TGA", compression="tga_rle"),
        "colour.qoi": _pillow(colour, "QOI"),
    }


@functools.cache
def whole_files() -> dict[str, bytes]:
    """Return small files of every kind, by name."""
    return _tiffs() | _others()


# ------------------------------------------------------------------------------------------------------- damage


def _flip_bits(data: bytearray, choose: random.Random) -> None:
    for _ in range(choose.choice((1, 1, 2, 8))):
        data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)


def _set_bytes(data: bytearray, choose: random.Random) -> None:
    start = choose.randrange(len(data))
    length = choose.randint(1, 8)
    data[start : start + length] = choose.randbytes(len(data[start : start + length]))


def _set_integer(data: bytearray, choose: random.Random) -> None:
    """Write a number that is on the edge of something, most often to where the structures of a file are."""
    size, order = choose.choice((1, 2, 4, 8)), choose.choice(("little", "big"))
    start = choose.choice((choose.randrange(min(len(data), 400)), choose.randrange(len(data))))
    value = choose.choice((*_INTERESTING, len(data), start))
    data[start : start + size] = (value % 256**size).to_bytes(size, order)[: len(data) - start]


def _cut(data: bytearray, choose: random.Random) -> None:
    del data[choose.randrange(len(data)) :]


def _remove(data: bytearray, choose: random.Random) -> None:
    start = choose.randrange(len(data))
    del data[start : start + choose.randint(1, 40)]


def _repeat(data: bytearray, choose: random.Random) -> None:
    start, place = choose.randrange(len(data)), choose.randrange(len(data))
    data[place:place] = data[start : start + choose.randint(1, 40)]


def _splice(data: bytearray, choose: random.Random) -> None:
    """Put a piece of another file over a piece of this one, of the same length: offsets stay what they are."""
    other = choose.choice(list(whole_files().values()))
    start, length = choose.randrange(len(data)), choose.randint(4, 200)
    piece = other[(place := choose.randrange(len(other))) : place + length]
    data[start : start + len(piece)] = piece[: len(data) - start]


def _set_entry(data: bytearray, choose: random.Random) -> None:
    """Change one field of the first directory of a TIFF file; do nothing to other files."""
    order: Any = {b"II": "little", b"MM": "big"}.get(bytes(data[:2]))
    if order is None or len(data) < 16:
        return
    is_big = data[2:4] in (b"\x2b\0", b"\0\x2b")
    offset_size, count_size = (8, 8) if is_big else (4, 2)
    start = int.from_bytes(data[offset_size : 2 * offset_size], order)
    count = int.from_bytes(data[start : start + count_size], order)
    if not 0 < count < 1000:
        return
    entry = start + count_size + choose.randrange(count) * (4 + 2 * offset_size)
    place, size = choose.choice(((0, 2), (2, 2), (4, offset_size), (4 + offset_size, offset_size)))
    neighbour = int.from_bytes(data[entry + place : entry + place + size], order) + choose.choice((-1, 1, 16))
    value = choose.choice((*_INTERESTING, neighbour, len(data), choose.randrange(1, 19)))
    if entry + place + size <= len(data):
        data[entry + place : entry + place + size] = (value % 256**size).to_bytes(size, order)


_DAMAGES: Sequence[Callable[[bytearray, random.Random], None]] = (
    *(_flip_bits, _set_bytes, _set_integer, _cut, _remove, _repeat, _splice, _set_entry, _set_entry, _set_entry),
)


def _with_checksums(data: bytes) -> bytes:
    """Return a PNG file with the checksums that its chunks ought to have: most readers look no further without."""
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        content = data[at + 4 : at + 8 + length]
        parts += [data[at : at + 4], content, zlib.crc32(content).to_bytes(4, "big")]
        at += 12 + length
    return b"".join(parts)


class Case(NamedTuple):
    """A damaged file."""

    name: str
    data: bytes


def make_case(number: int, seed: int) -> Case:
    """Return the damaged file of a number."""
    choose = random.Random(f"{seed} {number}")
    name, whole = choose.choice(list(whole_files().items()))
    data = bytearray(whole)
    for _ in range(choose.choice((1, 1, 2, 4))):
        if data:
            choose.choice(_DAMAGES)(data, choose)
    repaired = _with_checksums(bytes(data)) if name.endswith(".png") and choose.random() < 0.8 else bytes(data)
    return Case(f"{number}-{name}", repaired)


# ------------------------------------------------------------------------------------------------------- running


class Finding(NamedTuple):
    """A file that was not handled as it should have been."""

    path: Path
    complaint: str


def examine(paths: Sequence[Path]) -> Iterator[Finding]:
    """Filter files of one directory in child processes, and yield what is wrong."""
    remaining = list(paths)
    while remaining:
        worker = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz_worker", str(remaining[0].parent)],
            input="".join(f"{path.name}\n" for path in remaining),
            cwd=ROOT, capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        ready, *complaints = worker.stdout.splitlines() or [""]
        if ready != "ready":
            raise RuntimeError(f"the worker does not work: {worker.stderr}")
        yield from (Finding(path, text) for path, text in zip(remaining, complaints, strict=False) if text)
        if len(complaints) < len(remaining):
            yield Finding(remaining[len(complaints)], _cause_of_death(worker.returncode, worker.stderr))
        remaining = remaining[len(complaints) + 1 :]


def _cause_of_death(status: int, messages: str) -> str:
    if status == -signal.SIGALRM:
        return "takes too long"
    return f"the process dies with {status}: {messages[messages.rfind('Fatal Python error') :][:1000]}"


def _examine_batch(numbers: Iterable[int], seed: int, keep: Path | None) -> list[Finding]:
    with tempfile.TemporaryDirectory() as directory:
        paths = []
        for number in numbers:
            case = make_case(number, seed)
            paths.append(Path(directory, case.name))
            paths[-1].write_bytes(case.data)
        findings = list(examine(paths))
        if keep is None:
            return findings
        return [Finding(shutil.move(path, keep / path.name), complaint) for path, complaint in findings]


def fuzz(cases: int, seed: int, keep: Path | None = None, processes: int = 1) -> Iterator[Finding]:
    """Make and examine cases, and yield what is wrong; the files of these are moved to the directory `keep`."""
    batches = [range(first, min(first + _BATCH, cases)) for first in range(0, cases, _BATCH)]
    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        for findings in pool.map(lambda numbers: _examine_batch(numbers, seed, keep), batches):
            yield from findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=ROOT / "build" / "fuzz", help="where found cases are kept")
    arguments = parser.parse_args()
    arguments.keep.mkdir(parents=True, exist_ok=True)
    found = 0
    for finding in fuzz(arguments.cases, arguments.seed, arguments.keep, os.cpu_count() or 1):
        found += 1
        print(f"{finding.path}: {finding.complaint}\n    {finding.path.read_bytes()[:2000].hex()}", flush=True)
    print(f"{arguments.cases} cases with seed {arguments.seed}: {found} found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
