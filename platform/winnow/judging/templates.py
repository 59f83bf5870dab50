"""Prompts as data: YAML files beside this module, checked when they are loaded."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import Formatter

import yaml

from winnow.config import fingerprint
from winnow.errors import ConfigError

_FOLDER = Path(__file__).parent / "prompts"
_PLACEHOLDERS = {"context": {"passage"}, "context_without_passage": set(), "continuation": {"query"}}


@dataclass(frozen=True, slots=True)
class LikelihoodTemplate:
    """The texts whose likelihood is asked for. ``name`` ends in the version."""

    name: str
    context: str
    context_without_passage: str
    continuation: str

    @property
    def digest(self) -> str:
        """Changes when a character of the prompt does."""
        return fingerprint(self.context, self.context_without_passage, self.continuation)

    def render_context(self, title: str, text: str) -> str:
        """The context that holds a passage."""
        return self.context.format(passage=f"{title}. {text}" if title else text)

    def render_continuation(self, query: str) -> str:
        """The text that is scored."""
        return self.continuation.format(query=query)


@lru_cache
def load_template(name: str, folder: Path = _FOLDER) -> LikelihoodTemplate:
    """The template called ``name``. Raises ``ConfigError`` for an unknown name and for wrong placeholders."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(found.stem for found in folder.glob("*.yaml"))
        raise ConfigError(f"there is no judge template {name!r}; expected one of {known}")
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(fields, dict) or fields.keys() != _PLACEHOLDERS.keys():
        raise ConfigError(f"template {name!r} ({path}) needs exactly the keys {sorted(_PLACEHOLDERS)}")
    for key, expected in _PLACEHOLDERS.items():
        _check_placeholders(f"template {name!r}, {key}", fields[key], expected)
    return LikelihoodTemplate(name, **fields)


def _check_placeholders(where: str, text: str, expected: set[str]) -> None:
    try:
        found = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise ConfigError(f"{where}: {error}; write {{{{ and }}}} for braces that are meant") from None
    if found != expected:
        raise ConfigError(f"{where} has the placeholders {sorted(found)}, expected {sorted(expected)}")
