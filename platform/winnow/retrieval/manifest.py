"""The manifest of a retriever version: what belongs together, and what each file must be like."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from winnow import __version__
from winnow.config import fingerprint
from winnow.errors import IndexMismatchError
from winnow.files import read_json, write_json
from winnow.modeling.config import Pooling
from winnow.retrieval.config import Language

MANIFEST = "manifest.json"
FORMAT = 3


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Record):
    """What a file must be like."""

    size: int
    sha256: str


class ContractRecord(_Record):
    """How texts become vectors, as the encoder says it of itself."""

    pooling: Pooling
    normalise: bool
    query_prefix: str
    passage_prefix: str
    query_max_tokens: int
    passage_max_tokens: int


class Provenance(_Record):
    """When and by what a version was made. Two builds of equal content differ only here."""

    built_at: AwareDatetime
    run_id: str | None
    """The run of the step that built it."""
    winnow: str = __version__


class Manifest(_Record):
    """What belongs together. ``files`` has every file of the version except the manifest itself."""

    format: Literal[3] = FORMAT
    encoder_fingerprint: str
    contract: ContractRecord
    dimension: int = Field(gt=0)
    num_passages: int = Field(gt=0)
    metric: Literal["inner_product"] = "inner_product"
    factory: str
    bm25_language: Language | None
    """Whose rules cut the words of BM25; ``null`` without BM25."""
    fields: dict[str, NonNegativeInt]
    """What filters may name, and how many passages have each."""
    files: dict[str, FileRecord]
    provenance: Provenance

    @property
    def version(self) -> str:
        """A short id; it changes with any byte of the files, and not with when or where they were made."""
        return fingerprint(self.model_dump(mode="json", exclude={"provenance"}))[:12]

    @model_validator(mode="after")
    def _names_stay_inside(self) -> Self:
        outside = [name for name in self.files if name.startswith("/") or ".." in name.split("/")]
        if outside:
            raise ValueError(f"{outside[0]!r} lies outside the version's directory")
        return self


def write_manifest(directory: Path, manifest: Manifest) -> Path:
    """The manifest's file, which carries a checksum of itself."""
    fields = manifest.model_dump(mode="json")
    return write_json(directory / MANIFEST, {**fields, "checksum": fingerprint(fields)})


def read_manifest(directory: Path) -> Manifest:
    """The manifest in ``directory``. Raises ``IndexMismatchError``."""
    path = directory / MANIFEST
    try:
        is_there = path.exists()
    except OSError as error:
        raise IndexMismatchError(f"no retriever version can be read at {str(directory)!r}: {error.strerror}") from None
    if not is_there:
        raise IndexMismatchError(
            f"no retriever version at {str(directory)!r} (it has no {MANIFEST}); build one with `winnow index`"
        )
    try:
        fields = read_json(path)
        _check_format(path, fields)
        checksum = fields.pop("checksum", None)
        manifest = Manifest.model_validate(fields)
    except (ValueError, OSError, RecursionError) as error:
        raise IndexMismatchError(f"{path} is no manifest of this release; run `winnow index` again: {error}") from None
    if checksum != fingerprint(fields):
        raise IndexMismatchError(f"{path} was changed after it was written (checksum); fetch the version again")
    return manifest


def _check_format(path: Path, fields: Any) -> None:
    if not isinstance(fields, dict):
        raise ValueError(f"expected a JSON object, got {type(fields).__name__}")
    found = fields.get("format")
    if isinstance(found, int) and found != FORMAT:
        when = "an older" if found < FORMAT else "a newer"
        raise IndexMismatchError(
            f"{path} was written by {when} release (format {found}, this one reads {FORMAT}); run `winnow index` again"
        )
