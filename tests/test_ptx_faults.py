"""Faults that are put into kernels on purpose: the executor finds each of them, and none in the correct twin."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.ptx import (
    BarrierDivergence,
    Misaligned,
    OutOfBounds,
    Race,
    Uninitialised,
    parse,
)
from tests.ptx.compiling import BLACKWELL, TURING, compile_entry, cuda, float32, types, uint32
from tests.ptx.executor import THREADS_AT_A_TIME
from tests.ptx.running import Unwritten, run

F32 = types.CPointer(types.float32)
RADIUS = 2
WIDTH = 64
"""Of a block."""


def noise(*shape):
    return np.random.default_rng(0).normal(0, 100, shape).astype(np.float32)


def row_filter(
    *, synchronized=True, halo=RADIUS, guarded=True, clamped=True, tile_width=WIDTH + 2 * RADIUS, returns_early=False
):
    """Return a kernel that sums five pixels of a row by way of shared memory, as it should be or with a fault."""

    def filter_rows(source, target, columns):
        tile = cuda.shared.array(tile_width, float32)
        x = uint32(cuda.threadIdx.x)
        start = uint32(cuda.blockIdx.x * uint32(WIDTH))
        row = uint32(cuda.blockIdx.y)
        if returns_early and start + x >= columns:
            return
        i = x
        while i < uint32(WIDTH + 2 * halo):
            column = np.int32(start + i) - np.int32(RADIUS)
            if clamped:
                column = min(max(column, np.int32(0)), np.int32(columns) - np.int32(1))
            tile[i] = source[np.int32(row * columns) + column]
            i = uint32(i + uint32(WIDTH))
        if synchronized:
            cuda.syncthreads()
        total = float32(0)
        for tap in range(uint32(2 * RADIUS + 1)):
            total += tile[x + tap]
        if not guarded or start + x < columns:
            target[row * columns + start + x] = total

    return filter_rows


def filter_by(kernel, image, capability=TURING):
    rows, columns = image.shape
    entry = compile_entry(kernel, F32, F32, types.uint32, capability=capability)
    grid = (-(-columns // WIDTH), rows)
    return run(entry, image, Unwritten((rows, columns)), columns, grid=grid, block=(WIDTH,)).arrays[1]


both_dialects = pytest.mark.parametrize("capability", [TURING, BLACKWELL], ids=["turing", "blackwell"])


@both_dialects
@pytest.mark.parametrize("shape", [(3, 150), (1, 1), (5, 64)])
def test_the_correct_kernel_passes(capability, shape):
    image = noise(*shape)
    padded = np.pad(image, ((0, 0), (RADIUS, RADIUS)), mode="edge")
    total = np.zeros(shape, np.float32)
    for tap in range(2 * RADIUS + 1):
        total += padded[:, tap : tap + shape[1]]
    np.testing.assert_array_equal(filter_by(row_filter(), image, capability), total)


@both_dialects
@pytest.mark.parametrize(
    ("options", "fault", "message"),
    [
        ({"synchronized": False}, Race, r"ld\.shared.* also written by block .*, and no barrier orders the two"),
        ({"halo": RADIUS - 1}, Uninitialised, r"ld\.shared.*\(63, 0, 0\): 4 bytes.* at byte 264 of \w+, which has 272"),
        ({"guarded": False}, OutOfBounds, r"st\.global.*\(2, 2, 0\), thread .* byte 1800 of an allocation of 1800"),
        ({"clamped": False}, OutOfBounds, r"ld\.global.*\(0, 0, 0\), thread \(0, 0, 0\): 4 bytes at 8 bytes before"),
        ({"tile_width": WIDTH + 3}, OutOfBounds, r"st\.shared.*\(3, 0, 0\): 4 bytes at byte 268 of \w+, which has 268"),
        ({"returns_early": True}, BarrierDivergence, r"bar.* thread \(0, 0, 0\): waits, but .* has returned"),
    ],
    ids=["no barrier", "short halo", "no guard", "no clamp", "small tile", "early return"],
)
def test_faults_of_a_filter(capability, options, fault, message):
    with pytest.raises(fault, match=message) as caught:
        filter_by(row_filter(**options), noise(3, 150), capability)
    assert re.match(r"\w*filter_rows\w*, line \d+: ", str(caught.value))


def test_an_unguarded_store_within_the_image_meets_another_thread():
    entry = compile_entry(row_filter(guarded=False), F32, F32, types.uint32)
    room_for_all = Unwritten((400,))
    with pytest.raises(Race, match=r"st\.global.*also written by block"):
        run(entry, noise(2, 150), room_for_all, 150, grid=(3, 2), block=(WIDTH,))


def test_memory_that_the_host_never_wrote():
    def scale(source, target, count):
        i = uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        if i < count:
            target[i] = source[i] * float32(2)

    entry = compile_entry(scale, F32, F32, types.uint32)
    image = noise(100)
    np.testing.assert_array_equal(run(entry, image, Unwritten((100,)), 100, grid=(4,)).arrays[1], image * 2)
    with pytest.raises(Uninitialised, match=r"ld\.global.*\(0, 0, 0\): 4 bytes.* byte 0 of an allocation of 400 bytes"):
        run(entry, Unwritten((100,)), Unwritten((100,)), 100, grid=(4,))


@pytest.mark.parametrize("count", [64, THREADS_AT_A_TIME + 1])
def test_two_threads_that_write_the_same_pixel(count):
    def halve(target, count, shift):
        i = uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        if i < count:
            target[i % shift] = float32(1)

    entry = compile_entry(halve, F32, types.uint32, types.uint32)
    blocks = -(-count // 32)
    assert (run(entry, Unwritten((count,)), count, count, grid=(blocks,)).arrays[0] == 1).all()
    with pytest.raises(Race, match=r"st\.global.* also written by block"):
        run(entry, Unwritten((count,)), count, count - 1, grid=(blocks,))


@pytest.mark.parametrize("rows", [2, THREADS_AT_A_TIME // 32 + 1])
def test_a_filter_in_place(rows):
    def sum_columns(source, target, rows):
        x, y = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        below = min(uint32(y + uint32(1)), uint32(rows - uint32(1)))
        target[y * uint32(32) + x] = source[y * uint32(32) + x] + source[below * uint32(32) + x]

    entry = compile_entry(sum_columns, F32, F32, types.uint32)
    image = noise(rows, 32)
    result = run(entry, image, Unwritten((rows, 32)), rows, grid=(rows,)).arrays[1]
    np.testing.assert_array_equal(result, image + np.concatenate([image[1:], image[-1:]]))

    def sum_columns_in_place(image, rows):
        x, y = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        below = min(uint32(y + uint32(1)), uint32(rows - uint32(1)))
        image[y * uint32(32) + x] = image[y * uint32(32) + x] + image[below * uint32(32) + x]

    with pytest.raises(Race, match=r"also (read|written) by block"):
        run(compile_entry(sum_columns_in_place, F32, types.uint32), image, rows, grid=(rows,))


@pytest.mark.parametrize("barrier", ["block", "warp", None])
@pytest.mark.parametrize("distance", [1, 32])
def test_barriers_order_as_far_as_they_reach(barrier, distance):
    def exchange(image):
        x = uint32(cuda.threadIdx.x)
        image[x] = float32(x)
        if barrier == "block":
            cuda.syncthreads()
        if barrier == "warp":
            cuda.syncwarp()
        image[x + uint32(64)] = image[x ^ uint32(distance)]

    entry = compile_entry(exchange, F32)
    if barrier == "block" or (barrier == "warp" and distance < 32):
        result = run(entry, Unwritten((128,)), block=(64,)).arrays[0]
        np.testing.assert_array_equal(result[64:], np.arange(64) ^ distance)
    else:
        with pytest.raises(Race, match=r"ld\.global.* also written by block"):
            run(entry, Unwritten((128,)), block=(64,))


@pytest.mark.parametrize("synchronized", [True, False])
def test_a_tile_that_is_filled_again(synchronized):
    def sum_tiles(source, target, count):
        tile = cuda.shared.array(64, float32)
        x = uint32(cuda.threadIdx.x)
        total = float32(0)
        part = uint32(0)
        while part < count:
            tile[x] = source[part * uint32(64) + x]
            cuda.syncthreads()
            total += tile[uint32(63) - x]
            if synchronized:
                cuda.syncthreads()
            part = uint32(part + uint32(1))
        target[x] = total

    entry = compile_entry(sum_tiles, F32, F32, types.uint32)
    source = noise(3, 64)
    if synchronized:
        result = run(entry, source, Unwritten((64,)), 3, block=(64,)).arrays[1]
        np.testing.assert_array_equal(result, (source[0] + source[1] + source[2])[::-1])
    else:
        with pytest.raises(Race, match=r"st\.shared.* also read by block"):
            run(entry, source, Unwritten((64,)), 3, block=(64,))


COPY_BY_FOURS = """
.version 8.0
.target sm_75
.address_size 64
.visible .entry copy(.param .u64 source, .param .u64 target)
{
    .reg .b32 %r<2>; .reg .b64 %d<4>; .reg .f32 %f<5>;
    ld.param.u64 %d1, [source]; ld.param.u64 %d2, [target];
    mov.u32 %r1, %tid.x; mul.wide.u32 %d3, %r1, 16;
    add.u64 %d1, %d1, %d3; add.u64 %d2, %d2, %d3;
    ld.global.nc.v4.f32 {%f1, %f2, %f3, %f4}, [%d1];
    st.global.v4.f32 [%d2], {%f1, %f2, %f3, %f4};
    ret;
}
"""


def test_vectors_must_be_aligned():
    source = noise(128)
    outcome = run(parse(COPY_BY_FOURS).entries["copy"], source, Unwritten((128,)))
    np.testing.assert_array_equal(*outcome.arrays)
    assert outcome.counters.global_loads.sectors == outcome.counters.global_loads.ideal_sectors == 16
    misaligned = parse(COPY_BY_FOURS.replace("[%d1];", "[%d1+4];")).entries["copy"]
    message = r"copy, line 11: ld\.global.*\(0, 0, 0\): 16 bytes, which must be aligned, at byte 4 of an allocation"
    with pytest.raises(Misaligned, match=message):
        run(misaligned, noise(129), Unwritten((128,)))


def test_memory_that_is_constant_for_a_launch_must_not_change():
    store, load = "st.global.f32 [%d1], 0f00000000;", "ld.global.nc.f32 %f1, [%d1];"
    for first, second, other in [(store, load, "written"), (load, store, "read")]:
        text = re.sub(r"ld\.global.*\n.*st\.global.*", first + second, COPY_BY_FOURS)
        with pytest.raises(Race, match=f"also {other} by"):
            run(parse(text).entries["copy"], noise(128), Unwritten((1,)))
    again = re.sub(r"st\.global.*", "ld.global.nc.f32 %f1, [%d1];", COPY_BY_FOURS)
    run(parse(again).entries["copy"], noise(128), Unwritten((1,)))
