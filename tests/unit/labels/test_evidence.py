"""What a judge's evidence is: looked up by query, and checked against the policy before any label is made."""

import pyarrow as pa
import pytest

from winnow.errors import ConfigError
from winnow.judging.config import LikelihoodJudgeConfig, ListwiseJudgeConfig
from winnow.labels.config import LabelConfig
from winnow.labels.evidence import JUDGMENT_COLUMNS, JudgmentIndex, evidence_in, settings_without_effect
from winnow.records import Judgment


def table(*rows: tuple[str, Judgment]) -> pa.Table:
    columns = {name: [] for name in JUDGMENT_COLUMNS}
    for query_id, judgment in rows:
        columns["query_id"].append(query_id)
        for name in JUDGMENT_COLUMNS[1:]:
            columns[name].append(getattr(judgment, name))
    types = [pa.string(), pa.string(), pa.bool_(), pa.bool_(), pa.int32(), pa.float64(), pa.int32()]
    return pa.table(columns, schema=pa.schema(list(zip(JUDGMENT_COLUMNS, types, strict=True))))


def test_judgments_are_found_by_query_also_where_a_query_crosses_blocks():
    first, second = Judgment("a", utility_score=1.0), Judgment("b", is_relevant=True, utility_rank=2)
    blocks = [table(("q1", first), ("q2", first)), table(("q2", second), ("q3", second))]

    index = JudgmentIndex(pa.concat_tables(blocks))

    assert index.of("q2") == [first, second]
    assert index.of("q3") == [second]
    assert index.of("nobody") == []
    assert len(index) == 3


def test_no_judgments_at_all_are_an_empty_index():
    index = JudgmentIndex(table())

    assert (index.of("q1"), len(index)) == ([], 0)


RANKING = ListwiseJudgeConfig(kind="listwise", verdict="ranking").gives
SELECTION = ListwiseJudgeConfig(kind="listwise").gives
SCORES = LikelihoodJudgeConfig().gives


@pytest.mark.parametrize(
    ("gives", "positives", "expected"),
    [
        (RANKING, "auto", "rank"),
        (RANKING, "relevant", "relevant"),
        (SELECTION, "auto", "useful"),
        (SCORES, "auto", "score"),
        (RANKING | SELECTION | SCORES, "auto", "rank"),
        (SELECTION | SCORES, "auto", "useful"),
    ],
)
def test_what_positives_are_taken_from_follows_from_the_judge_not_from_what_it_found(gives, positives, expected):
    assert evidence_in(gives, LabelConfig(positives=positives)) == expected


def test_evidence_that_the_judge_does_not_give_is_an_error_that_names_what_there_is():
    with pytest.raises(ConfigError, match=r"'useful'.*is_useful.*\['utility_score'\].*\['score'\]"):
        evidence_in(SCORES, LabelConfig(positives="useful"))
    with pytest.raises(ConfigError, match=r"'score'.*utility_score.*\['rank', 'relevant'\]"):
        evidence_in(RANKING, LabelConfig(positives="score"))


def test_settings_without_effect_on_the_evidence_are_said_by_name():
    assert settings_without_effect(SELECTION, LabelConfig()) == []
    assert settings_without_effect(SELECTION, LabelConfig(negative_margin=0.1, max_drop=0.1)) == [
        "max_drop has no effect with positives by useful",
        "negative_margin has no effect with positives by useful",
    ]
    assert settings_without_effect(SCORES, LabelConfig()) == []
    [said] = settings_without_effect(SCORES, LabelConfig(leave_out_relevant=True))
    assert "leave_out_relevant has no effect" in said
