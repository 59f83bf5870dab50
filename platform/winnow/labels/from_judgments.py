"""Judgments and human labels to training examples: positives by either, hard negatives from the rest."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from winnow.labels.config import Evidence, LabelConfig
from winnow.labels.evidence import columns_held, evidence_in
from winnow.labels.pools import UNKNOWN, PooledPassage, PooledQuery
from winnow.records import Judgment, LabelledPassage, LabelSource, TrainingExample

_NOTHING_KNOWN: Mapping[str, PooledPassage] = MappingProxyType({})
_INFINITY = float("inf")


class SplitPool(NamedTuple):
    """What the judge makes of one pool."""

    positives: tuple[LabelledPassage, ...] = ()
    """The judge's, best first."""
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
    """How many examples have how many of the judge's positives, where they have any."""
    sources: Counter[LabelSource] = field(default_factory=Counter)
    """Positives by who calls them so."""
    num_only_human: int = 0
    """Examples whose positives only people named: the query was not judged, or the judge found nothing."""
    num_negatives: int = 0
    num_without_negatives: int = 0
    """Examples that have only the other queries' passages to learn against."""
    num_kept_out: int = 0
    """Human positives that would have been hard negatives."""

    @property
    def num_examples(self) -> int:
        return self.num_positives.total() + self.num_only_human


class Labeller:
    """Makes training examples, one query at a time, and counts what it made.

    A ``min_score`` that is to be calibrated has to be a number by now.
    """

    def __init__(self, config: LabelConfig) -> None:
        self._config = config
        self.counts = LabelCounts()

    def label(
        self, pool: PooledQuery, status: str, judgments: Sequence[Judgment], human_positives: Sequence[str] = ()
    ) -> TrainingExample | None:
        """The example of a query that has a positive: the judge's, where it was judged ``ok``, or people's.

        All are in it, the judge's first; which of them are trained on is decided when they are sampled.
        """
        # Only ``ok`` is a label: anything else is missing data, which makes no passage a negative.
        known = judgments if status == "ok" else ()
        split = split_pool(known, self._config, pool.passages, human_positives)
        positives = _united(split.positives, human_positives, known)
        if not positives:
            self.counts.left_out["no_positive" if status == "ok" else status] += 1
            return None
        self._count(split, positives)
        return TrainingExample(pool.query_id, pool.query, positives, split.negatives)

    def _count(self, split: SplitPool, positives: Sequence[LabelledPassage]) -> None:
        if split.positives:
            self.counts.num_positives[len(split.positives)] += 1
        self.counts.num_only_human += not split.positives
        self.counts.sources.update(passage.source for passage in positives)
        self.counts.num_negatives += len(split.negatives)
        self.counts.num_without_negatives += not split.negatives
        self.counts.num_kept_out += split.num_kept_out


def split_pool(
    judgments: Sequence[Judgment],
    config: LabelConfig,
    passages: Mapping[str, PooledPassage] = _NOTHING_KNOWN,
    human_positives: Collection[str] = (),
) -> SplitPool:
    """The judge's positives and the hard negatives of one query; ``passages`` say which of these are hard.

    Human positives are no negatives. They are not among the positives here unless the judge agrees; but where it
    names none, there are negatives for their sake.
    """
    evidence = evidence_in(columns_held(judgments), config)
    if evidence is None:
        return SplitPool()
    if evidence == "score":
        positives, rejected = _by_score(judgments, config)
    else:
        positives, rejected = _by_verdict(judgments, evidence, config)
        rejected.sort(key=lambda judgment: _ease(judgment, passages))
    if not positives and not human_positives:
        return SplitPool()
    if config.leave_out_relevant:
        rejected = [judgment for judgment in rejected if not judgment.is_relevant]
    negatives = [judgment for judgment in rejected if judgment.passage_id not in human_positives]
    num_kept_out = len(rejected) - len(negatives)
    return SplitPool(_labelled(positives), _labelled(negatives[: config.max_negatives]), num_kept_out)


def _united(
    judged: Sequence[LabelledPassage], human_positives: Sequence[str], judgments: Sequence[Judgment]
) -> tuple[LabelledPassage, ...]:
    """The judge's positives in their order, then those that only people named, with their score if they have one."""
    called = set(human_positives)
    positives = {p.passage_id: replace(p, source="both") if p.passage_id in called else p for p in judged}
    scores = {judgment.passage_id: judgment.utility_score for judgment in judgments}
    for name in human_positives:
        positives.setdefault(name, LabelledPassage(name, "human", utility_score=scores.get(name)))
    return tuple(positives.values())


def _by_score(judgments: Sequence[Judgment], config: LabelConfig) -> tuple[list[Judgment], list[Judgment]]:
    """Positives by rank, drop and floor; the passages well below them. Passages without a score are neither."""
    assert not isinstance(config.min_score, str), "a calibrated threshold is a number by now"
    scores = {judgment.passage_id: judgment.utility_score for judgment in judgments}
    ranked = sorted((j for j in judgments if scores[j.passage_id] is not None), key=_best_score_first)
    best = scores[ranked[0].passage_id]
    floor = max(best - config.max_drop, -_INFINITY if config.min_score is None else config.min_score)
    positives = [j for j in ranked[: config.most_positives("score")] if scores[j.passage_id] >= floor]
    ceiling = (scores[positives[-1].passage_id] if positives else floor) - config.negative_margin
    # At a margin of 0 the rank beyond the positives still separates the two.
    first = max(config.first_negative_rank - 1, len(positives))
    return positives, [j for j in ranked[first : config.last_negative_rank] if scores[j.passage_id] <= ceiling]


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
    best_rank = passages.get(judgment.passage_id, UNKNOWN).best_rank
    return not judgment.is_relevant, _INFINITY if best_rank is None else best_rank, judgment.passage_id


def _labelled(judgments: Sequence[Judgment]) -> tuple[LabelledPassage, ...]:
    return tuple(LabelledPassage(j.passage_id, "llm", utility_score=j.utility_score) for j in judgments)
