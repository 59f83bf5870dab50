"""A BERT with random weights for speed measurements, and how many operations encoding with it takes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def write_encoder(directory: Path, sizes: Mapping[str, int]) -> Path:
    """A sentence-transformers directory; its tokenizer knows the words of ``synthetic_training.draw_problem``."""
    _tokenizer().save_pretrained(directory)
    torch.manual_seed(7)
    model = BertModel(BertConfig(vocab_size=30_522, **sizes), add_pooling_layer=False)
    with torch.no_grad():
        # What all texts share would make all vectors alike.
        model.embeddings.token_type_embeddings.weight.zero_()
        model.embeddings.position_embeddings.weight.mul_(0.1)
    model.save_pretrained(directory)
    _write_modules(directory, sizes["hidden_size"])
    return directory


def forward_flops(lengths: Sequence[int], sizes: Mapping[str, int]) -> float:
    """Operations of encoding texts of ``lengths`` tokens."""
    width, layers = sizes["hidden_size"], sizes["num_hidden_layers"]
    weights = layers * (4 * width * width + 2 * width * sizes["intermediate_size"])
    return 2 * weights * sum(lengths) + 4 * layers * width * sum(length * length for length in lengths)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = [*_SPECIAL.values(), *(f"w{number}" for number in range(30_000))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=256, **_SPECIAL)


def _write_modules(directory: Path, width: int) -> None:
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    listing = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(modules)
    ]
    (directory / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (directory / "modules.json").write_text(json.dumps(listing))
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 256, "do_lower_case": False}))
