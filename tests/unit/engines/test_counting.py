"""The counting engine: what it counts, what its cache finds, and what it says."""

import asyncio
import re

import pytest

from winnow.engines.config import ServerConfig
from winnow.engines.counting import CountingEngine, counting_engine
from winnow.engines.protocol import ChatRequest, LikelihoodRequest, Message
from winnow.judging.config import ListwiseJudgeConfig
from winnow.judging.listwise import ListwiseJudge
from winnow.records import Candidate, CandidatePool

ASKS_LABELS = "Name them, like this: [3], [7]. If there is none, write: [none]"
ASKS_RANKING = "Order them, like this: [4] > [2]. If there is none, write: [none]"


def make_engine(*, max_tokens=10_000, **settings):
    """Counts words; the messages are joined by line ends alone."""
    return CountingEngine(
        str.split, max_tokens=max_tokens, render_chat=lambda turns: "\n".join(t.content for t in turns), **settings
    )


def chat(engine, *contents):
    """The reply when user and assistant took turns."""
    turns = [Message(("user", "assistant")[n % 2], content) for n, content in enumerate(contents)]
    return asyncio.run(engine.chat(ChatRequest(tuple(turns), max_output_tokens=10)))


def test_cached_tokens_are_whole_blocks_that_an_earlier_prompt_started_with():
    engine = make_engine(block_tokens=4)

    replies = [chat(engine, prompt) for prompt in ("a b c d e f g h i", "a b c d e f X h", "b c d e", "a b c d")]

    assert [(reply.prompt_tokens, reply.cached_tokens) for reply in replies] == [(9, 0), (8, 4), (4, 0), (4, 0)]


def test_the_last_token_of_a_prompt_is_always_computed():
    engine = make_engine(block_tokens=4)

    replies = [chat(engine, "a b c d e f g h") for _ in range(2)]

    assert [reply.cached_tokens for reply in replies] == [0, 4]


def test_an_equal_block_after_another_beginning_is_no_hit():
    engine = make_engine(block_tokens=2)
    chat(engine, "a b c d e")

    assert chat(engine, "x y c d e").cached_tokens == 0


@pytest.mark.parametrize(("num_shown", "num_kept"), [(1, 1), (3, 1), (10, 2), (31, 6)])
def test_a_share_of_the_labels_is_selected_at_least_one(num_shown, num_kept):
    passages = "\n\n".join(f"[{label}] title\ntext with [99]\n[77] in it" for label in range(1, num_shown + 1))

    labels = [int(label) for label in re.findall(r"\d+", chat(make_engine(), f"{passages}\n\n{ASKS_LABELS}").text)]

    assert len(set(labels)) == num_kept
    assert set(labels) <= set(range(1, num_shown + 1))


def test_what_is_selected_depends_on_the_prompt_alone_and_lies_anywhere():
    def selected(query):
        passages = "\n\n".join(f"[{label}] text" for label in range(1, 6))
        return chat(make_engine(), f"{query}\n\n{passages}\n\n{ASKS_LABELS}").text

    queries = [f"query {number}" for number in range(50)]

    assert {selected(query) for query in queries} == {"[1]", "[2]", "[3]", "[4]", "[5]"}
    assert [selected(query) for query in queries] == [selected(query) for query in reversed(queries)][::-1]


def test_in_a_chat_the_labels_of_the_last_selection_count_and_a_ranking_names_them_all():
    engine = make_engine()
    turns = ("[1] a\n\n[2] b\n\n[3] c\n\nwhich?", "[3], [1]", "now answer", "An answer [sic].")

    assert chat(engine, *turns, ASKS_RANKING).text == "[3] > [1]"
    assert chat(engine, *turns, ASKS_LABELS).text in ("[1]", "[3]")
    assert chat(engine, *turns, "What else?").text.count(".") == 2


def test_what_does_not_fit_is_refused_as_by_a_real_engine():
    engine = make_engine(max_tokens=14)

    assert chat(engine, "a b c d").finish_reason == "stop"
    assert chat(engine, "a b c d e").finish_reason == "too_long"
    short, long = (asyncio.run(engine.likelihood(LikelihoodRequest("a b c", "d " * count))) for count in (10, 11))
    assert (short.mean_logprob, short.prompt_tokens, short.num_continuation_tokens) == (0.0, 13, 10)
    assert long.finish_reason == "too_long"


def test_a_served_model_is_estimated_at_a_token_for_three_characters(tmp_path):
    config = ServerConfig(kind="server", model="m", base_url="http://127.0.0.1:1/v1")
    engine = counting_engine(config, tmp_path)

    assert asyncio.run(engine.count_tokens(["", "abc", "abcd"])) == [0, 1, 2]
    assert engine.max_tokens == config.max_tokens


@pytest.mark.parametrize("layout", ["conversation", "separate"])
@pytest.mark.parametrize("verdict", ["selection", "ranking"])
def test_its_replies_carry_a_listwise_judge_through_all_rounds(layout, verdict):
    passages = tuple(Candidate(str(n), "title", f"text {n}\n\n[{n}] note", ()) for n in range(1, 21))
    config = ListwiseJudgeConfig(kind="listwise", layout=layout, verdict=verdict)
    engine = CountingEngine(str.split, max_tokens=10_000)

    judged = asyncio.run(ListwiseJudge(engine, config, judge_id="j").judge(CandidatePool("q", "why?", passages)))

    assert judged.status == "ok"
    assert sum(judgment.is_relevant for judgment in judged.judgments) == 4
    num_ranked = sum(judgment.utility_rank is not None for judgment in judged.judgments)
    assert num_ranked == (4 if verdict == "ranking" else 0)
    last = judged.traces[-1]
    assert (last.cached_tokens > last.prompt_tokens / 2) == (layout == "conversation")


def test_a_model_that_may_think_is_taken_to_use_all_of_its_room_and_needs_it():
    engine = CountingEngine(list, max_tokens=1000)

    def ask(max_reasoning_tokens):
        request = ChatRequest((Message("user", "why?"),), 100, max_reasoning_tokens=max_reasoning_tokens)
        return asyncio.run(engine.chat(request))

    assert ask(500).output_tokens == ask(0).output_tokens + 500
    assert (ask(0).finish_reason, ask(900).finish_reason) == ("stop", "too_long")
