"""Retriever versions out of MLflow's registry, kept by content in a local cache (``retrieval/keeping.py``).

Files are downloaded and loaded by us: nothing that MLflow would unpickle is opened. What was served last for a
reference is remembered, so that an endpoint starts while the registry cannot be reached.
"""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from winnow.config import fingerprint
from winnow.errors import ConfigError, DataError, IndexMismatchError
from winnow.files import read_json, write_json
from winnow.retrieval.keeping import keep_version, kept_path, locked, receiving, take_in
from winnow.retrieval.reference import Located, RegistryEntry, parse_reference
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
            write_json(self._note(reference), {"number": located.number, "version": located.directory.name})
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
        source = str(client.get_model_version(entry.model, number).source)
        name = download_name(entry.model, number, uri=self._uri, source=source)
        note = self._cache / f"fetched-{name}.json"
        with locked(kept_path(name, self._cache)):
            kept = self._kept(note)
            if kept is None:
                kept = self._receive(name, source)
                write_json(note, {"version": kept.name})
        return Located(kept, number)

    def _kept(self, note: Path) -> Path | None:
        """What was downloaded before, if it is still there and what its manifest says."""
        try:
            return keep_version(kept_path(read_json(note)["version"], self._cache), self._cache)
        except (FileNotFoundError, IndexMismatchError):
            return None

    def _receive(self, name: str, source: str) -> Path:
        from mlflow.artifacts import download_artifacts

        with receiving(name, self._cache) as arriving:
            here = download_artifacts(artifact_uri=source, dst_path=str(arriving), tracking_uri=self._uri)
            return take_in(Path(here), self._cache)

    def _last_good(self, reference: str, reason: str) -> Located:
        try:
            note = read_json(self._note(reference))
            kept = keep_version(kept_path(note["version"], self._cache), self._cache)
        except (FileNotFoundError, IndexMismatchError):
            raise DataError(
                f"the registry at {without_credentials(self._uri)} cannot be reached ({reason}), and no version that "
                f"was served for {reference!r} is kept in {str(self._cache)!r}; start it, or serve a directory"
            ) from None
        notice = f"the registry cannot be reached ({reason}); this is the version served last"
        return Located(kept, note["number"], notice)

    def _note(self, reference: str) -> Path:
        return self._cache / f"served-{fingerprint(without_credentials(self._uri), reference)}.json"


def download_name(model: str, number: str, *, uri: str, source: str) -> str:
    """What names a download. Numbers start anew in another registry, so the place of the files counts."""
    return f"{model}-{number}-{fingerprint(uri, source)[:8]}"


def _number(client: "MlflowClient", entry: RegistryEntry) -> str:
    if entry.alias is None:
        assert entry.number is not None
        return entry.number
    return str(client.get_model_version_by_alias(entry.model, entry.alias).version)
