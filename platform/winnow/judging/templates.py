"""Prompts as data: YAML files beside this module, checked when they are loaded.

What is put into them, a query, a title, a text or an answer, stays text: it begins no turn and ends none.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import Formatter
from typing import Any, Literal

import yaml

from winnow.config import fingerprint
from winnow.engines.markers import MARKERS, defuse
from winnow.errors import ConfigError

Layout = Literal["separate", "conversation"]
Round = Literal["relevance_selection", "pseudo_answer", "utility_selection", "utility_ranking"]
ReplyForm = Literal["selection", "ranking", "answer"]
Problem = Literal["malformed", "truncated"]

_FOLDER = Path(__file__).parent / "prompts"
_Placeholders = Mapping[str, set[str]]
# Also in other scripts' digits and brackets, and as papers refer to others: with dashes and unseen spaces.
_UNSEEN = r"\s\u200b-\u200d\u2060\ufeff"
_NUMBERS = re.compile(rf"[\[［【]([{_UNSEEN}]*\d[\d{_UNSEEN},;，、；\u2010-\u2015-]*)[\]］】]")

_SCORING: Mapping[Literal["query", "answer"], _Placeholders] = {
    "query": {"context": {"passage"}, "context_without_passage": set(), "continuation": {"query"}},
    "answer": {"context": {"passage", "query"}, "context_without_passage": {"query"}, "continuation": {"answer"}},
}
_LISTWISE: _Placeholders = {
    "system": set(),
    "passage": {"label", "title", "text"},
    "passage_without_title": {"label", "text"},
    "separate.relevance_selection": {"query", "passages"},
    "separate.pseudo_answer": {"query", "passages"},
    "separate.utility_selection": {"query", "answer", "passages"},
    "separate.utility_ranking": {"query", "answer", "passages"},
    "conversation.relevance_selection": {"query", "passages"},
    "conversation.pseudo_answer": set(),
    "conversation.utility_selection": set(),
    "conversation.utility_ranking": set(),
    "again.malformed": set(),
    "again.truncated": set(),
    "again.selection": set(),
    "again.ranking": set(),
    "again.answer": set(),
}


@dataclass(frozen=True, slots=True)
class LikelihoodTemplate:
    """The texts whose likelihood is asked for. ``name`` ends in the version; ``scores`` says what is scored."""

    name: str
    scores: Literal["query", "answer"]
    context: str
    context_without_passage: str
    continuation: str

    @property
    def digest(self) -> str:
        """Changes when a character of the prompt does."""
        return fingerprint(self.context, self.context_without_passage, self.continuation, MARKERS)

    def render_context(self, title: str, text: str, query: str) -> str:
        """The context that holds a passage; ``query`` is in it where the answer is scored."""
        passage = f"{title}. {text}" if title else text
        return self.context.format(passage=defuse(passage), query=defuse(query))

    def render_without_passage(self, query: str) -> str:
        """The same context without a passage."""
        return self.context_without_passage.format(query=defuse(query))

    def render_continuation(self, query: str, answer: str = "") -> str:
        """The text that is scored: the query or the answer."""
        return self.continuation.format(query=defuse(query), answer=defuse(answer))


@dataclass(frozen=True, slots=True)
class ListwiseTemplate:
    """The prompts of the listwise judge; ``texts`` by dotted key. ``name`` ends in the version.

    Numbers in square brackets are labels of passages and nothing else: in titles, texts, queries and answers they
    stand in round ones.
    """

    name: str
    texts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Changes when a character of a prompt does."""
        return fingerprint(self.texts, MARKERS, _NUMBERS.pattern)

    @property
    def system(self) -> str:
        """What comes before every round."""
        return self.texts["system"].format()

    def render_passage(self, label: int, title: str, text: str) -> str:
        """One passage under its number."""
        key = "passage" if title else "passage_without_title"
        return self.texts[key].format(label=label, title=_without_labels(title), text=_without_labels(text))

    def render_passages(self, passages: Iterable[tuple[str, str]]) -> str:
        """Titles and texts, numbered from 1."""
        return "\n\n".join(self.render_passage(label, *passage) for label, passage in enumerate(passages, start=1))

    def render_round(self, layout: Layout, round: Round, *, query: str, passages: str = "", answer: str = "") -> str:
        """The user's turn of a round. What its layout does not repeat is left out; ``passages`` are rendered ones."""
        shown = {"query": _without_labels(query), "answer": _without_labels(answer)}
        return self.texts[f"{layout}.{round}"].format(passages=passages, **shown)

    def render_again(self, problem: Problem, form: ReplyForm) -> str:
        """The stricter instruction after a reply that was no use."""
        return f"{self.texts[f'again.{problem}'].format()} {self.texts[f'again.{form}'].format()}"


def _without_labels(text: str) -> str:
    """``text`` without what could pass for the label of a passage, or for markup.

    >>> _without_labels("as [3, 4] show, rows[0] <|im_end|>")
    'as (3, 4) show, rows(0) < |im_end|>'
    """
    return _NUMBERS.sub(r"(\1)", defuse(text))


@lru_cache
def load_template(name: str, folder: Path = _FOLDER) -> LikelihoodTemplate:
    """The likelihood template called ``name``. Raises ``ConfigError`` for an unknown name and wrong placeholders."""
    texts = _load_texts(name, folder, keys=_SCORING["query"])
    found = {key: _placeholders(f"template {name!r}, {key}", text) for key, text in texts.items()}
    # The form that most keys agree with: a typo in one of them is measured against that form.
    scores = max(_SCORING, key=lambda form: sum(found[key] == names for key, names in _SCORING[form].items()))
    _check_placeholders(name, found, _SCORING[scores])
    return LikelihoodTemplate(name, scores, **texts)


@lru_cache
def load_listwise_template(name: str, folder: Path = _FOLDER) -> ListwiseTemplate:
    """The listwise template called ``name``. Raises ``ConfigError`` for an unknown name and wrong placeholders."""
    texts = _load_texts(name, folder, keys=_LISTWISE)
    found = {key: _placeholders(f"template {name!r}, {key}", text) for key, text in texts.items()}
    _check_placeholders(name, found, _LISTWISE)
    return ListwiseTemplate(name, texts)


def _load_texts(name: str, folder: Path, *, keys: Iterable[str]) -> dict[str, str]:
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(found.stem for found in folder.glob("*.yaml"))
        raise ConfigError(f"there is no judge template {name!r}; expected one of {known}")
    texts = dict(_flatten(yaml.safe_load(path.read_text(encoding="utf-8"))))
    if texts.keys() != set(keys):
        missing, unknown = sorted(set(keys) - texts.keys()), sorted(texts.keys() - set(keys))
        raise ConfigError(
            f"template {name!r} ({path}) needs exactly the keys {sorted(keys)}; missing {missing}, unknown {unknown}"
        )
    for key, text in texts.items():
        if not isinstance(text, str):
            raise ConfigError(f"template {name!r}, {key} holds {text!r}, expected a text; put it in quotes")
    return texts


def _flatten(fields: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Dotted keys with their values; nothing for what is no mapping."""
    for key, value in fields.items() if isinstance(fields, dict) else ():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _placeholders(where: str, text: str) -> set[str]:
    """Placeholders as they are written, without braces; one with a format or conversion is none of ours."""
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}; write {{{{ and }}}} for braces that are meant") from None
    return {
        name + (f"!{conversion}" if conversion else "") + (f":{format_spec}" if format_spec else "")
        for _, name, format_spec, conversion in parsed
        if name is not None
    }


def _check_placeholders(name: str, found: _Placeholders, expected: _Placeholders) -> None:
    for key, names in expected.items():
        if found[key] != names:
            raise ConfigError(
                f"template {name!r}, {key} has the placeholders {sorted(found[key])}, expected {sorted(names)}"
            )
