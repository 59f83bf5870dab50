"""What is to be served: a directory, or an entry of the model registry.

``model@alias`` and ``model/number`` name an entry of the registry; anything else is the directory of a retriever
version, relative ones taken from the YAML file.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import AfterValidator, ValidationInfo

from winnow.config import refuse_url

_ALIAS = re.compile(r"(?P<model>[\w.-]+)@(?P<alias>[\w.-]+)")
_NUMBER = re.compile(r"(?P<model>[\w.-]+)/(?P<number>\d+)")


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """A version in the registry: the one that ``alias`` names now, or ``number``."""

    model: str
    alias: str | None = None
    number: str | None = None


@dataclass(frozen=True, slots=True)
class Located:
    """A retriever version on this machine's disk."""

    directory: Path
    number: str | None = None
    """Its number in the registry."""
    notice: str | None = None
    """Why this is the last good version and not the one that the registry names now."""


class Source(Protocol):
    """Where versions come from: the registry, or directories alone."""

    def fetch(self, reference: str) -> Located:
        """The version that ``reference`` names now; may take long. Raises ``ConfigError``, ``DataError``."""

    def number(self, reference: str) -> str | None:
        """The number that ``reference`` names now; ``None`` for a directory, or while the registry is away."""

    def remember(self, reference: str, located: Located) -> None:
        """Note that ``located`` is served."""


class Directories:
    """Implements ``Source`` where there is no registry to ask."""

    def fetch(self, reference: str) -> Located:
        return Located(Path(reference))

    def number(self, reference: str) -> None:
        """Directories have none."""

    def remember(self, reference: str, located: Located) -> None:
        """Directories are where they are."""


def parse_reference(reference: str) -> RegistryEntry | Path:
    """The entry or the directory that ``reference`` names.

    >>> parse_reference("winnow@champion")
    RegistryEntry(model='winnow', alias='champion', number=None)
    >>> parse_reference("winnow/7").number
    '7'
    >>> parse_reference("/data/retriever").name
    'retriever'
    """
    if found := _ALIAS.fullmatch(reference):
        return RegistryEntry(found["model"], alias=found["alias"])
    if found := _NUMBER.fullmatch(reference):
        return RegistryEntry(found["model"], number=found["number"])
    return Path(reference).expanduser()


def _resolve(reference: str, info: ValidationInfo) -> str:
    refuse_url(reference)
    base = (info.context or {}).get("base")
    target = parse_reference(reference)
    return reference if base is None or isinstance(target, RegistryEntry) else str(Path(base) / target)


RetrieverReference = Annotated[str, AfterValidator(_resolve)]
"""What is to be served; see the module's docstring."""
