"""The cache of compiled kernels: what is damaged or foreign is not taken, and compilers may fail."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import sys
import threading
import warnings
from pathlib import Path

import pytest

from blurfast import kernel_cache
from tests.toy_compiler import Toy, toy_cache

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _children_find_the_compiler(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


# --------------------------------------------------------------------------------------------------------- entries


def flip_byte(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]


DAMAGES = {
    "flipped in the code": lambda data: flip_byte(data, len(data) // 2),
    "flipped at the end": lambda data: flip_byte(data, len(data) - 1),
    "flipped in the checksum": lambda data: flip_byte(data, 20),
    "flipped in the header": lambda data: flip_byte(data, 70),
    "flipped in the magic": lambda data: flip_byte(data, 0),
    "truncated": lambda data: data[: len(data) // 2],
    "cut to the magic": lambda data: data[:16],
    "longer": lambda data: data + b"\0",
    "empty": lambda data: data[:0],
    "foreign": lambda data: b"\x7fELF" + data[4:],
}


@pytest.mark.parametrize("package", ["numba", "llvmlite", "click"])
def test_versions_are_those_of_the_metadata(package):
    assert kernel_cache._version(package) == importlib.metadata.version(package)


def test_versions_of_what_is_not_installed():
    assert kernel_cache._version("no-such-package") == "is not installed"


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damage_is_noticed(damage, tmp_path):
    cache = toy_cache(tmp_path)
    compiled = Toy(7, bytes(range(256)) * 20)
    cache.write("kernel", compiled)
    (path,) = tmp_path.iterdir()
    assert cache.read("kernel") == compiled
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert cache.read("kernel") is None


def test_entries_of_other_kernels_are_not_taken(tmp_path):
    cache = toy_cache(tmp_path)
    cache.write("other", Toy(7, b"code"))
    cache.path("other").rename(cache.path("kernel"))
    assert cache.read("kernel") is None


def test_entries_for_other_machines_are_not_taken(tmp_path):
    cache, elsewhere = toy_cache(tmp_path), toy_cache(tmp_path, fingerprint="0" * 64)
    elsewhere.write("kernel", Toy(7, b"code"))
    assert cache.read("kernel") is None
    elsewhere.path("kernel").rename(cache.path("kernel"))
    assert cache.read("kernel") is None


def test_a_missing_directory_has_no_entries(tmp_path):
    assert toy_cache(tmp_path / "none").read("kernel") is None


def test_everything_that_code_depends_on_changes_the_fingerprint(tmp_path):
    first, second = tmp_path / "a_kernels.py", tmp_path / "b_kernels.py"
    first.write_text("one")
    second.write_text("two")
    base = kernel_cache.fingerprint([first, second], ["numpy"], "a machine")
    assert kernel_cache.fingerprint([second, first], ["numpy"], "a machine") == base
    others = [
        kernel_cache.fingerprint([first, second], ["numpy"], "another machine"),
        kernel_cache.fingerprint([first, second], ["pytest"], "a machine"),
        kernel_cache.fingerprint([first, second], ["numpy", "no-such-compiler"], "a machine"),
        kernel_cache.fingerprint([first], ["numpy"], "a machine"),
    ]
    second.write_text("three")
    others.append(kernel_cache.fingerprint([first, second], ["numpy"], "a machine"))
    assert len({base, *others}) == 6


# ------------------------------------------------------------------------------------------------------- compilers


def test_kernels_are_compiled_once_and_in_children(tmp_path):
    cache = toy_cache(tmp_path / "not there yet")
    compiled = cache.obtain(["a", "b", "c"])
    assert [toy.code[:1] for toy in compiled.values()] == [b"a", b"b", b"c"]
    assert os.getpid() not in {toy.process for toy in compiled.values()}
    assert toy_cache(cache.directory, "failing").obtain(["a", "b", "c"]) == compiled


@pytest.mark.parametrize(("kernels_per_child", "children"), [(1, 3), (2, 3), (3, 2), (5, 1)])
def test_a_child_gets_several_kernels(tmp_path, monkeypatch, kernels_per_child, children):
    monkeypatch.setattr(kernel_cache, "thread_count", lambda _: 3)
    compiled = toy_cache(tmp_path, kernels_per_child=kernels_per_child).obtain("abcde")
    assert len({toy.process for toy in compiled.values()}) == children
    assert list(compiled) == list("abcde")


def test_what_a_compiler_leaves_out_is_compiled_here(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_cache, "thread_count", lambda _: 1)
    compiled = toy_cache(tmp_path, "forgetful").obtain(["a", "b"])
    assert compiled["a"].process != os.getpid()
    assert compiled["b"] == Toy(os.getpid(), b"b" * 500)


def test_a_failing_compiler_costs_one_warning(tmp_path, caplog):
    compiled = toy_cache(tmp_path, "failing").obtain(["a", "b"])
    assert {toy.process for toy in compiled.values()} == {os.getpid()}
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert record.getMessage().endswith("since the compiler failed: not in the mood")


@pytest.mark.skipif(sys.platform == "win32", reason="signals end a process of their own kind only on POSIX")
def test_a_crashing_compiler_is_not_tried_again_here(tmp_path):
    with pytest.raises(RuntimeError, match="the compiler died of signal 9 over a, b"):
        toy_cache(tmp_path, "crashing").obtain(["a", "b"])


def test_a_directory_that_cannot_be_made_costs_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    compiled = toy_cache(tmp_path / "file" / "kernels").obtain(["a"])
    assert compiled == {"a": Toy(os.getpid(), b"a" * 500)}
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert "since they could not be kept: " in record.getMessage()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_no_child_inherits_a_lock_that_is_taken(tmp_path):
    lock = kernel_cache.lock_across_forks()
    taken, done = threading.Event(), tmp_path / "released"

    def hold() -> None:
        with lock:
            taken.set()
            threading.Event().wait(0.3)
            done.touch()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    child = fork_quietly()
    if child == 0:
        os._exit(0 if done.exists() and lock.acquire(timeout=5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()
    assert not lock.locked()


def fork_quietly() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks with threads
        return os.fork()
