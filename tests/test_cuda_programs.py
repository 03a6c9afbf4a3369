"""Kernels compiled for GPUs: what becomes of them, of the cache, and of a compiler that is missing."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("numba_cuda", reason="needs the extra cuda-test")

from cuda.pathfinder import DynamicLibNotFoundError
from numba import cuda
from numba.cuda import types

from blurfast import kernel_cache
from blurfast.cuda import compiler, programs
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import DeviceError
from blurfast.cuda.programs import Program

ROOT = Path(__file__).parents[1]
AMPERE = (8, 6)
SCALE = Kernel("toy", "scale", "uint8", "float32", "float32")
VERTICAL = Kernel("separable", "vertical", "uint8", "uint8", "float32")

PROGRAM = Program(
    entry="toy_scale",
    parameter_bytes=(8, 4),
    ptx=".version 8.8\n// lines, and \u00dcmlauts\n",
    cubin=bytes(range(256)) * 20,
    registers=20,
    spill_bytes=1,
    shared_bytes=2,
    local_bytes=3,
)


def scale(source, target, count, factor):
    """Multiply by a factor, passing samples on through shared memory."""
    shared = cuda.shared.array(64, types.float32)
    index = cuda.grid(1)
    if index < count:
        shared[cuda.threadIdx.x] = source[index]
        cuda.syncthreads()
        target[index] = shared[types.uint32(63) - cuda.threadIdx.x] * factor


def look_up(source, target, count, factor):
    """Take samples from an array that does not fit into registers."""
    table = cuda.local.array(200, types.float32)
    for index in range(200):
        table[index] = source[index] * factor
    target[0] = table[count]


@pytest.fixture
def _toy_kernels(monkeypatch):
    """Let there be a module of kernels that only this process knows."""

    def entry_points(pixel, target, sums):
        arguments = types.CPointer(pixel), types.CPointer(target), types.uint32, sums
        return {"scale": (scale, arguments), "look_up": (look_up, arguments)}

    monkeypatch.setitem(sys.modules, "blurfast.cuda.toy_kernels", SimpleNamespace(entry_points=entry_points))


# -------------------------------------------------------------------------------------------------------- compiling


@pytest.mark.usefixtures("_toy_kernels")
@pytest.mark.parametrize("capability", [(7, 5), (8, 6), (9, 0), (12, 0)])
def test_what_becomes_of_a_kernel(capability):
    program = compiler.compile_kernel(SCALE, capability)
    assert program.entry == "toy_scale_uint8_float32_float32"
    assert program.parameter_bytes == (8, 8, 4, 4)
    assert program.cubin.startswith(b"\x7fELF")
    assert program.entry.encode() in program.cubin
    assert "\n.target sm_{}{}\n".format(*capability) in program.ptx
    parameters = re.findall(r"\.param \.(\w+).* (\w+)_param_\d", program.ptx)
    assert parameters == [(kind, program.entry) for kind in ("u64", "u64", "u32", "f32")]
    assert "_ZN" not in program.ptx, "a name is left that depends on what else has been compiled"
    assert 4 < program.registers < 64
    assert (program.spill_bytes, program.shared_bytes, program.local_bytes) == (0, 64 * 4, 0)


@pytest.mark.usefixtures("_toy_kernels")
def test_memory_of_threads_is_told():
    program = compiler.compile_kernel(SCALE._replace(function="look_up", sums="float64"), AMPERE)
    assert program.parameter_bytes == (8, 8, 4, 8)
    assert (program.spill_bytes, program.shared_bytes, program.local_bytes) == (0, 0, 200 * 4)


def test_the_linkers_report_on_spills():
    report = (
        "ptxas         .     96 bytes stack frame, 48 bytes spill stores, 60 bytes spill loads\n"
        "ptxas info    : Used 255 registers, used 1 barriers, 376 bytes cmem[0]\n"
    )
    patterns = r"used (\d+) registers", r"(\d+) bytes spill", r"(\d+) bytes stack", r"(\d+) bytes lmem"
    assert [compiler._largest(pattern, report) for pattern in patterns] == [255, 60, 96, 0]


@pytest.mark.usefixtures("_toy_kernels")
@pytest.mark.parametrize("capability", [(12, 9), (99, 0)])
def test_a_gpu_that_is_newer_than_the_compiler_gets_text(capability):
    program = compiler.compile_kernel(SCALE, capability)
    newest = max(compiler._architectures())
    assert program.cubin == b""
    assert "\n.target sm_{}{}\n".format(*newest) in program.ptx
    assert program.registers > 0


@pytest.mark.usefixtures("_toy_kernels")
def test_a_gpu_that_is_too_old():
    with pytest.raises(DeviceError, match=r"does not support GPUs of compute capability 5\.2 any more"):
        compiler.compile_kernel(SCALE, (5, 2))


@pytest.mark.usefixtures("_toy_kernels")
def test_a_part_of_the_compiler_that_is_missing(monkeypatch):
    def fail(*_arguments, **_options):
        raise DynamicLibNotFoundError("no libnvvm")

    monkeypatch.setattr(cuda, "compile_ptx", fail)
    with pytest.raises(DeviceError, match=r"part of CUDA's compiler is missing: no libnvvm; .*'blurfast\[cuda13\]'"):
        compiler.compile_kernel(SCALE, AMPERE)


def test_text_that_the_linker_refuses():
    header = ".version 6.4\n.target sm_86\n.address_size 64\n"
    with pytest.raises(DeviceError, match=r"linker refuses a kernel: .+; install .* in versions that match"):
        compiler._link(header + ".visible .entry kernel() { nonsense; }", AMPERE)


# ------------------------------------------------------------------------------------------------------- the cache


def test_programs_come_back_from_the_cache_as_they_were(tmp_path):
    cache = programs.cache(AMPERE, tmp_path)
    cache.write(SCALE, PROGRAM)
    assert cache.read(SCALE) == PROGRAM
    assert cache.path(SCALE).name.startswith("toy.scale.uint8.float32.float32-")


@pytest.mark.parametrize("position", [0, 20, 70, 400, -1])
def test_damaged_entries_are_not_taken(tmp_path, position):
    cache = programs.cache(AMPERE, tmp_path)
    cache.write(SCALE, PROGRAM)
    data = bytearray(cache.path(SCALE).read_bytes())
    data[position] ^= 0x10
    cache.path(SCALE).write_bytes(data)
    assert cache.read(SCALE) is None


def test_entries_for_other_gpus_are_not_taken(tmp_path):
    cache, other = programs.cache(AMPERE, tmp_path), programs.cache((8, 9), tmp_path)
    other.write(SCALE, PROGRAM)
    assert cache.read(SCALE) is None
    other.path(SCALE).rename(cache.path(SCALE))
    assert cache.read(SCALE) is None


@pytest.mark.parametrize("package", ["numba", "numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink"])
def test_entries_of_other_compilers_are_not_taken(tmp_path, monkeypatch, package):
    cache = programs.cache(AMPERE, tmp_path)
    version = kernel_cache._version
    monkeypatch.setattr(kernel_cache, "_version", lambda name: "0.1" if name == package else version(name))
    programs._fingerprint.cache_clear()
    try:
        assert programs.cache(AMPERE, tmp_path).fingerprint != cache.fingerprint
    finally:
        programs._fingerprint.cache_clear()


def test_programs_lie_beside_those_for_the_processor(tmp_path, monkeypatch):
    monkeypatch.setenv("BLURFAST_CACHE_DIR", str(tmp_path))
    assert programs.cache(AMPERE).directory == tmp_path / "cuda"


# -------------------------------------------------------------------------------------------------------- obtaining


def test_without_numba_cuda_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(programs, "_obtained", {})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "numba_cuda" else object())
    message = (
        "kernels for GPUs cannot be compiled, since numba-cuda is not installed; "
        "pip install 'blurfast[cuda13]' (or blurfast[cuda12] where the driver is for CUDA 12)"
    )
    with pytest.raises(DeviceError, match=re.escape(message)):
        programs.obtain([SCALE], AMPERE)


OBTAIN = f"""
import sys
from blurfast.cuda import programs
from blurfast.cuda.catalogue import Kernel
kernel = Kernel(*{tuple(VERTICAL)})
first, other = programs.obtain([kernel, kernel._replace(target="float32")], (8, 6))
assert programs.obtain([kernel], (8, 6))[0] is first
compiled_here = sorted({{"numba", "cuda.bindings"}} & set(sys.modules))
print(first.entry, other.entry, first.cubin[:4] == b"\\x7fELF", compiled_here)
"""
ENTRIES = "separable_vertical_uint8_uint8_float32 separable_vertical_uint8_float32_float32 True"


def run(cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BLURFAST_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", OBTAIN],
        env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def filled_cache(tmp_path_factory):
    cache = tmp_path_factory.mktemp("programs") / "not there yet"
    assert run(cache).stdout == f"{ENTRIES} []\n"
    return cache


def test_kernels_are_compiled_once_and_never_here(filled_cache):
    before = {path: path.read_bytes() for path in (filled_cache / "cuda").iterdir()}
    assert len(before) == 2
    second = run(filled_cache)
    assert (second.stdout, second.stderr) == (f"{ENTRIES} []\n", "")
    assert {path: path.read_bytes() for path in (filled_cache / "cuda").iterdir()} == before


def test_damaged_entries_are_compiled_again(filled_cache):
    for path in (filled_cache / "cuda").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert run(filled_cache).stdout == f"{ENTRIES} []\n"
    assert programs.cache(AMPERE, filled_cache / "cuda").read(VERTICAL) is not None


def test_a_cache_that_cannot_be_written_costs_one_warning(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    outcome = run(tmp_path / "file" / "kernels")
    assert outcome.stdout == f"{ENTRIES} ['cuda.bindings', 'numba']\n"
    assert len(outcome.stderr.strip().splitlines()) == 1
    assert "could not be kept" in outcome.stderr
