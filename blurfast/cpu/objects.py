"""Compiled kernels: kept as object files in the user's cache directory and run through llvmlite, without Numba.

Importing Numba takes 0.3 s and 100 MB, and loading from its own cache as long again; a kernel's object file has
10 KB and is ready in a few milliseconds. So Numba runs once per kernel and machine, in a child process.

An entry is named by a digest of everything that its code depends on: the kernels' source, the versions of Numba
and llvmlite, and the processor. It carries a checksum, so a damaged or foreign file is rebuilt, never executed.
Set ``BLURFAST_CACHE_DIR`` to keep the entries elsewhere.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding as llvm
import platformdirs

from blurfast.cpu import machine
from blurfast.cpu.catalogue import Kernel
from blurfast.resources import thread_count

logger = logging.getLogger("blurfast")

_MAGIC = b"blurfast kernel\n"


class CompiledKernel(NamedTuple):
    """A kernel's machine code, the symbol to call in it, and the number of its (64-bit) arguments."""

    symbol: str
    argument_count: int
    code: bytes


KernelFunction = Callable[..., None]

_loaded: dict[Kernel, KernelFunction] = {}
_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    # A child must not inherit a lock of LLVM's that another thread holds; all use of LLVM is under this one.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def load(kernels: Iterable[Kernel]) -> list[KernelFunction]:
    """Return the kernels as functions that release the GIL, compiling those that no earlier run has compiled.

    It pays to ask for all that a run needs at once: they are compiled side by side.

    Arguments are integers: sizes, and the addresses of arrays that the caller keeps alive.
    """
    kernels = list(kernels)
    with _lock:
        missing = [kernel for kernel in kernels if kernel not in _loaded]
        if missing:
            for kernel, compiled in _obtain(missing).items():
                _loaded[kernel] = _link(compiled)
    return [_loaded[kernel] for kernel in kernels]


def cache_directory() -> Path:
    """Return the directory that holds the compiled kernels."""
    override = os.environ.get("BLURFAST_CACHE_DIR")
    return Path(override) if override else Path(platformdirs.user_cache_dir("blurfast")) / "kernels"


def is_cached(kernel: Kernel) -> bool:
    """Return whether the cache holds a usable entry for `kernel`."""
    return read_entry(cache_directory(), kernel) is not None


def _obtain(kernels: list[Kernel]) -> dict[Kernel, CompiledKernel]:
    directory = cache_directory()
    entries = {kernel: read_entry(directory, kernel) for kernel in kernels}
    missing = [kernel for kernel, compiled in entries.items() if compiled is None]
    if missing:
        logger.info(
            "compiling %s for this processor (once)", "a kernel" if len(missing) == 1 else f"{len(missing)} kernels"
        )
        _compile_in_children(directory, missing)
        entries.update({kernel: read_entry(directory, kernel) or _compile_here(kernel) for kernel in missing})
    return {kernel: compiled for kernel, compiled in entries.items() if compiled is not None}


def _compile_in_children(directory: Path, kernels: list[Kernel]) -> None:
    package_root = str(Path(__file__).parents[2])
    search_path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "blurfast.cpu.compiler", str(directory)]
    environment = {**os.environ, "PYTHONPATH": search_path}
    shares = min(len(kernels), thread_count(None))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise PermissionError(f"{directory} is not writable")
        children = [
            subprocess.Popen(
                [*command, *map(str, kernels[share::shares])], env=environment, stderr=subprocess.PIPE, text=True
            )
            for share in range(shares)
        ]
        try:
            outcomes = [(child, child.communicate()[1]) for child in children]
        finally:
            for child in children:
                child.kill()  # those that are left when one is interrupted; harmless after the end
                child.wait()
        for child, errors in outcomes:
            if child.returncode:
                raise subprocess.CalledProcessError(child.returncode, child.args, stderr=errors)
    except subprocess.CalledProcessError as error:
        if error.returncode < 0:  # it would take this process with it, too
            names = ", ".join(map(str, kernels))
            raise RuntimeError(f"the compiler died of signal {-error.returncode} over {names}") from error
        reason = (error.stderr.strip().splitlines() or ["no message"])[-1]
        logger.warning("kernels are compiled for this process only, since the compiler failed: %s", reason)
    except OSError as error:
        logger.warning("kernels are compiled for this process only, since they could not be kept: %s", error)


def _compile_here(kernel: Kernel) -> CompiledKernel:
    from blurfast.cpu import compiler

    return compiler.compile_kernel(kernel)


@functools.cache
def _engine() -> llvm.ExecutionEngine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target_machine = llvm.Target.from_default_triple().create_target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine)


def _link(compiled: CompiledKernel) -> KernelFunction:
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(compiled.code))
    engine.finalize_object()
    address = engine.get_function_address(compiled.symbol)
    # A 64-bit integer and a pointer travel in the same registers, so one prototype serves both.
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * compiled.argument_count)(address)


@functools.cache
def _fingerprint() -> str:
    """Digest all that the machine code depends on, except the kernel's name."""
    digest = hashlib.sha256()
    directory = Path(__file__).parent
    for source in sorted([*directory.glob("*_kernels.py"), directory / "simd.py", directory / "compiler.py"]):
        digest.update(source.read_bytes())
    for package in ("numba", "llvmlite"):
        digest.update(importlib.metadata.version(package).encode())
    digest.update(f"{sys.platform} {machine.cpu_name()} {machine.cpu_features()} {machine.vector_bits()}".encode())
    return digest.hexdigest()


def _entry_path(directory: Path, kernel: Kernel) -> Path:
    return directory / f"{kernel}-{_fingerprint()[:16]}.kernel"


def write_entry(directory: Path, kernel: Kernel, compiled: CompiledKernel) -> None:
    """Keep `compiled` in `directory`; it appears whole, also where another process writes the same entry."""
    about = {"kernel": str(kernel), "symbol": compiled.symbol, "arguments": compiled.argument_count}
    payload = json.dumps({**about, "fingerprint": _fingerprint()}).encode() + b"\n" + compiled.code
    path = _entry_path(directory, kernel)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(_MAGIC + hashlib.sha256(payload).digest() + payload)
    partial.replace(path)


def read_entry(directory: Path, kernel: Kernel) -> CompiledKernel | None:
    """Return the entry of `kernel`, or None if there is none or it is not what `write_entry` wrote."""
    try:
        data = _entry_path(directory, kernel).read_bytes()
    except OSError:
        return None
    checksum, payload = data[len(_MAGIC) : len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
    if not data.startswith(_MAGIC) or hashlib.sha256(payload).digest() != checksum:
        return None
    header, code = payload.split(b"\n", 1)
    about = json.loads(header)
    if about["kernel"] != str(kernel) or about["fingerprint"] != _fingerprint():
        return None
    return CompiledKernel(about["symbol"], about["arguments"], code)
