"""Typed configuration: one frozen class per component, read from YAML and ``--set a.b=c``.

Precedence: defaults < YAML < overrides. Unknown keys are errors. Input paths are relative to
the YAML file; a knob that changes speed but not results is declared with ``speed_knob`` and
stays out of the fingerprint, and so do paths, whose content is hashed instead.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from winnow.errors import ConfigError

_SPEED_ONLY = {"changes_only_speed": True}
# One slash is enough: that is what is left of "s3://bucket" once it is a Path.
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=:/)/?[^/@\s]*@")

ConfigT = TypeVar("ConfigT", bound="Config")


class Config(BaseModel):
    """Base of every configuration class: frozen, strict about keys, documented by its docstrings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    def science(self) -> dict[str, Any]:
        """The settings that can change a result, as plain JSON values."""
        return {
            name: _science(value)
            for name, value in self
            if type(self).model_fields[name].json_schema_extra != _SPEED_ONLY and not isinstance(value, Path)
        }

    @field_validator("*", mode="after")
    @classmethod
    def _paths_are_no_urls(cls, value: Any) -> Any:
        if isinstance(value, Path):
            refuse_url(value)
        return value


def speed_knob(default: Any = ..., **constraints: Any) -> Any:
    """A field that changes how fast a result comes, never what it is."""
    return Field(default, json_schema_extra=_SPEED_ONLY, **constraints)


def refuse_url(path: str | Path) -> None:
    """Raises ``ValueError`` for a URL, which ``Path`` would take for a folder called ``s3:``."""
    if found := _URL.match(str(path)):
        raise ValueError(
            f"expected a path, got a URL ({found[1]}:); mount or copy what is there to a disk that every machine "
            f"sees and give its path; only train.storage takes URLs"
        )


def _resolve(path: Path, info: ValidationInfo) -> Path:
    refuse_url(path)  # joined to its base it would look like a path
    base = (info.context or {}).get("base")
    return path.expanduser() if base is None else Path(base) / path.expanduser()


InputPath = Annotated[Path, AfterValidator(_resolve)]
"""A path relative to the YAML file that names it. Steps hash what it points to."""


def load_config(config_class: type[ConfigT], path: Path, overrides: Iterable[str] = ()) -> ConfigT:
    """The configuration in ``path`` with ``a.b=c`` overrides applied. Raises ``ConfigError``."""
    settings = _read_yaml(path)
    for override in overrides:
        _apply(settings, override)
    return build_config(config_class, settings, base=path.resolve().parent)


def build_config(config_class: type[ConfigT], settings: Mapping[str, Any], *, base: Path | None = None) -> ConfigT:
    """``settings`` checked against ``config_class``; relative input paths are taken from ``base``."""
    try:
        return config_class.model_validate(dict(settings), context={"base": base})
    except ValidationError as error:
        raise ConfigError(_explain(error, config_class)) from None


def fingerprint(*parts: Any) -> str:
    """16 hexadecimal digits that change when any of the JSON-like ``parts`` does."""
    payload = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(payload.encode()).hexdigest()[:16]


class _UniqueKeysLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in a section: PyYAML would keep the second and drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if first := lines.get(key.value):
                    raise yaml.YAMLError(
                        f"{key.value!r} stands twice in one section, in line {first} and in line {line}; merge the two"
                    )
                lines[key.value] = line
        return super().construct_mapping(node, deep=deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeysLoader)
    except FileNotFoundError:
        raise ConfigError(f"no configuration file at {str(path)!r}; give one with --config") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} holds {type(settings).__name__}, expected a mapping of settings")
    return settings


def _apply(settings: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    *parents, last = key.strip().split(".")
    if not separator or not last:
        raise ConfigError(f"--set {override!r} is not of the form a.b=c")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is a value here, not a section")
    try:
        settings[last] = yaml.load(text, _UniqueKeysLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: {text!r} is not a YAML value ({error})") from None


def _explain(error: ValidationError, config_class: type[Config]) -> str:
    lines = [f"{config_class.__name__}: {error.error_count()} setting(s) cannot be used"]
    for problem in error.errors(include_url=False):
        where = ".".join(map(str, problem["loc"])) or "(whole)"
        # A whole section says nothing about what is wrong with it.
        is_shown = problem["type"] != "missing" and not isinstance(problem["input"], Mapping)
        given = f", got {_CREDENTIALS.sub('/', str(problem['input']))[:80]!r}" if is_shown else ""
        lines.append(f"  {where}: {problem['msg']}{given}")
    return "\n".join(lines)


def _science(value: Any) -> Any:
    if isinstance(value, Config):
        return value.science()
    if isinstance(value, list | tuple):
        return [_science(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _science(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)
