"""Files under bad luck: the output is the old one or the new one, whole, and what went wrong is said in one line.

Every run is a process of its own. Where many are needed, they are forked from one that has loaded everything.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tifffile
from PIL import Image

from blurfast_cli.interrupts import Stopped, stopping_on_signals
from tests.cli_runs import Run, assert_refused, command, noise, run_process, write_tiff

resource = pytest.importorskip("resource", reason="this system has other limits and signals")

ROOT = Path(__file__).parents[1]


def run_script(script: str, directory: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=directory, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip


def interrupt_runs(source: Path, target: Path, count: int, *signals: signal.Signals) -> list[dict[str, Any]]:
    """Interrupt runs at random moments, and return what became of each."""
    tifffile.imwrite(source, noise((300, 400, 3)), photometric="rgb")
    done = subprocess.run(
        [sys.executable, "-m", "tests.interrupted_runs", source, target, *(str(int(n)) for n in (count, *signals))],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    trials: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(trials) == count
    return trials


# ---- killed and interrupted at random moments


@pytest.mark.parametrize(("name", "count"), [("out.tif", 100), ("in.tif", 30)])
def test_killed_runs_leave_a_whole_output(tmp_path: Path, name: str, count: int) -> None:
    trials = interrupt_runs(tmp_path / "in.tif", tmp_path / name, count, signal.SIGKILL)
    assert {trial["outcome"] for trial in trials} == {"old", "new"}
    assert sum(trial["left"] for trial in trials) >= count // 20
    assert max(trial["left"] for trial in trials) == 1  # what the one before has left is gone
    assert run_process("gaussian", "in.tif", "last.tif", "--sigma", "1", directory=tmp_path).status == 0
    assert sorted(os.listdir(tmp_path)) == sorted({"in.tif", "last.tif", name})


def test_interrupted_runs_leave_nothing(tmp_path: Path) -> None:
    trials = interrupt_runs(tmp_path / "in.tif", tmp_path / "out.tif", 40, signal.SIGINT, signal.SIGTERM)
    assert {trial["outcome"] for trial in trials} == {"old", "new"}
    assert {trial["left"] for trial in trials} == {0}
    for number in (signal.SIGINT, signal.SIGTERM):
        statuses = [trial["status"] for trial in trials if trial["signal"] == number]
        assert statuses.count(128 + number) >= 3
        assert set(statuses) <= {128 + number, 0, -number}  # some come when the run has ended


def test_a_signal_is_not_lost_while_an_object_is_finalized() -> None:
    """Python swallows what is raised then."""
    finalized = []

    class Finalized:
        def __del__(self) -> None:
            finalized.append(self)
            os.kill(os.getpid(), signal.SIGTERM)

    def work() -> None:
        Finalized()
        for _ in range(100):
            time.sleep(0.01)

    with pytest.raises(Stopped, match="terminated"), stopping_on_signals():
        work()
    assert len(finalized) == 1


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("step", ["fsync", "replace", "link", "unlink", "chmod"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_every_step_of_the_end(tmp_path: Path, step: str, moment: str, overwrite: bool) -> None:
    script = """
    import os, signal, sys
    from blurfast.io.output import AtomicFile
    step, moment, overwrite = sys.argv[1:]
    original = getattr(os, step)
    def fatal(*arguments):
        if moment == "after":
            original(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(os, step, fatal)
    output = AtomicFile("out.tif", overwrite=overwrite == "True")
    output.file.write(b"new")
    output.commit()
    """
    target = tmp_path / "out.tif"
    if overwrite:
        target.write_bytes(b"old")
    done = run_script(script, tmp_path, step, moment, overwrite)
    is_taken = step in (("fsync", "replace", "chmod") if overwrite else ("fsync", "link", "unlink"))
    assert done.returncode == (-signal.SIGKILL if is_taken else 0)
    is_moved = not is_taken or step == "unlink" or (step in ("replace", "link") and moment == "after")
    content = target.read_bytes() if target.exists() else None
    assert content == (b"new" if is_moved else b"old" if overwrite else None)
    assert run_script("from blurfast.io.output import AtomicFile; AtomicFile('b.tif').commit()", tmp_path).stderr == ""
    assert {path.name for path in tmp_path.iterdir()} - {"out.tif"} == {"b.tif"}


# ---- no room


def write_picture(path: Path, shape: tuple[int, ...] = (600, 700)) -> Path:
    Image.fromarray(noise(shape)).save(path)
    return path


@pytest.mark.parametrize("suffix", ["tif", "png", "jpg", "bmp", "webp"])
def test_limit_of_file_size(tmp_path: Path, suffix: str) -> None:
    write_picture(tmp_path / "in.png")
    (tmp_path / f"out.{suffix}").write_bytes(b"old")
    done = subprocess.run(
        command("gaussian", "in.png", f"out.{suffix}", "--sigma", "0.3", "--overwrite"),
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )  # fmt: skip
    assert_refused(Run(done.returncode, done.stdout, done.stderr), 5, f"out.{suffix}: grows beyond the largest file")
    assert sorted(os.listdir(tmp_path)) == ["in.png", f"out.{suffix}"]
    assert (tmp_path / f"out.{suffix}").read_bytes() == b"old"


def small_disk(directory: Path, *arguments: str) -> Run:
    """Run the command line where the directory `disk` is a file system with little room."""
    script = 'mount -t tmpfs -o size=100k,nr_inodes=8 tmpfs disk && cp old disk/out.tif && "$@"; s=$?; ls -A disk >&2'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f"{script}; cmp old disk/out.tif; exit $s", "",
         *command(*arguments)],
        cwd=directory, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return Run(done.returncode, done.stdout, done.stderr)


def test_full_disk(tmp_path: Path) -> None:
    write_tiff(tmp_path / "in.tif", (600, 700))
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "disk").mkdir()
    can_mount = shutil.which("unshare") and small_disk(tmp_path, "--version").status == 0
    if not can_mount:
        pytest.skip("no file system can be mounted here")
    done = small_disk(tmp_path, "gaussian", "in.tif", "disk/out.tif", "--sigma", "1", "--overwrite")
    assert done.status == 5
    assert done.stderr.splitlines() == [
        "blurfast: error: disk/out.tif: the disk is full; free some space or write elsewhere",
        "out.tif",
    ]


# ---- outputs that cannot be


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (Path.mkdir, "is a directory; name a file"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.symlink_to("/dev/full"), "is not a regular file"),
    ],
)
@pytest.mark.usefixtures("image")
def test_outputs_that_are_no_files(tmp_path: Path, make: Callable[[Path], Any], fact: str) -> None:
    make(tmp_path / "out.tif")
    done = run_process("gaussian", "in.tif", "out.tif", "--sigma", "1", "--overwrite", directory=tmp_path)
    assert_refused(done, 5, fact)
    assert sorted(os.listdir(tmp_path)) == ["in.tif", "out.tif"]


@pytest.mark.parametrize("name", ["n" * 300 + ".tif", "in.tif/out.tif", "no/out.tif"])
@pytest.mark.usefixtures("image")
def test_outputs_at_impossible_places(tmp_path: Path, name: str) -> None:
    assert_refused(run_process("gaussian", "in.tif", name, "--sigma", "1", directory=tmp_path), 5, name)
    assert os.listdir(tmp_path) == ["in.tif"]


# ---- inputs that fail, or change, while they are read

# Lets reading fail, or the file change, once half of it has been read.
FAULTS = """
import errno, io, os, sys
from blurfast.io import png_source
from blurfast_cli.main import main

name, fault = sys.argv[1:]
half = os.path.getsize(name) // 2
done = 0

def change():
    match fault:
        case "shrink":
            os.truncate(name, half + 1000)
        case "grow":
            os.truncate(name, 2 * half + 1000)
        case "rewrite":
            with open(name, "r+b") as file:
                file.seek(-200, os.SEEK_END)
                file.write(bytes(100))
        case "touch":
            os.utime(name)
        case "remove":
            os.remove(name)

def count(size):
    global done
    if done <= half < done + size:
        change()
    done += size
    if fault == "EIO" and done > half:
        raise OSError(errno.EIO, "Input/output error")
    return size

original = os.preadv
os.preadv = lambda *arguments: count(original(*arguments))

class Counted(io.FileIO):
    def readinto(self, buffer):
        return count(super().readinto(buffer))

png_source._open = lambda path: io.BufferedReader(Counted(path))
sys.exit(main(["gaussian", name, "out." + name[3:], "--sigma", "1"]))
"""


def run_with_fault(directory: Path, name: str, fault: str) -> Run:
    pixels = noise((4000, 1000))
    if name.endswith("png"):
        Image.fromarray(pixels).save(directory / name)
    else:
        tifffile.imwrite(directory / name, pixels, photometric="minisblack", rowsperstrip=50)
    done = run_script(FAULTS, directory, name, fault)
    assert sorted(os.listdir(directory)) == ([] if fault == "remove" else [name])
    return Run(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("name", ["in.tif", "in.png"])
def test_errors_while_reading(tmp_path: Path, name: str) -> None:
    done = run_with_fault(tmp_path, name, "EIO")
    assert_refused(done, 3, f"{name}: cannot be read (Input/output error); check the disk")


@pytest.mark.parametrize("name", ["in.tif", "in.png"])
@pytest.mark.parametrize("fault", ["shrink", "grow", "rewrite", "touch", "remove"])
def test_inputs_that_change(tmp_path: Path, name: str, fault: str) -> None:
    done = run_with_fault(tmp_path, name, fault)
    assert_refused(done, 3, f"{name}: has changed while it was read")
    assert (" bytes;" in done.stderr) == (fault in ("shrink", "grow"))  # if it is the size that tells


def test_inputs_that_stay_the_same(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "in.tif", noise((4000, 1000)), photometric="minisblack")
    assert run_script(FAULTS, tmp_path, "in.tif", "none").returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["in.tif", "out.tif"]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_inputs_that_are_no_files(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / "in.tif")
    for arguments in (["info", "in.tif"], ["gaussian", "in.tif", "out.tif", "--sigma", "1"]):
        assert_refused(run_process(*arguments, directory=tmp_path), 3, "in.tif: is a pipe or a device, not a file")
    assert os.listdir(tmp_path) == ["in.tif"]
