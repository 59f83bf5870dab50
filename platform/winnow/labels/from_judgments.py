"""Judgments to training examples: positives by rank and margin, hard negatives well below them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from winnow.labels.config import LabelConfig
from winnow.records import Judgment, LabelledPassage, Query, TrainingExample

_SOURCE = "llm"


@dataclass(frozen=True)
class Labelling:
    """Training examples, and what became of the queries that gave none."""

    examples: tuple[TrainingExample, ...]
    left_out: Mapping[str, int]
    """Queries without an example, by reason: a status other than ``ok``, or ``no_positive``."""

    @property
    def num_without_negatives(self) -> int:
        """Examples that have only the other queries' passages to learn against."""
        return sum(not example.negatives for example in self.examples)

    @property
    def num_positives(self) -> Mapping[int, int]:
        """How many examples have how many positives."""
        return dict(sorted(Counter(len(example.positives) for example in self.examples).items()))


def label_queries(
    queries: Iterable[Query],
    statuses: Mapping[str, str],
    judgments: Mapping[str, Sequence[Judgment]],
    config: LabelConfig,
) -> Labelling:
    """One example per query that was judged ``ok`` and has a positive, in the order of ``queries``."""
    examples: list[TrainingExample] = []
    left_out: Counter[str] = Counter()
    for query in queries:
        status = statuses.get(query.query_id, "not_judged")
        if status != "ok":
            left_out[status] += 1
            continue
        positives, negatives = split_pool(judgments.get(query.query_id, ()), config)
        if positives:
            examples.append(TrainingExample(query.query_id, query.query, positives, negatives))
        else:
            left_out["no_positive"] += 1
    return Labelling(tuple(examples), dict(left_out))


def split_pool(
    judgments: Sequence[Judgment], config: LabelConfig
) -> tuple[tuple[LabelledPassage, ...], tuple[LabelledPassage, ...]]:
    """Positives and hard negatives of one query, best first. Passages without a score are neither."""
    scored = [(j.utility_score, j.passage_id) for j in judgments if j.utility_score is not None]
    ranked = sorted(scored, key=lambda pair: (-pair[0], pair[1]))
    if not ranked:
        return (), ()
    floor = max(ranked[0][0] - config.max_drop, -float("inf") if config.min_score is None else config.min_score)
    positives = [pair for pair in ranked[: config.max_positives] if pair[0] >= floor]
    if not positives:
        return (), ()
    ceiling = positives[-1][0] - config.negative_margin
    # At a margin of 0 the rank beyond the positives still separates the two.
    first = max(config.first_negative_rank - 1, len(positives))
    negatives = [pair for pair in ranked[first:] if pair[0] <= ceiling]
    return _labelled(positives), _labelled(negatives[: config.max_negatives])


def _labelled(pairs: Sequence[tuple[float, str]]) -> tuple[LabelledPassage, ...]:
    return tuple(LabelledPassage(name, _SOURCE, utility_score=score) for score, name in pairs)
