"""Who filters whole files: the command of each, and whether it is there."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.file_cases import TILE, VIPS_FLOAT, VIPS_FLOAT_LONGEST, VIPS_INTEGER, VIPS_INTEGER_LONGEST, Case
from benchmarks.file_scripts import LEAST_WEIGHT

OWN, OWN_COPY, PLAIN_COPY = "blurfast", "copy by blurfast, sigma 0", "copy by tifffile, imagecodecs"
VIPS = "vips"

Command = Callable[[Case, Path, Path, int], list[str]]
"""Returns what to run for a case, an input, an output, and a number of threads."""


@dataclass(frozen=True)
class Peer:
    """A contestant.

    Parameters
    ----------
    command
        What is run.
    edges
        What it takes to lie beyond the edges, in scipy's words.
    is_copy
        Whether it blurs nothing.
    module, program
        What must be there for it.
    png_only
        Whether it differs from another one for PNG files only.
    """

    command: Command
    edges: str = "reflect"
    is_copy: bool = False
    module: str = ""
    program: str = ""
    png_only: bool = False

    def why_absent(self) -> str | None:
        """Return what is missing, or None."""
        if self.program and shutil.which(self.program) is None:
            return f"there is no program {self.program!r}"
        if self.module and importlib.util.find_spec(self.module) is None:
            return f"there is no module {self.module!r}"
        return None


def _blurfast(*, blurs: bool) -> Command:
    """Return the command that blurs, or one that copies the pixels."""

    def command(case: Case, source: Path, target: Path, threads: int) -> list[str]:
        sigma = case.sigma if blurs else 0
        arguments = ["gaussian", source, target, "--sigma", f"{sigma:g}", "--threads", threads, "--quiet"]
        return [sys.executable, "-m", "blurfast", *map(str, arguments)]

    return command


def _plain_copy(_case: Case, source: Path, target: Path, threads: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.file_copy", str(source), str(target), str(threads)]


def _vips(*options: str, png: str = "") -> Command:
    """Return libvips' command with some options, and some of its writer for PNG files."""

    def command(case: Case, source: Path, target: Path, threads: int) -> list[str]:
        writer = png if case.is_png else ""
        if case.has_deflated_tiles:
            writer = f"[compression=deflate,predictor=horizontal,tile,tile-width={TILE},tile-height={TILE}]"
        start = [VIPS, f"--vips-concurrency={threads}", "gaussblur"]
        return [*start, str(source), f"{target}{writer}", f"{case.sigma:g}", *options]

    return command


def _script(library: str) -> Command:
    def command(case: Case, source: Path, target: Path, threads: int) -> list[str]:
        arguments = [library, source, target, case.sigma, threads, int(case.has_deflated_tiles)]
        return [sys.executable, "-m", "benchmarks.file_scripts", *map(str, arguments)]

    return command


_INTEGER, _FLOAT = ("--precision", "integer"), ("--precision", "float")
_LONGEST = ("--min-ampl", str(LEAST_WEIGHT))
_FAST_PNG = "[compression=1,filter=paeth]"

PEERS = {
    OWN: Peer(_blurfast(blurs=True)),
    OWN_COPY: Peer(_blurfast(blurs=False), is_copy=True),
    PLAIN_COPY: Peer(_plain_copy, is_copy=True),
    VIPS_INTEGER: Peer(_vips(*_INTEGER), "nearest", program=VIPS),
    VIPS_INTEGER_LONGEST: Peer(_vips(*_INTEGER, *_LONGEST), "nearest", program=VIPS),
    VIPS_FLOAT: Peer(_vips(*_FLOAT), "nearest", program=VIPS),
    VIPS_FLOAT_LONGEST: Peer(_vips(*_FLOAT, *_LONGEST), "nearest", program=VIPS),
    f"{VIPS_FLOAT}, fast PNG": Peer(_vips(*_FLOAT, png=_FAST_PNG), "nearest", program=VIPS, png_only=True),
    "pyvips, longest kernel": Peer(_script("pyvips"), "nearest", module="pyvips"),
    "OpenCV": Peer(_script("opencv"), "mirror", module="cv2"),
    "scikit-image": Peer(_script("scikit-image"), "nearest", module="skimage"),
}
"""All contestants, in the order of rows."""


def vips_version() -> str | None:
    """Return the version of libvips' program, or None if it is not there."""
    if shutil.which(VIPS) is None:
        return None
    said = subprocess.run([VIPS, "--version"], check=True, capture_output=True, text=True).stdout
    return said.strip().removeprefix("vips-")
