"""The README agrees with the figures that are committed, and its Python examples run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import click
import numpy as np
import tifffile

from benchmarks import readme
from blurfast.bench.report import load_report
from blurfast.io.registry import is_output_name
from blurfast_cli.main import blurfast

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


def test_command_lines_are_understood():
    """Up to what they would do: there are such commands, options and values."""
    lines = re.findall(r"^    blurfast (.+)$", TEXT, re.MULTILINE)
    assert len(lines) >= 20
    for line in lines:
        name, *arguments = shlex.split(line.partition("<")[0])
        command = blurfast.get_command(click.Context(blurfast), name)
        assert command is not None, line
        command.make_context(name, arguments)


def test_suffixes_are_those_of_outputs():
    sentence = re.search(r"The suffix of OUT names its format: (.*?)\. With", TEXT, re.DOTALL)
    suffixes = re.findall(r"\.\w+", sentence.group(1))
    assert len(suffixes) >= 10
    assert [suffix for suffix in suffixes if not is_output_name(f"image{suffix}")] == []
