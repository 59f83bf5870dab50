"""What must be equal whenever a text is encoded: pooling, normalisation, prefixes, lengths.

The contract travels with the weights, in the files of a sentence-transformers directory
(``modules.json``, ``1_Pooling/config.json``, ``sentence_bert_config.json``,
``config_sentence_transformers.json``), so training, encoding, serving and other libraries read the same one.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from winnow.errors import ConfigError
from winnow.files import write_json
from winnow.modeling.config import EncoderConfig, Pooling
from winnow.modeling.layout import Layout, optional_json, read_layout
from winnow.modeling.positions import most_tokens
from winnow.modeling.prompts import read_prompts

_POOLING_NAMES: dict[Pooling, str] = {"cls": "cls", "mean": "mean", "last": "lasttoken"}
_POOLING_FLAGS: dict[Pooling, str] = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "last": "pooling_mode_lasttoken",
}
_UNLIMITED = 1_000_000
"""Tokenizers without a limit say 1e30."""


@dataclass(frozen=True, slots=True)
class Contract:
    """How texts become vectors, apart from weights and tokenizer."""

    pooling: Pooling
    normalise: bool
    query_prefix: str
    passage_prefix: str
    query_max_tokens: int
    passage_max_tokens: int


def read_contract(directory: Path, overrides: EncoderConfig | None = None) -> Contract:
    """The contract in ``directory``, with the settings that ``overrides`` gives. Raises ``ConfigError``."""
    layout = read_layout(directory)
    found = {
        "pooling": None if layout.pooling is None else _read_pooling(layout.pooling / "config.json"),
        "normalise": layout.is_normalised,
        **_read_prompts(directory, overrides),
        "query_max_tokens": _read_length(layout.query, "query_length"),
        "passage_max_tokens": _read_length(layout.passage, "document_length"),
    }
    held = {"query_max_tokens": _positions(layout.query), "passage_max_tokens": _positions(layout.passage)}
    for name in (field.name for field in fields(Contract)):
        given = None if overrides is None else getattr(overrides, name)
        found[name] = found[name] if given is None else given
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise ConfigError(f"{directory} does not say its {', '.join(missing)}; set them under `encoder:`")
    for name, most in held.items():
        if most is not None and found[name] > most:
            raise ConfigError(f"encoder.{name} is {found[name]}, but {directory} has positions for {most} tokens")
    return Contract(**found)


def write_contract(layout: Layout, contract: Contract, *, hidden_size: int) -> None:
    """Write ``contract`` into the folders of ``layout``; ``hidden_size`` is the dimension of a token's vector."""
    assert layout.pooling is not None
    assert layout.is_normalised == contract.normalise
    flags = {flag: mode == contract.pooling for mode, flag in _POOLING_FLAGS.items()}
    write_json(layout.pooling / "config.json", {"word_embedding_dimension": hidden_size, **flags})
    for folder, lengths in _lengths_as_json(layout, contract).items():
        write_json(folder / "sentence_bert_config.json", {**lengths, "do_lower_case": False})
    prompts = {"query": contract.query_prefix, "document": contract.passage_prefix}
    similarity = "cosine" if contract.normalise else "dot"
    write_json(
        layout.root / "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": similarity},
    )


def _read_pooling(path: Path) -> Pooling:
    config = optional_json(path) or {}
    if config.get("include_prompt") is False:
        raise ConfigError(f"{path} leaves the prompt out of the pooling; expected include_prompt: true")
    named = config.get("pooling_mode")
    switched_on = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    for mode in _POOLING_NAMES:
        if named == _POOLING_NAMES[mode] or (named is None and switched_on == [_POOLING_FLAGS[mode]]):
            return mode
    raise ConfigError(f"{path} asks for pooling {named or switched_on}; expected one of cls, mean, last token")


def _read_prompts(directory: Path, overrides: EncoderConfig | None) -> dict[str, str]:
    path = directory / "config_sentence_transformers.json"
    return read_prompts(optional_json(path) or {}, overrides, where=str(path))


def _positions(folder: Path) -> int | None:
    return most_tokens(optional_json(folder / "config.json") or {})


def _read_length(folder: Path, key_of_side: str) -> int | None:
    sentence = optional_json(folder / "sentence_bert_config.json") or {}
    if sentence.get("do_lower_case"):
        raise ConfigError(
            f"{folder}/sentence_bert_config.json asks for do_lower_case; use a tokenizer that lowers itself"
        )
    limits = [
        (optional_json(folder / "tokenizer_config.json") or {}).get("model_max_length"),
        (optional_json(folder / "config.json") or {}).get("max_position_embeddings"),
    ]
    known = [int(limit) for limit in limits if limit is not None and limit < _UNLIMITED]
    said = sentence.get(key_of_side) or sentence.get("max_seq_length") or min(known, default=None)
    held = _positions(folder)
    # Some directories state the size of the table, of which the first places are not used.
    return said if said is None or held is None else min(said, held)


def _lengths_as_json(layout: Layout, contract: Contract) -> dict[Path, dict[str, Any]]:
    query, passage = contract.query_max_tokens, contract.passage_max_tokens
    if layout.is_untied:
        return {layout.query: {"max_seq_length": query}, layout.passage: {"max_seq_length": passage}}
    # Older sentence-transformers know one length only, so the two are written only where they differ.
    per_side = {} if query == passage else {"query_length": query, "document_length": passage}
    return {layout.query: {"max_seq_length": max(query, passage), **per_side}}
