"""Retrieval measures of single questions, computed by ir-measures.

A question is measured only if people found at least one passage useful for it; a system that
returns nothing for such a question scores 0 there.
"""

from collections.abc import Mapping, Sequence

import ir_measures
from ir_measures import Measure, Qrel, ScoredDoc

from winnow.grades import relevant

Rankings = Mapping[str, Sequence[str]]
"""Passage ids by query id, best first."""

Qrels = Mapping[str, Mapping[str, int]]
"""Grades by query id and passage id."""

Values = Mapping[str, Mapping[str, float]]
"""Values by measure and query id."""


def answerable(qrels: Qrels, *, relevant_from: int = 1) -> dict[str, Mapping[str, int]]:
    """The questions with at least one relevant passage. The others measure nothing: count them, leave them out."""
    return {query_id: grades for query_id, grades in qrels.items() if relevant(grades, relevant_from)}


def measure_rankings(
    rankings: Rankings, qrels: Qrels, measures: Sequence[str], *, relevant_from: int = 1
) -> dict[str, dict[str, float]]:
    """The value of each measure for each answerable question, in the order of ``qrels``.

    Passages graded ``relevant_from`` or more are relevant, except to nDCG, which uses the grades themselves.

    >>> measure_rankings({"q": ["b", "a"]}, {"q": {"a": 1}}, ["RR@10"])
    {'RR@10': {'q': 0.5}}
    """
    judged = answerable(qrels, relevant_from=relevant_from)
    parsed = {_parse(name, relevant_from): name for name in measures}
    values = {name: dict.fromkeys(judged, 0.0) for name in measures}
    for found in ir_measures.iter_calc(list(parsed), _as_qrels(judged), _as_run(rankings, judged)):
        values[parsed[found.measure]][found.query_id] = float(found.value)
    return values


def mean(values: Mapping[str, float]) -> float:
    """The mean over the questions; NaN without any."""
    return sum(values.values()) / len(values) if values else float("nan")


def _parse(name: str, relevant_from: int) -> Measure:
    measure = ir_measures.parse_measure(name)
    return measure(rel=relevant_from) if "rel" in measure.SUPPORTED_PARAMS else measure


def _as_qrels(judged: Qrels) -> list[Qrel]:
    return [Qrel(query_id, passage_id, grade) for query_id in judged for passage_id, grade in judged[query_id].items()]


def _as_run(rankings: Rankings, judged: Qrels) -> list[ScoredDoc]:
    # Scores are made from ranks: tools break ties of scores in different ways, and a ranking has none.
    return [
        ScoredDoc(query_id, passage_id, float(-rank))
        for query_id in judged
        for rank, passage_id in enumerate(rankings.get(query_id, ()))
    ]
