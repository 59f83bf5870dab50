"""Two ranked lists become one; the reference adds up points passage by passage, in fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.records import ScoredPassage
from winnow.retrieval.config import FusionConfig
from winnow.retrieval.fusion import fuse, fuse_hits

TIES_BY_POSITION = np.arange(1000)


def ranked(**scores):
    """``ranked(a=3.0, b=1.0)``: positions are letters."""
    return np.array(list(scores.values()), dtype=np.float32), np.array([ord(name) for name in scores], dtype=np.int64)


def names(result):
    return "".join(map(chr, result[1]))


def test_reciprocal_rank_prefers_what_both_lists_found():
    config = FusionConfig(rank_constant=1, dense_weight=0.5)

    points, positions = fuse(ranked(a=9, b=8, c=7), ranked(c=2, b=1), config=config, tie_order_P=TIES_BY_POSITION, k=9)

    # b: third and third; c: fourth and second; a: second in one list only.
    assert names((points, positions)) == "cba"
    assert points == pytest.approx([(1 / 4 + 1 / 2) / 2, (1 / 3 + 1 / 3) / 2, 1 / 4])


def test_weighted_scales_each_list_before_it_adds():
    config = FusionConfig(method="weighted", dense_weight=0.25)

    points, positions = fuse(
        ranked(a=0.9, b=0.8, c=0.7), ranked(d=30, b=20, a=10), config=config, tie_order_P=TIES_BY_POSITION, k=9
    )

    # a 1 and 0, b .5 and .5, c 0 and absent, d absent and 1.
    assert names((points, positions)) == "dbac"
    assert points == pytest.approx([0.75, 0.5, 0.25, 0.0], abs=1e-6)


def test_a_list_of_equal_scores_counts_in_full():
    config = FusionConfig(method="weighted", dense_weight=0.5)

    points, positions = fuse(ranked(a=2, b=1), ranked(b=7, c=7), config=config, tie_order_P=TIES_BY_POSITION, k=9)

    assert names((points, positions)) == "abc"
    assert points == pytest.approx([0.5, 0.5, 0.5])


@pytest.mark.parametrize("method", ["reciprocal_rank", "weighted"])
def test_an_empty_list_leaves_the_order_of_the_other(method):
    config = FusionConfig(method=method)

    assert names(fuse(ranked(), ranked(c=3, a=2), config=config, tie_order_P=TIES_BY_POSITION, k=9)) == "ca"
    assert names(fuse(ranked(b=1, a=0.5), ranked(), config=config, tie_order_P=TIES_BY_POSITION, k=1)) == "b"
    assert names(fuse(ranked(), ranked(), config=config, tie_order_P=TIES_BY_POSITION, k=9)) == ""


def test_equal_points_are_ordered_by_id_even_where_k_cuts_them():
    by_id_backwards = np.arange(1000)[::-1]

    found = fuse(ranked(a=2, b=1), ranked(b=2, a=1), config=FusionConfig(), tie_order_P=by_id_backwards, k=1)

    assert names(found) == "b"


def points_of(position, scores_of, config):
    """What one list gives a passage, straight from the definition."""
    if position not in scores_of:
        return Fraction(0)
    order = list(scores_of)
    if config.method == "reciprocal_rank":
        return Fraction(1, config.rank_constant + order.index(position) + 1)
    lowest, highest = min(scores_of.values()), max(scores_of.values())
    return Fraction(1) if lowest == highest else Fraction(scores_of[position] - lowest, highest - lowest)


ranked_list = st.dictionaries(st.integers(0, 30), st.integers(-8, 8), max_size=12).map(
    lambda found: dict(sorted(found.items(), key=lambda item: -item[1]))
)


@given(
    dense=ranked_list,
    lexical=ranked_list,
    method=st.sampled_from(["reciprocal_rank", "weighted"]),
    weight=st.sampled_from([0, 0.25, 0.5, 1]),
    k=st.integers(1, 30),
)
def test_equals_the_definition_passage_by_passage(dense, lexical, method, weight, k):
    config = FusionConfig(method=method, dense_weight=weight, rank_constant=60)
    ties = np.random.default_rng(len(dense)).permutation(31)
    exact = {
        position: Fraction(weight) * points_of(position, dense, config)
        + (1 - Fraction(weight)) * points_of(position, lexical, config)
        for position in dense.keys() | lexical.keys()
    }

    points, positions = fuse(
        *((np.array(list(found.values()), np.float32), np.array(list(found), np.int64)) for found in (dense, lexical)),
        config=config,
        tie_order_P=ties,
        k=k,
    )

    assert len(positions) == len(set(positions.tolist())) == min(k, len(exact))
    assert points == pytest.approx([float(exact[position]) for position in positions.tolist()], abs=1e-12)
    assert all(points[:-1] >= points[1:])
    left_out = [float(exact[position]) for position in exact.keys() - set(positions.tolist())]
    assert max(left_out, default=-1) <= (points[-1] if len(points) else 0) + 1e-12


@given(
    lists=st.tuples(*[st.lists(st.sampled_from("abcdef"), unique=True)] * 2),
    method=st.sampled_from(["reciprocal_rank", "weighted"]),
    k=st.integers(1, 8),
)
def test_lists_of_passages_are_fused_as_lists_of_positions_are(lists, method, k):
    config = FusionConfig(method=method, dense_weight=0.3)
    hits = [
        [ScoredPassage(name, score=float(-rank), text=name * 2) for rank, name in enumerate(names)] for names in lists
    ]
    by_position = [
        (np.array([hit.score for hit in each]), np.array([ord(hit.passage_id) for hit in each], dtype=np.int64))
        for each in hits
    ]

    fused = fuse_hits(*hits, config=config, k=k)

    points, positions = fuse(*by_position, config=config, tie_order_P=TIES_BY_POSITION, k=k)
    assert [hit.passage_id for hit in fused] == list(map(chr, positions))
    assert [hit.score for hit in fused] == pytest.approx(points.tolist())
    assert all(hit.text == hit.passage_id * 2 for hit in fused)
