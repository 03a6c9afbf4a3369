"""The README agrees with the figures that are committed, and its Python examples run."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from benchmarks import readme
from blurfast.bench.report import load_report

TEXT = (readme.ROOT / "README.md").read_text()


def test_figures_are_the_committed_ones():
    before, after = readme.split(TEXT)
    assert before + readme.render(load_report(readme.RESULTS)) + after == TEXT


def test_pictures_exist():
    pictures = re.findall(r"\]\((docs/\S+)\)", TEXT)
    assert len(pictures) >= 5
    for picture in pictures:
        assert (readme.ROOT / picture).is_file(), picture


def test_python_examples_run(tmp_path):
    """In a process of their own, since the limit of memory that they set is the whole process's."""
    tifffile.imwrite(tmp_path / "in.tif", np.eye(300, dtype=np.uint16))
    examples = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(examples) >= 3
    script = "\n".join([*examples, "print(edges.shape)"])
    environment = {**os.environ, "PYTHONPATH": str(readme.ROOT)}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    report, shape = run.stdout.splitlines()
    seconds, peak = map(float, report.split())
    assert seconds > 0
    assert 0 < peak < 512e6
    assert shape == "(2000, 3000)"
    assert (tmp_path / "out.tif").exists()


@pytest.mark.parametrize("option", ["--explain", "--max-memory", "--out-dir", "--alpha", "--mode", "--sigma"])
def test_options_of_the_examples_exist(option):
    from blurfast_cli.filters import gaussian

    assert option in TEXT
    assert option in {name for parameter in gaussian.params for name in parameter.opts}
