"""Kernels compiled for the processor: what is damaged is rebuilt, what cannot be kept still works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
import tifffile

from blurfast.cpu import objects
from blurfast.cpu.catalogue import Kernel

ROOT = Path(__file__).parents[1]

FILTER = """
import sys
import numpy as np
from blurfast import gaussian
image = np.arange(77 * 93, dtype="uint16").reshape(77, 93) % 251
result = gaussian(image, 2.0)
print(int((result.astype("int64") * np.arange(1, 77 * 93 + 1).reshape(77, 93)).sum()), "numba" in sys.modules)
"""


def python(code: str, cache: Path, *, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BLURFAST_CACHE_DIR": str(cache), **variables}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, timeout=120,
        check=check,
    )  # fmt: skip


@pytest.fixture(scope="module")
def filled_cache(tmp_path_factory):
    """Return a cache with the kernels that `FILTER` needs, what it prints, and the entries' bytes."""
    cache = tmp_path_factory.mktemp("kernels") / "not there yet"
    output = python(FILTER, cache).stdout
    entries = {path: path.read_bytes() for path in cache.iterdir()}
    assert len(entries) == 2
    return cache, output, entries


@pytest.fixture
def cache(filled_cache):
    directory, _, entries = filled_cache
    yield directory
    for path in directory.iterdir():
        path.unlink()
    for path, data in entries.items():
        path.write_bytes(data)


def test_a_cached_filter_runs_without_numba(cache, filled_cache):
    assert filled_cache[1].split()[1] == "False", "the compiler ran in this process"
    second = python(FILTER, cache)
    assert second.stdout == filled_cache[1]
    assert second.stderr == ""
    assert {path: path.read_bytes() for path in cache.iterdir()} == filled_cache[2]


def test_damaged_entries_are_rebuilt_never_executed(cache, filled_cache):
    _, output, entries = filled_cache
    for path, data in entries.items():
        path.write_bytes(data[:2000] + b"\xcc" * (len(data) - 2000))  # would stop the process
    run = python(FILTER, cache)
    assert run.stdout == output
    assert {path: path.read_bytes() for path in cache.iterdir()} == entries


def test_two_processes_fill_an_empty_cache(cache, filled_cache):
    for path in cache.iterdir():
        path.unlink()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BLURFAST_CACHE_DIR": str(cache)}
    processes = [
        subprocess.Popen([sys.executable, "-c", FILTER], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=120)[0] for process in processes] == [filled_cache[1]] * 2
    assert {path.name for path in cache.iterdir()} == {path.name for path in filled_cache[2]}


def test_a_cache_that_cannot_be_written_costs_one_warning(tmp_path, filled_cache):
    (tmp_path / "file").write_bytes(b"")
    run = python(FILTER + "gaussian(image, 3.0)\n", tmp_path / "file" / "kernels")
    number = filled_cache[1].split()[0]
    assert run.stdout.split() == [number, "True"]
    assert len(run.stderr.strip().splitlines()) == 1
    assert "could not be kept" in run.stderr


def test_a_cache_without_room_for_entries(tmp_path, filled_cache):
    """Where an entry should be, there is a directory."""
    cache = tmp_path / "kernels"
    for path in filled_cache[2]:
        (cache / path.name).mkdir(parents=True)
    run = python(FILTER, cache)
    assert run.stdout.split() == [filled_cache[1].split()[0], "True"]
    assert len(run.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int8", "int16", "float16", "float32"])
def test_kernels_call_nothing_but_memory_functions(dtype, tmp_path):
    check_symbols(dtype, "float32", tmp_path)


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int8", "int16", "int32", "uint32", "int64", "float16", "float32", "float64"]
)
def test_kernels_of_float64_sums_call_nothing_but_memory_functions(dtype, tmp_path):
    check_symbols(dtype, "float64", tmp_path)


def check_symbols(pixel: str, sums: str, folder: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only the tables of ELF files are read here")
    for function in ("vertical", "horizontal"):
        kernel = Kernel("separable", function, pixel, sums)
        entry = objects.cache().read(kernel)
        if entry is None:
            run = subprocess.run(
                [sys.executable, "-m", "blurfast.cpu.compiler", str(folder), str(kernel)],
                env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert run.returncode == 0, f"{kernel}: {run.stderr.splitlines()[-1:]}"
            entry = objects.cache(folder).read(kernel)
        assert undefined_symbols(entry.code) <= {"memcpy", "memset", "memmove"}, kernel


def undefined_symbols(code: bytes) -> set[str]:
    """Read the symbol table of a 64-bit little-endian ELF file."""
    assert code[:6] == b"\x7fELF\x02\x01"
    assert llvm.ObjectFileRef.from_data(code)

    def number(start: int, size: int) -> int:
        return int.from_bytes(code[start : start + size], "little")

    sections_at, section_size, section_count = number(0x28, 8), number(0x3A, 2), number(0x3C, 2)
    headers = [sections_at + index * section_size for index in range(section_count)]
    names = set()
    for header in headers:
        if number(header + 4, 4) == 2:  # SHT_SYMTAB
            offset, size, strings = number(header + 0x18, 8), number(header + 0x20, 8), number(header + 0x28, 4)
            strings_at = number(headers[strings] + 0x18, 8)
            for symbol in range(offset, offset + size, 24):
                if number(symbol + 6, 2) == 0 and number(symbol, 4):  # SHN_UNDEF, with a name
                    start = strings_at + number(symbol, 4)
                    names.add(code[start : code.index(b"\0", start)].decode())
    return names


def test_the_reader_of_symbols_finds_them():
    module = llvm.parse_assembly('declare double @cosh(double)\ndefine double @f(double %x) {\n'
                                 '%y = call double @cosh(double %x)\nret double %y\n}')  # fmt: skip
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    assert undefined_symbols(machine.emit_object(module)) == {"cosh"}


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint32", "int64"])
def test_every_dtype_into_float16(dtype):
    """In a process of its own, which a missing symbol would end."""
    code = (
        "import numpy as np\nfrom blurfast import gaussian\n"
        f"out = gaussian(np.full((20, 30), 7, '{dtype}'), 1.5, out=np.empty((20, 30), 'float16'))\n"
        "assert (out == 7).all()\n"
    )
    run = python(code, objects.cache_directory(), check=False)
    assert run.returncode == 0, run.stderr[-500:]


def test_importing_blurfast_imports_nothing_heavy(tmp_path):
    code = (
        "import sys, blurfast\n"
        "print(sorted({'numba', 'llvmlite', 'numpy', 'scipy', 'tifffile', 'PIL', 'click'} & set(sys.modules)))\n"
        "blurfast.Gaussian(2), blurfast.plan_file\n"
        "print(sorted({'numba', 'llvmlite', 'scipy', 'tifffile', 'PIL', 'click'} & set(sys.modules)))"
    )
    assert python(code, tmp_path).stdout.splitlines() == ["[]", "[]"]


_RUN = """
import atexit, gc, sys
atexit.register(lambda: print("left at exit:", len(gc.get_objects()) // 1000))  # handlers run in reverse order
from blurfast_cli.main import main
assert main(sys.argv[1:]) == 0
print("frozen:", gc.get_freeze_count() > 10_000, "collecting:", gc.isenabled())
print(sorted({"numba", "numpy.ma", "psutil", "importlib.metadata", "scipy"} & set(sys.modules)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil tells how much memory there is")
def test_a_run_imports_no_more_than_it_must_and_is_searched_for_no_garbage(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", np.zeros((30, 40), np.uint8))
    arguments = ["gaussian", str(tmp_path / "in.tif"), str(tmp_path / "out.tif"), "--sigma", "1", "--quiet"]
    done = subprocess.run([sys.executable, "-c", _RUN, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["frozen: True collecting: True", "[]", "left at exit: 0"]
