"""The report of an audit: what became of the queries, and every comparison that could be made."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from winnow.audit.biases import LengthBias, PositionBias
from winnow.audit.judges import JudgeAgreement
from winnow.audit.lists import ListComparison
from winnow.audit.pairs import JudgedPairs
from winnow.audit.people import HumanAgreement
from winnow.audit.reordering import Reordering


@dataclass(frozen=True, slots=True)
class QueryCounts:
    """What became of the queries that were to be judged."""

    statuses: Mapping[str, int]
    positives: Mapping[int, int]
    """How many queries that were judged ``ok`` have how many positives."""
    num_pairs: int
    asked_again: int
    """Queries whose judge had to be asked a round a second time."""
    passages_cut: int
    in_windows: int
    """Queries whose pool did not fit into one prompt."""

    @property
    def total(self) -> int:
        """Queries that were to be judged."""
        return sum(self.statuses.values())

    @property
    def ok(self) -> int:
        """Queries with labels."""
        return self.statuses.get("ok", 0)


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All that an audit found out. ``None`` is what could not be looked at."""

    judge_id: str
    labels: Mapping[str, Any]
    """The label policy that makes positives of the judge's evidence."""
    queries: QueryCounts
    people: HumanAgreement | None
    """``None`` where no pool of a judged query holds a human positive."""
    lists: ListComparison | None
    """``None`` where people know no relevant passage of a judged query."""
    second_judge: JudgeAgreement | None
    second_judge_id: str | None
    positions: PositionBias
    reordering: Reordering | None
    lengths: LengthBias
    ledger: Mapping[str, Any] | None
    """What judging cost, as ``annotate`` has summed it up."""


def count_queries(judged_queries: pa.Table, traces: pa.Table, pairs: JudgedPairs) -> QueryCounts:
    """Counts over ``judged_queries`` and the ``query_id`` and ``window`` of their ``traces``."""
    windows = traces.group_by("query_id").aggregate([("window", "count_distinct")])["window_count_distinct"]
    positives = Counter(pairs.sums(pairs.is_positive_N).astype(int).tolist())
    return QueryCounts(
        statuses=dict(sorted(Counter(judged_queries["status"].to_pylist()).items())),
        positives=dict(sorted(positives.items())),
        num_pairs=len(pairs.query_N),
        asked_again=_count(pc.greater(judged_queries["attempts"], 1)),
        passages_cut=pc.sum(judged_queries["passages_cut"], min_count=0).as_py(),
        in_windows=_count(pc.greater(windows, 1)),
    )


def report_to_json(report: AuditReport) -> dict[str, Any]:
    """``report`` as plain JSON values; inverse of ``report_from_json``."""
    return asdict(report)


def report_from_json(fields: Mapping[str, Any]) -> AuditReport:
    """The report that ``report_to_json`` wrote."""
    return TypeAdapter(AuditReport).validate_python(fields)


def main_numbers(report: AuditReport) -> dict[str, float]:
    """The numbers by which judges are compared, by name; those that could not be measured are left out."""
    numbers: dict[str, float | None] = {"ok_share": report.queries.ok / max(1, report.queries.total)}
    if (people := report.people) is not None:
        for name in ("precision", "recall", "positives_per_query", "kappa"):
            numbers[name] = getattr(people, name).value
        for name in ("precision", "recall", "kappa") if people.judged_alone is not None else ():
            numbers[f"judged_alone.{name}"] = getattr(people.judged_alone, name).value
        orders = {"judge": people.order}
        orders |= {f"judge-{name}": beside.gain for name, beside in people.beside.items() if beside is not None}
        numbers |= {
            f"{kind}.{name}": found.value
            for name, order in orders.items()
            for kind in ("first_right", "auc", "sibling_auc")
            if (found := getattr(order, kind)) is not None
        }
    if (lists := report.lists) is not None:
        rankings = {"judged_pool": lists.judged, **{f"list.{source}": found for source, found in lists.lists.items()}}
        numbers |= {f"{name}.{whose}": found.value for whose, by in rankings.items() for name, found in by.items()}
    if report.second_judge is not None:
        numbers |= {"second_judge.kappa": report.second_judge.kappa.value}
    if report.reordering is not None:
        numbers |= {"reordering.kappa": report.reordering.kappa.value}
    numbers |= {"position.p": report.positions.p_value, "length.rho": report.lengths.judge.value}
    return {name: value for name, value in numbers.items() if value is not None}


def _count(flags: pa.ChunkedArray) -> int:
    return int(np.sum(flags.to_numpy(zero_copy_only=False).astype(bool)))
