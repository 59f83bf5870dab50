"""The likelihood judge: scores, statuses, and rows that go wrong."""

import pytest
from scripted import ScriptedEngine

from winnow.judging.config import LikelihoodJudgeConfig
from winnow.judging.likelihood import LikelihoodJudge, cut_words, is_cut
from winnow.records import Candidate, CandidatePool


def pool(query_id, query, *texts):
    passages = tuple(Candidate(f"{query_id}-p{i}", "", text, ()) for i, text in enumerate(texts))
    return CandidatePool(query_id, query, passages)


def judge(*pools, script=None, **settings):
    config = LikelihoodJudgeConfig(**settings)
    return LikelihoodJudge(ScriptedEngine(script), config, judge_id="j").judge(pools)


def test_the_score_is_the_gain_over_the_query_alone():
    # The scripted engine: shared words / words of the query - 2; the context without a passage shares none.
    (judged,) = judge(pool("q1", "how old is a file", "the age of a file is", "bread and butter"))

    assert judged.status == "ok"
    assert [judgment.passage_id for judgment in judged.judgments] == ["q1-p0", "q1-p1"]
    assert [judgment.utility_score for judgment in judged.judgments] == pytest.approx([3 / 5, 0.0])
    assert judged.judgments[0].is_useful is None


def test_every_call_leaves_a_trace_with_its_tokens():
    (judged,) = judge(pool("q1", "how old", "one", "two words"))

    assert [(trace.round, trace.passage_id) for trace in judged.traces] == [
        ("query_prior", None),
        ("query_gain", "q1-p0"),
        ("query_gain", "q1-p1"),
    ]
    assert [trace.prompt_tokens for trace in judged.traces] == [7, 9, 10]
    assert len({trace.prompt_sha for trace in judged.traces}) == 3


def test_an_empty_pool_is_a_status_and_never_reaches_the_engine():
    (judged,) = judge(pool("q1", "how old"), script={"how old": "raise"})

    assert (judged.status, judged.judgments, judged.traces) == ("empty_pool", (), ())


@pytest.mark.parametrize(("reply", "status"), [("too_long", "too_long"), ("error", "engine_error")])
def test_a_request_that_fails_makes_its_query_missing_data(reply, status):
    bad, good = judge(pool("q1", "bad query", "a"), pool("q2", "good query", "a"), script={"bad": reply})

    assert (bad.status, bad.judgments) == (status, ())
    assert "scripted" in bad.detail
    assert good.status == "ok"


def test_one_poisonous_query_costs_no_other_query_its_label():
    pools = [pool(f"q{i}", "poison" if i == 2 else "harmless", "a passage") for i in range(4)]

    judged = judge(*pools, script={"poison": "raise"})

    assert [one.status for one in judged] == ["ok", "ok", "engine_error", "ok"]
    assert judged[2].detail == "RuntimeError: the scripted engine was told to fail"


def test_equal_pools_give_equal_judgments_whatever_they_are_judged_with():
    first, second = pool("q1", "how old is it", "it is old", "new"), pool("q2", "why", "because")

    alone = judge(first)
    together = judge(second, first)

    assert alone[0] == together[1]


def test_long_passages_are_cut_at_a_word_and_their_spacing_kept():
    assert cut_words("one\n  two three", 2) == "one\n  two"
    assert cut_words("one two ", 2) == "one two "
    assert not is_cut("one two ", 2)
    assert is_cut("one two three", 2)


def test_words_after_the_cut_do_not_count():
    (judged,) = judge(pool("q1", "file", "a long way to the file", "file"), max_passage_words=3)

    assert [judgment.utility_score for judgment in judged.judgments] == [0.0, 1.0]
