"""Two judges on the pairs that both have judged: do they call the same passages positive?"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.audit.measures import spearman_of_queries
from winnow.audit.pairs import JudgedPairs, Reading, score_of
from winnow.audit.resampling import Estimate, estimate, kappa, mean
from winnow.labels.evidence import JudgmentIndex


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """Overlap of the positives of two judges, by the same label policy. The other judge is the second."""

    num_queries: int
    """In common, judged ``ok`` by both."""
    num_pairs: int
    both: int
    only_first: int
    only_second: int
    neither: int
    kappa: Estimate
    spearman: Estimate
    """Of the scores within a query, averaged over queries."""


@dataclass(frozen=True)
class SecondOpinion:
    """Another judge's labels on the same pairs."""

    pairs: JudgedPairs
    """Those of the first judge that the other has judged, too."""
    is_positive_N: NDArray[np.bool_]
    score_N: NDArray[np.float64]

    def labels(self, query_ids: Iterable[str]) -> dict[str, dict[str, bool]]:
        """Whether the other judge calls a passage positive, by query and passage, for some queries."""
        wanted, ids_N = set(query_ids), self.pairs.passage_id_N
        return {
            query_id: dict(zip(ids_N[span], self.is_positive_N[span].tolist(), strict=True))
            for query_id, span in self.pairs.spans()
            if query_id in wanted
        }


def second_opinion(pairs: JudgedPairs, other: JudgmentIndex, reading: Reading) -> SecondOpinion:
    """What ``other`` says of ``pairs``, on those that both have judged."""
    keep_N = np.zeros(len(pairs.query_N), dtype=bool)
    is_positive_N = np.zeros(len(keep_N), dtype=bool)
    score_N = np.full(len(keep_N), -np.inf)
    for query_id, span in pairs.spans():
        judgments = other.of(query_id)
        positives = reading.positives_of(pairs.order(query_id, span, seed=reading.seed), judgments)
        by_id = {judgment.passage_id: judgment for judgment in judgments}
        ids = pairs.passage_id_N[span]
        keep_N[span] = [passage_id in by_id for passage_id in ids]
        is_positive_N[span] = [passage_id in positives for passage_id in ids]
        score_N[span] = [score_of(by_id.get(passage_id), reading.evidence) for passage_id in ids]
    return SecondOpinion(pairs.only(keep_N), is_positive_N[keep_N], score_N[keep_N])


def compare_judges(opinion: SecondOpinion, *, samples: int, seed: int) -> JudgeAgreement:
    """The agreement of the two judges on the pairs in common."""
    pairs, second_N = opinion.pairs, opinion.is_positive_N
    first_N = pairs.is_positive_N
    rho_Q = spearman_of_queries(pairs.query_N, pairs.score_N, opinion.score_N, pairs.num_queries)
    measures = {"kappa": kappa(first_N, second_N, pairs.query_N, pairs.num_queries), "spearman": mean(rho_Q)}
    found = estimate(measures, num_queries=pairs.num_queries, samples=samples, seed=seed)
    return JudgeAgreement(
        num_queries=pairs.num_queries,
        num_pairs=len(first_N),
        both=int((first_N & second_N).sum()),
        only_first=int((first_N & ~second_N).sum()),
        only_second=int((~first_N & second_N).sum()),
        neither=int((~first_N & ~second_N).sum()),
        kappa=found["kappa"],
        spearman=found["spearman"],
    )
