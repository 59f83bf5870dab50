"""A journal of what a step has to say about itself: parameters, metrics, inputs, artifacts.

Workers and drivers append JSON lines to a file on shared storage; nobody needs to reach a
tracking server to do so. ``replay.py`` carries the lines to MLflow, once each, now or later.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Journal:
    """Append-only; one writer per file. Lines are flushed as they are written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def params(self, values: Mapping[str, Any]) -> None:
        """Settings and facts that are said once."""
        self._append("params", values={key: str(value) for key, value in values.items()})

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Numbers that may be said again at a later ``step``."""
        self._append("metrics", values={key: float(value) for key, value in values.items()}, step=step)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Short texts to find the run by."""
        self._append("tags", values={key: str(value) for key, value in values.items()})

    def dataset(self, name: str, *, path: Path, digest: str, context: str, num_rows: int) -> None:
        """An input: what it is called, where it lies, the hash of its content."""
        self._append("dataset", name=name, path=str(path), digest=digest, context=context, num_rows=num_rows)

    def artifact(self, path: str) -> None:
        """A file or directory to keep with the run, relative to the journal's directory."""
        self._append("artifact", path=path)

    def headline(self, values: Mapping[str, float]) -> None:
        """Final numbers by which whole runs are compared; they appear on the parent run as well."""
        self._append("headline", values={key: float(value) for key, value in values.items()})

    def retriever_version(
        self, path: Path, *, content_hash: str, measure: str, dev_value: float | None, dev_digest: str | None
    ) -> None:
        """A retriever version to register, and its value of ``measure`` on the dev questions named by ``dev_digest``.

        Without dev questions both are ``None``: the version is registered, and no alias moves.
        """
        self._append(
            "retriever_version",
            path=str(path.resolve()),
            content_hash=content_hash,
            measure=measure,
            dev_value=dev_value,
            dev_digest=dev_digest,
        )

    def _append(self, kind: str, **fields: Any) -> None:
        line = json.dumps({"kind": kind, "time": time.time(), **fields}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
