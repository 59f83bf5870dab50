"""Judgments and human labels to training examples, and what became of the queries on the way."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from winnow.labels.config import Evidence, LabelConfig
from winnow.labels.from_judgments import JudgedPool, split_pool
from winnow.labels.opinions import people_say, settle, unite
from winnow.labels.pools import PooledQuery
from winnow.pooling.order import PoolOrder
from winnow.records import Judgment, LabelledPassage, LabelSource, TrainingExample

_NOBODY: Mapping[str, int] = MappingProxyType({})


@dataclass
class LabelCounts:
    """What became of the queries. Hard negatives are counted as a run has them that knows what people said."""

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
    num_withheld: int = 0
    num_kept_out: int = 0
    """Hard negatives of the judge's that people hold for something else."""
    num_vetoed: int = 0
    """Positives of the judge's that people hold for something else."""

    @property
    def num_examples(self) -> int:
        return self.num_positives.total() + self.num_only_human


class Labeller:
    """Makes training examples, one query at a time, and counts what it made.

    A ``min_score`` that is to be calibrated has to be a number by now.
    """

    def __init__(self, config: LabelConfig, evidence: Evidence, *, relevant_from: int, seed: int) -> None:
        self._config = config
        self._evidence = evidence
        self._relevant_from = relevant_from
        self._seed = seed
        self.counts = LabelCounts()

    def label(
        self, pool: PooledQuery, status: str, judgments: Sequence[Judgment], grades: Mapping[str, int] = _NOBODY
    ) -> TrainingExample | None:
        """The example of a query that has a positive: the judge's, where it was judged ``ok``, or people's.

        ``grades`` are people's, in the pool or not. Whose opinion counts is decided when the example is sampled.
        """
        order = PoolOrder(pool.query_id, pool.best_ranks, self._seed)
        # Only ``ok`` is a label: anything else is missing data, which makes no passage a negative.
        known = judgments if status == "ok" else ()
        judged = split_pool(known, self._evidence, self._config, order)
        people = people_say(grades, self._relevant_from, order)
        scores = {judgment.passage_id: judgment.utility_score for judgment in known}
        united = unite(judged, people, scores, max_negatives=self._config.max_negatives)
        if not united.positives:
            self.counts.left_out["no_positive" if status == "ok" else status] += 1
            return None
        example = TrainingExample(pool.query_id, pool.query, *united)
        self._count(judged, example)
        return example

    def _count(self, judged: JudgedPool, example: TrainingExample) -> None:
        counts, settled = self.counts, settle(example, knows_people=True)
        if judged.positives:
            counts.num_positives[len(judged.positives)] += 1
        counts.num_only_human += not judged.positives
        counts.sources.update(passage.source for passage in example.positives)
        counts.num_negatives += len(settled.negatives)
        counts.num_without_negatives += not settled.negatives
        counts.num_withheld += len(settled.withheld)
        counts.num_kept_out += _by_judge(example.negatives) - _by_judge(settled.negatives)
        counts.num_vetoed += _by_judge(example.positives) - _by_judge(settled.positives)


def _by_judge(passages: Sequence[LabelledPassage]) -> int:
    return sum(passage.source == "llm" for passage in passages)
