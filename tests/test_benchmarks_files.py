"""The comparison on whole files: its inputs, its runs and their measures, its errors, and its page."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmarks import file_copy, file_page, files
from benchmarks.file_cases import CASES, STRIP_ROWS, TILE, VIPS_FLOAT, VIPS_INTEGER, make_input, read_image
from benchmarks.file_errors import Oracle
from benchmarks.file_measure import CaseResult, Outcome, measure_case, run_process
from benchmarks.file_peers import OWN, OWN_COPY, PEERS, PLAIN_COPY, Peer
from blurfast.bench.measure import Effort
from blurfast.resources import MEGABYTE
from tests import naive
from tests.pictures import noise

STRIPS, LARGE_SIGMA, TILES, PNG = (case.quick() for case in CASES)
ONCE = Effort(repeats=1, budget=0)


# ------------------------------------------------------------------------------------------------------------- inputs


def test_inputs_have_the_layouts_that_are_compared(tmp_path):
    with tifffile.TiffFile(make_input(STRIPS, tmp_path)) as tiff:
        page = tiff.pages.first
        assert (page.rowsperstrip, page.compression, page.shape) == (STRIP_ROWS, 1, (STRIPS.side, STRIPS.side))
    with tifffile.TiffFile(make_input(TILES, tmp_path)) as tiff:
        page = tiff.pages.first
        assert (page.tile, page.compression, page.predictor) == ((TILE, TILE), 8, 2)
    with Image.open(make_input(PNG, tmp_path)) as image:
        assert (image.mode, image.size) == ("RGB", (PNG.side, PNG.side))
    np.testing.assert_array_equal(read_image(PNG.input_in(tmp_path)), read_image(TILES.input_in(tmp_path)))


def test_inputs_are_made_once(tmp_path):
    path = make_input(STRIPS, tmp_path)
    path.write_bytes(b"kept")
    assert make_input(LARGE_SIGMA, tmp_path) == path
    assert path.read_bytes() == b"kept"


@pytest.mark.parametrize("case", [STRIPS, TILES, PNG], ids=lambda case: case.name)
def test_plain_copies_keep_pixels_and_layout(tmp_path, case):
    source = make_input(case, tmp_path)
    target = tmp_path / f"copy{case.suffix}"
    file_copy.main(str(source), str(target), "2")
    np.testing.assert_array_equal(read_image(target), read_image(source))
    if not case.is_png:
        with tifffile.TiffFile(source) as before, tifffile.TiffFile(target) as after:
            assert dict_of_layout(after) == dict_of_layout(before)


def dict_of_layout(tiff):
    page = tiff.pages.first
    names = ("tile", "rowsperstrip", "compression", "predictor", "photometric", "databytecounts")
    return {name: getattr(page, name) for name in names}


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("edges", ["reflect", "nearest", "mirror"])
def test_errors_are_those_against_the_whole_image(edges):
    image = noise((410, 523), np.uint8)
    exact = naive.gaussian(image, 3.0, mode=edges)
    oracle = Oracle(image, 3.0)
    assert oracle.largest_error(exact, edges) < 1e-9
    assert 0.4 < oracle.largest_error(np.rint(exact), edges) <= 0.5
    others = {"reflect", "nearest", "mirror"} - {edges}
    assert min(oracle.largest_error(exact, other) for other in others) > 1


@pytest.mark.parametrize("pixel", [(0, 0, 0), (-1, -1, 2), (300, 0, 1), (0, 300, 1), (300, 300, 0)])
def test_errors_are_found_in_corners_at_edges_and_in_the_middle(pixel):
    image = noise((600, 600, 3), np.uint8)
    result = image.astype(np.float32)
    result[pixel] += 7
    assert Oracle(image, 0).largest_error(result, "reflect") == 7


def test_results_of_another_shape_are_refused():
    image = noise((20, 30), np.uint8)
    with pytest.raises(ValueError, match=r"shaped \(30, 20\), the image \(20, 30\)"):
        Oracle(image, 1.0).largest_error(image.T, "reflect")


# ----------------------------------------------------------------------------------------------------------- measures


def test_peak_memory_is_that_of_the_process_and_not_of_whoever_starts_it():
    held = np.ones(200 * MEGABYTE, dtype=np.uint8)
    empty_seconds, empty = run_process([sys.executable, "-S", "-c", "pass"])
    code = f"import time; block = b'1' * {100 * MEGABYTE}; time.sleep(0.3)"
    seconds, full = run_process([sys.executable, "-S", "-c", code])
    assert empty < held.nbytes / 4
    assert 95 * MEGABYTE < full - empty < 110 * MEGABYTE
    assert seconds > 0.3
    assert empty_seconds < seconds


def test_failing_commands_tell_why():
    with pytest.raises(RuntimeError, match=r"^the last words$"):
        run_process([sys.executable, "-c", "print('more'); raise SystemExit('the last words')"])
    with pytest.raises(RuntimeError, match=r"^exit status 3$"):
        run_process([sys.executable, "-c", "raise SystemExit(3)"])


def test_processes_keep_the_bytecode_of_modules_as_installed_ones_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    answer = tmp_path / "answer"
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(str(sys.dont_write_bytecode))"
    run_process([sys.executable, "-c", code, str(answer)])
    assert answer.read_text() == "False"


def copy_instead(wrong):
    """Return a contestant that copies the input, with a wrong pixel or not."""
    code = (
        "import sys, tifffile; image = tifffile.imread(sys.argv[1]); "
        f"image[0, 0] += {wrong}; tifffile.imwrite(sys.argv[2], image)"
    )
    return Peer(
        lambda _case, source, target, _threads: [sys.executable, "-c", code, str(source), str(target)], "-", True
    )


def test_contestants_are_measured_and_checked_and_leave_nothing(tmp_path):
    said = []
    failing = Peer(lambda *_: [sys.executable, "-c", "raise SystemExit('no such sigma')"])
    peers = {"right": copy_instead(0), "wrong": copy_instead(1), "failing": failing}
    peers["only for PNG"] = Peer(failing.command, png_only=True)
    result = measure_case(STRIPS, peers, tmp_path, 1, ONCE, said.append)
    right, wrong = result.outcomes["right"], result.outcomes["wrong"]
    assert (right.error, wrong.error) == (0, 1)
    assert STRIPS.pixel_bytes < right.written < STRIPS.pixel_bytes + 2000
    assert 0 < right.low <= right.seconds <= right.high
    assert right.runs == 1
    assert right.flush_seconds > 0
    assert right.peak_memory > STRIPS.pixel_bytes
    assert result.failures == {"failing": "RuntimeError: no such sigma"}
    assert list(tmp_path.iterdir()) == [STRIPS.input_in(tmp_path)]
    assert any(line.startswith("uncompressed-5: right: ") for line in said)


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5_000_000}))
    with pytest.raises(RuntimeError, match=r"has 0\.0 GB free"):
        measure_case(STRIPS, {}, tmp_path, 1, ONCE, print)
    assert not list(tmp_path.iterdir())


def test_writers_are_told_the_layout_and_the_compression(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"

    def command(name, case):
        return PEERS[name].command(case, source, target, 2)

    start = ["vips", "--vips-concurrency=2", "gaussblur", str(source)]
    assert command(VIPS_INTEGER, STRIPS) == [*start, str(target), "5", "--precision", "integer"]
    tiles = f"{target}[compression=deflate,predictor=horizontal,tile,tile-width={TILE},tile-height={TILE}]"
    assert command(VIPS_FLOAT, TILES) == [*start, tiles, "5", "--precision", "float"]
    assert command(f"{VIPS_FLOAT}, fast PNG", PNG)[4] == f"{target}[compression=1,filter=paeth]"
    assert command("OpenCV", TILES)[-3:] == ["5", "2", "1"]
    assert command("OpenCV", PNG)[-3:] == ["5", "2", "0"]


def test_contestants_that_are_missing_are_told():
    command = PEERS[OWN].command
    assert Peer(command).why_absent() is None
    assert Peer(command, module="numpy").why_absent() is None
    assert Peer(command, module="no_such_module").why_absent() == "there is no module 'no_such_module'"
    assert Peer(command, program="no-such-program").why_absent() == "there is no program 'no-such-program'"


# --------------------------------------------------------------------------------------------------------------- page


def outcome(seconds):
    return Outcome(seconds, seconds, seconds, 1, 0.25, 150_000_000, 268_000_000, 0.5)


def results_of(*names, **changes):
    machine = dict.fromkeys(("model", "caches", "memory", "system", "python", "vips"), "some")
    machine |= {"cores": 2, "threads": 2, "packages": {"numpy": "2.0"}, **changes}
    cases = {case.name: CaseResult(case.title, 1, {OWN: outcome(1.0)}) for case in CASES if case.name in names}
    return file_page.Results(machine, "2026-01-01", cases)


def test_goals_are_missed_as_plainly_as_met():
    results = results_of("uncompressed-5")
    seconds = {OWN_COPY: 0.5, PLAIN_COPY: 0.25, VIPS_INTEGER: 2.0, VIPS_FLOAT: 7.5}
    results.cases["uncompressed-5"].outcomes |= {name: outcome(value) for name, value in seconds.items()}
    page = file_page.render(results)
    assert "| libvips, integer: at least 2 | 2.00 | met |" in page
    assert "| libvips, float: at least 8 | 7.50 | **missed** |" in page
    assert "| copy: at most 2.5 | 4.00 | **missed** |" in page  # against the faster one
    assert f"| {PLAIN_COPY} | - | 0.25 | 0.25 to 0.25 | 1 | **0.25** | 0.25 | 150 | 268 | 0.5 |" in page


def test_small_versions_have_no_goals():
    results = results_of("uncompressed-5")
    assert "## Goals" in file_page.render(results)
    results.cases["uncompressed-5"].title = STRIPS.title
    assert "## Goals" not in file_page.render(results)


def test_page_names_what_failed_and_what_was_not_there():
    results = results_of("png-5")
    results.cases["png-5"].failures["OpenCV"] = "it is too large"
    results.absent["pyvips"] = "there is no module 'pyvips'"
    page = file_page.render(results)
    assert "- OpenCV failed: it is too large\n" in page
    assert page.endswith("## Left out\n\n- pyvips: there is no module 'pyvips'\n")


def test_earlier_results_stay_for_cases_that_were_not_measured_again(tmp_path):
    path = tmp_path / "results.json"
    assert results_of("png-5").with_earlier(path) == results_of("png-5")
    path.write_text(results_of("png-5", "deflate-5").to_json())
    results = results_of("deflate-5")
    results.cases["deflate-5"].title = "measured again"
    titles = {name: case.title for name, case in results.with_earlier(path).cases.items()}
    assert titles == {"png-5": CASES[3].title, "deflate-5": "measured again"}
    assert results_of("deflate-5", threads=4).with_earlier(path) == results_of("deflate-5", threads=4)


@pytest.mark.slow
def test_all_contestants_that_are_there_filter_files(tmp_path, capsys):
    results, page = tmp_path / "files.json", tmp_path / "files.md"
    files.main(["--quick", "--case", "deflate-5", "--folder", str(tmp_path), "--threads", "2"])
    assert capsys.readouterr().out == page.read_text()
    measured = CaseResult.from_dict(json.loads(results.read_text())["cases"]["deflate-5"])
    absent = {name for name, peer in PEERS.items() if peer.why_absent() is not None}
    assert measured.failures == {}
    assert set(measured.outcomes) == {name for name, peer in PEERS.items() if not peer.png_only} - absent
    assert all(f"- {name}: there is no " in page.read_text() for name in absent)
    assert measured.outcomes[OWN].error <= 0.51
    assert measured.outcomes[OWN_COPY].error == measured.outcomes[PLAIN_COPY].error == 0
    assert max(outcome.error for outcome in measured.outcomes.values()) < 20
