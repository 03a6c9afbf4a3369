"""The command line where something goes wrong: one line on stderr, the right exit status, no output left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blurfast_cli import filtering
from blurfast_cli.interrupts import Stopped, stopping_on_signals
from tests.cli_runs import assert_refused, command, run, run_process, single_line, write_tiff

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals and pipes")


# ---- wrong usage


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ([], "Missing option '--sigma'"),
        (["--sigma"], "'--sigma' requires an argument"),
        (["--sigma", "x"], "Invalid value for '--sigma': 'x' is not one number or two"),
        (["--sigma", ""], "Invalid value for '--sigma'"),
        (["--sigma", "1,2,3"], "more than two numbers"),
        (["--sigma", "-1"], "Invalid value for '--sigma': -1.0; it must be from 0 to 10000"),
        (["--sigma", "nan"], "Invalid value for '--sigma': nan"),
        (["--sigma", "2", "--order", "1.5"], "Invalid value for '--order': '1.5' is not one integer"),
        (["--sigma", "2", "--order", "4"], "Invalid value for '--order': 4; it must be from 0 to 3"),
        (["--sigma", "0", "--order", "1"], "a derivative needs a sigma from 0.001 on"),
        (["--sigma", "2", "--truncate", "-1"], "Invalid value for '--truncate'"),
        (["--sigma", "2", "--tolerance", "2"], "Invalid value for '--tolerance'"),
        (["--sigma", "2", "--truncate", "3", "--tolerance", "0.1"], "truncate and tolerance both"),
        (["--sigma", "2", "--mode", "fold"], "'fold' is not one of 'reflect'"),
        (["--sigma", "2", "--cval", "x"], "Invalid value for '--cval'"),
        (["--sigma", "2", "--alpha", "no"], "Invalid value for '--alpha'"),
        (["--sigma", "2", "--backend", "gpu"], "Invalid value for '--backend'"),
        (["--sigma", "2", "--method", "magic"], "Invalid value for '--method'"),
        (["--sigma", "2", "--threads", "0"], "Invalid value for '--threads'"),
        (["--sigma", "2", "--threads", "all"], "Invalid value for '--threads': 'all' is not a valid whole number"),
        (["--sigma", "2", "--png-level", "fast"], "'fast' is no level: 0, not compressed, or from 1, fastest, to 9, s"),
        (["--sigma", "2", "--png-level", "10"], "'--png-level': '10' is no level: 0, not compressed, or from 1, fa"),
        (["--sigma", "2", "--png-level", "3"], "--png-level is for PNG outputs, and there are none; leave it out"),
        (["--sigma", "2", "--max-memory", "lots"], "Invalid value for '--max-memory': 'lots'; it must be a size"),
        (["--sigma", "2", "--max-memory", "0"], "Invalid value for '--max-memory'"),
        (["--sigma", "2", "--compression", "rar"], "'rar' is unknown"),
        (["--sigma", "2", "--compression", "zstd:99"], "Invalid value for '--compression'"),
        (["--sigma", "2", "--bogus"], "No such option '--bogus'"),
    ],
)
def test_wrong_usage_names_the_option(image: Path, tmp_path: Path, arguments: list[str], fact: str) -> None:
    done = run("gaussian", image, tmp_path / "out.tif", *arguments)
    assert_refused(done, 2, fact)
    assert os.listdir(tmp_path) == ["in.tif"]


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["gaussian", "--sigma", "1"], "Missing argument"),
        (["gaussian", "a.tif", "--sigma", "1"], "OUT is missing"),
        (["gaussian", "a.tif", "b.tif", "c.tif", "--sigma", "1"], "several inputs need --out-dir"),
        (["gausian"], "No such command 'gausian'"),
        (["info"], "Missing argument"),
        (["info", "a.tif", "--sigma", "-1"], "Invalid value for '--sigma'"),
        (["completion", "cmd"], "'cmd' is not one of"),
        (["--bogus"], "No such option"),
    ],
)
def test_wrong_commands_are_refused(arguments: list[str], fact: str) -> None:
    assert_refused(run(*arguments), 2, fact)


def test_no_command_shows_the_help_on_stderr() -> None:
    done = run()
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: blurfast ")


def test_collisions_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    images = [write_tiff(tmp_path / directory / "in.tif") for directory in ("one", "two")]
    for inputs in (images, [images[0], images[0]]):
        done = run("gaussian", *inputs, "--out-dir", tmp_path / "out", "--sigma", "1", "--overwrite")
        assert_refused(done, 2, f"would both become {tmp_path / 'out' / 'in.tif'}")
        assert not (tmp_path / "out").exists()


@posix_only
def test_outputs_may_not_replace_other_inputs(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    first, second = write_tiff(tmp_path / "a.tif"), write_tiff(tmp_path / "b.tif")
    (tmp_path / "out" / "a.tif").symlink_to(second)
    done = run("gaussian", first, second, "--out-dir", tmp_path / "out", "--sigma", "1", "--overwrite")
    assert_refused(done, 2, f"would replace the input {second}")


def test_output_is_not_replaced_unless_told(image: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.tif"
    output.write_bytes(b"precious")
    done = run("gaussian", image, output, "--sigma", "1")
    assert (done.status, output.read_bytes()) == (2, b"precious")
    assert single_line(done.stderr) == f"blurfast: error: {output}: the output exists; use --overwrite to replace it"
    assert run("gaussian", image, output, "--sigma", "1", "--overwrite").status == 0
    assert tifffile.imread(output).shape == (40, 60)


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
_NUMBER = (
    st.floats().map(str) | st.integers().map(str) | st.tuples(st.floats(), st.floats()).map("{0[0]},{0[1]}".format)
)
_OPTION = st.sampled_from(
    [
        *("--sigma", "--order", "--truncate", "--tolerance", "--mode", "--cval", "--alpha", "--backend", "--method"),
        *("--threads", "--max-memory", "--compression", "--explain", "--json", "--quiet", "--order=1", "-", "--", "-x"),
        *("--jobs", "--skip-existing", "--fail-fast", "--manifest", "--format"),
    ]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=st.lists(_OPTION | _NUMBER | _TEXT, max_size=8))
def test_no_arguments_whatever_give_an_internal_error(tmp_path: Path, arguments: list[str]) -> None:
    with contextlib.chdir(tmp_path):
        done = run("gaussian", "missing.tif", "out.tif", *arguments)
    assert done.status in ({0, 1, 2, 3} if {"--help", "-h"} & set(arguments) else {1, 2, 3})
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["--sigma", "--order", "--tolerance", "--cval", "--threads", "--max-memory"]), value=_NUMBER
)
def test_no_number_gives_an_internal_error(image: Path, name: str, value: str) -> None:
    done = run("gaussian", image, "--explain", "--sigma=2", f"{name}={value}")
    assert done.status in (0, 2, 5)


# ---- files and machines


def test_missing_input(tmp_path: Path) -> None:
    done = run("gaussian", tmp_path / "in.tif", tmp_path / "out.tif", "--sigma", "1")
    assert done == (3, "", f"blurfast: error: {tmp_path / 'in.tif'}: no such file; check the name\n")


@posix_only
def test_names_need_not_be_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.tif")
    done = run_process("info", name, directory=tmp_path, LC_ALL="C.UTF-8")
    assert (done.status, single_line(done.stderr)) == (
        3,
        "blurfast: error: caf\\udce9.tif: no such file; check the name",
    )
    write_tiff(tmp_path / name)
    done = run_process("gaussian", name, f"out{name}", "--sigma", "1", "--json", directory=tmp_path)
    assert done.status == 0
    assert json.loads(done.stdout)["source"] == name


@pytest.mark.parametrize("content", [b"", b"II*\0", b"\x89PNG\r\n\x1a\n", b"not an image at all, only some text"])
@pytest.mark.parametrize("arguments", [["info"], ["gaussian", "--sigma", "1", "--out-dir", "out"]])
def test_unreadable_input(tmp_path: Path, content: bytes, arguments: list[str]) -> None:
    (tmp_path / "bad.tif").write_bytes(content)
    with contextlib.chdir(tmp_path):
        done = run(*arguments, "bad.tif")
    assert (done.status, done.stdout) == (3, "")
    assert single_line(done.stderr).startswith("blurfast: error: bad.tif: ")


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("out.xyz", "no output has the suffix '.xyz'; give an output named .tif, .tiff, .png, "),
        ("out.ndpi", "no output has the suffix '.ndpi'; give an output named .tif, "),
        ("out", "has no suffix, which would name its format; give an output named .tif, "),
    ],
)
def test_unsupported_output(image: Path, tmp_path: Path, name: str, fact: str) -> None:
    assert_refused(run("gaussian", image, tmp_path / name, "--sigma", "1"), 4, f"{tmp_path / name}: {fact}")


@pytest.mark.parametrize("name", ["folder", f"new{os.sep}"])
def test_an_output_that_is_a_directory(image: Path, tmp_path: Path, name: str) -> None:
    """As cp and mv would take it, and the user may expect."""
    (tmp_path / "folder").mkdir()
    target = os.path.join(tmp_path, name)
    done = run("gaussian", image, target, "--sigma", "1")
    assert_refused(done, 2, f"{target}: is a directory; name a file in it, or give it as --out-dir")


def test_unsupported_pixels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "in.tif", np.zeros((20, 30), "complex64"))
    assert run("gaussian", tmp_path / "in.tif", tmp_path / "out.tif", "--sigma", "1").status == 4
    assert os.listdir(tmp_path) == ["in.tif"]


def test_memory_that_does_not_suffice(image: Path, tmp_path: Path) -> None:
    done = run("gaussian", image, tmp_path / "out.tif", "--sigma", "1", "--max-memory", "2MB")
    assert done.status == 5
    (remedy,) = re.findall(r"use (--max-memory \w+) or more$", single_line(done.stderr))
    assert run("gaussian", image, tmp_path / "out.tif", "--sigma", "1", *remedy.split()).status == 0


def test_missing_directory(image: Path, tmp_path: Path) -> None:
    done = run("gaussian", image, tmp_path / "no" / "out.tif", "--sigma", "1")
    assert_refused(done, 2, "create the directory first")


def test_out_dir_that_is_a_file(image: Path) -> None:
    done = run("gaussian", image, "--out-dir", image, "--sigma", "1")
    assert done == (2, "", f"blurfast: error: {image}: is not a directory; name a directory\n")


@posix_only
def test_full_disk_leaves_no_output(tmp_path: Path) -> None:
    write_tiff(tmp_path / "in.tif", (600, 700))
    program = " ".join(f"'{word}'" for word in command("gaussian", "in.tif", "out.tif", "--sigma", "1"))
    limited = subprocess.run(
        ["sh", "-c", f"ulimit -f 100; exec {program}"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert limited.returncode == 5
    assert single_line(limited.stderr).startswith("blurfast: error: out.tif: ")
    assert os.listdir(tmp_path) == ["in.tif"]


# ---- batches


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    images = [write_tiff(tmp_path / "a.tif"), tmp_path / "bad.tif", write_tiff(tmp_path / "c.tif")]
    images[1].write_bytes(b"not an image")
    done = run_process("gaussian", *images, "--out-dir", tmp_path / "out", "--sigma", "1", "--json")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.status == 1
    assert [record["status"] for record in records] == ["ok", "failed", "ok"]
    assert records[1]["source"] == str(images[1])
    assert records[1]["exit_status"] == 3
    assert records[1]["error"] in done.stderr
    assert "3 files: 2 done, 1 failed, in " in done.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["a.tif", "c.tif"]


def test_batch_that_fails_altogether_ends_with_1(tmp_path: Path) -> None:
    assert run("gaussian", tmp_path / "a.tif", tmp_path / "b.tif", "--out-dir", tmp_path, "--sigma", "1").status == 1
    assert run("info", tmp_path / "a.tif", tmp_path / "b.tif").status == 1


def test_single_failure_is_also_told_as_json(tmp_path: Path) -> None:
    done = run("gaussian", tmp_path / "a.tif", tmp_path / "b.tif", "--sigma", "1", "--json")
    record = json.loads(single_line(done.stdout))
    assert done.status == record["exit_status"] == 3
    assert done.stderr == f"blurfast: error: {record['error']}\n"


# ---- bugs, exhausted memory, --debug


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def filter_file(*_arguments: Any, **_settings: Any) -> None:
        raise error

    monkeypatch.setattr(filtering, "filter_file", filter_file)


def test_bugs_become_one_line(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ZeroDivisionError("by\nzero"))
    assert run("gaussian", image, "out.tif", "--sigma", "1") == (
        70,
        "",
        f"blurfast: internal error: {image}: ZeroDivisionError: by zero; run again with --debug and report it\n",
    )


def test_exhausted_memory_has_a_remedy(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, MemoryError())
    done = run("gaussian", image, "out.tif", "--sigma", "1")
    assert done.status == 5
    assert single_line(done.stderr).startswith(f"blurfast: error: {image}: the memory ran out; use a smaller --max-mem")


@posix_only
@pytest.mark.parametrize("options", [("--threads", "4"), ("--jobs", "2", "--fail-fast")])
def test_threads_that_cannot_be_started(image: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    before = threading.stack_size(1 << 45)  # more than there are addresses
    try:
        done = run("gaussian", image, tmp_path / "out.tif", "--sigma", "1", *options)
    finally:
        threading.stack_size(before)
    assert_refused(done, 5, "the system starts no more threads; use fewer --threads")
    assert os.listdir(tmp_path) == [image.name]


@pytest.mark.parametrize("error", [EOFError("end"), OSError("odd"), RuntimeError("thread")])
def test_no_exception_is_taken_for_an_interrupt(image: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    fail_with(monkeypatch, error)
    assert run("gaussian", image, "out.tif", "--sigma", "1").status == 70


def test_debug_shows_tracebacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("gaussian", tmp_path / "in.tif", tmp_path / "out.tif", "--sigma", "1")
    by_option = run(*arguments, "--debug")
    monkeypatch.setenv("BLURFAST_DEBUG", "1")
    by_environment = run(*arguments)
    assert by_option.status == by_environment.status == 3
    for done in (by_option, by_environment):
        assert done.stderr.startswith("Traceback ")
        assert done.stderr.splitlines()[-1].endswith("no such file; check the name")


# ---- signals and pipes


def _take_signals() -> None:
    """Take the signals that the process which runs the tests ignores, as it does under nohup."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def slow_run(directory: Path) -> subprocess.Popen[str]:
    """Start a run that takes several seconds, and return once its output is being written."""
    write_tiff(directory / "in.tif", (3000, 4000), "float32")
    # A given truncation leaves no choice but to sum over all 8001 taps.
    arguments = ("gaussian", "in.tif", "out.tif", "--sigma", "400", "--truncate", "10", "--threads", "1")
    process = subprocess.Popen(
        command(*arguments),
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_take_signals,  # noqa: PLW1509 - no other thread runs here
    )
    deadline = time.monotonic() + 60
    while not list(directory.glob(".*.part")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    return process


@posix_only
@pytest.mark.parametrize(
    ("number", "status", "reason"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (getattr(signal, "SIGHUP", 1), 129, "hung up"),
    ],
)
def test_signals_end_a_run_without_a_trace(tmp_path: Path, number: int, status: int, reason: str) -> None:
    process = slow_run(tmp_path)
    process.send_signal(number)
    time.sleep(0.05)
    process.send_signal(number)  # impatience changes nothing
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (status, "", f"blurfast: {reason}\n")
    assert os.listdir(tmp_path) == ["in.tif"]


@posix_only
def test_interrupted_batch_keeps_what_is_done(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, Stopped(130, "interrupted"))
    done = run("gaussian", image, write_tiff(tmp_path / "b.tif"), "--out-dir", tmp_path / "out", "--sigma", "1")
    summary, reason = done.stderr.splitlines()
    assert (done.status, done.stdout, reason) == (130, "", "blurfast: interrupted")
    assert summary.startswith("2 files: 0 done, 2 not done, in ")


@posix_only
def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@posix_only
def test_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopping_on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_may_run_commands() -> None:
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(run("--version").status))
    thread.start()
    thread.join()
    assert statuses == [0]


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@posix_only
def test_broken_pipe_is_quiet(image: Path, closed_pipe: int) -> None:
    process = subprocess.run(
        command("info", *[image] * 3), stdout=closed_pipe, stderr=subprocess.PIPE, check=False, timeout=60
    )
    assert (process.returncode, process.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_results_that_cannot_be_printed_are_an_error(image: Path) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            command("info", image), stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert process.returncode == 5
    assert single_line(process.stderr).startswith("blurfast: error: stdout: cannot be written")
