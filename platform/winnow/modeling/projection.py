"""The linear layer behind the pooling, as the ``Dense`` module of sentence-transformers."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from winnow.errors import ConfigError
from winnow.files import write_json
from winnow.modeling.layout import optional_json

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_IDENTITY = "torch.nn.modules.linear.Identity"


def load_projection(directory: Path, *, hidden_size: int) -> nn.Linear:
    """The projection in ``directory``, behind vectors of ``hidden_size``. Raises ``ConfigError``."""
    config = optional_json(directory / _CONFIG) or {}
    _check_config(directory / _CONFIG, config, hidden_size)
    path = directory / _WEIGHTS
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"the weights of the projection, {path}, cannot be read: {error}") from error
    linear = nn.Linear(hidden_size, config["out_features"], bias=config.get("bias", True))
    expected = {f"linear.{name}": tuple(weight.shape) for name, weight in linear.state_dict().items()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    if found != expected:
        raise ConfigError(f"{path} holds {found}, expected {expected} by the {_CONFIG} beside it")
    linear.load_state_dict({name.removeprefix("linear."): weight for name, weight in weights.items()})
    return linear


def save_projection(projection: nn.Linear, directory: Path) -> None:
    """Write weights and configuration."""
    config = {
        "in_features": projection.in_features,
        "out_features": projection.out_features,
        "bias": projection.bias is not None,
        "activation_function": _IDENTITY,
    }
    write_json(directory / _CONFIG, config)
    weights = {f"linear.{name}": weight.contiguous() for name, weight in projection.state_dict().items()}
    save_file(weights, directory / _WEIGHTS)
    (directory / _WEIGHTS).chmod(0o644)


def _check_config(path: Path, config: dict[str, Any], hidden_size: int) -> None:
    # A Dense module without a word on its activation has tanh.
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation.rsplit(".", 1)[-1] != "Identity" or config.get("use_residual"):
        raise ConfigError(f"{path} asks for {activation} or a residual; expected a linear projection ({_IDENTITY})")
    feature = {config.get(key) or "sentence_embedding" for key in ("module_input_name", "module_output_name")}
    if feature != {"sentence_embedding"}:
        raise ConfigError(f"{path} projects {sorted(feature)}; expected the sentence_embedding, behind the pooling")
    if config.get("in_features") != hidden_size or not isinstance(config.get("out_features"), int):
        raise ConfigError(
            f"{path} goes from {config.get('in_features')} to {config.get('out_features')} features; "
            f"expected it to start from the backbone's {hidden_size}"
        )
