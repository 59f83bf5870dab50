"""Length-aware batches: nothing lost, nothing too wide, little padding."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from winnow.modeling.batches import batches_by_length


@given(lengths=st.lists(st.integers(1, 50), max_size=40), max_tokens=st.integers(1, 200))
def test_every_text_is_in_one_batch_and_batches_stay_within_the_budget(lengths, max_tokens):
    batches = batches_by_length(lengths, max_tokens=max_tokens)

    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        width = max(lengths[position] for position in batch)
        assert width * len(batch) <= max_tokens or len(batch) == 1


def test_the_batch_of_the_longest_texts_comes_first():
    assert batches_by_length([5, 40, 6, 39], max_tokens=80) == [[1, 3], [2, 0]]


def test_texts_of_equal_length_keep_their_order():
    assert batches_by_length([7, 7, 7], max_tokens=14) == [[0, 1], [2]]


@given(lengths=st.lists(st.integers(1, 50), max_size=40), max_tokens=st.integers(1, 200))
def test_packed_batches_hold_every_text_once_and_as_many_tokens_as_they_may(lengths, max_tokens):
    batches = batches_by_length(lengths, max_tokens=max_tokens, packed=True)

    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    sizes = [[lengths[position] for position in batch] for batch in batches]
    assert all(sum(batch) <= max_tokens or len(batch) == 1 for batch in sizes)
    assert all(sum(batch) + following[0] > max_tokens for batch, following in pairwise(sizes))
