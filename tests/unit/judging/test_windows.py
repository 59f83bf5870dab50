"""How much fits into a prompt, and how passages are cut and split when it does not."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_chat import ScriptedChat

from winnow.judging.config import ListwiseJudgeConfig
from winnow.judging.cutting import cut_characters, cut_passages, cut_words
from winnow.judging.showing import PassageTooLongError, Showing
from winnow.judging.templates import load_listwise_template
from winnow.judging.windows import Room, count_fitting, split_windows
from winnow.records import Candidate, CandidatePool

TEMPLATE = load_listwise_template("listwise-v2")


def show(*texts, capacity, max_words=300, title=""):
    pool = CandidatePool("q", "query", tuple(Candidate(str(n), title, text, ()) for n, text in enumerate(texts)))
    return asyncio.run(Showing(ScriptedChat([]), TEMPLATE, max_words=max_words).show(pool, capacity=capacity))


@pytest.mark.parametrize(
    ("sizes", "lengths"),
    [
        ([4, 4], [2]),
        ([4, 4, 4, 4, 4], [1, 2, 2]),
        ([1] * 21, [7, 7, 7]),
        ([1] * 11, [5, 6]),
        ([2] * 7, [3, 4]),
        ([9, 9, 9], [1, 1, 1]),
        ([1, 1, 1, 1, 8, 1, 1, 1], [2, 3, 3]),
        ([8, 1, 1, 1, 1, 1, 1], [3, 4]),
        ([1, 1, 1, 50, 1, 1], [3, 1, 2]),
        ([50, 1], [1, 1]),
        ([1], [1]),
        ([], []),
    ],
)
def test_windows_are_few_and_of_nearly_equal_length(sizes, lengths):
    windows = split_windows(sizes, capacity=10)

    assert [len(window) for window in windows] == lengths
    assert [place for window in windows for place in window] == list(range(len(sizes)))


def num_windows(sizes, capacity):
    """As few as there can be: each takes what fits."""
    count, taken = 0, capacity
    for size in sizes:
        count, taken = (count, taken + size) if taken + size <= capacity and count else (count + 1, size)
    return count


@given(sizes=st.lists(st.integers(1, 30), max_size=40), capacity=st.integers(-5, 60))
def test_windows_hold_every_passage_once_and_none_is_too_full(sizes, capacity):
    windows = split_windows(sizes, capacity=capacity)

    assert [place for window in windows for place in window] == list(range(len(sizes)))
    assert all(len(window) == 1 or sum(sizes[place] for place in window) <= capacity for window in windows)
    assert len(windows) == num_windows(sizes, capacity)


@given(num_passages=st.integers(1, 60), num_fitting=st.integers(1, 20))
def test_windows_of_equal_passages_differ_by_one_at_most(num_passages, num_fitting):
    lengths = {len(window) for window in split_windows([7] * num_passages, capacity=7 * num_fitting)}

    assert max(lengths) <= num_fitting
    assert max(lengths) - min(lengths) <= 1


def test_at_least_one_passage_is_taken():
    assert [count_fitting(sizes, 10) for sizes in ([4, 4, 4], [10], [11, 1], [])] == [2, 1, 1, 0]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("a b", "a b"),
        ("a b c", "a b"),
        ("a\n\nb \t c", "a\n\nb"),
        ("  a b  ", "  a b  "),
        ("", ""),
        ("a b ccc b", "a b"),
    ],
)
def test_texts_are_cut_behind_a_word_and_keep_their_spacing(text, cut):
    assert cut_words(text, 2) == cut


class CharactersAsTokens(ScriptedChat):
    """Counts as tokenizers do with scripts that have no spaces, or worse."""

    def __init__(self):
        super().__init__([])
        self.counted = []

    async def count_tokens(self, texts):
        self.counted += texts
        return [len(text.replace(" ", "")) for text in texts]


def test_texts_without_spaces_are_cut_at_twice_as_many_tokens_as_words():
    engine = CharactersAsTokens()
    chinese, thai, short = "检索系统为问题找到有用的段落" * 20, "ข้อความ" * 40, "短い文章" * 8
    texts = [chinese, "one two three four", thai, short, "a word " * 9 + "and " + "字" * 90]

    kept = asyncio.run(cut_passages(engine, texts, max_words=20))

    assert [len(text) for text in (kept[0], kept[2])] == [40, 40]
    assert all(whole.startswith(text) for whole, text in zip(texts, kept, strict=True))
    assert kept[1] == texts[1]
    assert kept[3] == short
    # With spaces too, up to what counts in words.
    assert len(kept[4].replace(" ", "")) <= 40
    assert "one two three four" not in engine.counted


def test_a_text_whose_tokens_are_not_in_proportion_is_cut_until_it_fits():
    """The first half has a token per character, the second ten."""

    class Uneven(ScriptedChat):
        async def count_tokens(self, texts):
            return [sum(10 if letter == "b" else 1 for letter in text) for text in texts]

    (kept,) = asyncio.run(cut_passages(Uneven([]), ["b" * 30 + "a" * 400], max_words=20))

    assert kept == "b" * 4


@pytest.mark.parametrize(
    ("limit", "cut"),
    [(30, "one two three"), (13, "one two three"), (12, "one two"), (7, "one two"), (2, "on"), (0, "")],
)
def test_texts_are_cut_at_characters_where_there_is_no_word_to_end(limit, cut):
    assert cut_characters("one two three", limit) == cut


def test_a_passage_too_long_for_any_prompt_is_cut_further_and_counted_once():
    shown = show("a b", "w " * 100, "x " * 8, capacity=20, max_words=50)

    assert shown.num_cut == 1
    assert max(shown.sizes) <= 20
    assert shown.passages[0] == ("", "a b")
    assert 5 < len(shown.passages[1][1].split()) < 20


@pytest.mark.parametrize(("title", "capacity"), [("", 0), ("", -100), ("a title of six words alone", 5)])
def test_a_passage_of_which_nothing_fits_is_an_error(title, capacity):
    with pytest.raises(PassageTooLongError, match=r"raise engine\.max_tokens"):
        show("some text", capacity=capacity, title=title)


def test_the_room_shrinks_with_the_replies_that_are_to_come():
    def room(**settings):
        engine = ScriptedChat([], max_tokens=10_000)
        return Room(engine, TEMPLATE, ListwiseJudgeConfig(kind="listwise", **settings))

    short, long = room(max_output_tokens=100), room(max_output_tokens=200)
    thinking = room(max_output_tokens=100, max_reasoning_tokens=500)

    def in_prompt(some, name, answer=None):
        return asyncio.run(some.in_prompt(name, "query", answer=answer))

    turns = ("relevance_selection", "pseudo_answer", "utility_selection")
    # A reply that could not be read, and the next one.
    assert in_prompt(short, "relevance_selection") - in_prompt(long, "relevance_selection") == 2 * 100
    # The pseudo-answer too, while it is not known.
    assert in_prompt(short, "utility_selection") - in_prompt(long, "utility_selection") == 3 * 100
    assert in_prompt(short, "utility_selection", "three words long") == in_prompt(short, "utility_selection") + 97
    # Two earlier replies, a bad one and the next.
    in_conversation = [asyncio.run(room.in_conversation(turns, "query")) for room in (short, long)]
    assert in_conversation[0] - in_conversation[1] == 4 * 100
    assert in_prompt(short, "relevance_selection") - in_prompt(thinking, "relevance_selection") == 500
