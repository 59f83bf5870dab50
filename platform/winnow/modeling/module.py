"""Token ids to one vector per text: tower, pooling, projection, normalisation.

Legend: N texts, D dimension.
"""

from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import PreTrainedModel

from winnow.modeling.contract import Contract
from winnow.modeling.packing import PackedTokens
from winnow.modeling.padding import PaddedTokens
from winnow.modeling.protocol import Side


class EncoderModule(nn.Module):
    """What the optimizer trains."""

    def __init__(
        self,
        backbone: PreTrainedModel,
        contract: Contract,
        *,
        passage_backbone: PreTrainedModel | None = None,
        projection: nn.Linear | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.passage_backbone = passage_backbone
        """The passages' own tower; without it they take that of the queries."""
        self.projection = projection
        """Shared by both towers, so that their vectors end in one space."""
        self._pooling = contract.pooling
        self._normalise = contract.normalise
        for tower in self.towers:
            # Keys and values are kept for generating text; an embedding is done after one pass.
            tower.config.use_cache = False

    @property
    def towers(self) -> list[PreTrainedModel]:
        """One backbone, or the queries' and the passages'."""
        return [tower for tower in (self.backbone, self.passage_backbone) if tower is not None]

    @property
    def hidden_size(self) -> int:
        """Dimension of a token's vector."""
        return self.backbone.config.hidden_size

    @property
    def dimension(self) -> int:
        """D."""
        return self.hidden_size if self.projection is None else self.projection.out_features

    def forward(self, tokens: PaddedTokens | PackedTokens, *, side: Side) -> Tensor:
        tower = self.passage_backbone if side == "passage" and self.passage_backbone is not None else self.backbone
        hidden = tower(**tokens.arguments(tower.config)).last_hidden_state
        embeddings_ND = tokens.pool(hidden, self._pooling)
        if self.projection is not None:
            embeddings_ND = self.projection(embeddings_ND)
        return normalize(embeddings_ND.float(), dim=-1) if self._normalise else embeddings_ND.float()
