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
from winnow.errors import ConfigError

_LONGEST_NAME = 255
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
        target = parse_reference(reference)
        return Located(target if isinstance(target, Path) else Path(reference))

    def number(self, reference: str) -> None:
        """Directories have none."""

    def remember(self, reference: str, located: Located) -> None:
        """Directories are where they are."""


def check_reference(reference: str) -> str:
    """``reference``, unless it can name nothing on any machine. Raises ``ValueError``."""
    refuse_url(reference)
    if not reference or "\0" in reference:
        raise ValueError("expected a directory, model@alias or model/number, got nothing or a NUL character")
    longest = max(len(part.encode("utf-8", "surrogatepass")) for part in reference.split("/"))
    if longest > _LONGEST_NAME:
        raise ValueError(f"a name in it has {longest} bytes, and no file system takes more than {_LONGEST_NAME}")
    return reference


def parse_reference(reference: str) -> RegistryEntry | Path:
    """The entry or the directory that ``reference`` names. Raises ``ConfigError`` for a user who is not there.

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
    try:
        return Path(reference).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"this machine has no user or home for {reference[:80]!r}; write the directory out, without ~"
        ) from None


def _resolve(reference: str, info: ValidationInfo) -> str:
    base = (info.context or {}).get("base")
    try:
        target = parse_reference(check_reference(reference))
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return reference if base is None or isinstance(target, RegistryEntry) else str(Path(base) / target)


RetrieverReference = Annotated[str, AfterValidator(_resolve)]
"""What is to be served; see the module's docstring."""
