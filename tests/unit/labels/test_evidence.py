"""What a judge's evidence is: looked up by query, and checked against the policy before any label is made."""

import pyarrow as pa
import pytest

from winnow.errors import ConfigError
from winnow.labels.config import LabelConfig
from winnow.labels.evidence import JUDGMENT_COLUMNS, JudgmentIndex, check_evidence
from winnow.records import Judgment


def table(*rows: tuple[str, Judgment]) -> pa.Table:
    columns = {name: [] for name in JUDGMENT_COLUMNS}
    for query_id, judgment in rows:
        columns["query_id"].append(query_id)
        for name in JUDGMENT_COLUMNS[1:]:
            columns[name].append(getattr(judgment, name))
    types = [pa.string(), pa.string(), pa.bool_(), pa.bool_(), pa.int32(), pa.float64()]
    return pa.table(columns, schema=pa.schema(list(zip(JUDGMENT_COLUMNS, types, strict=True))))


def test_judgments_are_found_by_query_also_where_a_query_crosses_blocks():
    first, second = Judgment("a", utility_score=1.0), Judgment("b", is_relevant=True, utility_rank=2)
    blocks = [table(("q1", first), ("q2", first)), table(("q2", second), ("q3", second))]

    index = JudgmentIndex(pa.concat_tables(blocks))

    assert index.of("q2") == [first, second]
    assert index.of("q3") == [second]
    assert index.of("nobody") == []
    assert index.held == {"utility_score", "is_relevant", "utility_rank"}


def test_no_judgments_at_all_are_an_empty_index():
    index = JudgmentIndex(table())

    assert (index.of("q1"), index.held) == ([], set())
    assert check_evidence(index.held, LabelConfig()) == []


def test_evidence_that_the_judge_does_not_give_is_an_error_that_names_what_there_is():
    with pytest.raises(ConfigError, match=r"'useful'.*is_useful.*\['utility_score'\].*\['score'\]"):
        check_evidence({"utility_score"}, LabelConfig(positives="useful"))
    with pytest.raises(ConfigError, match=r"'auto'.*\['relevant'\]"):
        check_evidence({"is_relevant"}, LabelConfig())


def test_settings_without_effect_on_the_evidence_are_said_by_name():
    verdicts = {"is_useful", "is_relevant"}

    assert check_evidence(verdicts, LabelConfig()) == []
    assert check_evidence(verdicts, LabelConfig(negative_margin=0.1, max_drop=0.1)) == [
        "max_drop has no effect with positives by useful",
        "negative_margin has no effect with positives by useful",
    ]
    [said] = check_evidence({"utility_score"}, LabelConfig(leave_out_relevant=True))
    assert "leave_out_relevant has no effect" in said
