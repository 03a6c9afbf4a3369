"""The command `blurfast bench`."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from blurfast.bench import session
from blurfast.bench.measure import Effort
from blurfast.bench.report import load_report
from blurfast.bench.selection import Selection, quick
from tests.bench_reports import report_of, seconds_of
from tests.cli_runs import assert_refused, run, run_process

SMALL = ("bench", "--filters", "gaussian", "--sizes", "64", "--sigmas", "1,2", "--dtypes", "uint8", "--threads", "2")
STORED = Selection(2, pixels=("uint8",), sizes=(64,), sigmas=(1.0, 2.0), kernel_sides=(3,))


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch):
    """Measure the ceilings of a small machine, since the copies of a real one take a second."""
    measure = session.measure_ceilings
    monkeypatch.setattr(session, "measure_ceilings", lambda threads: measure(threads, side=64))


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Return a result that nobody has measured."""
    path = tmp_path / "stored.json"
    path.write_text(report_of(STORED).to_json())
    return path


def test_cases_are_those_asked_for(tmp_path: Path) -> None:
    done = run(*SMALL, "--peers", "opencv", "--json", tmp_path / "out.json")
    assert (done.status, done.stdout) == (0, "")
    assert done.stderr.endswith(f"written to {tmp_path / 'out.json'}\n")
    report = load_report(tmp_path / "out.json")
    assert report.complete
    assert [result.case for result in report.results] == Selection(
        2, filters=("gaussian",), pixels=("uint8",), sizes=(64,), sigmas=(1.0, 2.0)
    ).cases()
    assert set(report.results[0].measurements) == {"blurfast", "blurfast, same kernel", "OpenCV"}
    assert report.ceilings is not None


def test_tables_are_printed_where_nothing_else_is_asked_for() -> None:
    done = run(*SMALL, "--peers", "")
    assert done.status == 0
    assert "## gaussian, 64 x 64 in memory" in done.stdout
    assert "| uint8 | 2 |" in done.stdout


def test_json_goes_to_stdout_for_programs(stored: Path) -> None:
    done = run("bench", "--from", stored, "--json", "-")
    assert json.loads(done.stdout) == json.loads(stored.read_text())
    assert "# blurfast bench" in run("bench", "--from", stored, "--json", "-", "--markdown").stdout


def test_page_is_made_of_a_stored_result(stored: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    done = run("bench", "--from", stored, "--html", tmp_path / "report.html")
    assert (done.status, done.stdout) == (0, "")
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(("factor", "status"), [(1.0, 0), (0.5, 0), (2.0, 1)])
def test_changes_for_the_worse_end_with_status_1(stored: Path, tmp_path: Path, factor: float, status: int) -> None:
    def changed(case: object, name: str) -> float:
        return seconds_of(case, name) * (factor if name == "blurfast" else 1.0)

    (tmp_path / "new.json").write_text(report_of(STORED, changed).to_json())
    done = run("bench", "--from", tmp_path / "new.json", "--compare", stored)
    assert done.status == status
    assert ("slower |" in done.stdout) == (status == 1)
    assert f"{3 if factor < 1 else 0} faster" in done.stdout


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    done = run(*SMALL, "--peers", "opencv", "--json", tmp_path / "out.json")
    assert done.status == 0
    assert done.stderr.startswith("OpenCV is left out: ")
    assert list(load_report(tmp_path / "out.json").skipped) == ["OpenCV"]


def test_an_interrupt_leaves_a_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As Ctrl-C does while the second case is measured."""
    pytest.importorskip("plotly")
    take_turns, cases = session.take_turns, []

    def interrupted(*arguments: object) -> None:
        cases.append(arguments)
        if len(cases) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        take_turns(*arguments)

    monkeypatch.setattr(session, "take_turns", interrupted)
    monkeypatch.setattr(signal, "getsignal", lambda _number: signal.default_int_handler)
    done = run(*SMALL, "--peers", "", "--json", tmp_path / "out.json", "--html", tmp_path / "out.html", "--markdown")
    assert done.status == 130
    assert "interrupted: 1 of 2 cases have been measured, and are reported" in done.stderr
    assert done.stderr.endswith("blurfast: interrupted\n")
    assert "Interrupted: 1 cases were measured." in done.stdout
    report = load_report(tmp_path / "out.json")
    assert (report.complete, len(report.results)) == (False, 1)
    assert "Interrupted" in (tmp_path / "out.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.html", "out.json"]


def test_outputs_are_not_replaced_unless_asked(stored: Path) -> None:
    before = stored.read_text()
    assert_refused(run(*SMALL, "--json", stored), 2, "the output exists")
    assert stored.read_text() == before
    assert run(*SMALL, "--peers", "", "--json", stored, "--overwrite").status == 0
    assert stored.read_text() != before


def test_a_result_may_replace_the_one_that_it_is_compared_with(stored: Path) -> None:
    done = run("bench", "--from", stored, "--compare", stored, "--json", stored, "--overwrite")
    assert (done.status, done.stdout.split(",")[0]) == (0, "Of 5 times")


@pytest.mark.parametrize(
    ("arguments", "status", "fact"),
    [
        (["--filters", "median"], 2, "'median' is none of gaussian, convolve"),
        (["--sizes", "64,8"], 2, "8 is not from 16 to 32768"),
        (["--sizes", "big"], 2, "big"),
        (["--sigmas", "nan"], 2, "nan is not from 0.1 to 1000"),
        (["--kernel-sides", "4"], 2, "4 is not odd"),
        (["--dtypes", "int4"], 2, "'int4' is none of float32, uint8, uint16, rgb"),
        (["--peers", "gimp"], 2, "'gimp' is none of opencv"),
        (["--backend", "tpu"], 2, "'tpu' is none of cpu, cuda"),
        (["--json", "no/such/folder.json"], 2, "its directory does not exist"),
        (["--compare", "none.json"], 3, "cannot be read"),
        (["--from", "none.json"], 3, "cannot be read"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_measured(arguments: list[str], status: int, fact: str) -> None:
    assert_refused(run("bench", *arguments), status, fact)


def test_a_page_without_plotly_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert_refused(run("bench", "--html", tmp_path / "out.html"), 4, "an HTML report needs plotly")
    assert list(tmp_path.iterdir()) == []


def test_help_imports_nothing_that_starts_slowly() -> None:
    done = run_process("bench", "--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.status == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not {"numba", "llvmlite", "plotly", "matplotlib", "scipy", "cv2", "tifffile"} & imported
    assert "blurfast_cli" in imported


def test_quick_selection_has_its_own_effort() -> None:
    assert quick(2).effort == Effort(5, 0.15)
    assert Selection(2).effort == Effort()
