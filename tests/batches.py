"""Batches of small images, and what their manifests say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import blurfast
from tests.cli_runs import Run, run, write_tiff

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals, links and terminals")

SIGMA = ("--sigma", "2")


def write_images(directory: Path) -> list[Path]:
    """Write five images, each of another size."""
    return [write_tiff(directory / f"{name}.tif", (40, 60 + index)) for index, name in enumerate("abcde")]


def blur(*inputs: Path, out: Path, options: tuple[str | Path, ...] = SIGMA) -> Run:
    """Run the command line on images that go to the directory `out`."""
    return run("gaussian", *inputs, "--out-dir", out, *options)


def lines_of(manifest: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def statuses(manifest: Path) -> list[str]:
    return [line["status"] for line in lines_of(manifest)]


def assert_blurred(source: Path, target: Path, sigma: float = 2) -> None:
    np.testing.assert_array_equal(tifffile.imread(target), blurfast.gaussian(tifffile.imread(source), sigma))
