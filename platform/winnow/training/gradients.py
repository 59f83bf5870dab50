"""Loss and gradient of one global batch, the same for any number of workers.

Legend: Q queries of this worker, N texts it encodes, P passages of all workers, D dimension,
V queries of this worker that have a row in the loss.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from winnow.losses.config import LossConfig
from winnow.losses.module import build_loss
from winnow.modeling.batches import batches_by_length
from winnow.modeling.protocol import Side
from winnow.training.batches import GlobalBatch, mark_pairs, split_evenly
from winnow.training.gather import (
    average_gradients,
    gather_rows,
    process_rank,
    scale_loss,
    sum_over_workers,
    world_size,
)
from winnow.training.protocol import TrainableEncoder
from winnow.training.tokens import TokenStore


@dataclass(frozen=True)
class StepSums:
    """Sums over all workers; equal on each of them."""

    loss: float
    num_valid: int
    """Queries that have a row in the loss; the others of the batch were skipped."""
    num_tokens: int
    num_padding: int

    @property
    def mean_loss(self) -> float:
        """Loss per valid query."""
        return self.loss / max(self.num_valid, 1)


class GradientStep:
    """Leaves the gradient of a global batch's mean loss in the encoder's parameters."""

    def __init__(
        self,
        encoder: TrainableEncoder,
        tokens: TokenStore,
        loss: LossConfig,
        *,
        micro_batch_tokens: int,
        is_bf16: bool = False,
    ) -> None:
        self._encoder = encoder
        self._tokens = tokens
        self._loss = build_loss(loss)
        self._with_utilities = loss.learns_from_utility
        self._micro_batch_tokens = micro_batch_tokens
        self._is_bf16 = is_bf16
        reference = next(encoder.module.parameters())
        self._device, self._dtype = reference.device, reference.dtype

    def run(self, batch: GlobalBatch) -> StepSums:
        """The sums of ``batch``, with its gradient in place; a loss that is not finite leaves none."""
        query_parts = self._deal("query", [group.query_id for group in batch.groups])
        passage_parts = self._deal("passage", batch.passage_ids)
        groups = {group.query_id: group for group in batch.groups}
        own_groups = [groups[query_id] for query_id in query_parts[process_rank()]]

        queries = self._encode("query", query_parts[process_rank()])
        passages = self._encode("passage", passage_parts[process_rank()])
        passages_PD = gather_rows(passages.embeddings_ND, [len(part) for part in passage_parts])
        columns = [passage_id for part in passage_parts for passage_id in part]
        labels = mark_pairs(own_groups, columns, with_utilities=self._with_utilities).to(self._device)
        loss_V = self._loss(queries.embeddings_ND @ passages_PD.T, labels)
        return self._backward(loss_V, queries, passages)

    def _backward(self, loss_V: Tensor, queries: "_Encoded", passages: "_Encoded") -> StepSums:
        num_tokens = queries.num_tokens + passages.num_tokens
        num_padding = queries.num_padding + passages.num_padding
        loss, *counts = sum_over_workers([loss_V.sum().item(), len(loss_V), num_tokens, num_padding], self._device)
        sums = StepSums(loss, *map(round, counts))
        if math.isfinite(loss):
            scale_loss(loss_V, sums.num_valid).backward()
            average_gradients(self._encoder.module)
        return sums

    def _deal(self, side: Side, ids: Sequence[str]) -> list[list[str]]:
        lengths = [self._tokens.length(side, text_id) for text_id in ids]
        return [[ids[position] for position in part] for part in split_evenly(lengths, world_size())]

    def _encode(self, side: Side, ids: Sequence[str]) -> "_Encoded":
        if not ids:
            # Requires gradient, so that the backward pass reaches the collective of ``gather_rows`` here too.
            shape = 0, self._encoder.dimension
            return _Encoded(torch.zeros(shape, dtype=self._dtype, device=self._device, requires_grad=True), 0, 0)
        rows = [self._tokens.tokens(side, text_id) for text_id in ids]
        batches = batches_by_length([len(row) for row in rows], max_tokens=self._micro_batch_tokens)
        embedded = [self._embed([rows[position] for position in batch]) for batch in batches]
        order = torch.tensor([position for batch in batches for position in batch], device=self._device)
        num_tokens = sum(map(len, rows))
        num_computed = sum(len(batch) * len(rows[batch[0]]) for batch in batches)
        return _Encoded(torch.cat(embedded)[order.argsort()], num_tokens, num_computed - num_tokens)

    def _embed(self, token_ids: Sequence[Sequence[int]]) -> Tensor:
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._is_bf16):
            return self._encoder.embed(*self._encoder.collate(token_ids)).to(self._dtype)


@dataclass(frozen=True)
class _Encoded:
    embeddings_ND: Tensor
    num_tokens: int
    num_padding: int
