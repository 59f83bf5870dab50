"""What a judge's evidence is, and how it is looked up by query."""

from collections.abc import Set
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


def evidence_in(gives: Set[str], config: LabelConfig) -> Evidence:
    """What positives are taken from, where the judge ``gives`` these columns: by its configuration, not by its rows.

    A query for which nothing was found useful has no rank, and is labelled as its judge's other queries are. Raises
    ``ConfigError`` if the judge does not say what ``config`` asks for.
    """
    wanted = _AUTO if config.positives == "auto" else (config.positives,)
    found = next((evidence for evidence in wanted if _COLUMN[evidence] in gives), None)
    if found is None:
        needed = " or ".join(_COLUMN[kind] for kind in wanted)
        fitting = [kind for kind, column in _COLUMN.items() if column in gives]
        raise ConfigError(
            f"label.positives is {config.positives!r}, which needs {needed}, but the judge "
            f" gives {sorted(gives)}; set it to one of {fitting}, or let another judge annotate"
        )
    return found


def settings_without_effect(gives: Set[str], config: LabelConfig) -> list[str]:
    """Sentences on settings that change nothing with such a judge."""
    evidence = evidence_in(gives, config)
    idle = [f"{name} has no effect with positives by {evidence}" for name in config.without_effect(evidence)]
    if config.leave_out_relevant and "is_relevant" not in gives:
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

    def __len__(self) -> int:
        """How many queries have judgments."""
        return len(self._spans)

    def of(self, query_id: str) -> list[Judgment]:
        """The judgments of one query; none if it has none."""
        start, end = self._spans.get(query_id, (0, 0))
        rows = self._table.slice(start, end - start).drop_columns("query_id").to_pylist()
        return [Judgment(**row) for row in rows]
