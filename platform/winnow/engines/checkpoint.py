"""Where an engine finds its model. A GGUF file becomes a checkpoint directory, once, kept in a cache.

Converting needs the whole of transformers, so it runs in a process of its own; neither the
caller nor the engine has to carry it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from winnow.engines.config import TransformersConfig, VllmConfig
from winnow.errors import ConfigError
from winnow.models import content_hash, locate_model, model_name

LocalConfig = VllmConfig | TransformersConfig

CONVERSION = "1"
"""Raised when the converter below writes something else."""


def checkpoint_id(config: LocalConfig) -> str:
    """Name and content hash of the model, wherever it lies. Raises ``ConfigError`` if it is not there."""
    source = locate_model(config.model, revision=config.revision)
    return f"{model_name(config.model)}-{content_hash(source)[:8]}"


def checkpoint_directory(config: LocalConfig, cache: Path) -> Path:
    """Where the engine finds its model: its own directory, or the converted one under ``cache``."""
    source = locate_model(config.model, revision=config.revision)
    if source.is_dir():
        return _checked(source)
    if source.suffix != ".gguf":
        raise ConfigError(f"model {config.model!r} is a {source.suffix!r} file; expected a directory or a .gguf file")
    converted = converted_directory(config, cache)
    if not converted.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{converted.name}.lock"):
            if not converted.exists():
                _convert(source, converted)
    return converted


def converted_directory(config: LocalConfig, cache: Path) -> Path:
    """Where the checkpoint made of a GGUF file is kept: it is named by the file's content, and by how we convert."""
    return cache / f"{checkpoint_id(config)}-{CONVERSION}"


def _checked(directory: Path) -> Path:
    if not (directory / "config.json").is_file():
        raise ConfigError(f"{directory} has no config.json; expected a checkpoint (config.json, *.safetensors)")
    if not any(directory.glob("*.safetensors")):
        # Others are pickles, and are not part of what the model is known by.
        raise ConfigError(
            f"{directory} has no weights in *.safetensors, and others, such as pytorch_model.bin, are not read; load "
            f"the model with transformers where you trust it, and save it again with save_pretrained()"
        )
    return directory


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


# A broken file is found by its reader, in a tenth of the time that importing transformers takes. Transformers would
# read the file three times more. Without `dequantize` the model cannot be saved; the tokenizer brings its chat
# template.
_PROGRAM = """
import functools, os, sys
import gguf

folder, name, target = sys.argv[1:]
gguf.GGUFReader = functools.cache(gguf.GGUFReader)
gguf.GGUFReader(os.path.join(folder, name))

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
config = GgufConfig(dequantize=True)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.bfloat16, quantization_config=config)
model.save_pretrained(target)
tokenizer.save_pretrained(target)
"""
