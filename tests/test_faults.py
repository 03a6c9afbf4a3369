"""Files under bad luck: the output is the old one or the new one, whole, and what went wrong is said in one line.

Every run is a process of its own. Where many are needed, they are forked from one that has loaded everything.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
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


def interrupt_runs(
    source: Path, target: Path, count: int, *signals: signal.Signals, options: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Interrupt runs at random moments, and return what became of each."""
    tifffile.imwrite(source, noise((300, 400, 3)), photometric="rgb")
    numbers = [str(int(number)) for number in (count, *signals)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.interrupted_runs", source, target, *numbers, *options],
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


@pytest.mark.parametrize("option", ["--pyramid", "--cog"])
def test_killed_runs_with_smaller_versions_leave_a_whole_output(tmp_path: Path, option: str) -> None:
    """Beside the output, they have a file for what has to wait for its place."""
    trials = interrupt_runs(tmp_path / "in.tif", tmp_path / "out.tif", 30, signal.SIGKILL, options=[option])
    assert {trial["outcome"] for trial in trials} == {"old", "new"}
    assert max(trial["left"] for trial in trials) == 2
    assert run_process("gaussian", "in.tif", "last.tif", "--sigma", "1", directory=tmp_path).status == 0
    assert sorted(os.listdir(tmp_path)) == ["in.tif", "last.tif", "out.tif"]


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


@pytest.mark.parametrize(
    ("overwrite", "step"),
    [
        (True, "os.fsync"),
        (True, "os.chmod"),
        (True, "os.replace"),
        (False, "os.fsync"),
        pytest.param(
            False, "renaming._rename_in_one_step",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a step"),
        ),
        (False, "os.link"),
        (False, "os.unlink"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_every_step_of_the_end(tmp_path: Path, step: str, moment: str, overwrite: bool) -> None:
    script = """
    import os, signal, sys
    from blurfast.io import renaming
    from blurfast.io.output import AtomicFile

    step, moment, overwrite = sys.argv[1:]
    module, function = {"os": os, "renaming": renaming}[step.split(".")[0]], step.split(".")[1]
    original = getattr(module, function)

    def fatal(*arguments):
        if moment == "after":
            original(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    def impossible(*_):
        raise OSError

    if function in ("link", "unlink"):
        renaming._rename_in_one_step = impossible
    setattr(module, function, fatal)
    output = AtomicFile("out.tif", overwrite=overwrite == "True")
    output.file.write(b"new")
    output.commit()
    """
    target = tmp_path / "out.tif"
    if overwrite:
        target.write_bytes(b"old")
    assert run_script(script, tmp_path, step, moment, overwrite).returncode == -signal.SIGKILL
    is_moved = step == "os.unlink" or (moment == "after" and step not in ("os.fsync", "os.chmod"))
    content = target.read_bytes() if target.exists() else None
    assert content == (b"new" if is_moved else b"old" if overwrite else None)
    leftovers = [path for path in tmp_path.iterdir() if path != target]
    has_two_names = (step, moment) in (("os.link", "after"), ("os.unlink", "before"))
    assert len(leftovers) == (has_two_names or not is_moved)
    assert not has_two_names or leftovers[0].samefile(target)  # takes no room of its own
    assert run_script("from blurfast.io.output import AtomicFile; AtomicFile('b.tif').commit()", tmp_path).stderr == ""
    assert {path.name for path in tmp_path.iterdir()} - {"out.tif"} == {"b.tif"}
    assert not is_moved or target.read_bytes() == b"new"


# ---- no room


def write_picture(path: Path, shape: tuple[int, ...] = (600, 700)) -> Path:
    Image.fromarray(noise(shape)).save(path)
    return path


OUTPUTS = [("tif",), ("tif", "--pyramid"), ("tif", "--cog"), ("png",), ("jpg",), ("bmp",), ("webp",)]
"""Suffixes, with options."""


@pytest.mark.parametrize(("suffix", "options"), [(suffix, options) for suffix, *options in OUTPUTS])
def test_limit_of_file_size(tmp_path: Path, suffix: str, options: list[str]) -> None:
    write_picture(tmp_path / "in.png")
    (tmp_path / f"out.{suffix}").write_bytes(b"old")
    done = subprocess.run(
        command("gaussian", "in.png", f"out.{suffix}", "--sigma", "0.3", "--overwrite", *options),
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )  # fmt: skip
    assert_refused(Run(done.returncode, done.stdout, done.stderr), 5, f"out.{suffix}: grows beyond the largest file")
    assert sorted(os.listdir(tmp_path)) == ["in.png", f"out.{suffix}"]
    assert (tmp_path / f"out.{suffix}").read_bytes() == b"old"


def run_on_small_disk(directory: Path, *arguments: str, then: str = "true") -> Run:
    """Run the command line where the directory `disk` is a file system with little room, after a command of the shell.

    It holds a copy of the file ``old*``, and what it holds in the end goes to stderr.
    """
    mount = "mount -t tmpfs -o size=100k,nr_inodes=8 tmpfs disk && cp old* disk"
    script = f'{mount} && {then} && "$@"; s=$?; ls -A disk >&2; cmp old* disk/old*; exit $s'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "", *command(*arguments)],
        cwd=directory, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return Run(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Make the directory `disk`, and the file that `run_on_small_disk` puts there."""
    write_tiff(tmp_path / "in.tif", (600, 700))
    (tmp_path / "old.tif").write_bytes(b"old")
    (tmp_path / "disk").mkdir()
    can_mount = shutil.which("unshare") and run_on_small_disk(tmp_path, "--version").status == 0
    if not can_mount:
        pytest.skip("no file system can be mounted here")
    return tmp_path / "disk"


@pytest.mark.parametrize(("suffix", "options"), [(suffix, options) for suffix, *options in OUTPUTS])
def test_full_disk(disk: Path, suffix: str, options: list[str]) -> None:
    (disk.parent / "old.tif").rename(disk.parent / f"old.{suffix}")
    arguments = ["gaussian", "in.tif", f"disk/old.{suffix}", "--sigma", "0.3", "--overwrite"]
    done = run_on_small_disk(disk.parent, *arguments, *options)
    assert done.status == 5
    assert done.stderr.splitlines() == [
        f"blurfast: error: disk/old.{suffix}: the disk is full; free some space or write elsewhere",
        f"old.{suffix}",
    ]


@pytest.mark.parametrize("name", ["old.tif", "new.tif"])
def test_disk_that_is_read_only(disk: Path, name: str) -> None:
    arguments = ["gaussian", "in.tif", f"disk/{name}", "--sigma", "1", "--overwrite"]
    done = run_on_small_disk(disk.parent, *arguments, then="mount -o remount,ro disk")
    assert done.status == 5
    assert done.stderr.splitlines() == [
        f"blurfast: error: disk/{name}: its directory is not writable; write elsewhere",
        "old.tif",
    ]


# Lets writing fail once the output, or what waits for its place there, has grown.
WRITING_FAULTS = """
import builtins, errno, io, os, sys
from blurfast.io import output
from blurfast_cli.main import main

number, name, *options = sys.argv[1:]

class Failing(io.FileIO):
    def write(self, data):
        if self.tell() + len(data) > 50_000:
            raise OSError(int(number), os.strerror(int(number)))
        return super().write(data)

output.open = lambda path, mode, **options: io.BufferedRandom(Failing(path, "xb+", **options))
sys.exit(main(["gaussian", "in.png", name, "--sigma", "0.3", "--overwrite", *options]))
"""


@pytest.mark.parametrize(("suffix", "options"), [("tif", []), ("tif", ["--cog"]), ("png", [])])
@pytest.mark.parametrize(
    ("number", "fact"),
    [(errno.EDQUOT, "the quota is used up; free some space"), (errno.EIO, "cannot be written (Input/output error)")],
)
def test_errors_while_writing(tmp_path: Path, suffix: str, options: list[str], number: int, fact: str) -> None:
    write_picture(tmp_path / "in.png")
    (tmp_path / f"out.{suffix}").write_bytes(b"old")
    done = run_script(WRITING_FAULTS, tmp_path, number, f"out.{suffix}", *options)
    assert_refused(Run(done.returncode, done.stdout, done.stderr), 5, f"out.{suffix}: {fact}")
    assert sorted(os.listdir(tmp_path)) == ["in.png", f"out.{suffix}"]
    assert (tmp_path / f"out.{suffix}").read_bytes() == b"old"


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
    assert_refused(done, 2, fact)
    assert sorted(os.listdir(tmp_path)) == ["in.tif", "out.tif"]


@pytest.mark.parametrize("name", ["n" * 300 + ".tif", "in.tif/out.tif", "no/out.tif"])
@pytest.mark.usefixtures("image")
def test_outputs_at_impossible_places(tmp_path: Path, name: str) -> None:
    assert_refused(run_process("gaussian", "in.tif", name, "--sigma", "1", directory=tmp_path), 2, name)
    assert os.listdir(tmp_path) == ["in.tif"]


# ---- inputs that fail, or change, while they are read

# Lets reading fail, or the file change, once half of it has been read.
FAULTS = """
import builtins, errno, io, os, sys
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

def open_counted(path, mode="r", *arguments, **options):
    is_counted = str(path) == name and mode == "rb" and not (arguments or options)
    return io.BufferedReader(Counted(path)) if is_counted else plain_open(path, mode, *arguments, **options)

plain_open, builtins.open = builtins.open, open_counted
sys.exit(main(["gaussian", name, "out." + name[3:], "--sigma", "1"]))
"""


def run_with_fault(directory: Path, name: str, fault: str) -> Run:
    pixels = noise((4000, 1000))
    if name.endswith("tif"):
        tifffile.imwrite(directory / name, pixels, photometric="minisblack", rowsperstrip=50)
    else:
        Image.fromarray(pixels).save(directory / name)
    done = run_script(FAULTS, directory, name, fault)
    assert sorted(os.listdir(directory)) == ([] if fault == "remove" else [name])
    return Run(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("name", ["in.tif", "in.png", "in.jpg"])
def test_errors_while_reading(tmp_path: Path, name: str) -> None:
    done = run_with_fault(tmp_path, name, "EIO")
    assert_refused(done, 3, f"{name}: cannot be read (Input/output error); check the disk")


@pytest.mark.parametrize("name", ["in.tif", "in.png", "in.jpg"])
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
