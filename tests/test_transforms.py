"""Transforms: sizes fit, cover the image, and no other is better by their own measure; spectra are the kernel's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from blurfast import transforms
from blurfast.transforms import (
    Transform,
    choose_transform,
    good_sizes,
    kernel_spectrum,
    largest_transform,
    transform_for,
)

_PLENTY = 10**9

ITEMSIZES = st.sampled_from([4, 8])


def sides(largest: int):
    return st.tuples(st.integers(1, largest), st.integers(1, largest))


def is_smooth(size: int) -> bool:
    for prime in (2, 3, 5, 7):
        while size % prime == 0:
            size //= prime
    return size == 1


@pytest.mark.parametrize("largest", [2, 3, 9, 100, 4116, 20_000])
def test_sizes_are_even_and_smooth_and_all_of_them(largest):
    assert good_sizes(largest) == tuple(size for size in range(2, largest + 1, 2) if is_smooth(size))


@given(
    kernel=sides(400),
    channels=st.integers(1, 5),
    itemsize=ITEMSIZES,
    image=sides(6000),
    megabytes=st.floats(0.001, 60),
)
def test_what_is_chosen_fits_and_covers(kernel, channels, itemsize, image, megabytes):
    most_bytes = int(megabytes * 1e6)
    chosen = choose_transform(kernel, channels, itemsize, image, most_bytes)
    if chosen is None:
        least = transform_for((2, 2), kernel, channels, itemsize)
        assert sum(least.buffers.values()) > most_bytes
        return
    assert sum(chosen.buffers.values()) <= most_bytes
    assert chosen.rows in good_sizes(chosen.rows)
    assert chosen.columns in good_sizes(chosen.columns)
    rows, columns = chosen.tile
    assert rows % 2 == columns % 2 == 0
    assert min(rows, columns) >= 2
    assert rows + kernel[0] - 1 <= chosen.rows
    assert (columns + kernel[1] - 1) * channels <= chosen.columns
    tiles_down, tiles_across = -(-image[0] // rows), -(-image[1] // columns)
    assert chosen.tile_count(*image) == tiles_down * tiles_across
    assert (tiles_down - 1) * rows < image[0] <= tiles_down * rows
    assert (tiles_across - 1) * columns < image[1] <= tiles_across * columns


@settings(max_examples=10)
@given(
    kernel=sides(40),
    channels=st.integers(1, 3),
    itemsize=ITEMSIZES,
    image=sides(150),
)
def test_no_other_transform_takes_less_effort(kernel, channels, itemsize, image):
    """Of all sizes up to that which holds the whole image."""
    chosen = choose_transform(kernel, channels, itemsize, image, _PLENTY)
    whole = transform_for((image[0] + image[0] % 2, image[1] + image[1] % 2), kernel, channels, itemsize)
    efforts = []
    for rows in good_sizes(whole.rows):
        for columns in good_sizes(whole.columns):
            other = Transform(rows, columns, *kernel, channels, itemsize)
            if min(other.tile) >= 2:
                efforts.append(other.effort() * other.tile_count(*image))
    assert chosen is not None
    assert chosen.effort() * chosen.tile_count(*image) <= 1.1 * min(efforts)  # not all sizes are tried


def test_a_slightly_larger_size_is_taken_where_it_is_faster():
    """The least size that holds all of the image is 686, twice 7 cubed; 720 is faster."""
    chosen = choose_transform((11, 11), 1, 4, (676, 676), 10**8)
    assert chosen.effort() * chosen.tile_count(676, 676) <= Transform(720, 720, 11, 11, 1, 4).effort()


@pytest.mark.parametrize("spare", [-1, 0, 512 * 4 * 2 - 1, 512 * 4 * 2])
def test_the_limit_holds_to_the_byte(spare):
    """A spectrum has a column more than half of the tile's."""
    chosen = choose_transform((31, 31), 1, 4, (482, 482), 512 * 512 * 4 * 2 + spare)
    assert sum(chosen.buffers.values()) <= 512 * 512 * 4 * 2 + spare


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_fits(channels):
    assert choose_transform((101, 101), channels, 8, (500, 500), 50_000) is None
    assert largest_transform((101, 101), channels, 8, 50_000) is None


@given(tile=sides(500), kernel=sides(300), channels=st.integers(1, 5), itemsize=ITEMSIZES)
def test_a_transform_for_a_tile_yields_it(tile, kernel, channels, itemsize):
    tile = 2 * tile[0], 2 * tile[1]
    found = transform_for(tile, kernel, channels, itemsize)
    assert found.tile[0] >= tile[0]
    assert found.tile[1] >= tile[1]
    assert found.rows <= 2 * (tile[0] + kernel[0])
    assert found.columns <= 2 * (tile[1] + kernel[1]) * channels


@example(kernel=(200, 1), channels=3, image=(125, 121), megabytes=0.5)
@given(kernel=sides(200), channels=st.integers(1, 4), image=sides(3000), megabytes=st.floats(0.5, 50))
def test_a_plan_keeps_its_transform(kernel, channels, image, megabytes):
    """A plan keeps the tile only; the transform that is made for it again must not be a worse one."""
    chosen = choose_transform(kernel, channels, 4, image, int(megabytes * 1e6))
    if chosen is not None:
        again = transform_for(chosen.tile, kernel, channels, 4)
        assert again.points <= chosen.points
        assert again.effort() <= chosen.effort() * 1.0001


@given(rows=st.integers(1, 300), columns=st.integers(1, 300), itemsize=ITEMSIZES, threads=st.integers(1, 9))
def test_memory_adds_up(rows, columns, itemsize, threads):
    transform = Transform(2 * rows, 2 * columns, 1, 1, 1, itemsize)
    tile = np.zeros((2 * rows, 2 * columns), f"f{itemsize}")
    spectrum = np.zeros((2 * rows, columns + 1), f"c{2 * itemsize}")
    assert transform.buffers == {"tile": tile.nbytes, "spectrum": spectrum.nbytes}
    assert transform.spectrum_bytes == spectrum.nbytes
    assert transform.memory(threads) == threads * (tile.nbytes + spectrum.nbytes) + spectrum.nbytes
    assert transform.points == tile.size


@given(tile=sides(200), kernel=sides(200), channels=st.integers(1, 4))
def test_the_lost_share_is_what_yields_nothing(tile, kernel, channels):
    transform = transform_for((2 * tile[0], 2 * tile[1]), kernel, channels, 4)
    rows, columns = transform.tile
    assert 0 <= transform.lost_share < 1
    kept = (1 - transform.lost_share) * transform.rows * transform.columns
    assert kept == pytest.approx(rows * columns * channels)


def test_nothing_is_lost_to_a_kernel_of_one_weight():
    assert Transform(64, 96, 1, 1, 1, 4).lost_share == 0
    assert Transform(64, 96, 1, 1, 3, 4).tile == (64, 32)


@given(
    kernel=sides(150),
    channels=st.integers(1, 4),
    itemsize=ITEMSIZES,
    megabytes=st.floats(0.1, 500),
    work_spectra=st.integers(0, 2),
)
def test_the_largest_transform_fits_and_the_next_would_not(kernel, channels, itemsize, megabytes, work_spectra):
    memory = int(megabytes * 1e6)

    def needed(size):
        transform = Transform(size, size, *kernel, channels, itemsize)
        return transform.memory(1) + work_spectra * transform.spectrum_bytes

    found = largest_transform(kernel, channels, itemsize, memory, work_spectra)
    if found is None:
        least = next(
            size for size in good_sizes(4000) if min(Transform(size, size, *kernel, channels, itemsize).tile) >= 2
        )
        assert needed(least) > memory
        return
    assert found.rows == found.columns
    assert min(found.tile) >= 1
    assert needed(found.rows) <= memory
    assert needed(next(size for size in good_sizes(2 * found.rows) if size > found.rows)) > memory


def test_channels_share_the_columns():
    one, three = choose_transform((31, 31), 1, 4, (512, 512), 2**23), transform_for((64, 64), (31, 31), 3, 4)
    assert one.tile[1] <= one.columns - 30
    assert three.columns >= 3 * (64 + 30)
    assert three.tile[1] == (three.columns // 3 - 30) // 2 * 2
    assert transform_for((64, 64), (31, 31), 3, 4).rows == transform_for((64, 64), (31, 31), 1, 4).rows


@pytest.mark.parametrize(("itemsize", "dtype"), [(4, "complex64"), (8, "complex128")])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_spectrum_of_a_kernel(itemsize, dtype, channels, monkeypatch):
    monkeypatch.setattr(transforms, "_COLUMNS_AT_A_TIME", 5)
    weights = np.random.default_rng(0).uniform(-1, 1, (7, 9))
    spectrum = kernel_spectrum(weights, Transform(24, 31, 7, 9, channels, itemsize))
    padded = np.zeros((24, 31))
    padded[:7, : 9 * channels : channels] = weights
    expected = np.fft.rfft2(padded).conj() / padded.size
    assert spectrum.dtype == dtype
    np.testing.assert_allclose(spectrum, expected, rtol=0, atol=4 * np.finfo(dtype).eps * np.abs(expected).max())
