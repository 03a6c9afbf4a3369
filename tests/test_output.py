"""Output files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import threading

import pytest

from blurfast.errors import MisplacedError, OutputExistsError, UnwritableError
from blurfast.io import output as output_module
from blurfast.io import writeback
from blurfast.io.output import AtomicFile, abandon_unfinished, unwritable
from blurfast.io.writeback import begin_storing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_seen_before_commit(tmp_path):
    output = AtomicFile(tmp_path / "a.tif")
    output.file.write(b"half")
    assert not (tmp_path / "a.tif").exists()
    output.file.write(b" and half")
    output.commit()
    assert (tmp_path / "a.tif").read_bytes() == b"half and half"
    output.abort()
    assert names(tmp_path) == ["a.tif"]


def test_what_is_written_is_stored_while_the_file_grows(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(output_module, "begin_storing", lambda *part: asked.append(part[1:]) or begin_storing(*part))
    output = AtomicFile(tmp_path / "a.tif")
    pieces = [bytes([number]) * (3 << 20) for number in range(7)]
    for piece in pieces:
        output.write(piece)
    output.commit()
    assert asked == [(0, 9 << 20), (9 << 20, 18 << 20)]
    assert (tmp_path / "a.tif").read_bytes() == b"".join(pieces)


def test_nothing_is_stored_early_on_other_systems(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "another")
    writeback._sync_file_range.cache_clear()
    try:
        assert writeback._sync_file_range() is None
        with open(tmp_path / "a.tif", "wb") as file:
            begin_storing(file.fileno(), 0, 1)
    finally:
        writeback._sync_file_range.cache_clear()


def test_abort_leaves_nothing(tmp_path):
    output = AtomicFile(tmp_path / "a.tif")
    output.file.write(b"x" * 100_000)
    output.abort()
    output.abort()
    assert names(tmp_path) == []


def test_abandoned_files_are_gone_and_stay_so(tmp_path, monkeypatch):
    monkeypatch.setattr("blurfast.io.output._abandoned", threading.Event())
    done, unfinished = (AtomicFile(tmp_path / name) for name in ("a.tif", "b.tif"))
    done.commit()
    abandon_unfinished()
    assert names(tmp_path) == ["a.tif"]
    with pytest.raises(UnwritableError):
        unfinished.commit()
    with pytest.raises(UnwritableError, match=r"c\.tif: is not begun any more"):
        AtomicFile(tmp_path / "c.tif")
    unfinished.abort()
    assert names(tmp_path) == ["a.tif"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs to fork")
def test_children_do_not_abandon_what_is_their_parents(tmp_path):
    output = AtomicFile(tmp_path / "a.tif")
    if (child := os.fork()) == 0:
        abandon_unfinished()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    output.commit()
    assert names(tmp_path) == ["a.tif"]


def test_files_that_are_over_are_forgotten(tmp_path):
    before = set(output_module._unfinished)
    for end in (AtomicFile.commit, AtomicFile.abort):
        end(AtomicFile(tmp_path / "a.tif", overwrite=True))
    assert output_module._unfinished == before


def test_an_existing_file_is_refused_at_once(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"old")
    with pytest.raises(OutputExistsError, match=r"a\.tif: .*exists; .*--overwrite"):
        AtomicFile(tmp_path / "a.tif")
    assert names(tmp_path) == ["a.tif"]


def test_a_file_that_appears_meanwhile_is_not_lost(tmp_path):
    output = AtomicFile(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(b"of another process")
    with pytest.raises(OutputExistsError):
        output.commit()
    output.abort()
    assert (tmp_path / "a.tif").read_bytes() == b"of another process"
    assert names(tmp_path) == ["a.tif"]


def test_overwriting_keeps_the_old_until_the_new_is_complete(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")
    path.chmod(0o640)
    output = AtomicFile(path, overwrite=True)
    output.file.write(b"new")
    assert path.read_bytes() == b"old"
    output.commit()
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    aborted = AtomicFile(path, overwrite=True)
    aborted.file.write(b"bad")
    aborted.abort()
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.tif"]


@pytest.mark.skipif(os.name != "posix", reason="umask is POSIX's")
def test_a_new_file_obeys_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        AtomicFile(tmp_path / "a.tif").commit()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.tif").stat().st_mode) == 0o640


def test_links_are_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "real.tif"
    target.write_bytes(b"old")
    link = tmp_path / "link.tif"
    link.symlink_to(target)
    output = AtomicFile(link, overwrite=True)
    output.file.write(b"new")
    output.commit()
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    dangling = tmp_path / "dangling.tif"
    dangling.symlink_to(tmp_path / "elsewhere" / "not yet.tif")
    AtomicFile(dangling).commit()
    assert dangling.is_symlink()
    assert names(tmp_path / "elsewhere") == ["not yet.tif", "real.tif"]


@pytest.mark.parametrize("place", ["missing/a.tif", "file/a.tif", "folder"])
def test_places_where_no_file_can_be(tmp_path, place):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(MisplacedError) as caught:
        AtomicFile(tmp_path / place, overwrite=True)
    assert caught.value.path == str(tmp_path / place)
    assert caught.value.remedy
    assert names(tmp_path) == ["file", "folder"]


def test_the_longest_possible_name(tmp_path):
    path = tmp_path / ("n" * 251 + ".tif")
    path.write_bytes(b"such a file can exist")
    AtomicFile(path, overwrite=True).commit()
    assert names(tmp_path) == [path.name]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_not_a_regular_file_is_never_replaced(tmp_path):
    """Not a pipe, and with it no device: it would be gone for all other programs."""
    pipe = tmp_path / "pipe.tif"
    os.mkfifo(pipe)
    with pytest.raises(UnwritableError):
        AtomicFile(pipe, overwrite=True).commit()
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_failures_of_the_system_name_the_output(tmp_path, monkeypatch, function):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    output = AtomicFile(tmp_path / "a.tif", overwrite=True)
    monkeypatch.setattr(f"blurfast.io.output.os.{function}", fail)
    with pytest.raises(UnwritableError, match=r"a\.tif: the disk is full; free"):
        output.commit()
    output.abort()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "status"),
    [(number, 2) for number in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)]
    + [(number, 5) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO)],
)
def test_every_reason_comes_with_a_remedy(number, status):
    error = unwritable(OSError(number, os.strerror(number)), "out.tif")
    assert isinstance(error, UnwritableError)
    assert error.path == "out.tif"
    assert error.remedy
    assert error.exit_status == status


def test_two_writers_of_one_output_do_not_meet(tmp_path):
    first, second = (AtomicFile(tmp_path / "a.tif", overwrite=True) for _ in range(2))
    first.file.write(b"first")
    second.file.write(b"second")
    first.commit()
    second.commit()
    assert (tmp_path / "a.tif").read_bytes() == b"second"
    assert names(tmp_path) == ["a.tif"]
