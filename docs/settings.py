"""Every setting with its default and its help, as Markdown: `python docs/settings.py > docs/configuration.md`."""

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from winnow.config import Config
from winnow.steps.config import RunConfig

_OPENING = """# Configuration

One YAML file configures every verb. Precedence: defaults < YAML < `--set a.b=c`. An unknown key is an error.
Input paths are relative to the YAML file, `output` to the current directory. Secrets come from the environment only.
Settings marked *speed* change how fast a result comes, never what it is: changing them redoes no step.

This page is written by `python docs/settings.py`; a test holds it equal to the code.
"""


def reference() -> str:
    """The whole page."""
    return "\n".join([_OPENING, *_section("", RunConfig)]) + "\n"


def _section(path: str, config: type[Config]) -> Iterator[str]:
    title = path or "(top level)"
    yield f"## {title}\n\n{(config.__doc__ or '').strip()}\n\n| setting | default | what it does |\n|---|---|---|"
    nested = []
    for name, field in config.model_fields.items():
        nested += [(_title(path, name, inner), inner) for inner in _configs_in(field.annotation)]
        yield f"| `{name}` | {_default(field)} | {_help(field)} |"
    yield ""
    for inner_path, inner in nested:
        yield from _section(inner_path, inner)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, Config):
        return "see below"
    if isinstance(field.default, tuple) and any(isinstance(value, Config) for value in field.default):
        return ", ".join(f"`{{kind: {value.kind}}}`" for value in field.default)
    value = field.default
    return f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"


def _help(field: FieldInfo) -> str:
    speed = "*speed* " if field.json_schema_extra else ""
    text = " ".join((field.description or "").split()).replace("|", "\\|").replace("``", "`")
    return f"{speed}{text}"


def _title(path: str, name: str, config: type[Config]) -> str:
    """The dotted name of a section; of one that comes in kinds, with its kinds."""
    kind = config.model_fields.get("kind")
    kinds = typing.get_args(kind.annotation) if kind is not None else ()
    return f"{path}.{name}".lstrip(".") + (f", kind {' or '.join(f'`{each}`' for each in kinds)}" if kinds else "")


def _configs_in(annotation: Any) -> list[type[Config]]:
    """The configuration classes inside ``X``, ``X | Y``, ``X | None``, ``Annotated[X, ...]`` or ``tuple[X, ...]``."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, Config) else []
    return [found for inner in typing.get_args(annotation) for found in _configs_in(inner)]


if __name__ == "__main__":
    print(reference(), end="")
