"""Which prompt of a sentence-transformers directory goes before a query, and which before a passage.

Models name their prompts as they like. One that is meant is taken; where several could be, the user says which.
"""

from collections.abc import Mapping
from typing import Any

from winnow.errors import ConfigError
from winnow.modeling.config import EncoderConfig
from winnow.modeling.protocol import Side

_PLAIN: Mapping[Side, tuple[str, ...]] = {"query": ("query",), "passage": ("document", "passage", "corpus")}
_NAMES: Mapping[Side, tuple[str, ...]] = {
    "query": (*_PLAIN["query"], "search_query", "web_search_query", "retrieval.query", "retrieval_query", "s2p_query"),
    "passage": (
        *_PLAIN["passage"],
        *("search_document", "search_passage"),
        *("retrieval.passage", "retrieval.document", "retrieval_passage", "retrieval_document"),
    ),
}
"""In lower case, with `_` for a space or a dash."""


def read_prompts(config: Mapping[str, Any], overrides: EncoderConfig | None, *, where: str) -> dict[str, str]:
    """``query_prefix`` and ``passage_prefix`` by ``config`` (config_sentence_transformers.json) and ``overrides``.

    A prefix that ``overrides`` gives is left as it is. Raises ``ConfigError`` that lists the model's prompts.
    """
    prompts = {name: text or "" for name, text in (config.get("prompts") or {}).items()}
    default = config.get("default_prompt_name")
    return {f"{side}_prefix": _prefix(side, prompts, default, overrides, where=where) for side in ("query", "passage")}


def _prefix(
    side: Side, prompts: Mapping[str, str], default: str | None, overrides: EncoderConfig | None, *, where: str
) -> str:
    if overrides is not None and (given := getattr(overrides, f"{side}_prefix")) is not None:
        return given
    if overrides is not None and (named := getattr(overrides, f"{side}_prompt")) is not None:
        if named not in prompts:
            raise ConfigError(f"encoder.{side}_prompt is {named!r}, but {where} has {_listed(prompts)}")
        return prompts[named]
    by_name = {_normal(name): text for name, text in prompts.items() if text}
    # Those that sentence-transformers itself looks for, in its order.
    if plain := next((by_name[name] for name in _PLAIN[side] if name in by_name), None):
        return plain
    meant = [name for name in prompts if _normal(name) in _NAMES[side]]
    texts = {prompts[name] for name in meant if prompts[name]}
    if len(texts) == 1:
        return texts.pop()
    if len(texts) > 1:
        if default not in meant:
            raise _ambiguous(side, prompts, where)
        return prompts[default]
    if meant:
        return ""
    if default in prompts and not _is_of_a_side(default):
        return prompts[default]
    others = [name for name, text in prompts.items() if text and not _is_of_a_side(name)]
    has_sides = any(_is_of_a_side(name) for name in prompts)
    if others and not (side == "passage" and has_sides):
        raise _ambiguous(side, prompts, where)
    return ""


def _is_of_a_side(name: str) -> bool:
    return any(_normal(name) in names for names in _NAMES.values())


def _normal(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")


def _ambiguous(side: Side, prompts: Mapping[str, str], where: str) -> ConfigError:
    return ConfigError(
        f"{where} does not say which of its prompts goes before a {side}; name one as encoder.{side}_prompt, or give "
        f'the text as encoder.{side}_prefix ("" for none). It has {_listed(prompts)}'
    )


def _listed(prompts: Mapping[str, str]) -> str:
    shown = (f"{name} ({text[:50]!r})" for name, text in prompts.items())
    return ", ".join(shown) or "no prompts"
