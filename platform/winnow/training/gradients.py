"""Loss and gradient of a step's batches, the same for any number of workers.

Legend: Q queries of this worker, N texts it encodes, P passages of all workers, D dimension,
V queries of this worker that have a row in the loss.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from winnow.losses.module import Loss
from winnow.modeling.protocol import Side
from winnow.training.alarm import effective_rank, score_spread
from winnow.training.batches import GlobalBatch, mark_pairs, split_evenly
from winnow.training.config import Precision
from winnow.training.encoding import Encoded, TextEncoding
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

    loss: float = 0.0
    num_valid: int = 0
    """Queries that have a row in the loss; the others of the batch were skipped."""
    num_tokens: int = 0
    num_padding: int = 0
    score_spread: float = 0.0
    """Spread of each query's scores as a share of their size, summed over ``num_scored``."""
    num_scored: int = 0
    effective_rank: float = 0.0
    """Of the passages' embeddings; the last batch's, where several are accumulated."""
    num_passages: int = 0
    """Of the batch that ``effective_rank`` is from."""
    num_batches: int = 0
    """Fewer than were asked for if the loss stopped being finite."""

    @property
    def mean_loss(self) -> float:
        """Loss per valid query."""
        return self.loss / max(self.num_valid, 1)

    def plus(self, later: "StepSums") -> "StepSums":
        """Both together."""
        added = ("loss", "num_valid", "num_tokens", "num_padding", "score_spread", "num_scored", "num_batches")
        return replace(later, **{name: getattr(self, name) + getattr(later, name) for name in added})


class GradientStep:
    """Leaves the gradient of the mean loss over a step's valid queries in the parameters of encoder and loss.

    With ``use_cache`` texts are encoded without keeping activations, and again, a micro-batch at a time, once the
    gradient of the loss with respect to their embeddings is known (GradCache, arXiv 2101.06983).
    ``loss_scale`` multiplies every gradient, for half precision.
    """

    def __init__(
        self,
        encoder: TrainableEncoder,
        tokens: TokenStore,
        loss: Loss,
        *,
        with_utilities: bool,
        micro_batch_tokens: int,
        precision: Precision = "fp32",
        use_cache: bool = False,
    ) -> None:
        self._texts = TextEncoding(
            encoder, tokens, micro_batch_tokens=micro_batch_tokens, precision=precision, use_cache=use_cache
        )
        self._tokens = tokens
        self._loss = loss
        self._with_utilities = with_utilities
        self._parameters = [p for module in (encoder.module, loss) for p in module.parameters() if p.requires_grad]
        self._device = next(encoder.module.parameters()).device

    def run(self, batches: Sequence[GlobalBatch], *, loss_scale: float = 1.0) -> StepSums:
        """The sums of ``batches``, with their gradient in place; a loss that is not finite leaves none."""
        num_queries = sum(len(batch.groups) for batch in batches)
        sums = StepSums()
        for batch in batches:
            sums = sums.plus(self._accumulate(batch, num_queries, loss_scale))
            if not math.isfinite(sums.loss):
                return sums
        average_gradients(self._parameters, factor=num_queries / max(sums.num_valid, 1))
        return sums

    def _accumulate(self, batch: GlobalBatch, num_queries: int, loss_scale: float) -> StepSums:
        """Add the gradient of this worker's share of ``batch``."""
        query_parts = self._deal("query", [group.query_id for group in batch.groups])
        passage_parts = self._deal("passage", batch.passage_ids)
        groups = {group.query_id: group for group in batch.groups}
        own_groups = [groups[query_id] for query_id in query_parts[process_rank()]]

        queries = self._texts.encode("query", query_parts[process_rank()])
        passages = self._texts.encode("passage", passage_parts[process_rank()])
        passages_PD = gather_rows(passages.embeddings_ND, [len(part) for part in passage_parts])
        columns = [passage_id for part in passage_parts for passage_id in part]
        labels = mark_pairs(own_groups, columns, with_utilities=self._with_utilities).to(self._device)
        scores_QP = queries.embeddings_ND @ passages_PD.T
        loss_V = self._loss(scores_QP, labels)
        sums = self._sum(loss_V, scores_QP.detach(), passages_PD.detach(), (queries, passages))
        if math.isfinite(sums.loss):
            (scale_loss(loss_V, num_queries) * loss_scale).backward()
            for encoded in (queries, passages):
                self._texts.backward(encoded)
        return sums

    def _sum(self, loss_V: Tensor, scores_QP: Tensor, passages_PD: Tensor, sides: Sequence[Encoded]) -> StepSums:
        # The rank is the same for all, but for rounding that may differ between machines: the first one's counts.
        rank = effective_rank(passages_PD) if process_rank() == 0 else 0.0
        spread, num_scored = score_spread(scores_QP)
        own = [loss_V.sum().item(), spread, rank, len(loss_V), num_scored]
        own += [sum(side.num_tokens for side in sides), sum(side.num_padding for side in sides)]
        loss, spread, rank, *counts = sum_over_workers(own, self._device)
        num_valid, num_scored, num_tokens, num_padding = map(round, counts)
        return StepSums(loss, num_valid, num_tokens, num_padding, spread, num_scored, rank, len(passages_PD), 1)

    def _deal(self, side: Side, ids: Sequence[str]) -> list[list[str]]:
        lengths = [self._tokens.length(side, text_id) for text_id in ids]
        return [[ids[position] for position in part] for part in split_evenly(lengths, world_size())]
