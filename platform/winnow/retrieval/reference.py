"""What is to be served: a directory, or an entry of the model registry.

``model@alias`` and ``model/number`` name an entry of the registry; anything else is the directory of a retriever
version, relative ones taken from the YAML file.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

_ALIAS = re.compile(r"(?P<model>[\w.-]+)@(?P<alias>[\w.-]+)")
_NUMBER = re.compile(r"(?P<model>[\w.-]+)/(?P<number>\d+)")


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """A version in the registry: the one that ``alias`` names now, or ``number``."""

    model: str
    alias: str | None = None
    number: str | None = None


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
    base = (info.context or {}).get("base")
    target = parse_reference(reference)
    return reference if base is None or isinstance(target, RegistryEntry) else str(Path(base) / target)


RetrieverReference = Annotated[str, AfterValidator(_resolve)]
"""What is to be served; see the module's docstring."""
