"""What a judge may say, and what must never become a label."""

import re

import pytest

from winnow.errors import JudgmentParseError
from winnow.judging.parsing import labels_pattern, parse_ranking, parse_selection, split_reasoning


@pytest.mark.parametrize(
    ("reply", "positions"),
    [
        ("[3], [1]", [2, 0]),
        ("[3][1]", [2, 0]),
        ("[1, 4]", [0, 3]),
        ("[1 4]", [0, 3]),
        ("[1,4],\n[2]", [0, 3, 1]),
        ("[2], [2], [2]", [1]),
        ("**[2]** and [4].", [1, 3]),
        ("Passages [2], [3], and passage [4] help.", [1, 2, 3]),
        ("Of the 30 passages that I saw in 2019: [ 2 ]", [1]),
        ("- [1]\n- [2]\n", [0, 1]),
        ("[sic] [1]", [0]),
        ("[none]", []),
        ("[NONE]", []),
        ("Nothing helps here: [ None ].", []),
    ],
)
def test_labels_become_positions_in_the_order_they_are_named(reply, positions):
    assert parse_selection(reply, pool_size=5) == positions


@pytest.mark.parametrize("label", ["0", "00", "6", "99", "-1", "01", "+1", "9" * 10_000, "0" * 10_000])
def test_a_label_outside_the_pool_is_an_error_alone_and_among_others(label):
    for reply in (f"[{label}]", f"[1], [{label}]", f"[1, {label}]"):
        with pytest.raises(JudgmentParseError):
            parse_selection(reply, pool_size=5)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "   \n",
        "None of them are useful",
        "none",
        "[]",
        "[none of these]",
        "passage 3",
        "(3)",
        "3, 4",
        "I cannot help with that.",
    ],
)
def test_a_reply_that_names_nothing_is_an_error_not_an_empty_selection(reply):
    with pytest.raises(JudgmentParseError, match=r"\[1\] or \[none\]"):
        parse_selection(reply, pool_size=5)


@pytest.mark.parametrize(
    "reply",
    [
        "[1-3]",
        "[1.5]",
        "[1e3]",
        "[1;3]",
        "[1/3]",
        "[1,,3]",
        "[1,]",
        "[#1]",
        "[passage 1]",
        "[٣]",
        "[³]",
        "[Ⅲ]",
        "[三]",
        "[1\u00a03]",
        "[0x1]",
        "[2], [1-3]",
    ],
)
def test_a_bracket_with_a_number_that_is_no_list_of_labels_is_an_error(reply):
    with pytest.raises(JudgmentParseError, match="expected labels such as"):
        parse_selection(reply, pool_size=5)


@pytest.mark.parametrize("reply", ["[1], [2", "[1], [", "[1", "[[1], [2]]", "[1 [2]]", "1] [2]", "[1] 【2】", "［1］"])
def test_brackets_that_do_not_pair_up_are_an_error(reply):
    with pytest.raises(JudgmentParseError):
        parse_selection(reply, pool_size=5)


def test_none_together_with_labels_is_an_error():
    with pytest.raises(JudgmentParseError, match="found both"):
        parse_selection("[none], or perhaps [2]", pool_size=5)


@pytest.mark.parametrize("reply", ["[1] is off-topic, [2] helps", "[1]: yes\n[2]: no", "[2] < [1]", "[1] to [4]"])
def test_words_between_labels_are_not_read_as_a_list(reply):
    with pytest.raises(JudgmentParseError, match="between two of them"):
        parse_selection(reply, pool_size=5)


@pytest.mark.parametrize(
    "reply",
    [
        "<think>[3] is off-topic</think>[1]",
        "<THINK>\n[3]\n</THINK>\n\n[1]",
        "<think>a <think> [3] </think> [4] </think> [1]",
        "[3] could be, but no.</think>[1]",
        "[1] <think> [3]",
        "<think></think>[1]<think>[2",
    ],
)
def test_numbers_in_reasoning_are_not_selected(reply):
    assert parse_selection(reply, pool_size=5) == [0]


@pytest.mark.parametrize("reply", ["<think>[3] helps", "<think>[3]</think>", "[3]</think>"])
def test_a_reply_of_nothing_but_reasoning_is_an_error(reply):
    with pytest.raises(JudgmentParseError):
        parse_selection(reply, pool_size=5)


def test_reasoning_inside_a_label_does_not_make_another_label():
    with pytest.raises(JudgmentParseError):
        parse_selection("[1<think>x</think>2]", pool_size=1)
    assert parse_selection("[1<think>x</think>2]", pool_size=20) == [0, 1]


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("[1]", None, "[1]"),
        ("<think>\n\n</think>\n\n[1]", None, "[1]"),
        ("<think> a </think> [1] ", "a", "[1]"),
        ("a</think>[1]", "a", "[1]"),
        ("<think>a", "a", ""),
    ],
)
def test_reasoning_is_split_from_what_is_said(text, reasoning, answer):
    assert split_reasoning(text) == (reasoning, answer)


def test_a_ranking_keeps_its_order_and_the_first_place_of_a_repeated_label():
    assert parse_ranking("[4] > [2] > [4] > [1]", pool_size=4) == [3, 1, 0]
    assert parse_ranking("[none]", pool_size=4) == []
    with pytest.raises(JudgmentParseError):
        parse_ranking("4 > 2", pool_size=4)


def test_only_the_positions_that_are_left_may_be_named():
    assert parse_selection("[4], [2]", pool_size=5, among=[1, 3]) == [3, 1]
    with pytest.raises(JudgmentParseError, match=r"an earlier round kept, found \[5\]"):
        parse_selection("[4], [5]", pool_size=5, among=[1, 3])


def test_the_message_quotes_a_long_reply_in_part():
    with pytest.raises(JudgmentParseError) as caught:
        parse_selection("word " * 10_000, pool_size=5)

    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("reply", "is_allowed"),
    [
        ("[none]", True),
        ("[2]", True),
        ("[2], [5], [10]", True),
        ("[2], [5], [10], [2]", False),
        ("[3]", False),
        ("[1]", False),
        ("[]", False),
        ("", False),
        ("[2], ", False),
        ("[2] > [5]", False),
    ],
)
def test_the_pattern_allows_only_labels_and_ends(reply, is_allowed):
    pattern = labels_pattern([2, 5, 10], separator=", ")

    assert (re.fullmatch(pattern, reply) is not None) == is_allowed


def test_the_pattern_of_one_label_and_of_a_ranking():
    assert re.fullmatch(labels_pattern([7], separator=", "), "[7]")
    assert not re.fullmatch(labels_pattern([7], separator=", "), "[7], [7]")
    assert re.fullmatch(labels_pattern([1, 2], separator=" > "), "[2] > [1]")


@pytest.mark.parametrize(
    "reply",
    [
        "[1]-[4]",
        "[1] - [4]",
        "[1], [2], ..., [4]",
        "[1] .. [4]",
        "[1] is off-topic.",
        "[3] is not useful",
        "None of them, although [2] comes close",
        "All except [2]",
        "They don't help, not even [1]",
    ],
)
def test_ranges_and_labels_that_words_take_back_are_refused(reply):
    with pytest.raises(JudgmentParseError):
        parse_selection(reply, pool_size=5)


@pytest.mark.parametrize("reply", ["- [1]\n- [2]", "My selection: [1], [2].", "Useful passages:\n* [1]\n* [2]"])
def test_lists_as_models_write_them_are_read(reply):
    assert parse_selection(reply, pool_size=5) == [0, 1]
