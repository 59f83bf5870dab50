"""The optimizer around a gradient: schedule, clipping, and the loss scale of half precision."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from winnow.losses.module import Loss
from winnow.training.config import TrainConfig

_TEMPERATURE_RATE = 100.0
"""Times the learning rate, for a learned temperature: AdamW moves a number by about its rate per step, and
the logarithm of a temperature has to move by tenths."""


@dataclass(frozen=True)
class StepOutcome:
    """What one step of the optimizer came to."""

    learning_rate: float
    grad_norm: float
    """Before clipping."""
    is_skipped: bool = False
    """In fp16 the gradient overflowed: nothing was changed but the loss scale."""


class Optimisation:
    """AdamW over the trainable parameters of encoder and loss."""

    def __init__(self, module: nn.Module, loss: Loss, config: TrainConfig, *, num_steps: int) -> None:
        self._config = config
        self._num_steps = num_steps
        self.parameters = _trainable(module, loss)
        encoder = [p for p in module.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in encoder if p.ndim >= 2], "weight_decay": config.weight_decay, "times": 1.0},
            {"params": [p for p in encoder if p.ndim < 2], "weight_decay": 0.0, "times": 1.0},
            {"params": list(loss.parameters()), "weight_decay": 0.0, "times": _TEMPERATURE_RATE},
        ]
        self.optimizer = AdamW([group for group in groups if group["params"]], lr=config.learning_rate, fused=True)
        device = next(module.parameters()).device.type
        self._scaler = torch.amp.GradScaler(device, enabled=config.precision == "fp16")

    @property
    def loss_scale(self) -> float:
        """What gradients are to be multiplied by; 1 except in fp16."""
        return self._scaler.get_scale()

    def scaler_state(self) -> dict[str, float]:
        """The loss scale's state, for a checkpoint; empty except in fp16."""
        return self._scaler.state_dict()

    def load_scaler(self, state: Mapping[str, Any]) -> None:
        """Go on with the loss scale of a checkpoint."""
        if state:
            self._scaler.load_state_dict(
                {name: type(self.scaler_state()[name])(value) for name, value in state.items()}
            )

    def step(self, step: int) -> StepOutcome:
        """Use up the gradients, which are multiplied by ``loss_scale``, for step number ``step`` (from 0)."""
        learning_rate = learning_rate_at(step, self._num_steps, self._config)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["times"]
        # The scaler gets to know its device, and makes its tensors, when it first scales something.
        self._scaler.scale(torch.zeros((), device=next(iter(self.parameters.values())).device))
        self._scaler.unscale_(self.optimizer)
        grad_norm = clip_grad_norm_(self.parameters.values(), self._config.max_grad_norm).item()
        scale = self.loss_scale
        if self._scaler.is_enabled() or math.isfinite(grad_norm):
            self._scaler.step(self.optimizer)
            self._scaler.update()
        is_skipped = self.loss_scale < scale
        return StepOutcome(learning_rate, 0.0 if is_skipped else grad_norm, is_skipped=is_skipped)


def learning_rate_at(step: int, num_steps: int, config: TrainConfig) -> float:
    """The rate of ``step`` (from 0): up to the peak over the warm-up, then as ``schedule`` says."""
    num_warmup = math.ceil(config.warmup_share * num_steps)
    if step < num_warmup:
        return config.learning_rate * (step + 1) / num_warmup
    left = (num_steps - step) / (num_steps - num_warmup)
    falls = {"linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2, "constant": 1.0}
    return config.learning_rate * falls[config.schedule]


def _trainable(module: nn.Module, loss: Loss) -> dict[str, nn.Parameter]:
    named = [*module.named_parameters(), *((f"loss.{name}", value) for name, value in loss.named_parameters())]
    return {name: parameter for name, parameter in named if parameter.requires_grad}
