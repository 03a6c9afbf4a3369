"""Predictions of memory, held against processes of their own.

Two things are measured. The peak of the resident memory is what `--max-memory` limits; it holds the libraries' pages,
too. And under RLIMIT_DATA, which counts what is private and writable, resident or not, no allocation can succeed that
the plan does not know of. (RLIMIT_AS would count every library that is mapped; RLIMIT_RSS has no effect on Linux.)
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile

from benchmarks import memory
from benchmarks.memory import Case, Outcome
from blurfast import gaussian
from blurfast.resources import parse_memory
from tests.cli_runs import assert_refused, run_process

SIDE = 4000
ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and sets limits of Linux")

Images = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Images:
    """Return what writes an image, unless it is the last one that was written."""
    folder = tmp_path_factory.mktemp("images")
    last: dict[tuple[str, str], Path] = {}

    def image(pixels: str, layout: str) -> Path:
        if (pixels, layout) not in last:
            for path in last.values():
                path.unlink()
            last.clear()
            last[pixels, layout] = memory.write_image(folder, pixels, layout, SIDE)
        return last[pixels, layout]

    return image


@pytest.mark.parametrize(
    "case",
    sorted(memory.sample_of_pairs(memory.possible_cases())),
    ids=lambda case: " ".join(map(str, case)),
)
def test_predictions_hold(images, case):
    outcome = memory.run(case, images(case.pixels, case.layout))
    assert not outcome.is_refused
    assert outcome.holds, memory.line(case, outcome)


@pytest.mark.parametrize(
    "compression", ["lzw", "deflate:12", "zstd:9", "zstd:19", "lzma", "webp", "webp:80", "jpeg2000", "jpegxl"]
)
def test_what_codecs_need_is_predicted(images, tmp_path, compression):
    source = images("RGB", "tiles 256")
    storage = {"compression": compression, "tile": "512x512", "region": "0,0,3000,3000"}
    facts = memory.probe(source, tmp_path / "out.tif", sigma=1.0, threads=2, max_memory="1GB", **storage)
    outcome = Outcome(facts["predicted"], facts["measured"], facts["limit"], "")
    assert outcome.holds, (outcome, facts["memory"])


def test_the_command_line_keeps_a_small_limit(images, tmp_path):
    weights = tmp_path / "weights.npy"
    np.save(weights, np.random.default_rng(0).random((31, 31)))
    arguments = ["--kernel", weights, "--normalize", "--max-memory", "192MB", "--threads", "2", "--json"]
    done = run_process("convolve", images("uint16", "tiles 256"), tmp_path / "out.tif", *arguments)
    assert done.status == 0, done.stderr
    assert json.loads(done.stdout)["peak_memory"] <= 192_000_000


@pytest.mark.parametrize("layout", ["tiles 1024", "one deflate strip"])
def test_a_refusal_names_a_limit_that_suffices(images, tmp_path, layout):
    arguments = ["gaussian", images("uint16", layout), tmp_path / "out.tif", "--sigma", "50"]
    refused = run_process(*arguments, "--max-memory", "64MB")
    assert_refused(refused, 5, "does not fit into 64 MB")
    (enough,) = re.findall(r"use --max-memory (\w+) or more", refused.stderr)
    done = run_process(*arguments, "--max-memory", enough, "--json")
    assert done.status == 0, done.stderr
    assert json.loads(done.stdout)["peak_memory"] <= parse_memory(enough)
    assert parse_memory(enough) < 300_000_000


# Loads all that a run loads, and then allows no more private memory than a share of what the plan has for pixels, and
# what is hardly touched: the threads' stacks, and what their heaps keep of what has been freed.
LIMITED_RUN = """
import re, resource, sys
from blurfast import Gaussian, filter_file, plan_file
from blurfast.cpu import objects
import blurfast.io.tiff_sink
source, target, share = sys.argv[1], sys.argv[2], float(sys.argv[3])
limits = {"threads": 2, "max_memory": "256MB"}
(plan,) = plan_file(source, Gaussian(5), **limits)
objects.load(plan.kernels())
with open("/proc/self/status") as status:
    private = int(re.search(r"VmData:\\s*(\\d+)", status.read())[1]) * 1024
stack = min(resource.getrlimit(resource.RLIMIT_STACK)[0] % 2**63, 2**23)
most = private + int(share * plan.bands.memory) + (plan.threads + 1) * stack + 16_000_000
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
try:
    filter_file(source, target, Gaussian(5), **limits)
except (MemoryError, RuntimeError) as error:  # the latter where there is no memory for a thread's stack
    sys.exit(f"{type(error).__name__}: {error}")
"""


def limited_run(source: Path, target: Path, share: float) -> subprocess.CompletedProcess[str]:
    arguments = [source, target, str(share)]
    return subprocess.run(
        [sys.executable, "-c", LIMITED_RUN, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("layout", ["strips", "deflate strips"])
def test_no_more_is_allocated_than_planned(images, tmp_path, layout):
    source = images("uint16", layout)
    done = limited_run(source, tmp_path / "out.tif", 1)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), gaussian(tifffile.imread(source), 5))


def test_the_limit_on_allocations_is_one(images, tmp_path):
    done = limited_run(images("uint16", "strips"), tmp_path / "out.tif", 0)
    assert done.returncode == 1
    assert re.match(r"MemoryError|.*Unable to allocate|RuntimeError: can't start new thread", done.stderr), done.stderr
    assert list(tmp_path.iterdir()) == []


# ---- the matrix itself


def test_a_sample_has_every_pair_of_properties_that_occurs():
    cases = memory.possible_cases()
    sample = memory.sample_of_pairs(cases)
    assert len(sample) < len(cases) / 10
    for first, second in [(0, 1), (1, 2), (0, 4), (2, 3)]:
        pairs = {(case[first], case[second]) for case in cases}
        assert {(case[first], case[second]) for case in sample} == pairs
    everything = map(Case._make, product(memory.PIXELS, memory.LAYOUTS, memory.FILTERS, memory.LIMITS, memory.THREADS))
    assert {case for case in everything if case.layout == "PNG" and case.pixels == "float32"}.isdisjoint(cases)


@pytest.mark.parametrize(
    ("predicted", "measured", "limit", "holds"),
    [
        (100, 104, 192, True),
        (100, 106, 192, False),
        (100, 84, 192, True),
        (100, 83, 192, False),
        (100, 101, 100, False),
    ],
)
def test_what_counts_as_a_prediction_that_holds(predicted, measured, limit, holds):
    outcome = Outcome(predicted, measured, limit, "direct")
    assert outcome.holds is holds
    cells = memory.line(Case("uint8", "PNG", "sigma 2", "192MB", 1), outcome)
    assert ("**off**" in cells) is not holds
    assert f"{measured / predicted:.2f}" in cells
