"""What must be equal whenever a text is encoded: pooling, normalisation, prefixes, lengths.

The contract travels with the weights, in the files of a sentence-transformers directory
(``modules.json``, ``1_Pooling/config.json``, ``sentence_bert_config.json``,
``config_sentence_transformers.json``), so training, encoding, serving and other libraries read the same one.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from winnow.errors import ConfigError
from winnow.files import read_json, write_json
from winnow.modeling.config import EncoderConfig, Pooling

_POOLING_NAMES: dict[Pooling, str] = {"cls": "cls", "mean": "mean", "last": "lasttoken"}
_POOLING_FLAGS: dict[Pooling, str] = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "last": "pooling_mode_lasttoken",
}
_PASSAGE_PROMPTS = ("document", "passage", "corpus")
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
    found = {**_read_modules(directory), **_read_prompts(directory), **_read_lengths(directory)}
    for name in (field.name for field in fields(Contract)):
        given = None if overrides is None else getattr(overrides, name)
        found[name] = found[name] if given is None else given
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise ConfigError(f"{directory} does not say its {', '.join(missing)}; set them under `encoder:`")
    return Contract(**found)


def write_contract(directory: Path, contract: Contract, *, dimension: int) -> None:
    """Write ``contract`` as the configuration files of a sentence-transformers directory."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    kept = modules if contract.normalise else modules[:2]
    listing = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{name}"}
        for index, (path, name) in enumerate(kept)
    ]
    flags = {flag: mode == contract.pooling for mode, flag in _POOLING_FLAGS.items()}
    prompts = {"query": contract.query_prefix, "document": contract.passage_prefix}
    similarity = "cosine" if contract.normalise else "dot"
    write_json(directory / "modules.json", listing)
    write_json(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": dimension, **flags})
    write_json(directory / "sentence_bert_config.json", _lengths_as_json(contract))
    write_json(
        directory / "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": similarity},
    )


def transformer_directory(directory: Path) -> Path:
    """Where the weights and the tokenizer lie: ``directory``, or a folder in it that ``modules.json`` names."""
    for module in _optional_json(directory / "modules.json") or []:
        if _kind(module) == "Transformer":
            return directory / module["path"]
    return directory


def _read_modules(directory: Path) -> dict[str, Any]:
    modules = _optional_json(directory / "modules.json")
    if modules is None:
        return {"pooling": None, "normalise": None}
    kinds = [_kind(module) for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ConfigError(
            f"{directory / 'modules.json'} lists {kinds}; "
            f"expected a Transformer, a Pooling and perhaps a Normalize module"
        )
    pooling = _read_pooling(directory / modules[1]["path"] / "config.json")
    return {"pooling": pooling, "normalise": kinds[-1] == "Normalize"}


def _read_pooling(path: Path) -> Pooling:
    config = _optional_json(path) or {}
    named = config.get("pooling_mode")
    switched_on = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    for mode in _POOLING_NAMES:
        if named == _POOLING_NAMES[mode] or (named is None and switched_on == [_POOLING_FLAGS[mode]]):
            return mode
    raise ConfigError(f"{path} asks for pooling {named or switched_on}; expected one of cls, mean, last token")


def _read_prompts(directory: Path) -> dict[str, str]:
    prompts = (_optional_json(directory / "config_sentence_transformers.json") or {}).get("prompts") or {}
    passage = next((prompts[name] for name in _PASSAGE_PROMPTS if prompts.get(name)), "")
    return {"query_prefix": prompts.get("query") or "", "passage_prefix": passage}


def _read_lengths(directory: Path) -> dict[str, int | None]:
    inner = transformer_directory(directory)
    sentence = _optional_json(inner / "sentence_bert_config.json") or {}
    if sentence.get("do_lower_case"):
        raise ConfigError(
            f"{inner}/sentence_bert_config.json asks for do_lower_case; use a tokenizer that lowers itself"
        )
    limits = [
        (_optional_json(inner / "tokenizer_config.json") or {}).get("model_max_length"),
        (_optional_json(inner / "config.json") or {}).get("max_position_embeddings"),
    ]
    known = [int(limit) for limit in limits if limit is not None and limit < _UNLIMITED]
    longest = sentence.get("max_seq_length") or min(known, default=None)
    return {
        "query_max_tokens": sentence.get("query_length") or longest,
        "passage_max_tokens": sentence.get("document_length") or longest,
    }


def _lengths_as_json(contract: Contract) -> dict[str, Any]:
    query, passage = contract.query_max_tokens, contract.passage_max_tokens
    # Older sentence-transformers know one length only, so the two are written only where they differ.
    per_side = {} if query == passage else {"query_length": query, "document_length": passage}
    return {"max_seq_length": max(query, passage), "do_lower_case": False, **per_side}


def _kind(module: dict[str, Any]) -> str:
    return module["type"].rsplit(".", 1)[-1]


def _optional_json(path: Path) -> Any:
    return read_json(path) if path.exists() else None
