"""What becomes of every kernel on every kind of GPU: ``python -m tests.cuda_matrix``, ``make cuda-matrix``.

Kernels are compiled to machine code, which needs no GPU, and held against budgets. The table of all is written to
build/cuda-matrix.md, which takes half an hour on two cores; `test_cuda_compile` does the same with a part of them.
"""

from __future__ import annotations

import functools
import importlib.metadata
import multiprocessing
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import pytest

pytest.importorskip("numba_cuda", reason="needs the extra cuda-test")

import numba.cuda

from blurfast.cuda import compiler
from blurfast.cuda.catalogue import Kernel, all_kernels
from blurfast.cuda.programs import Capability, Program
from blurfast.resources import thread_count

BUILD = Path(__file__).parents[1] / "build"

SAME_TEXT: tuple[Capability, ...] = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0))
"""Architectures for which the compiler writes the same text, but for the name of the architecture."""

ARCHITECTURES = (*SAME_TEXT, (10, 0), (12, 0))

_KERNELS_AT_A_TIME = 8

# ----------------------------------------------------------------------------------------------------- the budgets

# The same on all of these architectures.
_REGISTERS = 65536
_MOST_REGISTERS_OF_A_THREAD = 255
_UNIT_OF_REGISTERS = 8


class Budget(NamedTuple):
    """What a kernel may take.

    Parameters
    ----------
    blocks, threads
        So many blocks of so many threads must find registers on one multiprocessor.
    shared_bytes
        The most that the threads of a block may share; a launch asks for all of it.
    reason
        Why it may take as much.
    """

    blocks: int
    threads: int
    shared_bytes: int
    reason: str

    @property
    def registers(self) -> int:
        """The most registers of a thread."""
        share = _REGISTERS // (self.blocks * self.threads)
        return min(share // _UNIT_OF_REGISTERS * _UNIT_OF_REGISTERS, _MOST_REGISTERS_OF_A_THREAD)


_WINDOW = "32 results of a thread, in registers; each sample is loaded once for all of them"
_FOUR_BLOCKS = "as many blocks as a GPU is given for each multiprocessor"
_FEWER_BLOCKS = "its window of rows takes the registers; reading each pixel once is worth more than more threads"
_STREAMS = "nothing but memory counts, whose latency many threads hide"
_CHUNKS = "chunks of samples and taps are shared; on most GPUs, three such blocks have memory on a multiprocessor"
_SEGMENTS = "rows and their padding are shared; where the taps are too many, another kernel takes over"

BUDGETS = {
    ("vertical", "float32"): Budget(2, 256, 0, _WINDOW),
    ("vertical", "float64"): Budget(1, 256, 0, _WINDOW),
    ("horizontal", "float32"): Budget(2, 512, 48 * 1024, _SEGMENTS),
    ("horizontal", "float64"): Budget(2, 384, 48 * 1024, _SEGMENTS),
    ("resample_vertical", "float32"): Budget(6, 256, 0, _STREAMS),
    ("resample_vertical", "float64"): Budget(4, 256, 0, _STREAMS),
    ("resample_horizontal", "float32"): Budget(6, 256, 0, _STREAMS),
    ("resample_horizontal", "float64"): Budget(4, 256, 0, _STREAMS),
    ("add_up", "float32"): Budget(6, 256, 0, _STREAMS),
    ("add_up", "float64"): Budget(4, 256, 0, _STREAMS),
    ("fused4", "float32"): Budget(4, 128, 16 * 1024, _FOUR_BLOCKS),
    ("fused8", "float32"): Budget(4, 128, 16 * 1024, _FOUR_BLOCKS),
    ("fused12", "float32"): Budget(2, 128, 16 * 1024, _FEWER_BLOCKS),
    ("fused16", "float32"): Budget(2, 128, 16 * 1024, _FEWER_BLOCKS),
    ("fused4", "float64"): Budget(3, 128, 24 * 1024, _FEWER_BLOCKS),
    ("fused8", "float64"): Budget(2, 128, 24 * 1024, _FEWER_BLOCKS),
    ("correlate", "float32"): Budget(3, 256, 32 * 1024, _CHUNKS),
    ("correlate", "float64"): Budget(3, 128, 32 * 1024, _CHUNKS),
    ("find_references", "float32"): Budget(8, 256, 1024, "one block for each channel, once"),
    ("find_references", "float64"): Budget(6, 256, 2048, "one block for each channel, once"),
} | {
    (function, sums): Budget(blocks, 256, 0, _STREAMS)
    for sums, blocks in {"float32": 8, "float64": 6}.items()
    for function in ("pack", "multiply", "finish", "weight", "unweight")
}
"""By function and type of sums."""

EXCEPTIONS = {("vertical", "float32", (10, 0)): 152}
"""Registers beyond the budget: the compiler takes them for pixels of 16 bits, so that one block fits and not two."""


def budget_of(kernel: Kernel) -> Budget:
    """Return what a kernel may take."""
    return BUDGETS[kernel.function, kernel.sums]


def faults(kernel: Kernel, capability: Capability, program: Program) -> list[str]:
    """Return what is wrong with a kernel that is compiled for an architecture, if anything is."""
    allowed = EXCEPTIONS.get((kernel.function, kernel.sums, capability), budget_of(kernel).registers)
    found = {
        "no machine code": not program.cubin.startswith(b"\x7fELF"),
        f"{program.spill_bytes} bytes spilled": program.spill_bytes > 0,
        f"{program.local_bytes} bytes of local memory": program.local_bytes > 0,
        f"{program.shared_bytes} bytes shared that no launch knows of": program.shared_bytes > 0,
        f"{program.registers} of {allowed} registers": program.registers > allowed,
        "double precision": ".f64" in program.ptx and "float64" not in kernel,
    }
    return [fault for fault, is_there in found.items() if is_there]


# --------------------------------------------------------------------------------------------------------- compiling


def compile_for(kernel: Kernel, capabilities: Iterable[Capability]) -> dict[Capability, Program]:
    """Compile a kernel for several architectures, but the text that they share only once: it takes most of the time."""
    texts: dict[Capability, str] = {}

    def compile_ptx(function: Any, signature: Any, cc: Capability) -> tuple[str, None]:
        first = SAME_TEXT[0] if cc in SAME_TEXT else cc
        if first not in texts:
            texts[first], _ = numba.cuda.compile_ptx(function, signature, cc=first)
        return for_architecture(texts[first], cc), None

    with mock.patch.object(compiler, "cuda", SimpleNamespace(compile_ptx=compile_ptx)):
        return {capability: compiler.compile_kernel(kernel, capability) for capability in capabilities}


def for_architecture(text: str, capability: Capability) -> str:
    """Return a kernel's text under the name of another architecture."""
    return re.sub(r"(?m)^\.target sm_\w+$", ".target sm_{}{}".format(*capability), text)


@functools.cache
def _disassembler() -> Path | None:
    """Return where NVIDIA's disassembler is, if it is installed."""
    try:
        files = importlib.metadata.files("nvidia-cuda-nvdisasm") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.stem == "nvdisasm"), None)


def instructions(program: Program) -> Counter[str] | None:
    """Count the instructions of a kernel's machine code by name; None where there is no disassembler."""
    disassembler = _disassembler()
    if disassembler is None:
        return None
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "kernel.cubin")
        path.write_bytes(program.cubin)
        command = [str(disassembler), "--print-code", "--no-dataflow", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return Counter(re.findall(r"(?m)^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]+)", text))


# --------------------------------------------------------------------------------------------------------- the table


class Verdict(NamedTuple):
    """What is found out about a kernel on one architecture."""

    registers: int
    faults: list[str]


def examine(kernel: Kernel) -> dict[Capability, Verdict]:
    """Compile a kernel for all architectures, each on its own, and return what is found out."""
    verdicts: dict[Capability, Verdict] = {}
    shared_text = compiler.compile_kernel(kernel, SAME_TEXT[0]).ptx
    for capability in ARCHITECTURES:
        program = compiler.compile_kernel(kernel, capability)
        verdict = verdicts[capability] = Verdict(program.registers, faults(kernel, capability, program))
        if capability in SAME_TEXT and program.ptx != for_architecture(shared_text, capability):
            verdict.faults.append("a text of its own")
    return verdicts


def render(verdicts: Mapping[Kernel, Mapping[Capability, Verdict]]) -> str:
    """Return a table of registers by kernel and architecture, and one of the budgets, as Markdown."""
    names = ["{}.{}".format(*capability) for capability in ARCHITECTURES]
    rows = [
        [
            f"`{kernel}`",
            *(_cell(found.get(capability)) for capability in ARCHITECTURES),
            str(budget_of(kernel).registers),
        ]
        for kernel, found in verdicts.items()
    ]
    budgets = [
        [
            function,
            sums,
            *map(str, (budget.registers, budget.blocks, budget.threads, budget.shared_bytes)),
            budget.reason,
        ]
        for (function, sums), budget in BUDGETS.items()
    ]
    exceptions = "; ".join(
        "{} with {} sums for {}.{}: {}".format(function, sums, *capability, registers)
        for (function, sums, capability), registers in EXCEPTIONS.items()
    )
    return "\n".join(
        [
            "# Kernels for GPUs, by compute capability\n",
            "Registers of a thread, and what is wrong with a kernel, if anything is.\n",
            _table(["kernel", *names, "allowed"], rows),
            f"More registers are allowed to {exceptions}.\n",
            "# What they may take\n",
            _table(["function", "sums", "registers", "blocks", "threads", "shared bytes", "why"], budgets),
        ]
    )


def _cell(verdict: Verdict | None) -> str:
    return "-" if verdict is None else "; ".join([str(verdict.registers), *verdict.faults])


def _table(header: list[str], rows: Iterable[list[str]]) -> str:
    return "".join("| " + " | ".join(cells) + " |\n" for cells in (header, ["---"] * len(header), *rows))


def main() -> None:
    """Examine all kernels, write the table, and fail if something is wrong with one."""
    kernels = all_kernels()
    with ProcessPoolExecutor(thread_count(None), multiprocessing.get_context("spawn")) as pool:
        verdicts = dict(zip(kernels, pool.map(examine, kernels, chunksize=_KERNELS_AT_A_TIME), strict=True))
    BUILD.mkdir(exist_ok=True)
    path = BUILD / "cuda-matrix.md"
    path.write_text(render(verdicts))
    wrong = [
        f"{kernel} for {major}.{minor}: {', '.join(verdict.faults)}"
        for kernel, by_capability in verdicts.items()
        for (major, minor), verdict in by_capability.items()
        if verdict.faults
    ]
    sys.stdout.write(f"{len(kernels)} kernels for {len(ARCHITECTURES)} architectures: {path}\n")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
