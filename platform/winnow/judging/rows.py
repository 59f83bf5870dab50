"""Records of judging as tables, and back.

A row of evidence is one judged query with all that was found out about it, so that it is written
whole or not at all; the published datasets are that, unfolded and sorted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from winnow import schema
from winnow.records import Candidate, CandidatePool, Finding, JudgedQuery

KEY = ["query_id", "pool_id", "judge_id"]
_TRACE_ORDER = ["query_id", "round", "window", "attempt", "passage_id"]


def _without_key(dataset: pa.Schema) -> pa.DataType:
    return pa.list_(pa.struct([field for field in dataset if field.name not in KEY]))


EVIDENCE = pa.schema(
    [
        *schema.JUDGED_QUERIES,
        pa.field("judgments", _without_key(schema.JUDGMENTS), nullable=False),
        pa.field("traces", _without_key(schema.JUDGE_TRACES), nullable=False),
        # Added later, as every new column here must be: nullable, since earlier files lack it.
        pa.field("reading", pa.int32()),
    ]
)


@dataclass(frozen=True)
class JudgedTables:
    """The published datasets of judging, sorted by key."""

    judged_queries: pa.Table
    judgments: pa.Table
    traces: pa.Table


def evidence_table(judged: Iterable[JudgedQuery], *, reading: int = 1) -> pa.Table:
    """``judged`` as rows of evidence; ``reading`` is the version of how its replies were read."""
    return schema.to_table([{**asdict(each), "reading": reading} for each in judged], EVIDENCE)


def unfold(evidence: pa.Table) -> JudgedTables:
    """The three datasets in ``evidence``."""
    return JudgedTables(
        evidence.select(schema.JUDGED_QUERIES.names).sort_by([(name, "ascending") for name in KEY]),
        _unfold(evidence, "judgments", schema.JUDGMENTS, order=["query_id", "passage_id"]),
        _unfold(evidence, "traces", schema.JUDGE_TRACES, order=_TRACE_ORDER),
    )


def _unfold(evidence: pa.Table, column: str, dataset: pa.Schema, *, order: Sequence[str]) -> pa.Table:
    nested = evidence[column].combine_chunks()
    key = evidence.select(KEY).take(pc.list_parent_indices(nested))
    items = pc.list_flatten(nested)
    columns = {name: key[name] if name in KEY else pc.struct_field(items, name) for name in dataset.names}
    return pa.table(columns, schema=dataset).sort_by([(name, "ascending") for name in order])


def pools_of(table: pa.Table) -> list[CandidatePool]:
    """The rows of a ``candidate_pools`` table as records."""
    return [
        CandidatePool(
            row["query_id"], row["query"], tuple(map(_candidate, row["passages"])), tuple(row["answers"] or ())
        )
        for row in table.select(["query_id", "query", "passages", "answers"]).to_pylist()
    ]


def _candidate(row: Mapping[str, Any]) -> Candidate:
    return Candidate(**{**row, "found_by": tuple(Finding(**found) for found in row["found_by"])})
