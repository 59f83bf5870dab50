"""A judge's evidence on one query's pool to its opinion: positives, hard negatives, and what it leaves open."""

from collections.abc import Sequence
from typing import NamedTuple

from winnow.labels.config import Evidence, LabelConfig
from winnow.pooling.order import PoolOrder
from winnow.records import Judgment, LabelledPassage

_INFINITY = float("inf")


class JudgedPool(NamedTuple):
    """What the judge makes of one pool. What is in none of the three may be another query's negative."""

    positives: tuple[LabelledPassage, ...] = ()
    """Best first."""
    negatives: tuple[LabelledPassage, ...] = ()
    """Hardest first."""
    withheld: tuple[LabelledPassage, ...] = ()
    """Neither: cut off by ``max_positives``, too near to a positive, or left unclear."""


class _Split(NamedTuple):
    positives: list[Judgment]
    rejected: list[Judgment]
    """Hardest first."""
    withheld: list[Judgment]


def split_pool(judgments: Sequence[Judgment], evidence: Evidence, config: LabelConfig, order: PoolOrder) -> JudgedPool:
    """The judge's opinion of one query's pool, from its ``evidence``. People have no part in it.

    ``order`` decides between passages that the judge takes for equally good.
    """
    split = (
        _by_score(judgments, config, order) if evidence == "score" else _by_verdict(judgments, evidence, config, order)
    )
    withheld, rejected = split.withheld, split.rejected
    if config.leave_out_relevant:
        withheld = [*withheld, *(judgment for judgment in rejected if judgment.is_relevant)]
        rejected = [judgment for judgment in rejected if not judgment.is_relevant]
    return JudgedPool(_labelled(split.positives), _labelled(rejected[: config.max_negatives]), _labelled(withheld))


def _by_score(judgments: Sequence[Judgment], config: LabelConfig, order: PoolOrder) -> _Split:
    """Positives by rank, drop and floor; the passages well below them. Passages without a score are left open."""
    assert not isinstance(config.min_score, str), "a calibrated threshold is a number by now"
    scores = {judgment.passage_id: judgment.utility_score for judgment in judgments}
    ranked = sorted((j for j in judgments if j.utility_score is not None), key=lambda j: _best_first(j, order))
    best = scores[ranked[0].passage_id] if ranked else -_INFINITY
    floor = max(best - config.max_drop, -_INFINITY if config.min_score is None else config.min_score)
    good_enough = [j for j in ranked if scores[j.passage_id] >= floor]
    positives = good_enough[: config.most_positives("score")]
    ceiling = (scores[positives[-1].passage_id] if positives else floor) - config.negative_margin
    # What a cap keeps out of the positives is no negative for it, also at a margin of 0.
    start = max(config.first_negative_rank - 1, len(good_enough))
    decided = {j.passage_id for j in (*positives, *(j for j in ranked[start:] if scores[j.passage_id] <= ceiling))}
    rejected = [j for j in ranked[start : config.last_negative_rank] if j.passage_id in decided]
    return _Split(positives, rejected, [j for j in judgments if j.passage_id not in decided])


def _by_verdict(judgments: Sequence[Judgment], evidence: Evidence, config: LabelConfig, order: PoolOrder) -> _Split:
    """What the judge chose, as many as are wanted; and all that it did not choose."""
    if evidence == "rank":
        chosen = _top_of_ranking(judgments, config.top_percent)
        names = {judgment.passage_id for judgment in chosen}
        # A passage that the judge left out of its ranking comes after all that it named.
        rejected, unclear = [judgment for judgment in judgments if judgment.passage_id not in names], []
    else:
        verdicts = [(_verdict(judgment, evidence), judgment) for judgment in judgments]
        chosen = sorted((j for verdict, j in verdicts if verdict), key=lambda j: _best_first(j, order))
        rejected = [judgment for verdict, judgment in verdicts if verdict is False]
        unclear = [judgment for verdict, judgment in verdicts if verdict is None]
    rejected.sort(key=lambda judgment: (not judgment.is_relevant, order.key(judgment.passage_id)))
    most = config.most_positives(evidence)
    return _Split(chosen[:most], rejected, [*(chosen[most:] if most is not None else []), *unclear])


def _verdict(judgment: Judgment, evidence: Evidence) -> bool | None:
    if evidence == "relevant":
        return judgment.is_relevant
    # What is not even relevant is not asked about again.
    return False if judgment.is_useful is None and judgment.is_relevant is False else judgment.is_useful


def _top_of_ranking(judgments: Sequence[Judgment], percent: float) -> list[Judgment]:
    ranked = sorted((j for j in judgments if j.utility_rank is not None), key=lambda j: j.utility_rank)
    return ranked[: max(1, int(len(ranked) * percent / 100))]


def _best_first(judgment: Judgment, order: PoolOrder) -> tuple[float, tuple[float, int]]:
    score = _INFINITY if judgment.utility_score is None else -judgment.utility_score
    return score, order.key(judgment.passage_id)


def _labelled(judgments: Sequence[Judgment]) -> tuple[LabelledPassage, ...]:
    return tuple(LabelledPassage(j.passage_id, "llm", utility_score=j.utility_score) for j in judgments)
