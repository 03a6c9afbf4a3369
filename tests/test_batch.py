"""Batches: several files at the same time, what goes on after failures, what is skipped, and progress."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import tifffile
from PIL import Image

from blurfast.errors import MemoryBudgetError
from blurfast.files import MemoryShare, share_memory
from blurfast.resources import Resources, parse_memory
from blurfast_cli.batch import Action, Job, Outcome, Schedule, run_batch
from blurfast_cli.console import Console
from blurfast_cli.interrupts import Stopped
from blurfast_cli.progress import BatchProgress, Cancelled
from blurfast_cli.shares import Shares
from tests.batches import SIGMA, assert_blurred, blur, lines_of, posix_only, write_images
from tests.cli_runs import assert_refused, command, noise, run, run_process, single_line, write_tiff


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return write_images(tmp_path)


# ---- several at the same time


@pytest.mark.parametrize("at_once", [2, 3, 9])
def test_jobs_give_the_same_files(images: list[Path], tmp_path: Path, at_once: int) -> None:
    done = blur(*images, out=tmp_path / "out", options=(*SIGMA, "--jobs", str(at_once), "--json"))
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.status == 0
    assert {(record["source"], record["status"]) for record in records} == {(str(path), "ok") for path in images}
    assert done.stderr.splitlines()[-1].startswith("5 files: 5 done, in ")
    for path in images:
        assert_blurred(path, tmp_path / "out" / path.name)


def print_nothing(jobs: int, action: Action, schedule: Schedule) -> int:
    """Run a batch of jobs that are called by their numbers, without a word."""
    console = Console()
    console.quiet = True
    return run_batch([Job(str(number)) for number in range(jobs)], action, console, as_json=False, schedule=schedule)


def test_as_many_go_on_at_once_as_are_asked_for() -> None:
    together = threading.Barrier(3, timeout=30)

    def meet_others(_job: Job) -> Outcome:
        together.wait()
        return Outcome({})

    assert print_nothing(6, meet_others, Schedule(at_once=3)) == 0


def test_one_job_at_a_time_needs_no_thread() -> None:
    threads = set()

    def note_thread(_job: Job) -> Outcome:
        threads.add(threading.current_thread())
        return Outcome({})

    assert print_nothing(3, note_thread, Schedule()) == 0
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("error", [Stopped(141), KeyboardInterrupt()])
def test_what_stops_one_thread_stops_the_run(error: BaseException) -> None:
    done = []

    def stop(job: Job) -> Outcome:
        if job.source == "1":
            raise error
        done.append(job.source)
        return Outcome({})

    with pytest.raises(type(error)):
        print_nothing(1000, stop, Schedule(at_once=2))
    assert len(done) < 1000
    assert not [thread for thread in threading.enumerate() if thread.name == "blurfast-job"]


# ---- shares of threads and memory


@pytest.mark.parametrize(("threads", "at_once", "shares"), [(8, 3, [2, 3, 3]), (2, 4, [1, 1, 1, 1]), (5, 1, [5])])
def test_threads_are_divided(threads: int, at_once: int, shares: list[int]) -> None:
    together, limits = threading.Barrier(at_once, timeout=30), []
    whole = Shares(Resources(threads, 10**10, 7000), files=9, at_once=at_once)

    def note_limits(**share: Any) -> None:
        limits.append(share)
        together.wait()

    helpers = [threading.Thread(target=whole.use, args=(note_limits,)) for _ in range(at_once)]
    for helper in helpers:
        helper.start()
    for helper in helpers:
        helper.join()
    assert sorted(share["threads"] for share in limits) == shares
    assert {share["device_memory"] for share in limits} == {7000 // at_once}


def test_memory_is_divided_beyond_what_the_process_needs() -> None:
    share = share_memory(10**10, 4)
    assert 10**7 < share.process < 10**9
    assert 4 * (share.limit - share.process) == pytest.approx(10**10 - share.process, abs=4)
    assert share_memory(1, 4).limit == share_memory(1, 1).process


def test_what_does_not_fit_into_a_share_is_run_alone() -> None:
    shares = Shares(Resources(4, 10**10), files=3, at_once=2)
    tried: list[tuple[int, int]] = []
    running, most_running = [], []

    def need_much(*, threads: int, max_memory: MemoryShare, device_memory: int | None) -> str:
        running.append(None)
        most_running.append(len(running))
        tried.append((threads, max_memory.limit))
        time.sleep(0.05)
        alone = len(running) == 1
        running.pop()
        if max_memory.limit < 9 * 10**9:
            raise MemoryBudgetError("does not fit")
        return f"alone: {alone}, {device_memory}"

    results: list[str] = []
    helpers = [threading.Thread(target=lambda: results.append(shares.use(need_much))) for _ in range(2)]
    for helper in helpers:
        helper.start()
    for helper in helpers:
        helper.join()
    assert results == ["alone: True, None"] * 2
    assert max(most_running) == 2
    assert tried[-2:] == [(4, 10**10)] * 2
    assert shares.use(lambda **limits: limits["threads"]) == 2


def test_what_fits_nowhere_is_refused_and_leaves_the_shares_free() -> None:
    shares = Shares(Resources(4, 10**10), files=3, at_once=2)

    def need_more(**limits: Any) -> None:
        raise MemoryBudgetError(f"has {limits['threads']}")

    with pytest.raises(MemoryBudgetError, match="has 4"):
        shares.use(need_more)
    assert shares.use(lambda **limits: limits["threads"]) == 2


def test_jobs_together_keep_within_the_memory(tmp_path: Path) -> None:
    for name in "abcdef":
        Image.fromarray(noise((1200, 1500, 3))).save(tmp_path / f"{name}.png", compress_level=1)
    inputs = sorted(tmp_path.iterdir())
    limit = "180MB"  # 30 MB for each are not enough, so each is done alone
    for at_once in ("1", "2", "6"):
        done = run_process(
            *("gaussian", *inputs, "--out-dir", tmp_path / at_once, "--sigma", "20", "--json"),
            *("--max-memory", limit, "--jobs", at_once, "--threads", "2"),
        )
        assert done.status == 0, done.stderr
        peaks = [json.loads(line)["peak_memory"] for line in done.stdout.splitlines()]
        assert max(peaks) <= parse_memory(limit)


def test_explain_tells_the_share(images: list[Path], tmp_path: Path) -> None:
    arguments = ("gaussian", *images[:3], *SIGMA, "--explain", "--json", "--threads", "2", "--max-memory", "4GB")
    alone, shared = (
        [json.loads(line)["plans"][0] for line in run(*arguments, "--jobs", at_once).stdout.splitlines()]
        for at_once in ("1", "2")
    )
    assert [plan["max_memory"] for plan in alone] == [4 * 10**9] * 3
    assert all(2 * 10**9 < plan["max_memory"] < 2.5 * 10**9 for plan in shared)
    assert list(tmp_path.glob("*/")) == []


# ---- options for outputs of one format


@pytest.fixture
def mixed(tmp_path: Path) -> list[Path]:
    """Return a TIFF, a PNG and a JPEG file."""
    paths = [tmp_path / f"{name}.{name}" for name in ("tif", "png", "jpg")]
    for path in paths:
        Image.fromarray(noise((30, 40))).save(path)
    return paths


@pytest.mark.parametrize(
    ("suffixes", "option", "kind"),
    [
        (["tif"], ("--png-level", "0"), "PNG"),
        (["png", "jpg"], ("--compression", "zstd"), "TIFF"),
        (["png"], ("--pyramid",), "TIFF"),
        (["jpg"], ("--bigtiff", "no"), "TIFF"),
    ],
)
def test_options_that_are_for_no_output_are_refused_at_once(
    mixed: list[Path], tmp_path: Path, suffixes: list[str], option: tuple[str, ...], kind: str
) -> None:
    inputs = [path for path in mixed if path.suffix[1:] in suffixes]
    done = blur(*inputs, out=tmp_path / "out", options=(*SIGMA, *option, "--manifest", tmp_path / "log"))
    assert_refused(done, 2, f"{option[0]} is for {kind} outputs, and there are none; leave it out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "log").exists()


def test_options_for_some_outputs_leave_the_others_as_they_are(mixed: list[Path], tmp_path: Path) -> None:
    for directory, options in (("plain", ()), ("chosen", ("--compression", "zstd", "--png-level", "0"))):
        assert blur(*mixed, out=tmp_path / directory, options=(*SIGMA, *options)).status == 0
    sizes = [[(tmp_path / directory / path.name).stat().st_size for path in mixed] for directory in ("plain", "chosen")]
    with tifffile.TiffFile(tmp_path / "chosen" / "tif.tif") as file:
        assert file.pages[0].compression == tifffile.COMPRESSION.ZSTD
    assert sizes[1][1] > 30 * 40 >= sizes[0][1]
    assert (tmp_path / "plain" / "jpg.jpg").read_bytes() == (tmp_path / "chosen" / "jpg.jpg").read_bytes()


def test_manifests_list_the_options_that_an_output_has(mixed: list[Path], tmp_path: Path) -> None:
    """So that a change of an option for one format does not make the outputs of others anew."""
    common = (*SIGMA, "--manifest", tmp_path / "log", "--skip-existing")
    assert blur(*mixed, out=tmp_path / "out", options=common).status == 0
    assert blur(*mixed, out=tmp_path / "out", options=(*common, "--compression", "zstd")).status == 0
    lines = lines_of(tmp_path / "log")
    assert [line["parameters"]["compression"] for line in lines] == [None, None, None, "zstd", None, None]
    assert [line["status"] for line in lines] == ["done"] * 4 + ["skipped"] * 2


# ---- failures


def test_other_files_are_done_when_one_fails(images: list[Path], tmp_path: Path) -> None:
    images[1].write_bytes(b"not an image")
    for options in ((), ("--keep-going",), ("--jobs", "2")):
        done = blur(*images, out=tmp_path / "out", options=(*SIGMA, "--overwrite", *options))
        assert done.status == 1
        assert done.stderr.splitlines()[-1].startswith("5 files: 4 done, 1 failed, in ")
        assert sorted(os.listdir(tmp_path / "out")) == ["a.tif", "c.tif", "d.tif", "e.tif"]


def test_fail_fast_begins_no_other_file(images: list[Path], tmp_path: Path) -> None:
    images[1].write_bytes(b"not an image")
    done = blur(*images, out=tmp_path / "out", options=(*SIGMA, "--fail-fast"))
    assert done.status == 1
    assert done.stderr.splitlines()[-1].startswith("5 files: 1 done, 1 failed, 3 not done, in ")
    assert os.listdir(tmp_path / "out") == ["a.tif"]


def test_fail_fast_completes_what_goes_on() -> None:
    both_began, has_failed, done = threading.Barrier(2, timeout=30), threading.Event(), []

    def fail_or_finish(job: Job) -> Outcome:
        both_began.wait()
        if job.source == "0":
            has_failed.set()
            raise ValueError
        assert has_failed.wait(timeout=30)
        time.sleep(0.2)
        done.append(job.source)
        return Outcome({})

    assert print_nothing(50, fail_or_finish, Schedule(at_once=2, fail_fast=True)) == 1
    assert done == ["1"]


# ---- skipping what is there


def test_existing_outputs_are_skipped(images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.tif").write_bytes(b"precious")
    done = blur(*images, out=tmp_path / "out", options=(*SIGMA, "--skip-existing", "--json"))
    records = {record["source"]: record["status"] for record in map(json.loads, done.stdout.splitlines())}
    assert done.status == 0
    assert records == {str(path): "skipped" if path.stem == "b" else "ok" for path in images}
    assert f"{images[1]}: skipped, since {tmp_path / 'out' / 'b.tif'} is there" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("5 files: 4 done, 1 skipped, in ")
    assert (tmp_path / "out" / "b.tif").read_bytes() == b"precious"
    assert_blurred(images[0], tmp_path / "out" / "a.tif")


def test_a_single_output_is_skipped_even_if_the_input_is_gone(tmp_path: Path) -> None:
    (tmp_path / "out.tif").write_bytes(b"precious")
    done = run("gaussian", tmp_path / "in.tif", tmp_path / "out.tif", *SIGMA, "--skip-existing")
    assert (done.status, (tmp_path / "out.tif").read_bytes()) == (0, b"precious")


def test_a_directory_is_no_output_to_be_skipped(images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out" / "a.tif").mkdir(parents=True)
    done = blur(images[0], out=tmp_path / "out", options=(*SIGMA, "--skip-existing"))
    assert done.status == 2
    assert "is a directory" in single_line(done.stderr)


# ---- the end before the end


@posix_only
@pytest.mark.parametrize(
    ("number", "status", "reason"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")]
)
def test_a_signal_ends_jobs_whose_kernels_run_on(tmp_path: Path, number: str, status: int, reason: str) -> None:
    inputs = [write_tiff(tmp_path / f"{name}.tif", (1500, 2000), "float32") for name in "abc"]
    arguments = ("convolve", *inputs, "--out-dir", tmp_path / "out", "--kernel", "disk:500", "--method", "direct")
    process = subprocess.Popen(
        command(*arguments, "--jobs", "2", "--threads", "2"), stderr=subprocess.PIPE, text=True
    )  # which would take minutes
    while len(list(tmp_path.glob("out/.*.part"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(getattr(signal, number))
    asked = time.monotonic()
    _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - asked < 5
    *_, summary, last_line = stderr.splitlines()  # kernels may have been compiled before
    assert (process.returncode, last_line) == (status, f"blurfast: {reason}")
    assert summary.startswith("3 files: 0 done, 3 not done, in ")
    assert os.listdir(tmp_path / "out") == []


def test_jobs_that_end_in_time_are_counted() -> None:
    both_began, completed = threading.Barrier(2, timeout=30), []

    def stop_or_finish(job: Job) -> Outcome:
        both_began.wait()
        if job.source == "0":
            raise Stopped(141)
        time.sleep(0.1)
        completed.append(job.source)
        return Outcome({})

    with pytest.raises(Stopped):
        print_nothing(50, stop_or_finish, Schedule(at_once=2))
    assert completed == ["1"]


# ---- progress


def test_one_bar_counts_all_files(capsys: pytest.CaptureFixture[str]) -> None:
    with BatchProgress(10_000_000, visible=True, cancelled=threading.Event()) as progress:
        with progress.of_file("1/2 a.tif", 4_000_000) as first, progress.of_file("2/2 b.tif", 6_000_000) as second:
            first(1, 2)
            second(1, 3)
            assert progress.done == 4_000_000
            first(2, 2)
        assert progress.done == 10_000_000  # a file that fails or is skipped counts, too
    shown = capsys.readouterr().err
    assert "1/2 a.tif: " in shown
    assert "/10 MB" in shown


def test_cancelled_files_are_not_filtered_to_their_end() -> None:
    cancelled = threading.Event()
    progress = BatchProgress(9, visible=False, cancelled=cancelled)
    with progress.of_file("a.tif", 5) as show:
        show(1, 5)
        cancelled.set()
        with pytest.raises(Cancelled):
            show(2, 5)
    with pytest.raises(Cancelled), progress.of_file("b.tif", 4):
        pytest.fail("a file was begun that should not have been")


def test_nothing_but_messages_without_a_terminal(images: list[Path], tmp_path: Path) -> None:
    done = blur(*images, out=tmp_path / "out", options=(*SIGMA, "--jobs", "2"))
    assert "\r" not in done.stderr
    assert len(done.stderr.splitlines()) == len(images) + 1


@posix_only
def test_messages_do_not_mix_with_the_bar(images: list[Path], tmp_path: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    terminal, stderr = pty.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    images[2].write_bytes(b"not an image")
    arguments = ("gaussian", *images, "--out-dir", tmp_path / "out", *SIGMA, "--jobs", "2", "--json")
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=stderr, text=True)
    os.close(stderr)
    stdout, _ = process.communicate(timeout=60)
    shown = b""
    with contextlib.suppress(OSError):  # what Linux says at the end
        while piece := os.read(terminal, 4096):
            shown += piece
    os.close(terminal)
    assert len([json.loads(line) for line in stdout.splitlines()]) == 5
    assert process.returncode == 1
    # What follows the last carriage return of a line is what remains of it on the screen.
    screen = [line.rstrip("\r").rpartition("\r")[2] for line in shown.decode().split("\n")]
    messages = [line for line in screen if line.strip()]
    assert len(messages) == 6
    assert all(" -> " in line or "blurfast: error: " in line for line in messages[:5])
    assert messages[5].startswith("5 files: 4 done, 1 failed, in ")
    assert b" MB" in shown
