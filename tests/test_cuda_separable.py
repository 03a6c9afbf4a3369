"""The separable filter on a GPU: the oracle's pixels, the same bytes however an image is cut, and little traffic.

Kernels are executed as PTX on the processor.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from blurfast.boundary import MODES, index_map
from blurfast.cuda import fused, fused_kernels, passes, programs, separable_kernels, separable_sum
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.memory import row_pitch
from blurfast.cuda.passes import PassShape, Step
from blurfast.cuda.separable import SeparableNeeds, SeparableOperator
from blurfast.cuda.separable_sum import SeparableSumNeeds, SeparableSumOperator
from blurfast.cuda.tiles import DeviceImage, PaddedSource
from blurfast.dtypes import sum_dtype
from blurfast.weights import IDENTITY, Kernel2D, Resampler, gaussian_taps
from tests import tolerances
from tests.operator_runs import exact_result, filtered
from tests.pictures import DTYPES, noise, pixel_range
from tests.ptx.device import CAPABILITY, ExecutorDevice

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def passes_of(pixel, target, sums):
    return [Kernel("separable", "vertical", pixel, sums, sums), Kernel("separable", "horizontal", sums, target, sums)]


def needed_kernels():
    for dtype in DTYPES:
        sums = sum_dtype(np.dtype(dtype)).name
        yield from passes_of(dtype, dtype, sums)
        yield Kernel("fused", "fused4", dtype, dtype, sums)
    for dtype in ("uint8", "float32"):
        yield from (Kernel("separable", each, dtype, dtype, "float32") for each in ("vertical", "horizontal"))
        yield Kernel("separable", "add_up", "float32", dtype, "float32")
        yield Kernel("fused", "fused4", dtype, "float32", "float32")
    yield from (Kernel("fused", f"fused{radius}", "float32", "float32", "float32") for radius in (8, 12, 16))
    yield Kernel("fused", "fused8", "float64", "float64", "float64")
    yield Kernel("separable", "resample_horizontal", "float32", "float32", "float32")
    yield from passes_of("uint16", "float64", "float64")
    yield from passes_of("int16", "uint8", "float32")


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Compile all that is needed side by side."""
    programs.obtain(set(needed_kernels()), CAPABILITY)


def random_taps(count, seed=0):
    """Return taps of both signs, without any symmetry, whose magnitudes sum to 1.4."""
    taps = np.random.default_rng(seed).uniform(-1, 1, count)
    return 1.4 * taps / np.abs(taps).sum()


def average(count, seed=0):
    """Return taps that sum to one, the largest of them in the middle."""
    taps = np.sort(np.random.default_rng(seed).uniform(0.1, 1, count))
    taps[[count // 2, -1]] = taps[[-1, count // 2]]
    return taps / taps.sum()


def operator_for(pixels, vertical, horizontal, *, target=None, sums=None, cval=0.0, device=None):
    target_dtype = np.dtype(target or pixels.dtype)
    return SeparableOperator(
        device or ExecutorDevice(),
        vertical,
        horizontal,
        pixel_dtype=pixels.dtype,
        target_dtype=target_dtype,
        sums=np.dtype(sums) if sums else sum_dtype(pixels.dtype, target_dtype),
        channels=pixels.shape[2] if pixels.ndim == 3 else 1,
        cval=cval,
    )


def correlate(pixels, vertical, horizontal, *, mode="reflect", tile=None, **options):
    operator = operator_for(pixels, vertical, horizontal, **options)
    result = filtered(operator, pixels, mode=mode, target=options.get("target"), tile=tile)
    operator.device.assert_nothing_is_left()
    return result, [executed.launch.kernel.function for executed in operator.device.executed]


def exact_of(pixels, vertical, horizontal, mode="reflect", cval=0.0):
    weights = np.outer(vertical.taps[0], horizontal.taps[0])
    kernel = Kernel2D(weights.shape, (vertical.reference, horizontal.reference), lambda: weights)
    return exact_result(pixels, kernel, mode, cval)


def assert_like_oracle(pixels, vertical, horizontal, *, mode="reflect", cval=0.0, **options):
    """Return the kernels that were launched."""
    result, functions = correlate(pixels, vertical, horizontal, mode=mode, cval=cval, **options)
    exact = exact_of(pixels, vertical, horizontal, mode, cval)
    if result.dtype.kind == "f":
        gain = max(1.0, np.abs(vertical.taps).sum() * np.abs(horizontal.taps).sum())
        tolerances.assert_near(result, exact, gain * tolerances.spread(pixels.astype(float), mode, cval))
    else:
        flat = result.reshape(result.shape[0], -1)
        tolerances.assert_exact(flat, exact.reshape(flat.shape), 0)
    return functions


# ------------------------------------------------------------------------------------------------------- the oracle


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 37), (37, 1), (3, 5), (35, 67), (20, 531)])
def test_few_taps(shape, mode):
    """In one kernel: images smaller than the padding, of several blocks, and of a part of one."""
    image = noise(shape, "float32")
    assert_like_oracle(image, Resampler.filter(average(7)), Resampler.filter(average(5)), mode=mode, cval=-3.5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 37, 3), (37, 1, 4), (3, 5, 3), (35, 67, 1), (67, 101, 4)])
def test_many_taps(shape, mode):
    """In two kernels, for lack of a fused one or because of the channels."""
    image = noise(shape, "float32")
    horizontal = Resampler.filter(average(45 if shape[2] == 1 else 9))
    assert_like_oracle(image, Resampler.filter(average(11)), horizontal, mode=mode, cval=200.0)


@pytest.mark.parametrize("radius", [4, 8, 12, 16])
def test_every_fused_kernel(radius):
    """At its full reach, at one less, and reaching only to one side."""
    image = noise((2 * radius + 3, 140), "float32")
    for above, below, left, right in [(radius,) * 4, (radius - 1, 0, 0, radius), (1, radius - 2, radius - 1, 2)]:
        taps = random_taps(above + below + 1), random_taps(left + right + 1, seed=1)
        vertical, horizontal = Resampler.anchored(taps[0], above), Resampler.anchored(taps[1], left)
        assert assert_like_oracle(image, vertical, horizontal, mode="mirror") == [f"fused{radius}"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    """Few taps and many, averages and weights of both signs."""
    image = noise((21, 70), dtype)
    for taps in (average, random_taps):
        vertical = Resampler.filter(taps(5))
        assert_like_oracle(image, vertical, Resampler.filter(taps(7)), mode="mirror", cval=1)
        assert_like_oracle(image, vertical, Resampler.filter(taps(37)), mode="mirror", cval=1)


@pytest.mark.parametrize("channels", [2, 3, 4, 6, 7, 11])
def test_every_number_of_channels(channels):
    """Those that `horizontal` takes, with or without conflicts, and those that it does not take."""
    image = noise((9, 33, channels), "float32")
    assert_like_oracle(image, Resampler.filter(random_taps(3)), Resampler.filter(random_taps(13)), mode="wrap")


@pytest.mark.parametrize("target", ["float64", "float32"])
def test_target_of_another_dtype(target):
    image = noise((17, 23), "uint8" if target == "float32" else "uint16")
    taps = 5 if target == "float32" else 41
    assert_like_oracle(image, Resampler.filter(random_taps(5)), Resampler.filter(random_taps(taps)), target=target)


@pytest.mark.parametrize("capability", [(7, 5), (12, 0)])
def test_the_oldest_and_the_newest_architecture(capability):
    """Kernels for the newest are made by another code generator."""
    image = noise((19, 45), "uint8")
    for count in (7, 41):
        device = ExecutorDevice(capability=capability)
        taps = Resampler.filter(random_taps(count))
        assert_like_oracle(image, Resampler.filter(random_taps(5)), taps, device=device)


def test_results_are_saturated():
    image = noise((12, 40, 1), "int16")
    sharpening = Resampler.filter(np.pad([-1.0, 3.0, -1.0], 18))
    assert_like_oracle(image, sharpening, sharpening, target="uint8")


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 9, 40])
def test_one_direction(count, channels, dtype):
    """Takes one pass, and none at all a copy."""
    image = noise((19, 45, channels), dtype)
    taps = Resampler.anchored(average(count), count // 3) if count > 1 else IDENTITY
    for vertical, horizontal, function in ((taps, IDENTITY, "vertical"), (IDENTITY, taps, "horizontal")):
        functions = assert_like_oracle(image, vertical, horizontal, mode="mirror")
        assert functions == [function if count > 1 else "horizontal"]


def test_identity_keeps_every_bit():
    image = noise((5, 41, 1), "float32")
    image[1, 3], image[2, 5], image[3, 7] = np.nan, -np.inf, 3e38
    np.testing.assert_array_equal(correlate(image, IDENTITY, IDENTITY)[0], image)


@pytest.mark.parametrize("orders", [(1, 0), (0, 1), (2, 1), (3, 2)])
def test_derivatives(orders):
    image = noise((33, 70), "float32")
    vertical, horizontal = (Resampler.filter(gaussian_taps(1.2, order, truncate=4)) for order in orders)
    assert_like_oracle(image, vertical, horizontal, mode="nearest")


def test_so_many_taps_that_a_block_has_no_room_for_them():
    image = noise((4, 20), "float32")
    functions = assert_like_oracle(image, Resampler.filter(average(3)), Resampler.filter(average(3001)))
    assert functions == ["vertical", "resample_horizontal"]


@settings(max_examples=12)
@given(data=st.data())
def test_any_filter(data):
    draw = data.draw
    shape = draw(st.integers(1, 30)), draw(st.integers(1, 140)), draw(st.sampled_from([1, 1, 3]))
    image = noise(shape, "float32", draw(st.integers(0, 99)))
    directions = []
    for _ in range(2):
        count = draw(st.integers(1, 35))
        chosen = draw(st.sampled_from([average, random_taps]))(count, draw(st.integers(0, 99)))
        directions.append(Resampler.anchored(chosen, draw(st.integers(0, count - 1))))
    tile = draw(st.integers(1, shape[0])), draw(st.integers(1, shape[1]))
    mode = draw(st.sampled_from(MODES))
    assert_like_oracle(image, *directions, mode=mode, cval=50.0, tile=tile)


# ------------------------------------------------------------------------------------------- what is never wrong


@pytest.mark.parametrize("count", [9, 41])
@pytest.mark.parametrize("dtype", DTYPES)
def test_flat_stays_flat(dtype, count):
    value = np.dtype(dtype).type(pixel_range(dtype)[1] * 0.77)
    image = np.full((13, 50), value, dtype)
    taps = Resampler.filter(average(count))
    result, _ = correlate(image, taps, taps, mode="constant", cval=float(value))
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float64"])
@pytest.mark.parametrize("count", [5, 17, 71])
def test_averages_stay_in_range(count, dtype):
    """Also where taps are so many and so alike that rounding alone could carry a sum out of it."""
    low, high = 0, 255 if dtype == "uint8" else 1
    image = np.where(np.random.default_rng(0).random((24, 90)) < 0.02, low, high).astype(dtype)
    image[:, 40:] = high
    box = Resampler.filter(np.full(count, 1 / count))
    result, _ = correlate(image, box, box)
    assert low <= result.min()
    assert result.max() == high


@pytest.mark.parametrize("count", [5, 9, 41])
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_nonfinite_pixels_reach_as_far_as_the_taps(value, count):
    image = noise((40, 100), "float32")
    clean, _ = correlate(image, Resampler.filter(average(count)), Resampler.filter(average(5)))
    image[20, 50] = value
    result, _ = correlate(image, Resampler.filter(average(count)), Resampler.filter(average(5)))
    reached = np.zeros(image.shape, bool)
    reached[max(0, 20 - count // 2) : 20 + count // 2 + 1, 48:53] = True
    np.testing.assert_array_equal(result[~reached], clean[~reached])
    assert not np.any(np.abs(result[reached]) < 1e6)


def test_a_value_outside_that_no_float32_holds():
    image = noise((20, 40), "float32")
    result, _ = correlate(
        image, Resampler.filter(average(5)), Resampler.filter(average(5)), mode="constant", cval=1e300
    )
    np.testing.assert_array_equal(np.isfinite(result), np.pad(np.ones((16, 36), bool), 2))


@pytest.mark.parametrize(("shape", "tile"), [((3, 5), (1, 1)), ((21, 61), (7, 23)), ((21, 61), (16, 64))])
@pytest.mark.parametrize("count", [9, 37])
@pytest.mark.parametrize(("channels", "mode"), [(1, "reflect"), (1, "wrap"), (3, "wrap")])
def test_tiles_have_the_same_bytes(channels, mode, count, shape, tile):
    image = noise((*shape, channels), "float32")
    directions = Resampler.filter(average(7)), Resampler.filter(average(count))
    whole, _ = correlate(image, *directions, mode=mode)
    in_tiles, _ = correlate(image, *directions, mode=mode, tile=tile)
    assert in_tiles.tobytes() == whole.tobytes()


def test_strips_have_the_same_bytes():
    """However many multiprocessors there are to be kept busy."""
    image = noise((150, 40), "float32")
    taps = Resampler.filter(average(9))
    results, blocks = set(), []
    for multiprocessors in (1, 3, 100):
        operator = operator_for(image, taps, taps, device=ExecutorDevice(multiprocessors=multiprocessors))
        results.add(filtered(operator, image).tobytes())
        blocks.append(operator.device.executed[0].launch.grid[1])
    assert len(results) == 1
    assert blocks == [4, 10, 10]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [9, 19])
def test_padding_of_rows_is_neither_read_nor_written(count, channels):
    """The executor faults where a kernel reads what nobody wrote; here, that is all but the pixels."""
    image = noise((13, 45, channels), "float32")
    taps = Resampler.filter(average(count))
    device = ExecutorDevice()
    operator = operator_for(image, taps, taps, device=device)
    source, target, scratch = place_tightly(device, operator, image)
    operator.enqueue(source, target, (0, 0), scratch, device.open_stream())
    row_bytes, pitch_bytes = 45 * channels * 4, target.pitch * 4
    for row in range(13):
        written = device.memory.written(target.address + row * pitch_bytes, pitch_bytes)
        assert written[:row_bytes].all()
        assert not written[row_bytes:].any()


def place_tightly(device, operator, image):
    """Write an image and its maps to a device, and nothing else; return what `enqueue` takes."""
    rows, columns, channels = image.shape
    maps = [
        index_map(*operator.row_span(0, rows), rows, "reflect"),
        index_map(*operator.column_span(0, columns), columns, "reflect"),
    ]
    addresses = [device.allocate(places.size * 4) for places in maps]
    for address, places in zip(addresses, maps, strict=True):
        device.memory.write(address, places.astype(np.int32))
    pitch = row_pitch(columns, channels, image.dtype) + 4
    pixels, results = (device.allocate(rows * pitch * image.itemsize) for _ in range(2))
    for row in range(rows):
        device.memory.write(pixels + row * pitch * image.itemsize, image[row])
    source = DeviceImage(pixels, pitch, rows, columns, channels, image.dtype)
    size = operator.scratch_bytes(rows, columns)
    return (
        PaddedSource(source, *addresses, maps[0].size, maps[1].size),
        source._replace(address=results),
        device.allocate(size) if size else 0,
    )


def test_closing_gives_memory_back():
    operator = operator_for(noise((3, 3), "float32"), Resampler.filter(average(3)), Resampler.filter(average(99)))
    assert operator.device.memory.used > 0
    operator.close()
    operator.device.assert_nothing_is_left()


@pytest.mark.parametrize("count", [9, 99])
def test_needs_are_known_without_a_device(count):
    vertical, horizontal = Resampler.filter(average(3)), Resampler.filter(average(count))
    needs = SeparableNeeds.of(vertical, horizontal, 1, FLOAT32)
    operator = operator_for(noise((3, 3), "float32"), vertical, horizontal)
    assert needs.row_span(5, 9) == operator.row_span(5, 9)
    assert needs.column_span(5, 9) == operator.column_span(5, 9)
    assert needs.scratch_bytes(100, 200) == operator.scratch_bytes(100, 200)


def test_hosts_and_kernels_agree_on_sizes():
    """The modules that queue kernels do not import them, since that takes a compiler."""
    for name in ("ROWS_PER_THREAD", "RESULTS_PER_THREAD", "ROWS_PER_BLOCK", "RESAMPLED_ROWS", "WARP", "LANES"):
        assert getattr(passes, name) == getattr(separable_kernels, name)
    for name in ("RADII", "ROWS_AT_A_TIME", "MOST_THREADS"):
        assert getattr(fused, name) == getattr(fused_kernels, name)
    assert fused.arranged_taps(IDENTITY, 8, FLOAT32).size == fused_kernels.taps_length(8)
    assert separable_sum.LANES == separable_kernels.LANES


# ------------------------------------------------------------------------------------------------------- the traffic


@pytest.mark.parametrize(("radius", "bound"), [(4, 8.4), (8, 8.5), (12, 8.75), (16, 8.9)])
def test_fused_kernels_move_each_pixel_about_once(radius, bound):
    """Eight bytes are the least that there are. What is more are the paddings of blocks, not counting any cache."""
    image = noise((256, 2048), "float32")
    taps = Resampler.filter(average(2 * radius + 1))
    operator = operator_for(image, taps, taps)
    filtered(operator, image)
    (executed,) = operator.device.executed
    assert bytes_moved(executed.counters) / image.size < bound
    assert_no_conflicts(executed.counters)
    assert executed.counters.double_precision == 0


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_passes_waste_no_sectors(channels):
    """What is read more than once is what threads and blocks share, not counting any cache.

    A thread of the vertical pass reads each row for all its results at once, and a reference for each. A block of the
    horizontal pass reads its samples and their padding once, and the map once for some rows; a warp's 128 bytes lie in
    five sectors rather than four, since the padding shifts them.
    """
    count, rows, columns = 35, 32, 1152 // channels
    image = noise((rows, columns, channels), "float32")
    taps = Resampler.filter(average(count))
    operator = operator_for(image, taps, taps)
    filtered(operator, image)
    vertical, horizontal = (executed.counters for executed in operator.device.executed)
    least = image.size * 4
    rows_read = 2 * passes.ROWS_PER_THREAD + count - 1
    assert bytes_moved(vertical) < (1.12 * rows_read / passes.ROWS_PER_THREAD + 1) * least
    samples = PassShape.of(Step(taps, is_vertical=False), channels, 4).samples
    samples_read = samples + (count - 1) * channels
    assert bytes_moved(horizontal) < ((1.3 + 1.1 / passes.ROWS_PER_BLOCK) * samples_read / samples + 1) * least
    for counters in (vertical, horizontal):
        assert counters.global_stores.sectors * 32 == least
        assert_no_conflicts(counters)
        assert counters.double_precision == 0


def bytes_moved(counters):
    return 32 * (counters.global_loads.sectors + counters.global_stores.sectors)


def assert_no_conflicts(counters):
    for traffic in (counters.shared_loads, counters.shared_stores):
        assert traffic.wavefronts == traffic.ideal_wavefronts


@pytest.mark.parametrize("capability", [(7, 5), (9, 0), (12, 0)])
def test_kernels_keep_everything_in_registers(capability):
    """A fused kernel of float64, and those of float32 with the most registers; on every code generator."""
    kernels = [
        Kernel("fused", "fused16", "float32", "float32", "float32"),
        Kernel("fused", "fused16", "uint8", "uint8", "float32"),
        Kernel("fused", "fused8", "int64", "int64", "float64"),
        *passes_of("int32", "int32", "float64"),
    ]
    for program in programs.obtain(kernels, capability):
        assert program.spill_bytes == program.local_bytes == 0, program.entry
        assert program.registers <= 255


def test_blocks_fit_into_every_device():
    for channels in range(1, 40):
        for count in (1, 2, 31, 501, 5001):
            for is_vertical in (False, True):
                shape = PassShape.of(Step(Resampler.filter(average(count | 1)), is_vertical), channels, 8)
                assert np.prod(shape.block) <= 512
                assert shape.shared_bytes <= 48 * 1024
                assert shape.samples % channels == 0 or shape.function != "horizontal"


# --------------------------------------------------------------------------------------------- sums of a few products


def sum_operator(pixels, terms, **options):
    return SeparableSumOperator(
        ExecutorDevice(),
        terms,
        pixel_dtype=pixels.dtype,
        target_dtype=pixels.dtype,
        sums=FLOAT32,
        channels=pixels.shape[2],
        **options,
    )


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("channels", "count"), [(1, 7), (1, 35), (3, 7)])
def test_sums_of_products(channels, count, dtype):
    """Fused and not, in tiles and whole."""
    image = noise((31, 67, channels), dtype)
    terms = [
        (Resampler.filter(random_taps(5, seed)), Resampler.filter(random_taps(count, seed + 10))) for seed in range(3)
    ]
    result = filtered(sum_operator(image, terms, cval=3.0), image, mode="constant")
    exact = sum(exact_of(image, *term, "constant", 3.0) for term in terms)
    if dtype == "float32":
        tolerances.assert_near(result, exact, 6 * tolerances.spread(image))
    else:
        tolerances.assert_exact(result.reshape(31, -1), exact.reshape(31, -1), 0)
    operator = sum_operator(image, terms, cval=3.0)
    assert filtered(operator, image, mode="constant", tile=(10, 30)).tobytes() == result.tobytes()
    operator.device.assert_nothing_is_left()
    needs = SeparableSumNeeds(tuple(terms), channels, FLOAT32)
    assert needs.scratch_bytes(31, 67) == operator.scratch_bytes(31, 67)
