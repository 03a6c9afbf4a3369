"""No file is lost to a rename, whichever way the drive makes possible."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from blurfast.io import renaming
from blurfast.io.renaming import rename_without_replacing


def fail(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.fixture(params=["one step", "links", "look first"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the drive lets files be renamed."""
    if request.param == "one step" and sys.platform != "linux":
        pytest.skip("only Linux has such a step")
    if request.param != "one step":
        monkeypatch.setattr(renaming, "_rename_in_one_step", fail)
    if request.param != "links":
        monkeypatch.setattr(os, "link", fail)
    if request.param != "look first":
        monkeypatch.setattr(os, "replace", fail)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_a_new_name(tmp_path: Path) -> None:
    old, new = tmp_path / "\u00e4lt", tmp_path / "new"
    old.write_bytes(b"content")
    rename_without_replacing(old, new)
    assert new.read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["new"]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_a_name_that_is_taken(tmp_path: Path, make: Callable[[Path], None]) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"content")
    make(new)
    before = new.lstat()
    with pytest.raises(FileExistsError):
        rename_without_replacing(old, new)
    assert os.path.samestat(new.lstat(), before)
    assert old.read_bytes() == b"content"


@pytest.mark.parametrize("way", ["one step", "links"], indirect=True)
@pytest.mark.usefixtures("way")
def test_of_many_at_the_same_time_one_wins(tmp_path: Path) -> None:
    for trial in range(30):
        (winner,) = rename_all_at_once([tmp_path / str(number) for number in range(4)], tmp_path / "new")
        assert (tmp_path / "new").read_text() == winner, trial
        (tmp_path / "new").unlink()


def rename_all_at_once(names: list[Path], new: Path) -> list[str]:
    """Give files the same new name, each in a thread, and return the names of those that got it."""
    together, won = threading.Barrier(len(names), timeout=30), []

    def rename(old: Path) -> None:
        old.write_text(old.name)
        together.wait()
        with contextlib.suppress(FileExistsError):
            rename_without_replacing(old, new)
            won.append(old.name)

    threads = [threading.Thread(target=rename, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a step")
def test_a_missing_file_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        renaming._rename_in_one_step(tmp_path / "old", tmp_path / "new")
    assert caught.value.filename == str(tmp_path / "new")
