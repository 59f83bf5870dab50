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

    def _append(self, kind: str, **fields: Any) -> None:
        line = json.dumps({"kind": kind, "time": time.time(), **fields}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
