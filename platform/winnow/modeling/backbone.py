"""Weights of a backbone from disk and to disk: safetensors, whole, under the names that transformers gives them."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from winnow.errors import ConfigError
from winnow.modeling.transformers_light import MODEL_MAPPING, AutoConfig, AutoModel


def load_backbone(directory: Path) -> PreTrainedModel:
    """The encoder or decoder in ``directory``, in float32, without any head. Raises ``ConfigError``."""
    try:
        backbone, report = _from_pretrained(directory)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"no encoder could be loaded from {str(directory)!r}: {error}; "
            f"expected config.json and model.safetensors of an architecture that transformers knows"
        ) from error
    if absent := sorted(report["missing_keys"]):
        raise ConfigError(f"the weights in {str(directory)!r} lack {absent[:3]}: not a whole {type(backbone).__name__}")
    return backbone


def save_backbone(backbone: PreTrainedModel, directory: Path) -> None:
    """Write configuration and weights, adapters merged into them."""
    with _quiet_transformers():
        backbone.save_pretrained(directory, state_dict=merged_weights(backbone))
    for path in directory.glob("*.safetensors"):
        path.chmod(0o644)  # written for the owner alone; shared storage has other readers


def merged_weights(backbone: PreTrainedModel) -> dict[str, Tensor]:
    """Weights by the names they had before adapters were added, with the adapters' share in them."""
    weights = {
        name.replace(".base_layer.", "."): weight
        for name, weight in backbone.state_dict().items()
        if ".lora_" not in name
    }
    for name, layer in backbone.named_modules():
        if hasattr(layer, "get_delta_weight"):
            for adapter in layer.active_adapters:
                weights[f"{name}.weight"] = weights[f"{name}.weight"] + layer.get_delta_weight(adapter).detach()
    return weights


def _from_pretrained(directory: Path) -> tuple[PreTrainedModel, dict[str, Any]]:
    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    # The pooling layer's output is not used: its weights would be trained by nothing and saved all the same.
    no_pooler = {"add_pooling_layer": False} if _has_pooler(MODEL_MAPPING[type(config)]) else {}
    with _quiet_transformers():
        return AutoModel.from_pretrained(
            directory,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **no_pooler,
        )


def _has_pooler(model_class: type[PreTrainedModel]) -> bool:
    return "add_pooling_layer" in inspect.signature(model_class.__init__).parameters


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No progress bar for a load of a second, no report on the pooling layer that is left out on purpose."""
    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()
