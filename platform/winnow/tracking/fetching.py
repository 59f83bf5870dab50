"""Retriever versions out of MLflow's registry, kept in a local cache.

Files are downloaded and loaded by us: nothing that MLflow would unpickle is opened. What was served last for a
reference is remembered, so that an endpoint starts while the registry cannot be reached.
"""

import logging
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from winnow.config import fingerprint
from winnow.errors import ConfigError, DataError
from winnow.files import read_json, write_json
from winnow.retrieval.manifest import read_manifest
from winnow.retrieval.reference import Located, RegistryEntry, parse_reference
from winnow.retrieval.version_files import check_files
from winnow.tracking.store import EntryRefused, TrackerUnavailable, connect, translated_errors, without_credentials

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def retriever_cache(output: Path) -> Path:
    """Where what is fetched from the registry is kept, for the runs in ``output``."""
    return output.resolve() / "cache" / "retrievers"


class RetrieverFetcher:
    """Turns references into directories; registry entries are downloaded once into ``cache``."""

    def __init__(self, uri: str, cache: Path) -> None:
        self._uri = uri
        self._cache = cache

    def fetch(self, reference: str) -> Located:
        """The version that ``reference`` names now.

        While the registry cannot be reached it is the one served last, with a notice. Raises ``ConfigError``
        for an entry that does not exist, ``DataError`` if the registry is away and nothing was fetched before.
        """
        target = parse_reference(reference)
        if isinstance(target, Path):
            # Unlike ``Path.resolve``, this finds no fault with links that lead to themselves; nothing is there.
            return Located(Path(os.path.realpath(target)))
        try:
            with translated_errors():
                return self._download(connect(self._uri), target)
        except EntryRefused as error:
            raise ConfigError(f"the registry has no {reference!r}: {error}") from error
        except TrackerUnavailable as error:
            return self._last_good(reference, str(error))

    def remember(self, reference: str, located: Located) -> None:
        """Note that ``located`` is served, so that it is what is fetched while the registry is away."""
        if located.number is None or located.notice is not None:
            return
        try:
            write_json(self._note(reference), {"number": located.number, "directory": str(located.directory)})
        except OSError as error:
            # It is served all the same.
            _log.warning("%r would not be known while the registry is away: %s", reference, error)

    def number(self, reference: str) -> str | None:
        """The number that ``reference`` names now; ``None`` for a directory, or while the registry is away."""
        target = parse_reference(reference)
        if isinstance(target, Path):
            return None
        try:
            with translated_errors():
                return _number(connect(self._uri), target)
        except (EntryRefused, TrackerUnavailable):
            return None

    def _download(self, client: "MlflowClient", entry: RegistryEntry) -> Located:
        number = _number(client, entry)
        version = client.get_model_version(entry.model, number)
        directory = self._cache / download_name(entry.model, number, uri=self._uri, source=str(version.source))
        with FileLock(self._locked(directory)):
            if not _is_whole(directory):
                _download_into(directory, str(version.source), self._uri)
        return Located(directory, number)

    def _last_good(self, reference: str, reason: str) -> Located:
        try:
            note = read_json(self._note(reference))
        except FileNotFoundError:
            raise DataError(
                f"the registry at {without_credentials(self._uri)} cannot be reached ({reason}), and {reference!r} was "
                f"never served from {str(self._cache)!r}; start the registry, or serve a directory"
            ) from None
        notice = f"the registry cannot be reached ({reason}); this is the version served last"
        return Located(Path(note["directory"]), note["number"], notice)

    def _note(self, reference: str) -> Path:
        return self._cache / f"last-{fingerprint(without_credentials(self._uri), reference)}.json"

    def _locked(self, directory: Path) -> Path:
        self._cache.mkdir(parents=True, exist_ok=True)
        return directory.with_name(f".{directory.name}.lock")


def download_name(model: str, number: str, *, uri: str, source: str) -> str:
    """The folder of a downloaded version. Numbers start anew in another registry, so the place of the files counts."""
    return f"{model}-{number}-{fingerprint(uri, source)[:8]}"


def _number(client: "MlflowClient", entry: RegistryEntry) -> str:
    if entry.alias is None:
        assert entry.number is not None
        return entry.number
    return str(client.get_model_version_by_alias(entry.model, entry.alias).version)


def _is_whole(directory: Path) -> bool:
    """Whether an earlier download is still what its manifest says."""
    if not directory.exists():
        return False
    try:
        check_files(directory, read_manifest(directory))
    except DataError:
        return False
    return True


def _download_into(directory: Path, source: str, uri: str) -> None:
    from mlflow.artifacts import download_artifacts

    arriving = directory.with_name(f".{directory.name}.{uuid.uuid4().hex[:8]}")
    try:
        arriving.mkdir()
        here = Path(download_artifacts(artifact_uri=source, dst_path=str(arriving), tracking_uri=uri))
        check_files(here, read_manifest(here))
        shutil.rmtree(directory, ignore_errors=True)
        here.rename(directory)
    finally:
        shutil.rmtree(arriving, ignore_errors=True)
