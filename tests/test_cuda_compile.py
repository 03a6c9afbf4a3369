"""What becomes of kernels on each kind of GPU: registers, memory, precision, and how wide accesses are.

These are some kernels of every function. Those for float32, float64, uint8 and uint16 are compiled for all
architectures. For the other types, three functions have all loads and stores that there are; they are compiled for the
oldest and the newest architecture. ``make cuda-matrix`` examines all kernels.
"""

from __future__ import annotations

import functools
import os

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs the extra cuda-test")

from blurfast.cuda import compiler, fused
from blurfast.cuda.catalogue import Kernel, all_kernels
from blurfast.cuda.programs import Program
from blurfast.dtypes import SUPPORTED, sum_dtype
from tests import cuda_matrix
from tests.cuda_matrix import ARCHITECTURES, BUDGETS, BUILD, SAME_TEXT, Budget, Verdict, budget_of, faults
from tests.launches import launches

OLDEST, NEWEST = ARCHITECTURES[0], ARCHITECTURES[-1]
MAIN_TYPES = ("float32", "float64", "uint8", "uint16")
FUNCTIONS_FOR_OTHER_TYPES = ("vertical", "resample_horizontal", "fused4")


def representatives() -> dict[Kernel, tuple[tuple[int, int], ...]]:
    """Return kernels to compile, and for which architectures."""
    usual = {dtype: kernels_for(dtype) for dtype in SUPPORTED}
    main = {kernel for dtype in MAIN_TYPES for kernel in usual[dtype]}
    others = {
        kernel for kernels in usual.values() for kernel in kernels if kernel.function in FUNCTIONS_FOR_OTHER_TYPES
    }
    return {
        kernel: ARCHITECTURES if kernel in main else (OLDEST, NEWEST)
        for kernel in all_kernels()
        if kernel in main | others
    }


def kernels_for(dtype: str) -> list[Kernel]:
    """Return those for images of one type, with the usual sums; from pixels to pixels where there are such."""
    sums = sum_dtype(np.dtype(dtype)).name
    own = [
        kernel
        for kernel in all_kernels()
        if kernel.sums == sums and {dtype} <= {kernel.pixel, kernel.target} <= {dtype, sums}
    ]
    whole = [kernel for kernel in own if kernel.pixel == kernel.target]
    functions = {kernel.function for kernel in whole}
    return [*whole, *(kernel for kernel in own if kernel.function not in functions)]


REPRESENTATIVES = representatives()


@functools.cache
def compiled(kernel: Kernel) -> dict[tuple[int, int], Program]:
    return cuda_matrix.compile_for(kernel, REPRESENTATIVES[kernel])


@functools.cache
def instructions(kernel: Kernel, capability: tuple[int, int]):
    found = cuda_matrix.instructions(compiled(kernel)[capability])
    if found is None:
        pytest.skip("needs the extra cuda-test")
    return found


@pytest.fixture(scope="module")
def verdicts():
    """Collect what is found out; it is written to build/, by each process of tests that has a part of them."""
    found = {}
    yield found
    BUILD.mkdir(exist_ok=True)
    name = "-".join(["cuda-compile", *filter(None, [os.environ.get("PYTEST_XDIST_WORKER")])])
    (BUILD / f"{name}.md").write_text(cuda_matrix.render(found))


# --------------------------------------------------------------------------------------------------------- resources


@pytest.mark.parametrize("kernel", REPRESENTATIVES, ids=str)
def test_kernel_keeps_to_its_budget(kernel, verdicts):
    found = {
        capability: Verdict(program.registers, faults(kernel, capability, program))
        for capability, program in compiled(kernel).items()
    }
    verdicts[kernel] = found
    assert {capability: verdict.faults for capability, verdict in found.items()} == {
        capability: [] for capability in found
    }


def test_every_function_is_compiled_and_has_a_budget():
    assert {(kernel.function, kernel.sums) for kernel in REPRESENTATIVES} == set(BUDGETS)
    assert {(kernel.function, kernel.sums) for kernel in all_kernels()} == set(BUDGETS)


@pytest.mark.parametrize("dtype", MAIN_TYPES)
def test_launches_keep_to_their_budgets(dtype):
    for kernel, threads, shared_bytes in launches(dtype, dtype):
        assert threads <= budget_of(kernel).threads, kernel
        assert shared_bytes <= budget_of(kernel).shared_bytes, kernel


def test_registers_that_blocks_leave_for_a_thread():
    assert Budget(4, 128, 0, "").registers == 128
    assert Budget(3, 128, 0, "").registers == 168
    assert Budget(1, 256, 0, "").registers == 255


def test_faults_are_found():
    kernel = Kernel("direct", "correlate", "uint8", "uint8", "float32")
    program = compiled(kernel)[OLDEST]
    damaged = program._replace(
        cubin=b"", spill_bytes=8, local_bytes=16, shared_bytes=4, registers=81, ptx="add.f64 %fd1, %fd2, %fd3;"
    )
    assert faults(kernel, OLDEST, damaged) == [
        "no machine code",
        "8 bytes spilled",
        "16 bytes of local memory",
        "4 bytes shared that no launch knows of",
        "81 of 80 registers",
        "double precision",
    ]
    of_float64 = faults(kernel._replace(sums="float64"), OLDEST, damaged._replace(registers=168))
    assert of_float64 == faults(kernel, OLDEST, damaged)[:4]


@pytest.mark.parametrize("exception", cuda_matrix.EXCEPTIONS)
def test_exceptions_from_the_budgets_are_needed(exception):
    function, sums, capability = exception
    kernel = Kernel("separable", function, "uint16", "float32", sums)
    (program,) = cuda_matrix.compile_for(kernel, [capability]).values()
    assert program.registers > budget_of(kernel).registers
    assert faults(kernel, capability, program) == []


@pytest.mark.parametrize("capability", SAME_TEXT)
@pytest.mark.parametrize("name", ["panel.pack.uint8.float32.float32", "separable.vertical.uint8.uint8.float32"])
def test_architectures_share_a_text(name, capability):
    """What the other tests rest upon; that it holds for all kernels, ``make cuda-matrix`` shows."""
    kernel = Kernel.parse(name)
    assert compiler.compile_kernel(kernel, capability) == compiled(kernel)[capability]


# --------------------------------------------------------------------------------------------------------- precision

DOUBLE_PRECISION = ("DADD", "DMUL", "DFMA", "DSETP", "DSET", "DMNMX")


def doubles_in(names) -> set[str]:
    """Return the instructions that calculate in double precision, or convert from or to it."""
    return {name for name in names if name.split(".")[0] in DOUBLE_PRECISION or ".F64" in name or "64H" in name}


@pytest.mark.parametrize("capability", [OLDEST, NEWEST])
@pytest.mark.parametrize("kernel", [kernel for dtype in ("float32", "uint8") for kernel in kernels_for(dtype)], ids=str)
def test_machine_code_of_float32_kernels_has_no_doubles(kernel, capability):
    names = instructions(kernel, capability)
    assert sum(names.values()) > 50
    assert doubles_in(names) == set()


@pytest.mark.parametrize("capability", [OLDEST, NEWEST])
def test_doubles_in_machine_code_are_seen(capability):
    assert "DFMA" in doubles_in(instructions(Kernel("direct", "correlate", *["float64"] * 3), capability))
    conversions = instructions(Kernel("separable", "vertical", "int32", "int32", "float64"), capability)
    assert any(name.startswith(("F2I", "I2F")) for name in doubles_in(conversions))


# -------------------------------------------------------------------------------------------------------- wide accesses


WIDTHS = {"float32": ".128", "float64": ".128", "uint16": ".64"}
"""How machine code calls accesses of four pixels; those of two times two float64 are as wide as can be."""


def wide(names, access: str, dtype: str) -> int:
    """Return how many accesses there are of four pixels."""
    return sum(count for name, count in names.items() if name.startswith(access) and WIDTHS[dtype] in name)


@pytest.mark.parametrize("capability", [OLDEST, NEWEST])
@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("function", ["separable.vertical", "fused.fused4", "fused.fused8"])
def test_pixels_are_loaded_and_stored_four_at_a_time(function, dtype, capability):
    kernel = Kernel(*function.split("."), dtype, dtype, sum_dtype(np.dtype(dtype)).name)
    names = instructions(kernel, capability)
    assert wide(names, "LDG", dtype) >= 2
    assert wide(names, "STG", dtype) >= 1


@pytest.mark.parametrize("capability", [OLDEST, NEWEST])
def test_rows_are_stored_and_planes_added_up_four_samples_at_a_time(capability):
    assert wide(instructions(Kernel("separable", "horizontal", *["float32"] * 3), capability), "STG", "float32") >= 1
    names = instructions(Kernel("separable", "add_up", *["float32"] * 3), capability)
    assert wide(names, "LDG", "float32") >= 1
    assert wide(names, "STG", "float32") >= 1


@pytest.mark.parametrize("radius", [4, 8, 12, 16])
def test_neighbours_come_from_shared_memory_four_at_a_time(radius):
    """A thread puts its own samples of a row there by one store, and loads those beside them four at a time."""
    names = instructions(Kernel("fused", f"fused{radius}", *["float32"] * 3), OLDEST)
    assert wide(names, "STS", "float32") == fused.ROWS_AT_A_TIME
    assert wide(names, "LDS", "float32") >= fused.ROWS_AT_A_TIME * 2 * radius // 4
