"""Subsets of a corpus by position."""

import numpy as np
import pytest
from fakes import subset_of
from hypothesis import given
from hypothesis import strategies as st

from winnow.retrieval.subset import Subset

# 200 passages are read as bits from seven members on, 20 always.
members = st.integers(1, 200).flatmap(
    lambda count: st.tuples(st.just(count), *[st.sets(st.integers(0, count - 1), max_size=20)] * 2)
)


@given(members, st.data())
def test_a_subset_is_the_set_of_its_members(drawn, data):
    count, members, others = drawn
    start = data.draw(st.integers(0, count))
    stop = data.draw(st.integers(start, count))

    subset = Subset.of(np.array(data.draw(st.permutations(sorted(members))), np.int64), count)
    both = subset & Subset.of(np.array(sorted(others), np.uint32), count)
    part = subset.part(start, stop)

    for found, expected, size in (
        (subset, members, count),
        (both, members & others, count),
        (part, {member - start for member in members if start <= member < stop}, stop - start),
    ):
        assert found.positions_S.tolist() == sorted(expected)
        assert found.positions_S.dtype == np.int64
        assert found.count == len(expected)
        is_member = np.isin(np.arange(size), sorted(expected))
        assert found.bitmap.tolist() == np.packbits(is_member, bitorder="little").tolist()
        assert found.holds(np.arange(size)).nonzero()[0].tolist() == sorted(expected)


def test_a_part_is_made_once():
    subset = subset_of([True, False, True, True])

    assert subset.part(2, 4) is subset.part(2, 4)
    assert subset.part(0, 4) is subset
    assert subset.part(1, 2).count == 0


@pytest.mark.parametrize("num_members", [0, 9, 3_000, 3_200, 100_000])
def test_memory_is_at_most_half_a_byte_per_passage_and_counts_the_parts(num_members):
    subset = Subset.of(np.arange(num_members, dtype=np.uint32), 100_000)

    parts = [subset.part(start, start + 10_000) for start in range(0, 100_000, 10_000)]

    held = [array for each in (subset, *parts) for array in (each.bitmap, each._positions_S) if array is not None]
    assert sum(array.nbytes for array in held) <= subset.num_bytes <= 50_000
