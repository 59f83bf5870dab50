"""Subsets of a corpus by position."""

import numpy as np

from winnow.retrieval.subset import Subset


def test_a_subset_knows_its_members_and_their_bits():
    subset = Subset(np.array([True, False, False, True, False, False, False, False, True]))

    assert subset.count == 3
    assert subset.positions_S.tolist() == [0, 3, 8]
    assert subset.bitmap.tolist() == [0b00001001, 0b00000001]


def test_a_part_counts_from_its_start_and_is_made_once():
    subset = Subset(np.array([True, False, True, True]))

    part = subset.part(2, 4)

    assert part.positions_S.tolist() == [0, 1]
    assert subset.part(2, 4) is part
    assert subset.part(0, 4) is subset
    assert subset.part(1, 2).count == 0
