"""Exported models on this machine's disk: made once, read only if they are what was made."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from winnow.errors import ConfigError
from winnow.files import read_json, write_json

_HASHES = "hashes.json"


def read_or_export(directory: Path, export: Callable[[Path], None]) -> dict[str, bytes]:
    """The models in ``directory`` by file name; ``export`` makes them if one is missing or damaged.

    One process exports, others that want the same wait for it. Raises ``ConfigError``.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(directory.with_name(f".{directory.name}.lock")):
            models = _read_intact(directory)
            return _export_whole(directory, export) if models is None else models
    except OSError as error:
        raise ConfigError(f"exported encoders cannot be kept in {str(directory.parent)!r}: {error}") from error


def read_models(directory: Path) -> dict[str, bytes]:
    """The models in ``directory`` by file name, as they are."""
    return {path.name: path.read_bytes() for path in directory.glob("*.onnx")}


def _read_intact(directory: Path) -> dict[str, bytes] | None:
    try:
        expected = read_json(directory / _HASHES)
        models = read_models(directory)
    except (OSError, ValueError):
        return None
    # The bytes that were hashed are the ones that are loaded.
    return models if models and _hashes(models) == expected else None


def _export_whole(directory: Path, export: Callable[[Path], None]) -> dict[str, bytes]:
    unfinished = directory.with_name(f".{directory.name}.part")
    for left_over in (unfinished, directory):
        shutil.rmtree(left_over, ignore_errors=True)
    try:
        unfinished.mkdir()
        export(unfinished)
        models = read_models(unfinished)
        write_json(unfinished / _HASHES, _hashes(models))
        unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return models


def _hashes(models: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in models.items()}
