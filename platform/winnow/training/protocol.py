"""What the loop asks of the world around it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from winnow.modeling.protocol import Side


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

    @property
    def packs(self) -> bool:
        """Whether texts of any lengths are computed together without padding."""

    def embed(self, token_ids: Sequence[Sequence[int]], *, side: Side) -> Tensor:
        """``embeddings_ND`` with gradient, on the device of the module."""
