"""What a judge's evidence is, and how it is looked up by query."""

from collections.abc import Sequence, Set
from dataclasses import fields

import pyarrow as pa
import pyarrow.compute as pc

from winnow.errors import ConfigError
from winnow.labels.config import Evidence, LabelConfig
from winnow.records import Judgment

JUDGMENT_COLUMNS = ["query_id", *(column.name for column in fields(Judgment))]
"""What ``JudgmentIndex`` needs of ``judgments``."""

_COLUMN: dict[Evidence, str] = {
    "rank": "utility_rank",
    "useful": "is_useful",
    "score": "utility_score",
    "relevant": "is_relevant",
}
_AUTO: tuple[Evidence, ...] = ("rank", "useful", "score")
"""What ``auto`` takes: the first that there is."""


def evidence_in(held: Set[str], config: LabelConfig) -> Evidence | None:
    """What positives are taken from where the judgments hold the columns ``held``; ``None`` if it is not there."""
    wanted = _AUTO if config.positives == "auto" else (config.positives,)
    return next((evidence for evidence in wanted if _COLUMN[evidence] in held), None)


def columns_held(judgments: Sequence[Judgment]) -> set[str]:
    """The kinds of evidence that at least one of ``judgments`` has."""
    return {name for name in _COLUMN.values() if any(getattr(judgment, name) is not None for judgment in judgments)}


def check_evidence(held: Set[str], config: LabelConfig) -> list[str]:
    """Sentences on settings that have no effect on such judgments. Raises ``ConfigError`` if none can be labelled.

    Where nothing was judged, nothing is held, and the statuses say why.
    """
    if not held:
        return []
    evidence = evidence_in(held, config)
    if evidence is None:
        expected = " or ".join(_COLUMN[kind] for kind in (_AUTO if config.positives == "auto" else [config.positives]))
        fitting = [kind for kind, column in _COLUMN.items() if column in held]
        raise ConfigError(
            f"label.positives is {config.positives!r}, which needs {expected}, but the judgments hold "
            f"{sorted(held)}; set it to one of {fitting}, or let another judge annotate"
        )
    idle = [f"{name} has no effect with positives by {evidence}" for name in config.without_effect(evidence)]
    if config.leave_out_relevant and "is_relevant" not in held:
        idle.append("leave_out_relevant has no effect: this judge does not say what is relevant")
    return idle


class JudgmentIndex:
    """The judgments of a dataset by query, as records only while they are looked at."""

    def __init__(self, table: pa.Table) -> None:
        """``table`` holds ``JUDGMENT_COLUMNS``, and the rows of a query stand together."""
        self._table = table
        runs = pc.run_end_encode(table["query_id"].cast(pa.large_string()).combine_chunks())
        ends = runs.run_ends.to_pylist()
        self._spans = dict(zip(runs.values.to_pylist(), zip([0, *ends], ends, strict=False), strict=True))
        assert len(self._spans) == len(ends), "judgments are published sorted by query"

    @property
    def held(self) -> set[str]:
        """The kinds of evidence that at least one judgment has."""
        return {name for name in _COLUMN.values() if self._table[name].null_count < self._table.num_rows}

    def of(self, query_id: str) -> list[Judgment]:
        """The judgments of one query; none if it has none."""
        start, end = self._spans.get(query_id, (0, 0))
        rows = self._table.slice(start, end - start).drop_columns("query_id").to_pylist()
        return [Judgment(**row) for row in rows]
