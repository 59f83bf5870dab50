"""What training may add to an encoder: a projection, a second tower, low-rank adapters, recomputed activations."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from winnow.errors import ConfigError
from winnow.modeling.config import LoraConfig, Towers
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.module import EncoderModule
from winnow.modeling.transformers_light import GradientCheckpointingLayer
from winnow.seeding import derive_seed, seeded_torch


def adapt(
    encoder: DenseEncoder,
    *,
    projection: int | None,
    towers: Towers,
    lora: LoraConfig | None,
    gradient_checkpointing: bool,
    seed: int,
) -> None:
    """Change ``encoder`` in place, once, before it is trained. Raises ``ConfigError``.

    What is there already, as after an earlier stage, is kept and trained on. Equal arguments give equal weights,
    so a run that goes on adapts the same encoder again and then loads its checkpoint. With ``lora`` the backbone's
    own weights are frozen; the projection is trained in any case.
    """
    module = encoder.module
    if towers == "untied":
        module.passage_backbone = module.passage_backbone or copy.deepcopy(module.backbone)
    elif module.passage_backbone is not None:
        raise ConfigError("train.towers is tied, but the encoder has untied towers already; set it to untied")
    if projection is not None:
        module.projection = module.projection or _new_projection(module, projection, seed)
        if module.dimension != projection:
            raise ConfigError(
                f"train.projection is {projection}, but the encoder projects to {module.dimension} dimensions already; "
                f"set that number, or leave it out"
            )
    for index, tower in enumerate(module.towers):
        if lora is not None:
            _add_adapters(tower, lora, seed=derive_seed(seed, "lora", index))
        if gradient_checkpointing:
            _recompute_activations(tower)
    module.train(module.training)


def _new_projection(module: EncoderModule, dimension: int, seed: int) -> nn.Linear:
    linear = nn.Linear(module.hidden_size, dimension, bias=False)
    # Orthogonal rows keep angles as well as a random projection can, so training starts from what is there.
    draws = torch.Generator().manual_seed(derive_seed(seed, "projection"))
    nn.init.orthogonal_(linear.weight, generator=draws)
    return linear.to(next(module.parameters()).device)


def _add_adapters(backbone: PreTrainedModel, config: LoraConfig, *, seed: int) -> None:
    import peft

    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules="all-linear" if config.targets is None else list(config.targets),
    )
    with seeded_torch(seed, backbone.device):
        try:
            peft.inject_adapter_in_model(settings, backbone)
        except ValueError as error:
            raise ConfigError(
                f"train.lora.targets {config.targets} cannot be adapted in a {type(backbone).__name__}: {error}"
            ) from error


def _recompute_activations(backbone: PreTrainedModel) -> None:
    """Keep of each layer only its input, also with dropout off, where transformers' own switch does nothing."""
    layers = [layer for layer in backbone.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise ConfigError(
            f"train.gradient_checkpointing is on, but a {type(backbone).__name__} does not say where its layers begin; "
            f"switch it off and lower train.micro_batch_tokens instead"
        )
    for layer in layers:
        layer.forward = _recomputed(layer.forward)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*inputs: Any, **arguments: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **arguments)
        return checkpoint(forward, *inputs, use_reentrant=False, **arguments)

    return run
