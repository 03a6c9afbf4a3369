"""The README agrees with the figures that are committed, and its Python examples run."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import tifffile

from benchmarks import readme

TEXT = (readme.ROOT / "README.md").read_text()


def test_figures_are_the_committed_ones():
    before, after = readme.split(TEXT)
    assert before + readme.render(json.loads(readme.RESULTS.read_text())) + after == TEXT


def test_pictures_exist():
    pictures = re.findall(r"\]\((docs/\S+)\)", TEXT)
    assert len(pictures) >= 5
    for picture in pictures:
        assert (readme.ROOT / picture).is_file(), picture


def test_python_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("in.tif", np.eye(300, dtype=np.uint16))
    names: dict[str, object] = {}
    examples = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(examples) >= 2
    for example in examples:
        exec(example, names)
    assert (tmp_path / "out.tif").exists()
    assert np.shape(names["edges"]) == (2000, 3000)
    seconds, peak = capsys.readouterr().out.split()
    assert float(seconds) > 0
    assert int(peak) > 0


@pytest.mark.parametrize("option", ["--explain", "--max-memory", "--out-dir", "--alpha", "--mode", "--sigma"])
def test_options_of_the_examples_exist(option):
    from blurfast_cli.filters import gaussian

    assert option in TEXT
    assert option in {name for parameter in gaussian.params for name in parameter.opts}
