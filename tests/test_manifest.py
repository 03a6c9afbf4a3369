"""Manifests: what they say of each file, and how interrupted batches go on where they stopped."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

import blurfast
from blurfast.errors import UnwritableError
from blurfast_cli.manifest import Manifest
from tests.batches import SIGMA, assert_blurred, blur, lines_of, posix_only, statuses, write_images
from tests.cli_runs import assert_refused, command, run, run_process, write_tiff


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return write_images(tmp_path)


# ---- the manifest


def test_manifest_tells_what_became_of_each_file(images: list[Path], tmp_path: Path) -> None:
    images[1].write_bytes(b"not an image")
    manifest, out = tmp_path / "manifest.jsonl", tmp_path / "out"
    done = blur(*images[:3], out=out, options=("--sigma", "2,3", "--mode", "wrap", "--manifest", manifest))
    assert done.status == 1
    first, second, third = lines_of(manifest)
    target = out / "a.tif"
    parameters = first.pop("parameters")
    assert (parameters["filter"], parameters["sigma"], parameters["mode"]) == ("gaussian", [2, 3], "wrap")
    assert not {"threads", "max_memory", "overwrite"} & set(parameters)
    assert 0 < first.pop("seconds") < 60
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "status": "done",
        "source": str(images[0]),
        "target": str(target),
        "source_bytes": images[0].stat().st_size,
        "source_mtime_ns": images[0].stat().st_mtime_ns,
        "target_bytes": target.stat().st_size,
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
    }
    assert (second["status"], second["exit_status"], third["status"]) == ("failed", 3, "done")
    assert f"blurfast: error: {second['error']}\n" in done.stderr
    assert "sha256" not in second


def test_manifest_of_several_jobs_has_a_line_for_each(images: list[Path], tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    assert blur(*images, out=tmp_path / "out", options=(*SIGMA, "--manifest", manifest, "--jobs", "4")).status == 0
    assert sorted(line["source"] for line in lines_of(manifest)) == [str(path) for path in images]


def test_lines_are_on_the_disk_before_the_next_file(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, seen = tmp_path / "manifest.jsonl", []
    fsync = os.fsync

    def note_lines(descriptor: int) -> None:
        fsync(descriptor)
        if os.path.samestat(os.fstat(descriptor), manifest.stat()):
            seen.append(len(lines_of(manifest)))

    monkeypatch.setattr(os, "fsync", note_lines)
    assert blur(*images, out=tmp_path / "out", options=(*SIGMA, "--manifest", manifest)).status == 0
    assert seen == [1, 2, 3, 4, 5]


def change_time(source: Path, _target: Path) -> None:
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 1))


def change_size(source: Path, _target: Path) -> None:
    status = source.stat()
    source.write_bytes(source.read_bytes() + b"\0")
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "options", "second"),
    [
        (None, (), "skipped"),
        (None, ("--threads", "1", "--max-memory", "2GB", "--fft-planning", "estimate"), "skipped"),
        (change_time, (), "done"),
        (change_size, (), "done"),
        (lambda _, target: target.unlink(), (), "done"),
        (None, ("--sigma", "3"), "done"),
        (None, ("--mode", "wrap"), "done"),
        (None, ("--cval", "1"), "done"),
        (None, ("--compression", "deflate"), "done"),
    ],
)
def test_what_would_change_is_made_anew(
    tmp_path: Path,
    change: Callable[[Path, Path], None] | None,
    options: tuple[str, ...],
    second: str,
) -> None:
    source, target, manifest = write_tiff(tmp_path / "in.tif"), tmp_path / "out.tif", tmp_path / "manifest.jsonl"
    arguments = ("gaussian", source, target, *SIGMA, "--skip-existing", "--manifest", manifest)
    assert run(*arguments).status == 0
    if change is not None:
        change(source, target)
    assert run(*arguments, *options).status == 0
    assert statuses(manifest) == ["done", second]
    expected = blurfast.gaussian(
        tifffile.imread(source), 3 if "3" in options else 2, mode="wrap" if "wrap" in options else "reflect"
    )
    np.testing.assert_array_equal(tifffile.imread(target), expected)
    assert run(*arguments, *options).status == 0
    assert statuses(manifest) == ["done", second, "skipped"]


def test_an_input_that_is_replaced_is_listed_as_it_was(tmp_path: Path) -> None:
    source, manifest = write_tiff(tmp_path / "in.tif"), tmp_path / "manifest.jsonl"
    before = source.stat()
    arguments = ("--overwrite", "--compression", "deflate", "--manifest", manifest)
    assert run("gaussian", source, source, *SIGMA, *arguments).status == 0
    (line,) = lines_of(manifest)
    assert (line["source_bytes"], line["source_mtime_ns"]) == (before.st_size, before.st_mtime_ns)
    assert line["target_bytes"] == source.stat().st_size != before.st_size


def test_outputs_that_no_line_lists_are_made_anew(tmp_path: Path) -> None:
    source, target, manifest = write_tiff(tmp_path / "in.tif"), tmp_path / "out.tif", tmp_path / "manifest.jsonl"
    target.write_bytes(b"of another program")
    arguments = ("gaussian", source, target, *SIGMA, "--skip-existing", "--manifest", manifest)
    assert run(*arguments).status == 0
    assert_blurred(source, target)


def test_outputs_that_another_input_has_replaced_are_made_anew(tmp_path: Path) -> None:
    first, second = write_tiff(tmp_path / "a.tif", (30, 50)), write_tiff(tmp_path / "b.tif", (50, 30))
    target, manifest = tmp_path / "out.tif", tmp_path / "manifest.jsonl"
    for source in (first, second, first):
        assert run("gaussian", source, target, *SIGMA, "--skip-existing", "--manifest", manifest).status == 0
        assert_blurred(source, target)
    assert statuses(manifest) == ["done"] * 3


def test_failures_do_not_undo_what_was_done(tmp_path: Path) -> None:
    source, target, manifest = write_tiff(tmp_path / "in.tif"), tmp_path / "out.tif", tmp_path / "manifest.jsonl"
    arguments = ("gaussian", source, target, *SIGMA, "--skip-existing", "--manifest", manifest)
    assert run(*arguments).status == 0
    assert run(*arguments, "--sigma", "5", "--max-memory", "2MB").status == 5
    assert run(*arguments).status == 0
    assert statuses(manifest) == ["done", "failed", "skipped"]


def test_kernels_count_by_their_weights(tmp_path: Path) -> None:
    source, kernel, manifest = write_tiff(tmp_path / "in.tif"), tmp_path / "k.npy", tmp_path / "manifest.jsonl"
    arguments = (
        "convolve",
        source,
        tmp_path / "out.tif",
        "--kernel",
        kernel,
        "--skip-existing",
        "--manifest",
        manifest,
    )
    for weights in ([[0.0, 0.0, 1.0]], [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]):
        np.save(kernel, weights)
        assert run(*arguments).status == 0
    assert statuses(manifest) == ["done", "skipped", "done"]
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "out.tif"), blurfast.convolve(tifffile.imread(source), [[1.0, 0.0, 0.0]])
    )


@pytest.mark.parametrize("rest", [b'{"status": "do', b"{", b'{"status": "done", "source": "a"}garbage'])
def test_half_a_line_is_left_behind(images: list[Path], tmp_path: Path, rest: bytes) -> None:
    manifest = tmp_path / "manifest.jsonl"
    options = (*SIGMA, "--skip-existing", "--manifest", manifest)
    assert blur(*images[:2], out=tmp_path / "out", options=options).status == 0
    with open(manifest, "ab") as file:
        file.write(rest)
    done = blur(*images[:3], out=tmp_path / "out", options=options)
    assert done.status == 0
    assert f"blurfast: warning: {manifest}: damaged lines, which were ignored: 1" in done.stderr
    lines = manifest.read_bytes().splitlines()
    assert lines[2] == rest
    assert [json.loads(line)["status"] for line in lines[3:]] == ["skipped", "skipped", "done"]


def test_a_first_line_may_be_cut_off(images: list[Path], tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_bytes(b'{"sta')
    assert blur(images[0], out=tmp_path / "out", options=(*SIGMA, "--manifest", manifest)).status == 0
    assert json.loads(manifest.read_bytes().splitlines()[1])["status"] == "done"


def test_other_files_are_not_taken_for_a_manifest(images: list[Path], tmp_path: Path) -> None:
    before = images[4].read_bytes()
    done = blur(images[0], out=tmp_path / "out", options=(*SIGMA, "--manifest", images[4]))
    assert_refused(done, 2, f"{images[4]}: is not a manifest; name a new file")
    assert images[4].read_bytes() == before
    done = blur(images[0], out=tmp_path / "out", options=(*SIGMA, "--manifest", tmp_path))
    assert_refused(done, 2, f"{tmp_path}: is not a regular file")
    done = blur(images[0], out=tmp_path / "out", options=(*SIGMA, "--manifest", tmp_path / "no" / "file"))
    assert_refused(done, 2, "its directory does not exist")
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_manifest_without_room_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest(str(tmp_path / "manifest.jsonl"))
    manifest.append({"status": "done"})
    with open("/dev/full", "ab", buffering=0) as full, monkeypatch.context() as patch:
        patch.setattr(manifest, "_file", full)
        with pytest.raises(UnwritableError, match="the disk is full"):
            manifest.append({"status": "done"})
    manifest.append({"status": "failed"})
    manifest.close()
    assert (tmp_path / "manifest.jsonl").read_bytes() == b'{"status": "done"}\n\n{"status": "failed"}\n'


def test_manifest_of_stdin(tmp_path: Path) -> None:
    write_tiff(tmp_path / "in.tif")
    with open(tmp_path / "in.tif", "rb") as stdin:
        done = subprocess.run(
            command("gaussian", "-", "-", *SIGMA, "--manifest", tmp_path / "manifest.jsonl"),
            stdin=stdin, capture_output=True, check=True, timeout=60,
        )  # fmt: skip
    (line,) = lines_of(tmp_path / "manifest.jsonl")
    assert (line["source"], line["target"], line["status"]) == ("-", "-", "done")
    assert line["source_bytes"] == (tmp_path / "in.tif").stat().st_size
    assert (line["target_bytes"], line["sha256"]) == (len(done.stdout), hashlib.sha256(done.stdout).hexdigest())


# ---- interrupted batches


def start_slow_batch(tmp_path: Path, *options: str) -> tuple[subprocess.Popen[str], list[str | Path]]:
    """Start a batch of a quick file and three slow ones, and return it once the quick one is done."""
    write_tiff(tmp_path / "a.tif")
    for name in "bcd":
        write_tiff(tmp_path / f"{name}.tif", (1600, 2000), "float32")
    # A given truncation leaves no choice but to sum over all 2001 taps.
    arguments = [
        *("gaussian", *sorted(tmp_path.glob("*.tif")), "--out-dir", tmp_path / "out", "--threads", "2"),
        *("--sigma", "100", "--truncate", "10", "--manifest", tmp_path / "manifest.jsonl", *options),
    ]
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "a.tif").exists() or not list(tmp_path.glob("out/.*.part")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process, arguments


@posix_only
@pytest.mark.parametrize("at_once", ["1", "3"])
def test_an_interrupted_batch_goes_on_where_it_stopped(tmp_path: Path, at_once: str) -> None:
    process, arguments = start_slow_batch(tmp_path, "--jobs", at_once)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-1] == "blurfast: interrupted"
    completed = sorted(os.listdir(tmp_path / "out"))  # and no unfinished file
    assert completed == sorted(Path(line["target"]).name for line in lines_of(tmp_path / "manifest.jsonl"))
    assert f"4 files: {len(completed)} done, {4 - len(completed)} not done, in " in stderr.splitlines()[-2]
    assert 1 <= len(completed) < 4
    again = run_process(*arguments, "--skip-existing")
    assert again.status == 0
    assert f"4 files: {4 - len(completed)} done, {len(completed)} skipped, in " in again.stderr
    for path in sorted(tmp_path.glob("*.tif")):
        np.testing.assert_array_equal(
            tifffile.imread(tmp_path / "out" / path.name),
            blurfast.gaussian(tifffile.imread(path), 100, truncate=10),
        )


@posix_only
def test_a_killed_batch_goes_on_where_it_stopped(tmp_path: Path) -> None:
    process, arguments = start_slow_batch(tmp_path)
    process.kill()
    process.communicate(timeout=60)
    (line,) = lines_of(tmp_path / "manifest.jsonl")
    assert (line["status"], Path(line["target"]).name) == ("done", "a.tif")
    again = run_process(*arguments, "--skip-existing", "--jobs", "2")
    assert (again.status, sorted(os.listdir(tmp_path / "out"))) == (0, ["a.tif", "b.tif", "c.tif", "d.tif"])
    assert sorted(statuses(tmp_path / "manifest.jsonl")) == ["done", "done", "done", "done", "skipped"]
