"""Measures on dev questions while training: a small retrieval task that the workers share.

Legend: Q queries, P passages, D dimension.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from winnow.errors import DataError
from winnow.evaluation.measures import Qrels, answerable, mean, measure_rankings
from winnow.grades import relevant
from winnow.modeling.protocol import Side
from winnow.seeding import derive_seed
from winnow.training.batches import split_evenly
from winnow.training.encoding import Precision, TextEncoding
from winnow.training.gather import gather_rows, process_rank, sum_over_workers, world_size
from winnow.training.protocol import TrainableEncoder
from winnow.training.tokens import TokenStore
from winnow.training.watching import DevConfig


@dataclass(frozen=True)
class DevSet:
    """Dev questions, by id, with the passages that are searched for them."""

    queries: tuple[str, ...]
    passages: tuple[str, ...]
    qrels: Qrels
    tokens: TokenStore
    relevant_from: int = 1


@dataclass(frozen=True)
class DevChoice:
    """The ids of a dev set, and what was left out on the way to it."""

    queries: tuple[str, ...]
    passages: tuple[str, ...]
    num_unjudged: int
    """Questions for which nobody found a useful passage."""
    num_unfindable: int
    """Questions none of whose useful passages is in the corpus."""
    num_not_drawn: int
    """Questions beyond ``max_queries``."""


def choose_dev(
    qrels: Qrels, passage_ids: Sequence[str], config: DevConfig, *, seed: int, relevant_from: int = 1
) -> DevChoice:
    """Questions that can be answered from the corpus ``passage_ids``, and passages to search. Raises ``DataError``.

    All useful passages of the chosen questions are among the passages, even if they alone are more than
    ``max_passages``. Equal seeds choose alike, whatever the order of ``qrels``.
    """
    judged = answerable(qrels, relevant_from=relevant_from)
    useful = {query_id: relevant(grades, relevant_from) for query_id, grades in judged.items()}
    known = set().union(*useful.values()).intersection(passage_ids)
    findable = sorted(query_id for query_id in useful if useful[query_id] & known)
    if not findable:
        raise DataError(
            f"none of {len(qrels)} dev questions can be measured: {len(qrels) - len(useful)} without a useful passage "
            f"in the qrels, {len(useful)} whose useful passages are not in the corpus; check data.dev.qrels"
        )
    queries = sorted(findable, key=lambda query_id: derive_seed(seed, "dev", query_id))[: config.max_queries]
    passages = set().union(*(useful[query_id] for query_id in queries)) & known
    passages |= set(_others(passage_ids, passages, count=config.max_passages - len(passages), seed=seed))
    return DevChoice(
        queries=tuple(queries),
        passages=tuple(sorted(passages)),
        num_unjudged=len(qrels) - len(useful),
        num_unfindable=len(useful) - len(findable),
        num_not_drawn=len(findable) - len(queries),
    )


class DevEvaluation:
    """Measures an encoder on a dev set, as it is at the moment."""

    def __init__(
        self,
        encoder: TrainableEncoder,
        dev: DevSet,
        config: DevConfig,
        *,
        micro_batch_tokens: int,
        precision: Precision = "fp32",
    ) -> None:
        self._module = encoder.module
        self._dev = dev
        self._config = config
        self._texts = TextEncoding(encoder, dev.tokens, micro_batch_tokens=micro_batch_tokens, precision=precision)

    def measure(self) -> dict[str, float]:
        """The mean of each measure over the questions; the same numbers on all workers, which call this together."""
        with _evaluating(self._module), torch.no_grad():
            queries, queries_QD = self._encode("query", self._dev.queries)
            passages, passages_PD = self._encode("passage", self._dev.passages)
        names = self._config.measures
        values = [0.0] * len(names)
        if process_rank() == 0:
            # One worker ranks: on unlike machines rounding could order two passages in two ways.
            values = self._means(queries_QD @ passages_PD.T, queries, passages)
        return dict(zip(names, sum_over_workers(values, queries_QD.device), strict=True))

    def _encode(self, side: Side, ids: Sequence[str]) -> tuple[list[str], Tensor]:
        """All ids in the order of the rows, and the embeddings, of which each worker computed a part."""
        lengths = [self._dev.tokens.length(side, text_id) for text_id in ids]
        parts = [[ids[position] for position in part] for part in split_evenly(lengths, world_size())]
        own_ND = self._texts.encode(side, parts[process_rank()]).embeddings_ND
        return [text_id for part in parts for text_id in part], gather_rows(own_ND, [len(part) for part in parts])

    def _means(self, scores_QP: Tensor, queries: Sequence[str], passages: Sequence[str]) -> list[float]:
        depth = max(int(name.partition("@")[2]) for name in self._config.measures)
        # By id among equal scores, so that the split over workers does not matter.
        by_id = sorted(range(len(passages)), key=passages.__getitem__)
        names = [passages[position] for position in by_id]
        best_QK = scores_QP[:, by_id].argsort(dim=1, descending=True, stable=True)[:, :depth]
        rankings = {query: [names[k] for k in row] for query, row in zip(queries, best_QK.tolist(), strict=True)}
        qrels = {query_id: self._dev.qrels[query_id] for query_id in self._dev.queries}
        values = measure_rankings(rankings, qrels, self._config.measures, relevant_from=self._dev.relevant_from)
        return [mean(values[name]) for name in self._config.measures]


def _others(passage_ids: Sequence[str], taken: set[str], *, count: int, seed: int) -> list[str]:
    """``count`` more passages, or as many as there are."""
    if count <= 0:
        return []
    draw = random.Random(derive_seed(seed, "dev passages"))
    # By position, which costs the same for a corpus of any size; enough to make up for those taken already.
    drawn = draw.sample(range(len(passage_ids)), min(len(passage_ids), count + len(taken)))
    return [passage_ids[position] for position in drawn if passage_ids[position] not in taken][:count]


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; each part has its own mode back after it."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, is_training in modes:
            part.training = is_training
