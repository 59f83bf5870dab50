"""What a retriever version may hold: data, and nothing that a library would run, unpickle or be blown up by.

A manifest says that a version is what its maker wrote, not that its maker means well: versions are fetched from
registries, and whoever may ask for a swap may name any directory.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from winnow.errors import ConfigError, DataError
from winnow.modeling.layout import Layout, optional_json, read_layout
from winnow.modeling.transformers_light import AutoConfig, AutoModel

_SUFFIXES = {".arrow", ".faiss", ".jinja", ".json", ".md", ".model", ".npy", ".safetensors", ".txt"}
_NAMES_CODE = {"auto_map", "custom_pipelines", "quantization_config"}
"""Settings that make transformers import code from beside the weights, or libraries of somebody else's choice."""
_VOCABULARIES = {"tokenizer.json", "vocab.json", "added_tokens.json"}
"""Large, and read by the tokenizers library, which has limits of its own."""
_MAX_SETTINGS_BYTES = 5_000_000
_MAX_HEADER_BYTES = 100_000_000
_SLACK = 2
"""A model may want so many times the weights that are in its files: some are derived, or shared."""


def check_contents(directory: Path, files: Iterable[str], *, encoder: str) -> None:
    """Returns if ``files`` of the version in ``directory``, with an encoder in the folder of that name, are only data.

    Nothing is loaded; what lies beside them, such as a step's own record, is read by nobody. Raises ``DataError``,
    ``ConfigError``.
    """
    for path in (directory / name for name in sorted(files)):
        if path.suffix not in _SUFFIXES:
            raise DataError(
                f"{path} is no data of a retriever version, and might be code; expected files that end in "
                f"{', '.join(sorted(_SUFFIXES))}, with weights as safetensors"
            )
        if path.suffix == ".npy":
            _check_array(path)
        if path.suffix == ".arrow":
            _check_table(path)
    for path in sorted((directory / encoder).rglob("*.json")):
        if path.name not in _VOCABULARIES:
            _check_settings(path)
    _check_modules(directory / encoder)
    layout = read_layout(directory / encoder)
    for folder in _folders(layout):
        if not folder.resolve().is_relative_to(layout.root.resolve()):
            raise ConfigError(f"{layout.root}/modules.json names {str(folder)!r}, which lies outside the encoder")
    for tower in dict.fromkeys((layout.query, layout.passage)):
        _check_size(tower)


def _check_array(path: Path) -> None:
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            _, _, dtype = readers[version](file)
        except (ValueError, KeyError) as error:
            raise DataError(f"{path} is no array of numpy ({error}); fetch the version again") from error
    if dtype.hasobject:
        raise DataError(f"{path} holds pickled objects, which are never read; expected numbers")


def _check_table(path: Path) -> None:
    try:
        columns = pa.ipc.open_file(pa.memory_map(str(path))).schema
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is not a readable Arrow file ({error}); fetch the version again") from error
    extended = [column.name for column in columns if column.metadata or isinstance(column.type, pa.BaseExtensionType)]
    if extended:
        raise DataError(f"{path} has a column {extended[0]!r} of an extension type, which code would have to read")


def _check_settings(path: Path) -> None:
    if (size := path.stat().st_size) > _MAX_SETTINGS_BYTES:
        raise DataError(f"{path} has {size:,} bytes, at most {_MAX_SETTINGS_BYTES:,} are read of such a file")
    try:
        for key, value in _walk(optional_json(path)):
            if key in _NAMES_CODE or ("attn_implementation" in key and "/" in str(value)):
                raise ConfigError(f"{path} has {key!r}, which names code; an encoder is made of weights and settings")
    except RecursionError:
        raise DataError(f"{path} is nested too deeply to be the settings of an encoder") from None


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key in ``value`` with its value, at any depth."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key, inner
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def _check_modules(encoder: Path) -> None:
    modules = optional_json(encoder / "modules.json") or []
    kinds = [str(module.get("type")) for module in modules if isinstance(module, Mapping)]
    foreign = [kind for kind in kinds if not kind.startswith("sentence_transformers.")]
    if foreign:
        raise ConfigError(f"{encoder}/modules.json names {foreign[0]!r}; expected modules of sentence_transformers")


def _folders(layout: Layout) -> list[Path]:
    folders = (layout.query, layout.passage, layout.pooling, layout.projection)
    return [folder for folder in folders if folder is not None]


def _check_size(tower: Path) -> None:
    """Returns if the settings in ``tower`` describe a model as large as its weights are.

    Otherwise the memory for it would be taken first, and the difference found afterwards.
    """
    tensors = {name: shape for path in sorted(tower.glob("*.safetensors")) for name, shape in _shapes(path).items()}
    if not tensors:
        raise ConfigError(f"there are no weights in {str(tower)!r}; expected model.safetensors")
    config = optional_json(tower / "config.json") or {}
    layers = max((value for key, value in _walk(config) if "layer" in key and _is_count(value)), default=0)
    if layers > len(tensors):
        raise ConfigError(
            f"{tower}/config.json asks for {layers:,} layers, and the weights are {len(tensors):,} tensors"
        )
    wanted, found = _num_wanted(tower), sum(int(np.prod(shape, dtype=object)) for shape in tensors.values())
    if wanted > _SLACK * found:
        raise ConfigError(f"{tower}/config.json describes {wanted:,} weights, and its files hold {found:,}")


def _num_wanted(tower: Path) -> int:
    try:
        config = AutoConfig.from_pretrained(tower, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModel.from_config(config, trust_remote_code=False)
    except Exception as error:
        # Whatever transformers makes of settings that are wrong; nothing of the model is there yet.
        raise ConfigError(f"{tower}/config.json describes no encoder ({type(error).__name__}: {error})") from error
    return sum(parameter.numel() for parameter in model.parameters())


def _shapes(path: Path) -> dict[str, list[int]]:
    """The shape of every tensor in a safetensors file, from its header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_MAX_HEADER_BYTES, path.stat().st_size):
            raise DataError(f"{path} says that its header has {length:,} bytes, more than there are; fetch it again")
        try:
            header = json.loads(file.read(length))
            return {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{path} has no header of safetensors ({type(error).__name__}); fetch it again") from error


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
