"""What a judge may say, and what must never become a label."""

import re

import pytest

from winnow.errors import JudgmentParseError
from winnow.judging.parsing import labels_pattern, parse_answer, parse_ranking, parse_selection


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
        ("[ 2 ]", [1]),
        ("[1]，[3]、[2]。", [0, 2, 1]),
        ("Ranking: [2], [1]", [1, 0]),
        ("[1] & [3]; passage [2].", [0, 2, 1]),
        ("[4] then [2], then [1]", [3, 1, 0]),
        ("```\n[1],\n[3]\n```", [0, 2]),
        ('"[1]", "[2]"', [0, 1]),
        ("- [1]\n- [2]\n", [0, 1]),
        ("* [1],\n* [2].", [0, 1]),
        ("• passage [1]", [0]),
        ("**Useful passages:**\n\n* [1]\n* [2]", [0, 1]),
        ("Relevant passages: [1]", [0]),
        ("The relevant passages are [1] and [2].", [0, 1]),
        ("The useful passages are: [2]", [1]),
        ("HELPFUL PASSAGES: [2]", [1]),
        ("Selected passages: passages [1], [2]", [0, 1]),
        ("Passages: [1], [2]", [0, 1]),
        ("My selection: [1], [2].", [0, 1]),
        ("The selection is [1].", [0]),
        ("Answer: [1]", [0]),
        ("These help: [1], [2]", [0, 1]),
        ("These passages are useful: [1]", [0]),
        ("I select [1], [2]", [0, 1]),
        ("[3] helps.", [2]),
        ("[1], [2] are relevant", [0, 1]),
        ("Passage [1] is useful.", [0]),
        ("[none]", []),
        ("[ None ].", []),
        ("My selection: [NONE]", []),
        ("The useful passages are [none].", []),
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
        "[]",
        "[none of these]",
        "[none], [2]",
        "[none] [none]",
        "[sic] [1]",
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
def test_a_bracket_that_holds_no_list_of_labels_is_an_error(reply):
    with pytest.raises(JudgmentParseError, match="expected labels such as"):
        parse_selection(reply, pool_size=5)


@pytest.mark.parametrize("reply", ["[1], [2", "[1], [", "[1", "[[1], [2]]", "[1 [2]]", "1] [2]", "[1] 【2】", "［1］"])
def test_brackets_that_do_not_pair_up_are_an_error(reply):
    with pytest.raises(JudgmentParseError):
        parse_selection(reply, pool_size=5)


# What a reply that says anything but its labels may mean. None of these is a selection of what stands in brackets.
OTHER_REPLIES = [
    "All passages but [2] are relevant",
    "I would exclude [2]",
    "[2] is unrelated",
    "[3] lacks the answer",
    "Passage [1] cannot help",
    "Discard [1], [2]",
    "[1] ist nicht relevant",
    "除了[2]以外，其他都相关",
    "All except [2]",
    "[1] is off-topic, [2] helps",
    "[1]: yes\n[2]: no",
    "[2] < [1]",
    "[1] to [4]",
    "[1]-[4]",
    "[1] - [4]",
    "[1], [2], ..., [4]",
    "[1] .. [4]",
    "[1]\n- [4]",
    "[1], [2] > [3]",
    "[1] is off-topic.",
    "[3] is not useful",
    "None of them, although [2] comes close",
    "They don't help, not even [1]",
    "Nothing helps here: [none]",
    "Not [none]",
    "[none], or perhaps [2]",
    "[none] but [2]",
    "The useful passages are not [1], [2]",
    "Relevant passages: all but [1]",
    "Irrelevant passages: [1]",
    "These help: [1], but [2] does not",
    "My selection: [1], [2] only if nothing else helps",
    "[2] only",
    "[1] are off-topic",
    "[1], [2] are relevant?",
    "[1] is relevant, but not useful",
    "Is [1] relevant?",
    "Useful passages: [1]\n\n[2] is off-topic",
    "~~[1]~~ [2]",
    "+ [1]\n- [2]",
    "1. [3]\n2. [1]",
    "The least useful first: [1] > [2]",
    "Ranking, worst to best: [1], [2]",
    "<answer>[1]</answer>",
    "[THINK] [2] is no help [/THINK] [1]",
    "Of the 30 passages that I saw in 2019: [2]",
]


@pytest.mark.parametrize("reply", OTHER_REPLIES)
@pytest.mark.parametrize("parse", [parse_selection, parse_ranking])
def test_a_reply_with_any_other_word_is_no_selection(parse, reply):
    with pytest.raises(JudgmentParseError):
        parse(reply, pool_size=5)


LABELS = ["[1]", "[1], [3]", "[2, 4]", "- [1]\n- [2]", "[2], [1]", "[none]"]
WORDS_BEFORE = """
no|not|none of|neither|except|all but|everything but|anything but|without|ignore|discard|drop|exclude|skip|uncertain
irrelevant passages|the irrelevant passages are|unrelated|useless|not useful passages|the passages are not
useful passages, except|the useful passages are all but|my selection leaves out|i reject|i would exclude
i select all but|these help least|these do not help|none help|alle außer|nicht relevant sind|keine|sans|sauf
aucun de|excepto|ninguno de|senza|tranne|кроме|не подходят|除了|不相关|排除|以外|を除く|제외|ما عدا|सिवाय
"""
WORDS_BEHIND = """
is off-topic|are off-topic|is unrelated|are irrelevant|is useless|lacks the answer|cannot help|can't help
does not help|do not help|help little|help nobody|helps, but [5] does not|are relevant to something else
is relevant but useless|are useful, not|only|excluded|aside|apart|and not [5]|or [5]|rather than [5]
instead of [5]|minus [5]|not|?|: no|= no|✗|👎|ist nicht relevant|sind es nicht|hilft nicht|n'aident pas
ne sert à rien|no ayudan|non serve|не помогает|以外，其他都相关|不相关|は関係ない|は役に立たない
는 관련이 없다|لا تفيد|उपयोगी नहीं|ei auta|hjälper inte|nie pomaga|işe yaramaz|δεν βοηθά
"""


def words(lines):
    return lines.strip().replace("\n", "|").split("|")


HOSTILE = [f"{word}{mark} {labels}" for word in words(WORDS_BEFORE) for mark in ("", ":") for labels in LABELS]
HOSTILE += [f"{labels} {word}{stop}" for word in words(WORDS_BEHIND) for stop in ("", ".") for labels in LABELS]
HOSTILE += [f"{word} {labels} {word}" for word in ("not", "nicht", "不") for labels in LABELS]


def test_no_denial_in_any_language_is_read_as_what_it_denies():
    def read(reply):
        try:
            return parse_selection(reply, pool_size=5)
        except JudgmentParseError:
            return None

    assert len(set(HOSTILE)) > 1000
    assert [reply for reply in HOSTILE if read(reply) is not None] == []
    assert [read(labels) for labels in LABELS] == [[0], [0, 2], [1, 3], [0, 1], [1, 0], []]


@pytest.mark.parametrize("reply", ["<think>[3]</think>[1]", "[1] <think>", "[3]</think>", "<|channel|>final[1]"])
def test_reasoning_that_no_engine_split_off_makes_a_reply_malformed(reply):
    with pytest.raises(JudgmentParseError):
        parse_selection(reply, pool_size=5)


@pytest.mark.parametrize(
    "reply", ["[2] > [1]", "[2]>[1]", "[2] ＞ [1]", "Ranking: [2] > [1]", "Passage [2] > passage [1].", "**[2] > [1]**"]
)
def test_an_order_is_a_ranking_and_no_selection(reply):
    """Asked what to select, some models order all that they see, the useless last."""
    assert parse_ranking(reply, pool_size=5) == [1, 0]
    with pytest.raises(JudgmentParseError, match="expected a list of labels"):
        parse_selection(reply, pool_size=5)


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
    assert labels_pattern([7], separator=", ") == r"\[none\]|\[(?:7)\]"
    assert re.fullmatch(labels_pattern([1, 2], separator=" > "), "[2] > [1]")


def test_an_answer_is_what_is_left_without_the_space_around_it_and_must_not_be_empty():
    assert parse_answer(" In 1969. \n") == "In 1969."
    for reply in ("", " \n"):
        with pytest.raises(JudgmentParseError, match="empty"):
            parse_answer(reply)
