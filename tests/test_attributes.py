"""What a file that is replaced passes on: rights, owner, and attributes."""

from __future__ import annotations

import errno
import logging
import os
import stat
import struct
import sys
from pathlib import Path

import pytest

from blurfast.io.attributes import resemble
from blurfast.io.output import AtomicFile

if sys.platform != "linux":
    pytest.skip("only Linux attaches such attributes to files", allow_module_level=True)

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
OWNER, USER, GROUP, MASK, OTHERS = 1, 2, 4, 16, 32
SOMEBODY, NOBODY_IN_PARTICULAR = 65534, 2**32 - 1


def access_list(*, somebody: int, group: int, mask: int, others: int = 0) -> bytes:
    """Return a list that gives the user `SOMEBODY` rights, too: reading is 4, writing 2."""
    rights = (OWNER, 6), (USER, somebody), (GROUP, group), (MASK, mask), (OTHERS, others)
    entries = ((tag, count, SOMEBODY if tag == USER else NOBODY_IN_PARTICULAR) for tag, count in rights)
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def attach(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        pytest.skip(f"the temporary directory has no {name}: {error}")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that is to be replaced."""
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")
    path.chmod(0o640)
    return path


def replace(path: Path) -> None:
    output = AtomicFile(path, overwrite=True)
    output.file.write(b"new")
    output.commit()
    assert path.read_bytes() == b"new"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_access_lists_are_kept(old: Path) -> None:
    rights = access_list(somebody=6, group=0, mask=6)
    attach(old, ACCESS, rights)
    replace(old)
    assert os.getxattr(old, ACCESS) == rights
    assert mode(old) == 0o660


def test_what_users_attached_is_kept(old: Path) -> None:
    attach(old, "user.comment", b"\0\xff of mine")
    old.chmod(0o440)  # and so does not let its owner attach anything
    replace(old)
    assert os.getxattr(old, "user.comment") == b"\0\xff of mine"
    assert mode(old) == 0o440


def test_rights_of_a_directory_do_not_come_to_life(old: Path) -> None:
    """A new file there would let somebody read it; the old one did not."""
    attach(old.parent, DEFAULT, access_list(somebody=6, group=4, mask=6))
    replace(old)
    assert ACCESS not in os.listxattr(old)
    assert mode(old) == 0o640


def test_an_unfinished_file_that_replaces_another_is_private(old: Path) -> None:
    attach(old.parent, DEFAULT, access_list(somebody=6, group=4, mask=6, others=4))
    output = AtomicFile(old, overwrite=True)
    assert mode(output.temporary) == 0o600  # where the middle digit is the most that any list gives to others
    output.abort()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("has_default", [False, True])
def test_a_new_file_has_the_rights_of_any_other(tmp_path: Path, umask: int, has_default: bool) -> None:
    if has_default:
        attach(tmp_path, DEFAULT, access_list(somebody=6, group=4, mask=4, others=4))
    before = os.umask(umask)
    try:
        AtomicFile(tmp_path / "a.tif").commit()
        (tmp_path / "plain").open("w").close()
    finally:
        os.umask(before)
    rights = [(mode(path), os.listxattr(path)) for path in (tmp_path / "a.tif", tmp_path / "plain")]
    assert rights[0] == rights[1]
    assert (ACCESS in rights[0][1]) == has_default


def test_a_list_that_is_lost_gives_nobody_more_rights(
    old: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attach(old, ACCESS, access_list(somebody=6, group=0, mask=6))
    attach(old, "user.comment", b"mine")

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "setxattr", no_room)
    with caplog.at_level(logging.WARNING, logger="blurfast"):
        replace(old)
    assert mode(old) == 0o600
    assert caplog.messages == [f"{old}: the new file has lost the old one's user.comment, list of access rights"]


def test_a_drive_without_attributes_is_no_news(
    old: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def not_supported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    for function in ("listxattr", "getxattr", "setxattr", "removexattr"):
        monkeypatch.setattr(os, function, not_supported)
    replace(old)
    assert mode(old) == 0o640
    assert not caplog.messages


def test_other_systems_keep_the_permissions(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = old.with_name("b.tif")
    new.touch(mode=0o600)
    monkeypatch.setattr(sys, "platform", "darwin")
    for function in ("listxattr", "getxattr", "setxattr", "removexattr"):
        monkeypatch.delattr(os, function)
    resemble(new, old)
    assert mode(new) == 0o640
