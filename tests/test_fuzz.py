"""Damaged files, many and seeded, in child processes; and all that were ever found to be trouble."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from blurfast import Gaussian
from blurfast.files import filter_file
from tests import fuzz

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the limits of the child processes are POSIX's")

SABOTAGE = """
import os, signal, blurfast.files

describe_file = blurfast.files.describe_file

def sabotaged(path):
    match os.path.basename(path):
        case "crash":
            os.abort()
        case "slow":
            os.kill(os.getpid(), signal.SIGALRM)
        case "memory":
            bytearray(1 << 31)
        case "bug":
            raise ZeroDivisionError("a bug")
    return describe_file(path)

blurfast.files.describe_file = sabotaged
"""


def test_the_cases_are_damaged_files_that_were_whole(tmp_path: Path) -> None:
    for name, data in fuzz.whole_files().items():
        if not name.startswith("jpegxr"):  # which is refused, whole or not
            (tmp_path / name).write_bytes(data)
            report = filter_file(tmp_path / name, tmp_path / "out.tif", Gaussian(1), compression="none", overwrite=True)
            assert report.pixels >= 20 * 33
    first, again, others = ([fuzz.make_case(number, seed) for number in range(300)] for seed in (0, 0, 1))
    assert first == again
    assert len({case.data for case in first + others}) > 550
    assert len({case.name.split("-", 1)[1] for case in first}) > 40  # of nearly every file


def test_damaged_files_are_handled() -> None:
    assert list(fuzz.fuzz(300, seed=0)) == []


def test_cases_that_were_found_are_handled() -> None:
    cases = sorted(fuzz.KEPT.iterdir())
    assert len(cases) >= 5
    assert list(fuzz.examine(cases)) == []


def test_what_goes_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "cases").mkdir()
    paths = [tmp_path / "cases" / name for name in ("text", "crash", "slow", "memory", "bug", "more text")]
    for path in paths:
        path.write_text("not an image")
    found = {finding.path.name: finding.complaint for finding in fuzz.examine(paths)}
    assert list(found) == ["crash", "slow", "memory", "bug"]
    assert "dies with -6" in found["crash"]
    assert found["slow"] == "takes too long"
    assert found["memory"].startswith("MemoryError")
    assert found["bug"] == "ZeroDivisionError: a bug"
