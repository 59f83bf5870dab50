"""What vLLM's answers are taken for, without vLLM."""

from types import SimpleNamespace

import pytest

from winnow.engines.prompts import ScoredPrompt
from winnow.engines.vllm_engine import likelihood_of
from winnow.errors import WinnowError


def output(*, cached):
    logprobs = [None, *({token: SimpleNamespace(logprob=-token / 10)} for token in (2, 3, 4))]
    completion = SimpleNamespace(token_ids=[9])
    return SimpleNamespace(prompt_logprobs=logprobs, num_cached_tokens=cached, outputs=[completion])


PROMPT = ScoredPrompt([1, 2, 3, 4], num_context_tokens=2)


@pytest.mark.parametrize("cached", [0, None])
def test_a_likelihood_is_the_mean_over_the_continuation(cached):
    found = likelihood_of(PROMPT, output(cached=cached), 0.5)

    assert found.mean_logprob == pytest.approx(-0.35)
    assert (found.num_continuation_tokens, found.prompt_tokens, found.cached_tokens) == (2, 4, 0)


def test_a_prompt_that_was_not_computed_whole_has_no_likelihood():
    with pytest.raises(WinnowError, match="16 tokens of a scored prompt came from the engine's prefix cache"):
        likelihood_of(PROMPT, output(cached=16), 0.5)
