"""Scoring and writing with a causal model of random weights, against plain calls of the same model."""

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from winnow.engines.prompts import ScoredPrompt
from winnow.engines.protocol import ChatRequest, Message
from winnow.engines.transformers_engine import ToWrite, score, take_batch, write

VOCABULARY = 40


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=2, eos_token_id=5, **sizes)
    return LlamaForCausalLM(config).eval()


def prompt(length, num_context, *, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return ScoredPrompt(torch.randint(0, VOCABULARY, (length,), generator=draws).tolist(), num_context)


def spelled_out(model, one):
    """Token by token: the probability of the next token after what stands before it."""
    total = 0.0
    for position in range(one.num_context_tokens, len(one.token_ids)):
        logits = model(torch.tensor([one.token_ids[:position]])).logits[0, -1]
        total += math.log(torch.softmax(logits.double(), dim=0)[one.token_ids[position]].item())
    return total / one.num_continuation_tokens


def test_a_score_is_the_mean_log_probability_of_the_continuation(model):
    prompts = [prompt(9, 5, seed=1), prompt(4, 1, seed=2), prompt(12, 11, seed=3)]

    scores = score(model, prompts)

    assert scores == pytest.approx([spelled_out(model, one) for one in prompts], abs=1e-5)


def test_a_score_does_not_depend_on_its_neighbours(model):
    alone = score(model, [prompt(4, 2)])
    together = score(model, [prompt(30, 4, seed=9), prompt(4, 2)])

    assert together[1] == pytest.approx(alone[0], abs=1e-5)


def test_the_vocabulary_head_sees_the_scored_positions_only_and_is_left_as_it_was(model):
    seen = []
    watch = model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    score(model, [prompt(9, 5), prompt(4, 1)])
    model(torch.tensor([[1, 2, 3]]))
    watch.remove()

    assert seen == [(4 + 3, VOCABULARY), (1, 3, VOCABULARY)]


def test_a_batch_is_the_longest_prompts_that_fit_with_their_padding():
    waiting = {key: prompt(length, 1) for key, length in enumerate([10, 50, 20, 48, 40])}

    assert take_batch(waiting, 150) == [1, 3, 4]
    assert take_batch(waiting, 149) == [1, 3]
    assert take_batch(waiting, 16) == [1]


def chat(**settings):
    return ToWrite([1, 2, 3], ChatRequest((Message("user", "as tokens"),), **settings))


def test_a_greedy_reply_is_the_likeliest_token_each_time(model):
    reply = write(model, chat(max_output_tokens=6))

    expected = [1, 2, 3]
    for _ in reply.token_ids:
        expected.append(model(torch.tensor([expected])).logits[0, -1].argmax().item())
    assert reply.token_ids == expected[3:]


def test_a_drawn_reply_depends_on_its_seed_and_leaves_other_draws_alone(model):
    torch.manual_seed(7)
    untouched = torch.rand(3).tolist()
    torch.manual_seed(7)
    replies = [write(model, chat(max_output_tokens=12, temperature=2.0, seed=seed)) for seed in (1, 1, 2)]

    assert replies[0] == replies[1] != replies[2]
    assert torch.rand(3).tolist() == untouched


def test_a_reply_that_was_cut_is_not_finished_and_one_that_ends_is(model):
    whole = write(model, chat(max_output_tokens=400, temperature=3.0, seed=2))
    cut = write(model, chat(max_output_tokens=len(whole.token_ids) - 1, temperature=3.0, seed=2))

    assert (whole.is_finished, whole.token_ids[-1]) == (True, 5)
    assert (cut.is_finished, cut.token_ids) == (False, whole.token_ids[:-1])
