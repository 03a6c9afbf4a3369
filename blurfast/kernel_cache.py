"""Compiled kernels, kept in the user's cache directory: compiled once, by compilers in child processes.

An entry is named by a digest of everything that its code depends on: the kernels' source, the versions of the
compilers, and the machine. It carries a checksum, so a damaged or foreign file is compiled again, never executed.
Set ``BLURFAST_CACHE_DIR`` to keep the entries elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import platformdirs

from blurfast.resources import thread_count

logger = logging.getLogger("blurfast")

_MAGIC = b"blurfast kernel\n"


class Entry(NamedTuple):
    """What the cache keeps of a kernel.

    Parameters
    ----------
    facts
        What JSON can hold.
    code
        The machine code.
    """

    facts: dict[str, Any]
    code: bytes


class Storable(Protocol):
    """A compiled kernel, as the cache sees it."""

    def to_entry(self) -> Entry:
        """Return what the cache is to keep."""

    @classmethod
    def from_entry(cls, entry: Entry) -> Self:
        """Return the compiled kernel of which `entry` was made."""


KernelT = TypeVar("KernelT", bound=Hashable)
CompiledT = TypeVar("CompiledT", bound=Storable)


def cache_directory() -> Path:
    """Return the directory for compiled kernels, and for what else is found out once for each machine."""
    override = os.environ.get("BLURFAST_CACHE_DIR")
    return Path(override) if override else Path(platformdirs.user_cache_dir("blurfast")) / "kernels"


def fingerprint(sources: Iterable[Path], packages: Iterable[str], machine: str) -> str:
    """Digest all that machine code depends on, except the kernel's name.

    Parameters
    ----------
    sources
        The files that kernels are written in and compiled by.
    packages
        The compilers' distributions; those that are not installed count, too.
    machine
        What the code runs on.
    """
    digest = hashlib.sha256()
    for source in sorted(sources):
        digest.update(source.read_bytes())
    for package in packages:
        digest.update(f"{package} {_version(package)}\n".encode())
    digest.update(f"{sys.platform} {machine}".encode())
    return digest.hexdigest()


def _version(package: str) -> str:
    """Return a distribution's version: what the name of its directory of metadata says, which takes no import."""
    stem = f"{package.replace('-', '_')}-"
    for folder in sys.path:
        with contextlib.suppress(OSError):  # some are missing, or archives
            for name in os.listdir(folder):
                if name.startswith(stem) and name.endswith(".dist-info"):
                    return name.removeprefix(stem).removesuffix(".dist-info")
    import importlib.metadata  # takes 10 ms

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "is not installed"


def lock_across_forks() -> threading.Lock:
    """Return a lock that a process takes before it forks, so that no child inherits one that another thread holds."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


@dataclass(frozen=True)
class KernelCache(Generic[KernelT, CompiledT]):
    """The compiled kernels of one kind of machine.

    Kernels are told apart by their `str`, which is also how a compiler is told which to compile.

    Parameters
    ----------
    directory
        Where the entries are; it is made when the first one is written.
    fingerprint
        See `fingerprint`.
    compiled_type
        What entries become.
    compiler
        A module, and arguments for it: ``python -m MODULE DIRECTORY ARGUMENTS... KERNEL...`` writes the entries of
        kernels into a directory.
    compile_here
        Compiles one kernel in this process, for a cache that cannot be written.
    machine
        What the kernels are for, in messages.
    kernels_per_child
        As many kernels as take longer to compile than a compiler takes to start; more are shared among compilers.
    """

    directory: Path
    fingerprint: str
    compiled_type: type[CompiledT]
    compiler: tuple[str, ...]
    compile_here: Callable[[KernelT], CompiledT]
    machine: str
    kernels_per_child: int = 1

    def path(self, kernel: KernelT) -> Path:
        """Return where the entry of `kernel` is, or will be."""
        return self.directory / f"{kernel}-{self.fingerprint[:16]}.kernel"

    def write(self, kernel: KernelT, compiled: CompiledT) -> None:
        """Keep `compiled`; its entry appears whole, also where another process writes the same one."""
        facts, code = compiled.to_entry()
        header = json.dumps({**facts, "kernel": str(kernel), "fingerprint": self.fingerprint})
        payload = header.encode() + b"\n" + code
        path = self.path(kernel)
        partial = path.with_suffix(f".{os.getpid()}")
        try:
            partial.write_bytes(_MAGIC + hashlib.sha256(payload).digest() + payload)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)  # where the disk is full

    def read(self, kernel: KernelT) -> CompiledT | None:
        """Return what the cache has for `kernel`, or None if there is no entry or it is not what `write` wrote."""
        try:
            data = self.path(kernel).read_bytes()
        except OSError:
            return None
        checksum, payload = data[len(_MAGIC) : len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
        if not data.startswith(_MAGIC) or hashlib.sha256(payload).digest() != checksum:
            return None
        header, code = payload.split(b"\n", 1)
        facts = json.loads(header)
        if facts.pop("kernel") != str(kernel) or facts.pop("fingerprint") != self.fingerprint:
            return None
        return self.compiled_type.from_entry(Entry(facts, code))

    def obtain(self, kernels: Iterable[KernelT]) -> dict[KernelT, CompiledT]:
        """Return the kernels compiled: from the cache, or by compilers that run side by side and fill it.

        Raises
        ------
        RuntimeError
            If a compiler crashes.
        """
        kernels = list(kernels)
        found = {kernel: compiled for kernel in kernels if (compiled := self.read(kernel)) is not None}
        missing = [kernel for kernel in kernels if kernel not in found]
        if missing:
            count = "a kernel" if len(missing) == 1 else f"{len(missing)} kernels"
            logger.info("compiling %s for %s (once)", count, self.machine)
            self._compile_in_children(missing)
            found.update({kernel: self.read(kernel) or self.compile_here(kernel) for kernel in missing})
        return found

    def _compile_in_children(self, kernels: Sequence[KernelT]) -> None:
        module, *arguments = self.compiler
        command = [sys.executable, "-m", module, str(self.directory), *arguments]
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not os.access(self.directory, os.W_OK):
                raise PermissionError(f"{self.directory} is not writable")
            shares = min(-(-len(kernels) // self.kernels_per_child), thread_count(None))
            _run_side_by_side([[*command, *map(str, kernels[share::shares])] for share in range(shares)])
        except subprocess.CalledProcessError as error:
            if error.returncode < 0:  # it would take this process with it, too
                names = ", ".join(map(str, kernels))
                raise RuntimeError(f"the compiler died of signal {-error.returncode} over {names}") from error
            reason = (error.stderr.strip().splitlines() or ["no message"])[-1]
            logger.warning("kernels are compiled for this process only, since the compiler failed: %s", reason)
        except OSError as error:
            logger.warning("kernels are compiled for this process only, since they could not be kept: %s", error)


def _run_side_by_side(commands: Sequence[Sequence[str]]) -> None:
    """Run commands that import this package; raise a `CalledProcessError` if one fails, once all have ended."""
    package_root = str(Path(__file__).parents[1])
    search_path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": search_path}
    children: list[subprocess.Popen[str]] = []
    try:
        children.extend(
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands
        )
        outcomes = [(child, child.communicate()[1]) for child in children]
    finally:
        for child in children:
            child.kill()  # those that are left when one is interrupted; harmless after the end
            child.wait()
    for child, errors in outcomes:
        if child.returncode:
            raise subprocess.CalledProcessError(child.returncode, child.args, stderr=errors)
