"""The likelihood judge: scores, statuses, and rows that go wrong."""

import asyncio
import math

import pytest
from scripted import ScriptedEngine

from winnow.engines.protocol import EngineDeadError, Likelihood
from winnow.judging.config import LikelihoodJudgeConfig
from winnow.judging.likelihood import LikelihoodJudge
from winnow.records import Candidate, CandidatePool


def pool(query_id, query, *texts, answers=()):
    passages = tuple(Candidate(f"{query_id}-p{i}", "", text, ()) for i, text in enumerate(texts))
    return CandidatePool(query_id, query, passages, answers)


def judge(*pools, script=None, **settings):
    judging = LikelihoodJudge(ScriptedEngine(script), LikelihoodJudgeConfig(**settings), judge_id="j")

    async def all_of_them():
        return await asyncio.gather(*map(judging.judge, pools))

    return asyncio.run(all_of_them())


def scores(judged):
    return [judgment.utility_score for judgment in judged.judgments]


def test_the_score_is_the_gain_over_the_query_alone():
    # The scripted engine: shared words / words of the query - 2; the context without a passage shares none.
    (judged,) = judge(pool("q1", "how old is a file", "the age of a file is", "bread and butter"))

    assert judged.status == "ok"
    assert [judgment.passage_id for judgment in judged.judgments] == ["q1-p0", "q1-p1"]
    assert scores(judged) == pytest.approx([3 / 5, 0.0])
    assert judged.judgments[0].is_useful is None


def test_answer_gain_scores_the_answer_after_the_query_and_the_best_answer_counts():
    passages = ["made of wheat flour", "made of rye"]
    (judged,) = judge(pool("q1", "what is it?", *passages, answers=("wheat flour", "rye")), kind="answer_gain")

    # "wheat flour" shares 2 of 2 words with the first passage; "rye" shares 1 of 1 with the second.
    assert scores(judged) == pytest.approx([1.0, 1.0])


def test_answer_gain_is_not_fooled_by_words_that_the_query_holds_already():
    (judged,) = judge(pool("q1", "is rye a grain?", "about rye", answers=("rye",)), kind="answer_gain")

    assert scores(judged) == pytest.approx([0.0])


@pytest.mark.parametrize("answers", [(), ("", "  ")])
def test_answer_gain_without_an_answer_is_missing_data(answers):
    (judged,) = judge(pool("q1", "what is it?", "a passage", answers=answers), kind="answer_gain")

    assert (judged.status, judged.judgments) == ("no_answer", ())


def test_every_call_leaves_a_trace_with_its_tokens():
    (judged,) = judge(pool("q1", "how old", "one", "two words"))

    assert [(trace.round, trace.passage_id) for trace in judged.traces] == [
        ("query_gain_prior", None),
        ("query_gain", "q1-p0"),
        ("query_gain", "q1-p1"),
    ]
    assert [trace.prompt_tokens for trace in judged.traces] == [7, 9, 10]
    assert len({trace.prompt_sha for trace in judged.traces}) == 3


def test_an_empty_pool_is_a_status_and_never_reaches_the_engine():
    (judged,) = judge(pool("q1", "how old"), script={"how old": "raise"})

    assert (judged.status, judged.judgments, judged.traces) == ("empty_pool", (), ())


@pytest.mark.parametrize(
    ("reply", "status"), [("too_long", "too_long"), ("error", "engine_error"), ("raise", "engine_error")]
)
def test_a_request_that_fails_makes_its_query_missing_data_and_no_other(reply, status):
    bad, good = judge(pool("q1", "bad query", "a"), pool("q2", "good query", "a"), script={"bad": reply})

    assert (bad.status, bad.judgments) == (status, ())
    assert "scripted" in bad.detail
    assert good.status == "ok"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_probability_that_is_no_number_is_never_a_score(value, monkeypatch):
    async def overflow(self, request):
        return Likelihood(value, 1, 1, 0, 0, 0.0)

    monkeypatch.setattr(ScriptedEngine, "likelihood", overflow)
    (judged,) = judge(pool("q1", "a query", "a passage"))

    assert (judged.status, judged.judgments) == ("engine_error", ())
    assert "expected a finite one" in judged.detail


def test_a_dead_engine_is_not_the_fault_of_a_query():
    with pytest.raises(EngineDeadError):
        judge(pool("q1", "a query", "a"), script={"a query": "die"})


def test_a_long_passage_is_cut_and_counted():
    (judged,) = judge(pool("q1", "alpha omega", "alpha beta omega", "alpha"), max_passage_words=2)

    assert scores(judged) == pytest.approx([1 / 2, 1 / 2])
    assert judged.passages_cut == 1


def test_a_long_passage_without_spaces_is_cut_and_counted():
    contexts = []

    class Characters(ScriptedEngine):
        async def count_tokens(self, texts):
            return [len(text) for text in texts]

        async def likelihood(self, request):
            contexts.append(request.context)
            return await super().likelihood(request)

    judging = LikelihoodJudge(Characters(), LikelihoodJudgeConfig(max_passage_words=20), judge_id="j")
    judged = asyncio.run(judging.judge(pool("q1", "问题", "检索系统为问题找到有用的段落" * 20, "短い")))

    assert judged.status == "ok"
    assert judged.passages_cut == 1
    assert sum("检" in each for each in contexts) == 1
    assert max(each.count("检索系统") for each in contexts) == 3


PSEUDO = {"kind": "answer_gain", "answers": "pseudo"}


def test_a_pseudo_answer_is_written_from_the_best_passages_and_scored_like_a_human_one():
    passages = ["it is made of wheat flour", "made by bakers", "unlike anything"]
    said = {"Draft": "", "Answer the question": "wheat flour"}
    (judged,) = judge(pool("q1", "what is it made of", *passages), script=said, **PSEUDO)

    assert judged.pseudo_answer == "wheat flour"
    assert scores(judged) == pytest.approx([1.0, 0.0, 0.0])
    assert [trace.round for trace in judged.traces].count("pseudo_answer") == 1


def test_qa_gain_adds_the_weighted_answer_gain_to_the_query_gain():
    asked = pool("q1", "what is it", "it is wheat flour", "what", answers=("wheat flour",))
    (query,), (answer,) = judge(asked), judge(asked, kind="answer_gain")
    (both,) = judge(asked, kind="qa_gain", answer_weight=2.0)

    expected = [q + 2 * a for q, a in zip(scores(query), scores(answer), strict=True)]
    assert scores(both) == pytest.approx(expected)
    assert both.pseudo_answer is None


@pytest.mark.parametrize(
    ("settings", "limits"),
    [({}, (96, 0)), ({"max_answer_tokens": 200}, (200, 0)), ({"max_reasoning_tokens": 1000}, (96, 1000))],
)
def test_a_pseudo_answer_has_the_room_that_is_configured(settings, limits):
    asked = []

    class Listening(ScriptedEngine):
        async def chat(self, request):
            asked.append((request.max_output_tokens, request.max_reasoning_tokens))
            return await super().chat(request)

    judging = LikelihoodJudge(Listening(), LikelihoodJudgeConfig(**PSEUDO, **settings), judge_id="j")
    asyncio.run(judging.judge(pool("q1", "what is it?", "a passage")))

    assert asked == [limits]


def test_a_pseudo_answer_that_stays_empty_makes_the_query_malformed_after_a_second_try():
    (judged,) = judge(pool("q1", "what is it", "a passage"), script={"Answer": " ", "That reply": " "}, **PSEUDO)

    assert (judged.status, judged.judgments) == ("malformed", ())
    assert [trace.attempt for trace in judged.traces if trace.round == "pseudo_answer"] == [1, 2]
