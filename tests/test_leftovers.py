"""What killed runs leave behind is removed by the next one, and nothing else ever is."""

from __future__ import annotations

import errno
import gc
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from blurfast.errors import OutputExistsError, UnwritableError
from blurfast.io import leftovers, renaming
from blurfast.io.leftovers import mark_in_use, remove_leftovers, unfinished_name
from blurfast.io.output import AtomicFile

fcntl = pytest.importorskip("fcntl", reason="this system has other locks, and nothing is removed")

ROOT = Path(__file__).parents[1]
NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, to act as two users")

BEGIN = """
import sys
from blurfast.io.output import AtomicFile
output = AtomicFile(sys.argv[1])
output.file.write(b"half of it")
"""


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def begin(target: Path, then: str) -> subprocess.Popen[str]:
    """Start a process that has begun an output."""
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + then, str(target)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def write(target: Path, content: bytes = b"new", **options: bool) -> None:
    output = AtomicFile(target, **options)
    output.file.write(content)
    output.commit()


# ---- killed and living runs


def test_next_run_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    with begin(tmp_path / "a.tif", "import os; os.kill(os.getpid(), 9)") as process:
        pass
    assert process.returncode == -signal.SIGKILL
    (leftover,) = names(tmp_path)
    assert leftover.startswith(".blurfast-")
    write(tmp_path / "b.tif")
    assert names(tmp_path) == ["b.tif"]


def test_output_of_a_living_run_is_left_alone(tmp_path: Path) -> None:
    then = "print(flush=True); input(); output.commit()"
    with begin(tmp_path / "a.tif", then) as process:
        assert process.stdout is not None
        process.stdout.readline()
        remove_leftovers(tmp_path)
        write(tmp_path / "b.tif")
        assert len(names(tmp_path)) == 2
        process.communicate("\n")
    assert process.returncode == 0
    assert names(tmp_path) == ["a.tif", "b.tif"]
    assert (tmp_path / "a.tif").read_bytes() == b"half of it"


def test_own_output_is_left_alone(tmp_path: Path) -> None:
    first = AtomicFile(tmp_path / "a.tif")
    remove_leftovers(tmp_path)
    first.commit()
    assert names(tmp_path) == ["a.tif"]


def test_a_run_that_ends_without_a_word_leaves_nothing(tmp_path: Path) -> None:
    with begin(tmp_path / "a.tif", "sys.exit(3)") as process:
        pass
    assert process.returncode == 3
    assert names(tmp_path) == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # that the file was not closed is the point
def test_a_lost_output_is_removed(tmp_path: Path) -> None:
    """As when an interrupt comes before anybody has the object to call `abort`."""
    AtomicFile(tmp_path / "a.tif")
    gc.collect()
    assert names(tmp_path) == []


def test_children_do_not_remove_what_is_their_parents(tmp_path: Path) -> None:
    then = """
import os
if os.fork() == 0:
    sys.exit()
os.wait()
output.commit()
"""
    with begin(tmp_path / "a.tif", then) as process:
        pass
    assert process.returncode == 0
    assert names(tmp_path) == ["a.tif"]


def test_a_directory_is_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []
    monkeypatch.setattr(leftovers, "remove_leftovers", searched.append)
    for name in ("a.tif", "b.tif"):
        write(tmp_path / name)
    assert searched == [tmp_path]


def test_outputs_begun_while_others_clean_up_are_not_lost(tmp_path: Path) -> None:
    done = threading.Event()

    def clean_up() -> None:
        while not done.is_set():
            remove_leftovers(tmp_path)

    cleaner = threading.Thread(target=clean_up)
    cleaner.start()
    try:
        for number in range(300):
            write(tmp_path / f"{number}.tif", str(number).encode())
    finally:
        done.set()
        cleaner.join()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {f"{n}.tif": str(n) for n in range(300)}


def test_a_file_taken_for_a_leftover_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = []

    def mark(file: object) -> bool:
        lost.append(file)
        return len(lost) == 3

    monkeypatch.setattr("blurfast.io.output.mark_in_use", mark)
    write(tmp_path / "a.tif")
    assert len(lost) == 3
    assert names(tmp_path) == ["a.tif"]


def test_a_locked_or_removed_file_cannot_be_marked(tmp_path: Path) -> None:
    path = tmp_path / unfinished_name()
    with open(path, "wb") as file, open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not mark_in_use(file)
        fcntl.flock(other, fcntl.LOCK_UN)
        assert mark_in_use(file)
        path.unlink()
        assert not mark_in_use(file)


# ---- what must never be removed


@pytest.mark.parametrize(
    "name",
    [
        "a.part",
        ".blurfast.part",
        ".blurfast-0123456789ab.part",
        "{unfinished}.tif",
        "x{unfinished}",
        "{unfinished}.PART",
        ".blurfast-00000000-0123456789ab.part",  # of another machine, whose locks may not be seen here
    ],
)
def test_other_names_stay(tmp_path: Path, name: str) -> None:
    name = name.replace("{unfinished}.PART", unfinished_name().replace(".part", ".PART"))
    name = name.replace("{unfinished}", unfinished_name())
    (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [name]


def test_only_regular_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / unfinished_name()).symlink_to(tmp_path / "precious")
    (tmp_path / unfinished_name()).symlink_to(tmp_path / "nowhere")
    (tmp_path / unfinished_name()).mkdir()
    os.mkfifo(tmp_path / unfinished_name())
    before = names(tmp_path)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == before
    (tmp_path / unfinished_name()).touch()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == before


@as_root
def test_files_of_other_users_stay(tmp_path: Path) -> None:
    path = tmp_path / unfinished_name()
    path.touch()
    os.chown(path, NOBODY, -1)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [path.name]


def test_without_locks_everything_works_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    leftover = tmp_path / unfinished_name()
    leftover.touch()
    monkeypatch.setattr("blurfast.io.leftovers.fcntl.flock", no_locks)
    write(tmp_path / "a.tif")
    assert names(tmp_path) == [leftover.name, "a.tif"]


def test_a_missing_directory_has_no_leftovers(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "missing")
    assert names(tmp_path) == []


# ---- permissions, owners, and drives without links


def test_a_private_file_stays_private_while_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.touch(mode=0o600)
    output = AtomicFile(path, overwrite=True)
    assert stat.S_IMODE(output.temporary.stat().st_mode) == 0o600
    path.chmod(0o604)  # what counts is what it is in the end
    output.commit()
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


@as_root
def test_owner_and_group_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")
    os.chown(path, NOBODY, NOBODY)
    path.chmod(0o6754)
    write(path, overwrite=True)
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (NOBODY, NOBODY, 0o6754)


def test_an_owner_that_cannot_be_kept_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_permitted(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    path = tmp_path / "a.tif"
    path.touch(mode=0o640)
    monkeypatch.setattr(os, "chown", not_permitted)
    write(path, overwrite=True)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o640)


@as_root
def test_a_directory_of_others_is_not_writable(tmp_path: Path) -> None:
    """Neither one that may be read, nor one in which not even the output can be looked for."""
    tmp_path.chmod(0o755)
    for closed in (tmp_path, tmp_path / "private"):
        closed.mkdir(exist_ok=True, mode=0o700)
        os.seteuid(NOBODY)
        try:
            with pytest.raises(UnwritableError, match="its directory is not writable"):
                AtomicFile(closed / "a.tif", overwrite=True)
        finally:
            os.seteuid(0)


def test_a_drive_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(renaming, "_rename_in_one_step", no_links)
    write(tmp_path / "a.tif")
    late = AtomicFile(tmp_path / "b.tif")
    (tmp_path / "b.tif").write_bytes(b"of another process")
    with pytest.raises(OutputExistsError):
        late.commit()
    late.abort()
    assert (tmp_path / "b.tif").read_bytes() == b"of another process"
    assert names(tmp_path) == ["a.tif", "b.tif"]
