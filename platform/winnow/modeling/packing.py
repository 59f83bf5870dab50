"""Texts one behind another in a single row: no token of padding is computed.

Every token attends to those of its own text alone, by torch's variable-length attention on CUDA. Elsewhere the texts
are attended to one after another, which is slow and shows in tests that packed and padded vectors are equal;
the tests under ``tests/gpu`` show it of the CUDA kernel.

Legend: N texts, T tokens of all texts, H heads, L length of the row (T when packed), D dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from winnow.modeling.config import Pooling
from winnow.modeling.positions import COUNTS_FROM_PADDING

TESTED_ARCHITECTURES = frozenset({"bert", "distilbert", "roberta", "xlm-roberta", "llama", "qwen2", "qwen3"})
"""Others may add a bias or a window of their own to the attention, which packing would silently leave out."""

_NAME = "winnow_packed"


@dataclass(frozen=True, slots=True)
class PackedTokens:
    """All texts in one row."""

    ids_T: Tensor
    bounds: Tensor
    """Where each text begins, and where the last one ends: N + 1 numbers."""
    lengths: tuple[int, ...]

    def arguments(self, config: PreTrainedConfig) -> dict[str, Any]:
        """What a backbone with ``config`` is called with."""
        longest = max(self.lengths)
        return {
            "input_ids": self.ids_T.unsqueeze(0),
            "position_ids": self._positions_T(config).unsqueeze(0),
            "cu_seq_lens_q": self.bounds,
            "cu_seq_lens_k": self.bounds,
            "max_length_q": longest,
            "max_length_k": longest,
        }

    def pool(self, tokens_1TD: Tensor, pooling: Pooling) -> Tensor:
        """``embeddings_ND`` from the vectors of each text's tokens."""
        tokens_TD = tokens_1TD[0]
        if pooling == "cls":
            return tokens_TD[self.bounds[:-1].long()]
        if pooling == "last":
            return tokens_TD[self.bounds[1:].long() - 1]
        sums_ND = tokens_TD.new_zeros(len(self.lengths), tokens_TD.shape[-1], dtype=torch.float32)
        sums_ND = sums_ND.index_add(0, self._text_of_T(), tokens_TD.float())
        return sums_ND / self.bounds.diff().unsqueeze(1)

    def _text_of_T(self) -> Tensor:
        texts = torch.arange(len(self.lengths), device=self.ids_T.device)
        return torch.repeat_interleave(texts, self.bounds.diff(), output_size=len(self.ids_T))

    def _positions_T(self, config: PreTrainedConfig) -> Tensor:
        starts_T = self.bounds[:-1].long()[self._text_of_T()]
        if config.model_type not in COUNTS_FROM_PADDING:
            return torch.arange(len(self.ids_T), device=self.ids_T.device) - starts_T
        is_token_T = self.ids_T != config.pad_token_id
        counts_T = is_token_T.cumsum(0)
        before_T = (counts_T - is_token_T.long())[starts_T]
        return (counts_T - before_T) * is_token_T + config.pad_token_id


def pack(token_ids: Sequence[Sequence[int]], *, device: torch.device) -> PackedTokens:
    """``token_ids`` as one row on ``device``."""
    lengths = tuple(len(row) for row in token_ids)
    ids_T = torch.tensor(list(chain.from_iterable(token_ids)))
    bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    return PackedTokens(ids_T.to(device), bounds.to(device), lengths)


def has_packing(backbone: PreTrainedModel) -> bool:
    """Whether packed vectors are known to equal padded ones for this architecture, and the kernel takes its heads."""
    config = backbone.config
    has_window = getattr(config, "sliding_window", None) is not None
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.model_type in TESTED_ARCHITECTURES and not has_window and head_size % 8 == 0 and head_size <= 256


def has_packing_kernel(device: torch.device) -> bool:
    """Whether torch has its variable-length attention on ``device``: CUDA from Ampere on."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def enable_packing(backbone: PreTrainedModel) -> None:
    """``backbone`` takes packed texts from now on, and padded ones as before."""
    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, _mask)
    backbone.set_attn_implementation(_NAME)


def drops_attention(backbone: PreTrainedModel) -> bool:
    """Whether dropout applies to attention weights now; torch's variable-length attention has none."""
    names = ("attention_probs_dropout_prob", "attention_dropout")
    return backbone.training and any(getattr(backbone.config, name, None) for name in names)


def _mask(*, attention_mask: Tensor | None = None, **arguments: Any) -> Tensor | None:
    """The mask of padded texts; packed ones come without, and a square of T by T would not fit in memory."""
    return None if attention_mask is None else sdpa_mask(attention_mask=attention_mask, **arguments)


def _attention(
    module: nn.Module,
    queries_1HLD: Tensor,
    keys_1HLD: Tensor,
    values_1HLD: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every layer: ``[1, L, H, D]`` and no attention weights."""
    inputs = queries_1HLD, keys_1HLD, values_1HLD
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(
            module, *inputs, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **others
        )
    assert dropout == 0
    assert others.get("sliding_window") is None
    causal = module.is_causal if is_causal is None else is_causal
    if queries_1HLD.is_cuda:
        return _by_kernel(*inputs, cu_seq_lens_q, max_length_q, scale=scaling, is_causal=causal), None
    return _one_by_one(*inputs, cu_seq_lens_q, scale=scaling, is_causal=causal), None


def _by_kernel(
    queries_1HLD: Tensor,
    keys_1HLD: Tensor,
    values_1HLD: Tensor,
    bounds: Tensor,
    longest: int,
    *,
    scale: float | None,
    is_causal: bool,
) -> Tensor:
    # Rotary positions are multiplied in float32 under autocast; the kernel takes half precision alone.
    inputs = (part[0].transpose(0, 1).to(values_1HLD.dtype) for part in (queries_1HLD, keys_1HLD, values_1HLD))
    attended_LHD = varlen_attn(
        *inputs,
        bounds,
        bounds,
        longest,
        longest,
        scale=scale,
        window_size=(-1, 0) if is_causal else (-1, -1),
        enable_gqa=queries_1HLD.shape[1] != keys_1HLD.shape[1],
    )
    return attended_LHD.unsqueeze(0)


def _one_by_one(
    queries_1HLD: Tensor,
    keys_1HLD: Tensor,
    values_1HLD: Tensor,
    bounds: Tensor,
    *,
    scale: float | None,
    is_causal: bool,
) -> Tensor:
    attended_1HLD = [
        scaled_dot_product_attention(
            *(part[:, :, start:end] for part in (queries_1HLD, keys_1HLD, values_1HLD)),
            scale=scale,
            is_causal=is_causal,
            enable_gqa=queries_1HLD.shape[1] != keys_1HLD.shape[1],
        )
        for start, end in pairwise(bounds.tolist())
    ]
    return torch.cat(attended_1HLD, dim=2).transpose(1, 2)
