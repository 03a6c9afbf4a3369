"""Images on stdin and stdout: in shell pipes, from and to files, and where one of the two ends too early."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import blurfast
from blurfast.errors import UnreadableError, UnsupportedError, UnwritableError
from blurfast.io.pipes import readable_path, writable_path
from blurfast_cli import filtering
from tests.batches import lines_of
from tests.cli_runs import assert_refused, command, noise, run, single_line, write_tiff

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals, pipes and terminals")

SIGMA = ("--sigma", "2")


@pytest.fixture
def png(tmp_path: Path) -> Path:
    Image.fromarray(noise((70, 90, 3))).save(tmp_path / "in.png")
    return tmp_path / "in.png"


@pytest.fixture
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory for temporary files of all processes that are started, which is empty."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def pipe(data: bytes, *arguments: str | os.PathLike[str]) -> subprocess.CompletedProcess[bytes]:
    """Run the command line with `data` coming in through a pipe."""
    return subprocess.run(command(*arguments), input=data, capture_output=True, check=False, timeout=60)


def filtered(path: Path, *arguments: str) -> bytes:
    """Return the bytes of the file that the command line makes of a file."""
    target = path.with_name(f"expected{path.suffix}")
    assert run("gaussian", path, target, *SIGMA, *arguments, "--overwrite").status == 0
    return target.read_bytes()


def error_of(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the only line on stderr, after a check that nothing is on stdout."""
    assert done.stdout == b""
    line = single_line(done.stderr.decode())
    assert line.startswith("blurfast: error: "), line
    return line


# ---- what goes through


def test_png_passes_through_pipes(png: Path, temporary_files: Path) -> None:
    done = pipe(png.read_bytes(), "gaussian", "-", "-", *SIGMA)
    assert (done.returncode, done.stdout) == (0, filtered(png))
    assert single_line(done.stderr.decode()).startswith("stdin -> stdout: 6,300 pixels in ")
    assert list(temporary_files.iterdir()) == []


@pytest.mark.parametrize("options", [{}, {"tile": (16, 32), "compression": "zstd", "bigtiff": True, "byteorder": ">"}])
def test_tiff_passes_through_pipes(tmp_path: Path, options: dict[str, object]) -> None:
    tifffile.imwrite(tmp_path / "in.tif", noise((3, 70, 90), "uint16"), photometric="minisblack", **options)
    done = pipe((tmp_path / "in.tif").read_bytes(), "gaussian", "-", "-", *SIGMA, "--quiet")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == filtered(tmp_path / "in.tif")
    np.testing.assert_array_equal(
        tifffile.imread(io.BytesIO(done.stdout)),
        [blurfast.gaussian(page, 2) for page in tifffile.imread(tmp_path / "in.tif")],
    )


@posix_only
def test_shells_connect_several_filters(png: Path, tmp_path: Path) -> None:
    program = " ".join(f"'{word}'" for word in command())
    line = f"{program} gaussian - - --sigma 2 < in.png | {program} gaussian - - --sigma 3 --quiet > out.png"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=True, timeout=60)
    assert done.stdout == b""
    once = blurfast.gaussian(np.asarray(Image.open(png)), 2, channel_axis=-1)
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "out.png")), blurfast.gaussian(once, 3, channel_axis=-1)
    )


@pytest.mark.parametrize("before", [b"", b"what another program has read"])
def test_redirected_files_are_read_from_where_they_are(png: Path, tmp_path: Path, before: bytes) -> None:
    (tmp_path / "with header.bin").write_bytes(before + png.read_bytes())
    with open(tmp_path / "with header.bin", "rb", buffering=0) as stdin:
        stdin.read(len(before))
        done = subprocess.run(
            command("gaussian", "-", "-", *SIGMA), stdin=stdin, capture_output=True, check=True, timeout=60
        )
    assert done.stdout == filtered(png)


def test_one_of_the_two_may_be_a_file(png: Path, tmp_path: Path) -> None:
    assert pipe(png.read_bytes(), "gaussian", "-", tmp_path / "out.png", *SIGMA).returncode == 0
    assert (tmp_path / "out.png").read_bytes() == filtered(png)
    assert pipe(b"", "gaussian", png, "-", *SIGMA).stdout == filtered(png)


def test_formats_are_told_by_content_or_chosen(png: Path, tmp_path: Path) -> None:
    pixels = blurfast.gaussian(np.asarray(Image.open(png)), 2, channel_axis=-1)
    as_tiff = pipe(png.read_bytes(), "gaussian", "-", "-", *SIGMA, "--format", "tiff", "--compression", "deflate")
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(as_tiff.stdout)), pixels)
    write_tiff(tmp_path / "in.tif")
    as_png = pipe(b"", "gaussian", tmp_path / "in.tif", "-", *SIGMA, "--format", "png")
    expected = blurfast.gaussian(tifffile.imread(tmp_path / "in.tif"), 2)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(as_png.stdout))), expected)


def test_other_formats_need_a_choice(tmp_path: Path) -> None:
    Image.fromarray(noise((20, 30))).save(tmp_path / "in.jpg")
    jpeg = (tmp_path / "in.jpg").read_bytes()
    done = pipe(jpeg, "gaussian", "-", "-", *SIGMA)
    assert done.returncode == 4
    assert error_of(done).endswith("stdout: the input's format is not written there; choose --format png or tiff")
    chosen = pipe(jpeg, "gaussian", "-", "-", *SIGMA, "--format", "png")
    expected = blurfast.gaussian(np.asarray(Image.open(tmp_path / "in.jpg")), 2)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(chosen.stdout))), expected)


def test_a_file_may_be_called_like_stdin(png: Path, tmp_path: Path) -> None:
    (tmp_path / "-").write_bytes(png.read_bytes())
    with contextlib.chdir(tmp_path):
        assert run("gaussian", "./-", "out.png", *SIGMA).status == 0
    assert (tmp_path / "out.png").read_bytes() == filtered(png)


def test_plans_of_stdin_can_be_explained(png: Path) -> None:
    done = pipe(png.read_bytes(), "gaussian", "-", *SIGMA, "--explain", "--json")
    record = json.loads(done.stdout)
    assert (record["source"], record["plans"][0]["shape"]) == ("-", [70, 90, 3])


# ---- what the streams are called


@pytest.mark.parametrize("arguments", [("info",), ("gaussian", *SIGMA, "--explain"), ("plan", "--kernel", "disk:7")])
def test_people_read_a_name_and_programs_a_dash(png: Path, arguments: tuple[str, ...]) -> None:
    command_name, *options = arguments
    assert pipe(png.read_bytes(), command_name, "-", *options).stdout.startswith(b"stdin\n")
    assert json.loads(pipe(png.read_bytes(), command_name, "-", *options, "--json").stdout)["source"] == "-"


def test_notes_and_results_name_stdin(tmp_path: Path) -> None:
    Image.fromarray(noise((20, 30))).save(tmp_path / "in.tif", tiffinfo={280: 3})  # MinSampleValue
    done = pipe((tmp_path / "in.tif").read_bytes(), "gaussian", "-", tmp_path / "out.tif", *SIGMA, "--json")
    record, (summary, note) = json.loads(done.stdout), done.stderr.decode().splitlines()
    assert (record["source"], record["target"]) == ("-", str(tmp_path / "out.tif"))
    assert summary.startswith(f"stdin -> {tmp_path / 'out.tif'}: 600 pixels in ")
    assert note == f"note: stdin: {record['notices'][0]}"
    again = pipe(b"", "gaussian", "-", tmp_path / "out.tif", *SIGMA, "--skip-existing")
    assert again.stderr.decode() == f"stdin: skipped, since {tmp_path / 'out.tif'} is there\n"


@pytest.mark.parametrize("manifest", [False, True])
def test_bugs_name_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, manifest: bool) -> None:
    def fail(*_arguments: object, **_settings: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(filtering, "filter_file", fail)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"an image")))
    options = ("--manifest", tmp_path / "log") if manifest else ()
    done = run("gaussian", "-", tmp_path / "out.png", *SIGMA, *options)
    assert (done.status, done.stderr.startswith("blurfast: internal error: stdin: ZeroDivisionError: ")) == (70, True)
    if manifest:
        (line,) = lines_of(tmp_path / "log")
        assert (line["source"], line["error"].partition(":")[0]) == ("-", "stdin")


# ---- what is refused


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["in.png", "-", "--json"], "would mix on stdout; use --manifest instead"),
        (["in.png", "out.png", "--format", "png"], "--format is for OUT '-' only"),
        (["in.png", "-", "--format", "jpeg"], "'jpeg' is not one of"),
        (["-", "--out-dir", "out"], "with --out-dir, '-' is an input, stdin, which gives no name for its output"),
        (["in.png", "-", "--out-dir", "out"], "which gives no name for its output; give IN and OUT instead"),
        (["-", "in.png", "-", "--out-dir", "out"], "stdin can be read only once"),
        (["in.png", "-", "--format", "png", "--tile", "strips"], "--tile is for TIFF outputs, and there are none"),
        (["-"], "OUT is missing"),
    ],
)
def test_wrong_usage_is_refused(png: Path, arguments: list[str], fact: str) -> None:
    with contextlib.chdir(png.parent):
        assert_refused(run("gaussian", *arguments, *SIGMA), 2, fact)
        assert os.listdir() == ["in.png"]


@posix_only
@pytest.mark.parametrize(
    ("paths", "fact"), [(("in.png", "-"), "> out.png"), (("-", "out.png"), "< in.png"), (("-", "-"), "< in.png")]
)
def test_terminals_are_no_images(png: Path, paths: tuple[str, str], fact: str) -> None:
    import pty

    terminal, other_end = pty.openpty()
    done = subprocess.run(
        command("gaussian", *paths, *SIGMA),
        cwd=png.parent, stdin=other_end, stdout=other_end, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
    )  # fmt: skip
    os.close(other_end)
    os.close(terminal)
    assert done.returncode == 2
    assert f"redirect std{'out' if '>' in fact else 'in'}, as with '{fact}'" in single_line(done.stderr)


# ---- what ends too early


def test_nothing_comes_in() -> None:
    done = pipe(b"", "gaussian", "-", "-", *SIGMA)
    assert (done.returncode, error_of(done)) == (
        3,
        "blurfast: error: stdin: nothing came in; check the program before the pipe",
    )


@pytest.mark.usefixtures("png")
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_input_that_is_cut_off_gives_no_output(tmp_path: Path, temporary_files: Path, suffix: str) -> None:
    write_tiff(tmp_path / "in.tif", (70, 90))
    done = pipe((tmp_path / f"in.{suffix}").read_bytes()[:3000], "gaussian", "-", "-", *SIGMA)
    assert done.returncode == 3
    assert error_of(done).startswith("blurfast: error: stdin: ")
    assert list(temporary_files.iterdir()) == []


@posix_only
@pytest.mark.parametrize(
    ("redirection", "status", "fact"),
    [("- - <&-", 3, "stdin: is closed"), ("in.png - >&-", 5, "stdout: is closed")],
)
def test_closed_streams(png: Path, redirection: str, status: int, fact: str) -> None:
    program = " ".join(f"'{word}'" for word in command("gaussian", "--sigma", "2"))
    line = f"{program} {redirection}"
    done = subprocess.run(["sh", "-c", line], cwd=png.parent, capture_output=True, check=False, timeout=60)
    assert done.returncode == status
    assert fact in error_of(done)


@posix_only
def test_a_reader_that_goes_away_ends_the_run_quietly(tmp_path: Path, temporary_files: Path) -> None:
    Image.fromarray(noise((1500, 2000))).save(tmp_path / "in.png")  # far more than a pipe holds
    process = subprocess.Popen(
        command("gaussian", tmp_path / "in.png", "-", *SIGMA, "--quiet"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(10).startswith(b"\x89PNG")
    process.stdout.close()
    assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 141)
    process.stderr.close()
    assert list(temporary_files.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_output_that_has_no_room_is_an_error(png: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("gaussian", png, "-", *SIGMA),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 5
    assert single_line(done.stderr).startswith("blurfast: error: stdout: cannot be written")


def test_failures_of_the_filter_leave_stdout_empty(png: Path, temporary_files: Path) -> None:
    done = pipe(png.read_bytes(), "gaussian", "-", "-", *SIGMA, "--max-memory", "2MB")
    assert done.returncode == 5
    assert "stdin: does not fit into 2 MB" in error_of(done)
    assert list(temporary_files.iterdir()) == []


@posix_only
@pytest.mark.usefixtures("png")
def test_room_for_the_copy_is_missing(tmp_path: Path) -> None:
    program = " ".join(f"'{word}'" for word in command("gaussian", "-", "-", "--sigma", "2"))
    line = f"ulimit -f 4; cat in.png | {program}"  # blocks of 512 bytes
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=False, timeout=60)
    assert done.returncode == 5
    assert error_of(done).endswith("; set TMPDIR to a directory with room for it")


# ---- temporary files


def start_reading(temporary_files: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a run that waits for more input, and return it with its copy of what has come."""
    before = set(temporary_files.iterdir())
    process = subprocess.Popen(
        command("gaussian", "-", "-", *SIGMA), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not (copies := set(temporary_files.iterdir()) - before):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process, copies.pop()


@posix_only
def test_nobody_else_can_read_the_copy(temporary_files: Path) -> None:
    process, copy = start_reading(temporary_files)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    process.communicate(timeout=60)
    assert process.returncode == 3
    assert list(temporary_files.iterdir()) == []


@posix_only
def test_interrupts_remove_the_copy(temporary_files: Path) -> None:
    process, _ = start_reading(temporary_files)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (130, b"", b"blurfast: interrupted\n")
    assert list(temporary_files.iterdir()) == []


@posix_only
def test_copies_of_killed_runs_are_removed_by_the_next(png: Path, temporary_files: Path) -> None:
    process, copy = start_reading(temporary_files)
    other, copy_in_use = start_reading(temporary_files)
    process.kill()
    process.communicate(timeout=60)
    assert copy.exists()
    assert pipe(png.read_bytes(), "gaussian", "-", "-", *SIGMA).returncode == 0
    assert list(temporary_files.iterdir()) == [copy_in_use]
    other.communicate(timeout=60)


@pytest.fixture
def temporary_files_here(temporary_files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory for temporary files of this process, which is empty."""
    monkeypatch.setattr(tempfile, "tempdir", None)  # so that TMPDIR is looked up again
    return temporary_files


def test_a_stream_gets_a_path_inside_the_block_only(temporary_files_here: Path) -> None:
    data = noise((3000, 1000)).tobytes()
    with readable_path(io.BytesIO(data), "stdin") as path:
        assert Path(path).parent == temporary_files_here
        assert [Path(path).read_bytes() for _ in range(2)] == [data] * 2
    assert list(temporary_files_here.iterdir()) == []


def test_errors_about_the_paths_name_what_the_user_knows(temporary_files_here: Path) -> None:
    with pytest.raises(UnreadableError, match=r"^stdin: is odd"), readable_path(io.BytesIO(b"x"), "stdin") as path:
        raise UnreadableError("is odd", path=path)
    with pytest.raises(UnsupportedError, match=r"^stdout: is odd"), writable_path(".png", "stdout") as path:
        raise UnsupportedError("is odd", path=path)
    with (
        pytest.raises(UnwritableError, match=rf"^{temporary_files_here}: the disk is full"),
        writable_path(".png", "stdout") as path,
    ):
        raise UnwritableError("the disk is full", path=path)
    with pytest.raises(UnreadableError, match=r"^other\.png: is odd"), readable_path(io.BytesIO(b"x"), "stdin"):
        raise UnreadableError("is odd", path="other.png")
    assert list(temporary_files_here.iterdir()) == []


def test_a_directory_for_temporary_files_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(UnwritableError, match="the input cannot be kept there"), readable_path(io.BytesIO(b"x"), "a"):
        pass
    with pytest.raises(UnwritableError, match="the output cannot be kept there"), writable_path(".png", "a"):
        pass


@posix_only
@pytest.mark.usefixtures("temporary_files_here")
def test_pipes_that_do_not_wait_are_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)

    def write_slowly() -> None:
        for _ in range(3):
            time.sleep(0.05)
            os.write(writer, b"some ")
        os.close(writer)

    thread = threading.Thread(target=write_slowly)
    thread.start()
    with open(reader, "rb") as stream, readable_path(stream, "stdin") as path:
        assert Path(path).read_bytes() == b"some some some "
    thread.join()
