"""What the loop asks of the world around it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn


class RunLogger(Protocol):
    """Takes the numbers of each step; ``winnow.tracking.journal.Journal`` is one."""

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Keep ``values``, said at ``step``."""


class TrainableEncoder(Protocol):
    """Token ids to embeddings with gradient; ``winnow.modeling.encoder.DenseEncoder`` is one."""

    module: nn.Module

    @property
    def dimension(self) -> int:
        """D."""

    def collate(self, token_ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """``input_ids_NL`` and ``attention_mask_NL`` on the device of the module."""

    def embed(self, input_ids_NL: Tensor, attention_mask_NL: Tensor) -> Tensor:
        """``embeddings_ND`` with gradient."""
