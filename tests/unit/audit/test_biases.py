"""Biases that show without human labels."""

from dataclasses import replace

import numpy as np
import pytest

from winnow.audit.biases import length_bias, position_bias


def positions(pairs):
    return position_bias(pairs, samples=100, seed=1)


def test_positives_at_one_position_are_no_chance(judged):
    found = positions(judged({f"q{n}": "J..." for n in range(20)}))

    assert [(place.num_pairs, place.num_positives, place.expected) for place in found.places] == [
        (20, 20, 5.0),
        (20, 0, 5.0),
        (20, 0, 5.0),
        (20, 0, 5.0),
    ]
    assert found.degrees == 3
    assert found.p_value < 1e-6


def test_positives_spread_evenly_are_chance(judged):
    found = positions(judged({"q1": "J..", "q2": ".J.", "q3": "..J"}))

    assert found.chi_square == pytest.approx(0.0)
    assert found.p_value == pytest.approx(1.0)


def test_late_positions_of_large_pools_are_not_mistaken_for_a_bias(judged):
    """One positive per pool, spread evenly in each size: half of the pools of two, a fifth of those of five."""
    small = {"a1": "J.", "a2": ".J"}
    large = {f"b{n}": "." * n + "J" + "." * (4 - n) for n in range(5)}

    found = positions(judged({**small, **large}))

    assert [place.share.value for place in found.places] == pytest.approx([2 / 7, 2 / 7, 1 / 5, 1 / 5, 1 / 5])
    assert [place.expected for place in found.places] == pytest.approx([2.0, 2.0, 1.0, 1.0, 1.0])
    assert found.chi_square == pytest.approx(0.0)


def test_a_window_is_a_prompt_of_its_own(judged):
    """Two windows of two passages: .5 and 1 positive in them, so one of each two, and two of two. The query's share
    alone would expect 1.5 positives at each position."""
    pairs = judged({"q1": "J.JJ", "q2": ".JJJ"})

    found = positions(replace(pairs, position_N=np.array([1, 2] * 4)))
    of_pools = positions(pairs)

    assert [(place.num_pairs, place.num_positives, place.expected) for place in found.places] == [
        (4, 3, 3.0),
        (4, 3, 3.0),
    ]
    assert (found.chi_square, found.degrees) == (pytest.approx(0.0), 1)
    assert [place.num_positives for place in of_pools.places] == [1, 1, 2, 2]
    assert of_pools.chi_square == pytest.approx(2.0)


@pytest.mark.parametrize(
    "rows", [{}, {"q1": "J"}, {"q1": "JJJ"}, {"q1": "..."}], ids=["none", "one", "all", "no positive"]
)
def test_where_nothing_can_be_uneven_there_is_no_p_value(judged, rows):
    found = positions(judged(rows))

    assert (found.p_value, found.degrees, found.chi_square) == (None, 0, 0.0)


def test_length_is_held_against_score_and_label(judged):
    """Passages have 1, 2 and 3 words; scores fall with length, and people prefer the longest."""
    found = length_bias(judged({"q1": "J.H", "q2": "J.H"}), samples=100, seed=1)

    assert found.judge.value == pytest.approx(-1.0)
    assert found.human.value == pytest.approx(3**0.5 / 2)
    assert (found.words_of_positives, found.words_of_others) == (1.0, 2.5)


def test_length_of_nothing_is_not_known(judged):
    found = length_bias(judged({}), samples=100, seed=1)

    assert (found.judge.value, found.human.value) == (None, None)
    assert (found.words_of_positives, found.words_of_others) == (None, None)
