"""The PTX executor on kernels that Numba-CUDA compiles, in both dialects of its code generators."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.ptx.compiling import BLACKWELL, TURING, compile_entry, cuda, float32, types, uint32
from tests.ptx.executor import THREADS_AT_A_TIME
from tests.ptx.running import Unwritten, run

F32, F64 = types.CPointer(types.float32), types.CPointer(types.float64)
U32, I64 = types.CPointer(types.uint32), types.CPointer(types.int64)

both_dialects = pytest.mark.parametrize("capability", [TURING, BLACKWELL], ids=["turing", "blackwell"])


def noise(shape, dtype="float32", seed=0):
    values = np.random.default_rng(seed).normal(0, 100, shape)
    return np.clip(values, 0, None).astype(dtype) if np.dtype(dtype).kind == "u" else values.astype(dtype)


@both_dialects
def test_numba_makes_plain_parameters(capability):
    def kernel(source, target, a, b, c, d, e):
        target[0] = source[0] + float32(a) + float32(b) + float32(c) + d + float32(e)

    entry = compile_entry(
        kernel, F32, F32, types.uint32, types.int32, types.int64, types.float32, types.float64, capability=capability
    )
    assert [parameter.type for parameter in entry.parameters] == ["u64", "u64", "u32", "u32", "u64", "f32", "f64"]
    assert "kernel" in entry.name
    arrays = run(entry, noise(1), Unwritten((1,)), 1, -2, -(2**40), 0.5, 2.5, block=(1,)).arrays
    assert arrays[1] == np.float32(-(2.0**40) + arrays[0][0])


# --------------------------------------------------------------------------------------- kernels that compute

RADIUS = 3
ROW = 128 + 2 * RADIUS


def filter_rows(source, target, rows, columns):
    """Average seven pixels along a row, 128 results for 32 threads, by way of shared memory."""
    tile = cuda.shared.array((4, ROW), float32)
    x, y = uint32(cuda.threadIdx.x), uint32(cuda.threadIdx.y)
    start = uint32(cuda.blockIdx.x * uint32(128))
    row = uint32(cuda.blockIdx.y * uint32(4) + y)
    first = uint32(min(row, rows - uint32(1)) * columns)
    i = x
    while i < uint32(ROW):
        column = max(np.int32(start + i) - np.int32(RADIUS), np.int32(0))
        tile[y, i] = source[first + min(uint32(column), columns - uint32(1))]
        i = uint32(i + uint32(32))
    cuda.syncthreads()
    if row < rows:
        for part in range(uint32(4)):
            column = uint32(start + x + part * uint32(32))
            if column < columns:
                total = float32(0)
                for tap in range(uint32(2 * RADIUS + 1)):
                    total += tile[y, x + part * uint32(32) + tap] * float32(1 / 7)
                target[first + column] = total


@both_dialects
@pytest.mark.parametrize("shape", [(1, 1), (7, 131), (256, 256)])
def test_a_filter_by_way_of_shared_memory(capability, shape):
    entry = compile_entry(filter_rows, F32, F32, types.uint32, types.uint32, capability=capability)
    image = noise(shape)
    grid = (-(-shape[1] // 128), -(-shape[0] // 4))
    outcome = run(entry, image, Unwritten(shape), *shape, grid=grid, block=(32, 4))
    padded = np.pad(image.astype(np.float64), ((0, 0), (RADIUS, RADIUS)), mode="edge")
    expected = sum(padded[:, tap : tap + shape[1]] for tap in range(7)) / 7
    np.testing.assert_allclose(outcome.arrays[1], expected, rtol=0, atol=1e-4)
    assert outcome.counters.double_precision == 0
    assert outcome.counters.shared_loads.wavefronts == outcome.counters.shared_loads.ideal_wavefronts


@both_dialects
def test_pixels_of_all_types(capability):
    def kernel(u8, u16, i8, i16, i32, sums):
        i = uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        sums[i] = float32(u8[i]) + float32(u16[i]) + float32(i8[i]) + float32(i16[i]) + float32(i32[i])

    names = ["uint8", "uint16", "int8", "int16", "int32"]
    entry = compile_entry(kernel, *(types.CPointer(getattr(types, name)) for name in names), F32, capability=capability)
    arrays = [noise(64, name, seed) for seed, name in enumerate(names)]
    result = run(entry, *arrays, Unwritten((64,)), grid=(2,)).arrays[-1]
    np.testing.assert_array_equal(result, sum(array.astype(np.float64) for array in arrays).astype(np.float32))


@both_dialects
def test_integer_arithmetic_is_python_s(capability):
    def kernel(a, b, out, divisor):
        i = uint32(cuda.threadIdx.x)
        out[i] = a[i] // b[i] + a[i] % b[i] + a[i] // divisor + (a[i] >> np.int64(3)) - abs(b[i]) + min(a[i], b[i])

    entry = compile_entry(kernel, I64, I64, I64, types.int64, capability=capability)
    a, b = noise(64, "int64") * 10**12, noise(64, "int64", 1) | 1
    result = run(entry, a, b, Unwritten((64,), "int64"), -7, block=(64,)).arrays[2]
    expected = a // b + a % b + a // -7 + (a >> 3) - np.abs(b) + np.minimum(a, b)
    np.testing.assert_array_equal(result, expected)


@both_dialects
def test_double_precision(capability):
    def kernel(values, out):
        i = uint32(cuda.threadIdx.x)
        x = abs(values[i])
        out[i] = math.sqrt(x) * 3.0 + 1.0 / (x + 1.0) - math.floor(x) + min(x, 2.0)

    entry = compile_entry(kernel, F64, F64, capability=capability)
    x = np.abs(noise(32, "float64"))
    outcome = run(entry, x, Unwritten((32,), "float64"))
    np.testing.assert_allclose(outcome.arrays[1], np.sqrt(x) * 3 + 1 / (x + 1) - np.floor(x) + np.minimum(x, 2), 1e-15)
    assert outcome.counters.per_thread("float64") >= 6


@pytest.mark.parametrize(("kind", "dtype", "tolerance"), [(F32, "float32", 3e-7), (F64, "float64", 1e-15)])
def test_functions_of_the_library(kind, dtype, tolerance):
    def kernel(values, out):
        i = uint32(cuda.threadIdx.x)
        out[i] = math.exp(values[i])

    x = np.linspace(-5, 5, 32).astype(dtype)
    result = run(compile_entry(kernel, kind, kind), x, Unwritten((32,), dtype)).arrays[1]
    np.testing.assert_allclose(result, np.exp(x.astype(np.float64)), tolerance)


@both_dialects
def test_dynamic_shared_memory_and_local_arrays(capability):
    def kernel(source, target, count):
        shared = cuda.shared.array(0, float32)
        own = cuda.local.array(8, float32)
        i = uint32(cuda.threadIdx.x)
        for k in range(uint32(8)):
            own[k] = source[i * uint32(8) + k]
        total = float32(0)
        for k in range(count):
            total += own[(k * i) % uint32(8)]
        shared[i] = total
        cuda.syncthreads()
        target[i] = shared[uint32(63) - i]

    entry = compile_entry(kernel, F32, F32, types.uint32, capability=capability)
    source = np.arange(512, dtype=np.float32)
    result = run(entry, source, Unwritten((64,)), 5, block=(64,), shared_bytes=256).arrays[1]
    expected = [sum(source[8 * i + k * i % 8] for k in range(5)) for i in range(64)]
    np.testing.assert_array_equal(result, expected[::-1])


@both_dialects
def test_sums_over_warps(capability):
    def kernel(values, sums, votes):
        i = uint32(cuda.threadIdx.x)
        total = values[i]
        for step in (16, 8, 4, 2, 1):
            total += cuda.shfl_down_sync(0xFFFFFFFF, total, step)
        if cuda.any_sync(0xFFFFFFFF, values[i] > float32(1.5)):
            votes[i] = cuda.ballot_sync(0xFFFFFFFF, values[i] > float32(1.5))
        if i % uint32(32) == uint32(0):
            sums[i // uint32(32)] = total

    entry = compile_entry(kernel, F32, F32, U32, capability=capability)
    values = np.where(np.arange(64) % 32 == 9, 1, np.arange(64) // 32 * 2).astype(np.float32)
    _, sums, votes = run(entry, values, Unwritten((2,)), Unwritten((64,), "uint32"), block=(64,)).arrays
    assert sums.tolist() == [1, 63]
    assert votes[32:].tolist() == [2**32 - 1 - 2**9] * 32


# ------------------------------------------------------------------------------------------------- the counters


def copy(source, target, count, stride):
    i = uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if i < count:
        target[i] = source[i * stride]


def test_sectors_of_global_memory():
    entry = compile_entry(copy, F32, F32, types.uint32, types.uint32)
    values = noise(8192)
    dense = run(entry, values, Unwritten((1024,)), 1024, 1, grid=(8,), block=(128,)).counters
    for traffic in (dense.global_loads, dense.global_stores):
        assert (traffic.requests, traffic.bytes, traffic.sectors) == (32, 4096, 128)
        assert traffic.sectors == traffic.ideal_sectors
    strided = run(entry, values, Unwritten((1024,)), 1024, 8, grid=(8,), block=(128,)).counters
    assert strided.global_loads.sectors == 8 * strided.global_loads.ideal_sectors == 1024
    assert strided.global_stores.sectors == 128
    uniform = run(entry, values, Unwritten((1024,)), 1024, 0, grid=(8,), block=(128,)).counters
    assert uniform.global_loads.sectors == uniform.global_loads.requests == 32


def transpose(pitch):
    def kernel(source, target):
        tile = cuda.shared.array((32, pitch), float32)
        x, y = uint32(cuda.threadIdx.x), uint32(cuda.threadIdx.y)
        for row in range(uint32(y), uint32(32), uint32(8)):
            tile[row, x] = source[row * uint32(32) + x]
        cuda.syncthreads()
        for row in range(uint32(y), uint32(32), uint32(8)):
            target[row * uint32(32) + x] = tile[x, row]

    return kernel


@pytest.mark.parametrize(("pitch", "ways"), [(32, 32), (33, 1), (34, 2), (36, 4)])
def test_bank_conflicts_of_a_transposition(pitch, ways):
    image = noise((32, 32))
    outcome = run(compile_entry(transpose(pitch), F32, F32), image, Unwritten((32, 32)), block=(32, 8))
    np.testing.assert_array_equal(outcome.arrays[1], image.T)
    loads, stores = outcome.counters.shared_loads, outcome.counters.shared_stores
    assert (stores.wavefronts, stores.ideal_wavefronts, stores.requests) == (32, 32, 32)
    assert (loads.wavefronts, loads.ideal_wavefronts) == (32 * ways, 32)


def test_a_number_without_a_type_makes_doubles():
    def kernel(zero):
        def sum_up(source, target):
            total = zero
            for i in range(uint32(8)):
                total += source[i]
            target[0] = total

        return compile_entry(sum_up, F32, F32)

    careless = run(kernel(0.0), noise(8), Unwritten((1,)), block=(1,)).counters
    careful = run(kernel(np.float32(0)), noise(8), Unwritten((1,)), block=(1,)).counters
    assert careless.double_precision > careful.double_precision == 0
    assert careful.per_thread("float32") == 8


def test_grids_larger_than_what_runs_at_a_time():
    entry = compile_entry(copy, F32, F32, types.uint32, types.uint32)
    size = 2 * THREADS_AT_A_TIME + 77
    outcome = run(entry, noise(size), Unwritten((size,)), size, 1, grid=(-(-size // 96),), block=(96,))
    np.testing.assert_array_equal(*outcome.arrays)
    assert outcome.counters.threads == -(-size // 96) * 96
    assert outcome.counters.global_stores.bytes == 4 * size
