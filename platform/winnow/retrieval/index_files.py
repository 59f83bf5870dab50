"""A vector index on disk.

::

    index.json           what it is and how it is searched
    shard-00000.faiss    the first vectors, as FAISS writes them; further shards follow
    vectors.npy          all vectors as float32, if results are rescored
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from winnow.errors import IndexMismatchError
from winnow.files import read_json

DESCRIPTION = "index.json"
VECTORS = "vectors.npy"


class IndexDescription(BaseModel):
    """What ``index.json`` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    factory: str
    dimension: PositiveInt
    shards: tuple[PositiveInt, ...] = Field(min_length=1)
    """Vectors in each, in order."""
    ef_search: PositiveInt | None = None
    num_probes: PositiveInt | None = None
    rescore: PositiveInt | None = None

    @property
    def count(self) -> int:
        """Vectors in all shards."""
        return sum(self.shards)


def shard_path(directory: Path, number: int) -> Path:
    """The file of a shard."""
    return directory / f"shard-{number:05d}.faiss"


def read_description(directory: Path) -> IndexDescription:
    """``index.json`` in ``directory``. Raises ``IndexMismatchError``."""
    path = directory / DESCRIPTION
    try:
        return IndexDescription.model_validate(read_json(path))
    except FileNotFoundError:
        raise IndexMismatchError(
            f"no vector index at {str(directory)!r} (it has no {DESCRIPTION}); build one with `winnow index`"
        ) from None
    except (OSError, ValidationError, ValueError) as error:
        raise IndexMismatchError(
            f"{path} does not describe an index of this release; run `winnow index` again: {error}"
        ) from None
