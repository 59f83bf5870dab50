"""Judgments to training examples: positives by the judge's verdict or score, hard negatives from the rest."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from winnow.labels.config import Evidence, LabelConfig
from winnow.labels.evidence import columns_held, evidence_in
from winnow.labels.pools import UNKNOWN, PooledPassage, PooledQuery
from winnow.records import Judgment, LabelledPassage, TrainingExample

_SOURCE = "llm"
_NOTHING_KNOWN: Mapping[str, PooledPassage] = MappingProxyType({})
_INFINITY = float("inf")


class SplitPool(NamedTuple):
    """What one query learns from."""

    positives: tuple[LabelledPassage, ...] = ()
    """Best first."""
    negatives: tuple[LabelledPassage, ...] = ()
    """Hardest first."""
    num_kept_out: int = 0
    """Human positives that would have been hard negatives."""


@dataclass
class LabelCounts:
    """What became of the queries."""

    left_out: Counter[str] = field(default_factory=Counter)
    """Queries without an example, by reason: a status other than ``ok``, or ``no_positive``."""
    num_positives: Counter[int] = field(default_factory=Counter)
    """How many examples have how many positives."""
    num_negatives: int = 0
    num_without_negatives: int = 0
    """Examples that have only the other queries' passages to learn against."""
    num_kept_out: int = 0
    """Human positives that would have been hard negatives."""

    @property
    def num_examples(self) -> int:
        return self.num_positives.total()


class Labeller:
    """Makes training examples, one query at a time, and counts what it made.

    A ``min_score`` that is to be calibrated has to be a number by now.
    """

    def __init__(self, config: LabelConfig) -> None:
        self._config = config
        self.counts = LabelCounts()

    def label(self, pool: PooledQuery, status: str, judgments: Sequence[Judgment]) -> TrainingExample | None:
        """The example of a query that was judged ``ok`` and has a positive; only ``ok`` is a label."""
        if status != "ok":
            self.counts.left_out[status] += 1
            return None
        split = split_pool(judgments, self._config, pool.passages)
        if not split.positives:
            self.counts.left_out["no_positive"] += 1
            return None
        self._count(split)
        return TrainingExample(pool.query_id, pool.query, split.positives, split.negatives)

    def _count(self, split: SplitPool) -> None:
        self.counts.num_positives[len(split.positives)] += 1
        self.counts.num_negatives += len(split.negatives)
        self.counts.num_without_negatives += not split.negatives
        self.counts.num_kept_out += split.num_kept_out


def split_pool(
    judgments: Sequence[Judgment], config: LabelConfig, passages: Mapping[str, PooledPassage] = _NOTHING_KNOWN
) -> SplitPool:
    """Positives and hard negatives of one query; what is known of its ``passages`` decides among the negatives."""
    evidence = evidence_in(columns_held(judgments), config)
    if evidence is None:
        return SplitPool()
    if evidence == "score":
        positives, rejected = _by_score(judgments, config)
    else:
        positives, rejected = _by_verdict(judgments, evidence, config)
        rejected.sort(key=lambda judgment: _ease(judgment, passages))
    if not positives:
        return SplitPool()
    if config.leave_out_relevant:
        rejected = [judgment for judgment in rejected if not judgment.is_relevant]
    negatives = [judgment for judgment in rejected if not _known(judgment, passages).is_human_positive]
    num_kept_out = len(rejected) - len(negatives)
    return SplitPool(_labelled(positives), _labelled(negatives[: config.max_negatives]), num_kept_out)


def _by_score(judgments: Sequence[Judgment], config: LabelConfig) -> tuple[list[Judgment], list[Judgment]]:
    """Positives by rank, drop and floor; the passages well below them. Passages without a score are neither."""
    assert not isinstance(config.min_score, str), "a calibrated threshold is a number by now"
    scores = {judgment.passage_id: judgment.utility_score for judgment in judgments}
    ranked = sorted((j for j in judgments if scores[j.passage_id] is not None), key=_best_score_first)
    best = scores[ranked[0].passage_id]
    floor = max(best - config.max_drop, -_INFINITY if config.min_score is None else config.min_score)
    positives = [j for j in ranked[: config.most_positives("score")] if scores[j.passage_id] >= floor]
    if not positives:
        return [], []
    ceiling = scores[positives[-1].passage_id] - config.negative_margin
    # At a margin of 0 the rank beyond the positives still separates the two.
    first = max(config.first_negative_rank - 1, len(positives))
    return positives, [j for j in ranked[first:] if scores[j.passage_id] <= ceiling]


def _by_verdict(
    judgments: Sequence[Judgment], evidence: Evidence, config: LabelConfig
) -> tuple[list[Judgment], list[Judgment]]:
    """What the judge chose, as many as are wanted; and all that it did not choose, in no order."""
    if evidence == "rank":
        chosen = _top_of_ranking(judgments, config.top_percent)
        names = {judgment.passage_id for judgment in chosen}
        # A passage that the judge left out of its ranking comes after all that it named.
        rejected = [judgment for judgment in judgments if judgment.passage_id not in names]
    else:
        verdicts = [(_verdict(judgment, evidence), judgment) for judgment in judgments]
        chosen = sorted((judgment for verdict, judgment in verdicts if verdict), key=_best_score_first)
        rejected = [judgment for verdict, judgment in verdicts if verdict is False]
    return chosen[: config.most_positives(evidence)], rejected


def _verdict(judgment: Judgment, evidence: Evidence) -> bool | None:
    if evidence == "relevant":
        return judgment.is_relevant
    # What is not even relevant is not asked about again.
    return False if judgment.is_useful is None and judgment.is_relevant is False else judgment.is_useful


def _top_of_ranking(judgments: Sequence[Judgment], percent: float) -> list[Judgment]:
    ranked = sorted((j for j in judgments if j.utility_rank is not None), key=lambda j: (j.utility_rank, j.passage_id))
    return ranked[: max(1, int(len(ranked) * percent / 100))]


def _best_score_first(judgment: Judgment) -> tuple[float, str]:
    return _INFINITY if judgment.utility_score is None else -judgment.utility_score, judgment.passage_id


def _ease(judgment: Judgment, passages: Mapping[str, PooledPassage]) -> tuple[bool, float, str]:
    """Sorts hardest first: relevant, then high in a list, then by id so that equal inputs give equal labels."""
    best_rank = _known(judgment, passages).best_rank
    return not judgment.is_relevant, _INFINITY if best_rank is None else best_rank, judgment.passage_id


def _known(judgment: Judgment, passages: Mapping[str, PooledPassage]) -> PooledPassage:
    return passages.get(judgment.passage_id, UNKNOWN)


def _labelled(judgments: Sequence[Judgment]) -> tuple[LabelledPassage, ...]:
    return tuple(LabelledPassage(j.passage_id, _SOURCE, utility_score=j.utility_score) for j in judgments)
