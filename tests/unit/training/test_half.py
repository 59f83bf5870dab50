"""Gradients in half precision have the digits of one micro-batch, however many there are."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fakes import MeanTower
from tiny_models import tiny_encoder
from torch import nn

from winnow.modeling.adapting import adapt
from winnow.modeling.config import LoraConfig
from winnow.training.encoding import TextEncoding
from winnow.training.half import HalfWeights
from winnow.training.tokens import TOKENS, TokenStore

COUNT = 256
ADAPTED = {"projection": None, "towers": "tied", "lora": None, "gradient_checkpointing": False, "seed": 1}


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads on a busy machine wait for each other at every one of these small products."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """256 passages of the same eight tokens: their gradients are equal, which is hardest on sums in few digits."""
    directory = tmp_path_factory.mktemp("tokens")
    rows = [{"side": "passage", "id": f"d{i}", "input_ids": [2, 6, 9, 14, 7, 21, 30, 3]} for i in range(COUNT)]
    pq.write_table(pa.Table.from_pylist(rows, schema=TOKENS), directory / "part-0.parquet")
    return TokenStore(directory)


def gradient(encoder, tokens, *, precision, count=COUNT, texts_at_once=1, use_cache=False):
    """Of the mean over ``count`` texts (added up, then divided) of something that depends on every weight."""
    encoder.module.zero_grad()
    encoding = TextEncoding(
        encoder, tokens, micro_batch_tokens=8 * texts_at_once, precision=precision, use_cache=use_cache
    )
    encoded = encoding.encode("passage", [f"d{number}" for number in range(count)])
    direction_D = torch.linspace(-1, 1, encoder.dimension)
    (encoded.embeddings_ND @ direction_D).exp().sum().backward()
    encoding.backward(encoded)
    return torch.cat([p.grad.flatten() for p in encoder.module.parameters() if p.grad is not None]) / count


def error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("use_cache", [False, True])
def test_as_many_digits_are_right_after_256_micro_batches_as_after_one(tokens, precision, use_cache):
    tower = MeanTower()
    tower.module.float()
    exact = gradient(tower, tokens, precision="fp32", count=1)

    of_one = error(gradient(tower, tokens, precision=precision, count=1), exact)
    of_many = error(gradient(tower, tokens, precision=precision, use_cache=use_cache), exact)

    assert 1e-5 < of_one < 0.008
    assert of_many < 1.5 * of_one


@pytest.mark.parametrize(
    "adapted",
    [
        {"projection": 8, "towers": "untied"},
        {"lora": LoraConfig(rank=2)},
        {"gradient_checkpointing": True},
        {"lora": LoraConfig(rank=2), "gradient_checkpointing": True},
    ],
    ids=lambda adapted: " ".join(adapted),
)
def test_every_part_that_is_trained_has_its_gradient(tokens, adapted):
    encoder = tiny_encoder(architecture="bert", normalise=False)
    adapt(encoder, **{**ADAPTED, **adapted})
    exact = gradient(encoder, tokens, precision="fp32", count=16)
    trained = {name for name, p in encoder.module.named_parameters() if p.grad is not None}

    found = gradient(encoder, tokens, precision="bf16", count=16)

    assert {name for name, p in encoder.module.named_parameters() if p.grad is not None} == trained
    assert {p.grad.dtype for p in encoder.module.parameters() if p.grad is not None} == {torch.float32}
    assert error(found, exact) < 0.05


def test_weights_are_copied_once_and_the_layers_left_as_they_were(tokens, monkeypatch):
    encoder = tiny_encoder(architecture="bert")
    linear = {id(layer): layer for layer in encoder.module.modules() if isinstance(layer, nn.Linear)}
    copied = []
    in_half = HalfWeights._in_half

    def counting(self, weight):
        answer = in_half(self, weight)
        copied.append(self._copies[id(weight)])
        return answer

    monkeypatch.setattr(HalfWeights, "_in_half", counting)

    gradient(encoder, tokens, precision="bf16", count=40)

    # Ten groups of four micro-batches use the copies of 2 numbers each; all of them are held here, so ids differ.
    assert len(copied) == 10 * 2 * len(linear)
    assert len(set(map(id, copied))) == 2 * len(linear)
    assert not any("forward" in vars(layer) for layer in linear.values())


def test_a_layer_that_leaves_autocast_computes_in_full_precision():
    layer, inputs = nn.Linear(4, 3), torch.randn(2, 4)
    expected = layer(inputs)

    with torch.autocast("cpu", dtype=torch.bfloat16), HalfWeights(layer, torch.bfloat16).in_use():
        inside = layer(inputs)
        with torch.autocast("cpu", enabled=False):
            outside = layer(inputs)

    assert (inside.dtype, outside.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(outside, expected)


def test_the_next_step_computes_with_the_weights_as_they_are_then(tokens):
    encoder = tiny_encoder(architecture="bert", normalise=False)
    encoding = TextEncoding(encoder, tokens, micro_batch_tokens=8, precision="bf16")
    before = encoding.encode("passage", ["d0"]).embeddings_ND
    with torch.no_grad():
        for parameter in encoder.module.parameters():
            parameter.mul_(1.5)

    after = encoding.encode("passage", ["d0"]).embeddings_ND

    assert not torch.allclose(before, after, rtol=0.05)
