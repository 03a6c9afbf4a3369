"""Edge modes as index maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blurfast.boundary import MODES, OUTSIDE, index_map, origins
from tests import naive

modes = st.sampled_from(MODES)
ranges = st.tuples(st.integers(-150, 150), st.integers(1, 200)).map(lambda pair: (pair[0], pair[0] + pair[1]))

NUMPY_NAMES = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap"}


def oracle(start: int, stop: int, length: int, mode: str) -> list[int]:
    sources = [naive.source_index(position, length, mode) for position in range(start, stop)]
    return [OUTSIDE if source is None else source for source in sources]


def test_all_five_modes_are_there():
    assert set(MODES) == {"reflect", "mirror", "nearest", "wrap", "constant"}


@given(ranges, st.integers(1, 40), modes)
def test_index_map_is_the_definition(positions, length, mode):
    assert index_map(*positions, length, mode).tolist() == oracle(*positions, length, mode)


@pytest.mark.parametrize("mode", list(NUMPY_NAMES))
@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_index_map_pads_like_numpy(mode, length):
    line = np.arange(length) * 7
    padded = np.pad(line, 25, mode=NUMPY_NAMES[mode])
    np.testing.assert_array_equal(line[index_map(-25, length + 25, length, mode)], padded)


def test_far_positions_of_a_large_image():
    far = index_map(-1_000_000, -999_990, 3, "reflect")
    assert far.tolist() == oracle(-4, 6, 3, "reflect")  # 999996 is a multiple of the period, 6
    assert index_map(10**12, 10**12 + 2, 10**12 + 1, "mirror").tolist() == [10**12, 10**12 - 1]


def filtered(runs: list[tuple[int, int, int]]) -> dict[int, int]:
    """Return which source is filtered at which position."""
    return {position: source + position - start for start, stop, source in runs for position in range(start, stop)}


@given(ranges, st.integers(1, 40), modes)
def test_every_position_repeats_one_that_is_filtered(positions, length, mode):
    sources = index_map(*positions, length, mode)
    origin, runs = origins(sources)
    held = filtered(runs)
    for position, source in enumerate(sources):
        if source == OUTSIDE:
            assert origin[position] == OUTSIDE
        else:
            assert held[origin[position]] == source
    assert len(set(held.values())) == len(held), "nothing is filtered twice"
    assert set(held.values()) == set(sources.tolist()) - {OUTSIDE}
    for position in set(held) & set(range(sources.size)):
        assert sources[position] == held[position]


@given(st.integers(1, 60), st.integers(0, 30), modes)
def test_the_image_in_its_own_place_stays_one_run(length, halo, mode):
    _, runs = origins(index_map(-halo, length + halo, length, mode))
    # Where the halo shows the whole image again, that copy may serve as well.
    assert (halo, halo + length, 0) in runs or halo >= length
    assert len(filtered(runs)) == length
