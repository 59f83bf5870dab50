"""Texts as a rectangle of token ids, padded on the right.

Legend: N texts, L tokens of the longest, D dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from winnow.modeling.config import Pooling


@dataclass(frozen=True, slots=True)
class PaddedTokens:
    """One row per text."""

    ids_NL: Tensor
    mask_NL: Tensor
    """1 for a token, 0 for padding."""

    def arguments(self, config: PreTrainedConfig) -> dict[str, Any]:
        """What a backbone with ``config`` is called with."""
        return {"input_ids": self.ids_NL, "attention_mask": self.mask_NL}

    def pool(self, tokens_NLD: Tensor, pooling: Pooling) -> Tensor:
        """``embeddings_ND`` from the vectors of the tokens that are no padding."""
        if pooling == "cls":
            return tokens_NLD[:, 0]
        if pooling == "last":
            last_N = self.mask_NL.sum(dim=1) - 1
            return tokens_NLD[torch.arange(tokens_NLD.shape[0], device=tokens_NLD.device), last_N]
        mask_NL1 = self.mask_NL.unsqueeze(-1).to(tokens_NLD.dtype)
        return (tokens_NLD * mask_NL1).sum(dim=1) / mask_NL1.sum(dim=1)


def pad(token_ids: Sequence[Sequence[int]], *, pad_token_id: int, device: torch.device) -> PaddedTokens:
    """``token_ids`` as a rectangle on ``device``."""
    width = max(map(len, token_ids))
    ids_NL = torch.tensor([[*row, *[pad_token_id] * (width - len(row))] for row in token_ids])
    mask_NL = torch.arange(width) < torch.tensor([len(row) for row in token_ids]).unsqueeze(1)
    return PaddedTokens(ids_NL.to(device), mask_NL.long().to(device))
