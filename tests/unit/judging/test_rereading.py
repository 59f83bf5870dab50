"""Stored replies under another version of the parser: kept where it reads them alike, judged again otherwise."""

import asyncio
import copy

import pytest
from scripted_chat import ScriptedChat, cut_reply

from winnow.judging.config import LikelihoodJudgeConfig, ListwiseJudgeConfig
from winnow.judging.listwise import ListwiseJudge
from winnow.judging.parsing import LISTWISE_READING_VERSION
from winnow.judging.rereading import reading_version, reads_alike
from winnow.judging.rows import evidence_table
from winnow.records import Candidate, CandidatePool

CHATTER = "I cannot tell."
SELECTED = ["[4], [2]", "Two days.", "[2]"]


def judged(replies, *, max_tokens=100_000, **settings):
    """A row of evidence as it is stored, and the configuration it was judged with."""
    config = ListwiseJudgeConfig(kind="listwise", **settings)
    passages = tuple(Candidate(f"id{n}", "", "some words", ()) for n in range(4))
    judge = ListwiseJudge(ScriptedChat(replies, max_tokens=max_tokens), config, judge_id="j")
    row = asyncio.run(judge.judge(CandidatePool("q1", "how old?", passages)))
    (stored,) = evidence_table([row], reading=reading_version(config)).to_pylist()
    return stored, config


@pytest.mark.parametrize(
    ("replies", "settings", "status"),
    [
        (SELECTED, {}, "ok"),
        (SELECTED, {"layout": "separate"}, "ok"),
        (["[4], [2]", "Two days.", "[4] > [2]"], {"verdict": "ranking"}, "ok"),
        (["[4], [2]", "Two days.", "[2] > [1]"], {"verdict": "ranking", "layout": "separate"}, "ok"),
        (["[4], [2]", "Two days.", "[none]"], {}, "ok"),
        (["[none]"], {}, "ok"),
        ([CHATTER, "[4]", "Two days.", CHATTER, "[4]"], {}, "ok"),
        ([cut_reply("[4], [2]"), "[4]", "", "Two days.", "[4]"], {}, "ok"),
        ([CHATTER, CHATTER], {}, "malformed"),
        ([CHATTER, cut_reply("[1], [2")], {}, "truncated"),
        ([RuntimeError("gone")], {}, "engine_error"),
    ],
)
def test_what_the_same_parser_has_read_is_read_alike(replies, settings, status):
    row, config = judged(replies, **settings)

    assert row["status"] == status
    assert reads_alike(row, config)


def relevant(row, position):
    row["judgments"][position]["is_relevant"] = not row["judgments"][position]["is_relevant"]


def useful(row, position):
    row["judgments"][position]["is_useful"] = not row["judgments"][position]["is_useful"]


def reply(row, number, text):
    row["traces"][number]["reply"] = text


# What another parser would have stored for the same replies, or read in other ones.
DIFFERENCES = {
    "a passage fewer was relevant": lambda row: relevant(row, 1),
    "a passage more was relevant": lambda row: relevant(row, 0),
    "another passage was relevant": lambda row: (relevant(row, 0), relevant(row, 3)),
    "nothing was relevant": lambda row: (relevant(row, 1), relevant(row, 3)),
    "a passage more was useful": lambda row: useful(row, 3),
    "another passage was useful": lambda row: (useful(row, 1), useful(row, 3)),
    "the answer was read otherwise": lambda row: row.update(pseudo_answer="Two"),
    "the first reply can be read no more": lambda row: reply(row, 0, CHATTER),
    "the last reply can be read no more": lambda row: reply(row, 2, CHATTER),
    "the answer is empty now": lambda row: reply(row, 1, "<think>[1]"),
    "the verdict names what was not relevant": lambda row: reply(row, 2, "[1]"),
    "the verdict was read beyond what was relevant": lambda row: (reply(row, 2, "[1]"), useful(row, 0), useful(row, 1)),
    "it was in windows": lambda row: row["traces"][2].update(window=0),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_what_was_read_in_another_way_is_judged_again(difference):
    row, config = judged(SELECTED)
    other = copy.deepcopy(row)
    DIFFERENCES[difference](other)

    assert reads_alike(row, config)
    assert not reads_alike(other, config)


def test_an_order_that_was_read_otherwise_is_judged_again():
    row, config = judged(["[4], [2]", "Two days.", "[4] > [2]"], verdict="ranking")
    ranks = [judgment["utility_rank"] for judgment in row["judgments"]]
    for judgment, rank in zip(row["judgments"], [None, 1, None, 2], strict=True):
        judgment["utility_rank"] = rank

    assert ranks == [None, 2, None, 1]
    assert not reads_alike(row, config)


@pytest.mark.parametrize("number", [0, 2, 4])
def test_a_reply_that_was_asked_for_again_without_need_is_judged_again(number):
    row, config = judged([CHATTER, "[4]", "", "Two days.", CHATTER, "[4]"])
    reply(row, number, "[4]")

    assert not reads_alike(row, config)


@pytest.mark.parametrize("number", [0, 1])
def test_a_failure_that_could_be_read_now_is_judged_again(number):
    row, config = judged([CHATTER, CHATTER])
    reply(row, number, "[1]")

    assert not reads_alike(row, config)


def test_a_failure_after_a_round_whose_reading_is_not_stored_is_judged_again():
    row, config = judged(["[4]", "Two days.", CHATTER, CHATTER])

    assert row["status"] == "malformed"
    assert not reads_alike(row, config)


def test_a_chat_that_did_not_fit_has_the_labels_of_separate_prompts():
    # Either layout reads "[2]" of two relevant passages; it is the fourth of the pool only in a prompt of its own.
    row, config = judged(["[4], [2]", "Two days.", "[2]"], layout="separate")
    as_chat = ListwiseJudgeConfig(kind="listwise", layout="conversation")
    noted = {**row, "detail": "separate prompts: a conversation does not fit into engine.max_tokens"}

    assert reads_alike(row, config)
    assert not reads_alike(row, as_chat)
    assert reads_alike(noted, as_chat)


def test_likelihoods_have_no_reading_that_could_change():
    assert reading_version(LikelihoodJudgeConfig(kind="qa_gain", answers="pseudo")) == 1
    assert reading_version(ListwiseJudgeConfig(kind="listwise")) == LISTWISE_READING_VERSION
