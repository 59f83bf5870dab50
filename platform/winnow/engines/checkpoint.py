"""Where an engine finds its model. A GGUF file becomes a checkpoint directory, once, kept in a cache.

Converting needs the whole of transformers, so it runs in a process of its own; neither the
caller nor the engine has to carry it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from winnow.config import fingerprint
from winnow.engines.config import TransformersConfig, VllmConfig
from winnow.errors import ConfigError
from winnow.files import hash_file, hash_tree
from winnow.models import locate_model

LocalConfig = VllmConfig | TransformersConfig


def checkpoint_id(config: LocalConfig) -> str:
    """Name and content hash of the model, wherever it lies. Raises ``ConfigError`` if it is not there."""
    source = locate_model(config.model)
    return f"{source.stem if source.is_file() else source.name}-{_content_hash(source)[:8]}"


def checkpoint_directory(config: LocalConfig, cache: Path) -> Path:
    """Where the engine finds its model: its own directory, or the converted one under ``cache``."""
    source = locate_model(config.model)
    if source.is_dir():
        return _checked(source)
    if source.suffix != ".gguf":
        raise ConfigError(f"model {config.model!r} is a {source.suffix!r} file; expected a directory or a .gguf file")
    converted = cache / checkpoint_id(config)
    if not converted.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{converted.name}.lock"):
            if not converted.exists():
                _convert(source, converted)
    return converted


def _checked(directory: Path) -> Path:
    if not (directory / "config.json").is_file():
        raise ConfigError(f"{directory} has no config.json; expected a checkpoint (config.json, *.safetensors)")
    return directory


def _content_hash(source: Path) -> str:
    files = [source] if source.is_file() else source.rglob("*")
    return _hash_once(source, changed=max((path.stat().st_mtime_ns for path in files), default=0))


@lru_cache
def _hash_once(source: Path, changed: int) -> str:
    """Every byte counts; a planner asks often, so a run reads them once."""
    return hash_file(source) if source.is_file() else fingerprint(hash_tree(source))


def _convert(source: Path, converted: Path) -> None:
    print(f"converting {source.name} to a checkpoint directory, once: {converted}", flush=True)
    scratch = Path(tempfile.mkdtemp(dir=converted.parent, prefix=f".{converted.name}-"))
    try:
        _run_converter(source, scratch)
        scratch.chmod(0o755)
        os.rename(scratch, converted)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run_converter(source: Path, target: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    command = [sys.executable, "-c", _PROGRAM, str(source.parent), source.name, str(target)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ConfigError(
            f"{source} cannot be converted ({reason}); check that the file is whole and its architecture is one "
            f"that transformers can read from GGUF, or name a checkpoint directory instead"
        )


# Without `dequantize` the model cannot be saved; the tokenizer brings its chat template along.
_PROGRAM = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

folder, name, target = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
config = GgufConfig(dequantize=True)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.bfloat16, quantization_config=config)
model.save_pretrained(target)
tokenizer.save_pretrained(target)
"""
