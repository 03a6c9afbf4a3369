"""A compiler for kernels that are only names, for tests of the cache: ``python -m tests.toy_compiler DIRECTORY MOOD``.

Its moods are how it may behave in a child process.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from blurfast.kernel_cache import Entry, KernelCache


class Toy(NamedTuple):
    """A compiled kernel; `process` compiled it."""

    process: int
    code: bytes

    def to_entry(self) -> Entry:
        return Entry({"process": self.process}, self.code)

    @classmethod
    def from_entry(cls, entry: Entry) -> Toy:
        return cls(entry.facts["process"], entry.code)


def compile_toy(kernel: str) -> Toy:
    return Toy(os.getpid(), kernel.encode() * 500)


def toy_cache(
    directory: Path, mood: str = "fine", *, kernels_per_child: int = 1, fingerprint: str = "f" * 64
) -> KernelCache[str, Toy]:
    return KernelCache(
        directory=directory,
        fingerprint=fingerprint,
        compiled_type=Toy,
        compiler=("tests.toy_compiler", mood),
        compile_here=compile_toy,
        machine="a toy",
        kernels_per_child=kernels_per_child,
    )


def main(arguments: list[str]) -> None:
    directory, mood, *kernels = arguments
    if mood == "crashing":
        os.kill(os.getpid(), signal.SIGKILL)
    if mood == "failing":
        sys.exit("it is\nnot in the mood")
    for kernel in kernels if mood == "fine" else kernels[:-1]:
        toy_cache(Path(directory)).write(kernel, compile_toy(kernel))


if __name__ == "__main__":
    main(sys.argv[1:])
