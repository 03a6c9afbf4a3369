"""What the PTX executor knows of races, sectors and banks, against all pairs of accesses and plain sets."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ptx import checks
from tests.ptx.checks import CONFLICTS, Accessors, Kind, Races
from tests.ptx.counters import SharedTraffic, Traffic

THREADS_PER_BLOCK = 64
THREADS = [0, 1, 32, 33, 64, 65, 96]
"""Of two blocks with two warps each."""


@dataclass
class PairwiseRaces:
    """Compares every access with every earlier one."""

    block_epochs: defaultdict = field(default_factory=lambda: defaultdict(int))
    warp_epochs: defaultdict = field(default_factory=lambda: defaultdict(int))
    past: list = field(default_factory=list)

    def access(self, kind, threads, pieces, *, coherent):
        """Return whether there is a conflict."""
        found = False
        for thread, piece in zip(threads, pieces, strict=True):
            block, warp = thread // THREADS_PER_BLOCK, thread // 32
            epochs = self.block_epochs[block], self.warp_epochs[warp]
            for other_kind, other_thread, other_piece, other_epochs, other_coherent in self.past:
                same_place = piece == other_piece and other_kind in CONFLICTS[kind]
                same_thread = thread == other_thread
                ordered = block == other_thread // THREADS_PER_BLOCK and (
                    epochs[0] != other_epochs[0] or (warp == other_thread // 32 and epochs[1] != other_epochs[1])
                )
                if same_place and not ((ordered or same_thread) and coherent and other_coherent):
                    found = True
            self.past.append((kind, thread, piece, epochs, coherent))
        return found


def events(threads):
    """Return a strategy for accesses of some of these threads, and barriers of their blocks and warps."""
    access = st.tuples(
        st.sampled_from(Kind),
        st.dictionaries(st.sampled_from(threads), st.integers(0, 2), min_size=1),
        st.integers(0, 9).map(lambda number: number > 0),
    )
    block_barrier = st.tuples(st.just("block barrier"), st.integers(0, 1))
    warp_barrier = st.tuples(st.just("warp barrier"), st.integers(0, 3))
    return st.lists(access | block_barrier | warp_barrier, max_size=12)


@pytest.mark.parametrize("private", [False, True])
@given(reads_kept=st.sampled_from([0, 3, 100]), data=st.data())
def test_races_are_found_as_by_comparing_all_pairs(private, reads_kept, data):
    with mock.patch.object(checks, "READS_KEPT", reads_kept):
        compare_with_all_pairs(data, private=private)


def compare_with_all_pairs(data, *, private):
    pairwise, races = PairwiseRaces(), Races(3 * 4, 4, private=private)
    block_start, warp_start = np.zeros(128, np.int32), np.zeros(128, np.int32)
    of_one_block = [thread for thread in THREADS if thread < THREADS_PER_BLOCK]
    for time, event in enumerate(data.draw(events(of_one_block if private else THREADS)), start=1):
        if event[0] == "block barrier":
            members = slice(event[1] * THREADS_PER_BLOCK, (event[1] + 1) * THREADS_PER_BLOCK)
            block_start[members] = warp_start[members] = time
            pairwise.block_epochs[event[1]] += 1
            if private and event[1] == 0:
                races.pass_barrier()
        elif event[0] == "warp barrier":
            warp_start[event[1] * 32 : (event[1] + 1) * 32] = time
            pairwise.warp_epochs[event[1]] += 1
        else:
            kind, places, coherent = event
            coherent = coherent or private or kind is not Kind.READ  # no constant data are shared memory
            threads = np.array(sorted(places), np.int32)
            pieces = np.array([places[thread] for thread in threads])
            accessors = Accessors(threads, block_start[threads], warp_start[threads], THREADS_PER_BLOCK, time, coherent)
            conflict = races.access(kind, pieces * 4, 4, accessors)
            assert (conflict is not None) == pairwise.access(kind, threads, pieces, coherent=coherent)
            if conflict:
                assert conflict.kind in CONFLICTS[kind]
                assert conflict.other in THREADS
                return


def test_a_wide_access_meets_narrow_ones():
    races = Races(64, 4)
    start = np.zeros(1, np.int32)
    first, second = (Accessors(np.array([thread], np.int32), start, start, 32, thread + 1) for thread in range(2))
    assert races.access(Kind.WRITE, np.array([12]), 4, first) is None
    assert races.access(Kind.READ, np.array([16]), 16, second) is None
    assert races.access(Kind.READ, np.array([0]), 16, second) == (0, Kind.WRITE, 0)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
@given(data=st.data())
def test_sectors_and_wavefronts_are_those_of_plain_sets(size, data):
    count = data.draw(st.integers(1, 80))
    threads = np.array(sorted(data.draw(st.sets(st.integers(0, 127), min_size=count, max_size=count))), np.int32)
    spread = data.draw(st.sampled_from([1, 40, 5000]))
    addresses = np.array(data.draw(st.lists(st.integers(0, spread), min_size=count, max_size=count))) * size

    traffic = Traffic()
    traffic.add(addresses, size, threads)
    sectors = {(thread // 32, address // 32) for thread, address in zip(threads, addresses, strict=True)}
    assert traffic == Traffic(len(set(threads // 32)), len(sectors), count * size)

    shared = SharedTraffic()
    shared.add(addresses, size, threads)
    words = defaultdict(set)
    for thread, address in zip(threads, addresses, strict=True):
        group = thread // (32 // max(1, size // 4))
        for word in range(address // 4, (address + size - 1) // 4 + 1):
            words[group, word % 32].add(word)
    groups = {group for group, _ in words}
    wavefronts = sum(max(len(words[group, bank]) for bank in range(32)) for group in groups)
    assert shared == SharedTraffic(len(set(threads // 32)), wavefronts, len(groups))


def test_an_address_that_all_threads_share():
    threads, address = np.arange(64, dtype=np.int32), np.array([100])
    traffic, shared = Traffic(), SharedTraffic()
    traffic.add(address, 4, threads)
    shared.add(address, 4, threads)
    assert traffic == Traffic(requests=2, sectors=2, bytes=256)
    assert shared == SharedTraffic(requests=2, wavefronts=2, ideal_wavefronts=2)
