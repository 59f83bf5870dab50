"""How the audit reads a judge: by the judge's configuration and the label policy, as `label` does."""

import pytest

from winnow.config import build_config
from winnow.errors import ConfigError, DataError
from winnow.files import write_json
from winnow.judging.config import LikelihoodJudgeConfig, ListwiseJudgeConfig
from winnow.labels.config import LabelConfig
from winnow.pooling.order import PoolOrder
from winnow.records import Judgment
from winnow.steps.audit import evidence_given, lists_behind, reading_of
from winnow.steps.config import RunConfig

RANKING = ListwiseJudgeConfig(kind="listwise", verdict="ranking").gives
SELECTION = ListwiseJudgeConfig(kind="listwise").gives


def test_of_a_selection_the_same_passages_are_positive_as_in_the_labels():
    reading = reading_of(SELECTION, LabelConfig(max_positives=1), relevant_from=1, seed=1)
    judgments = [Judgment(name, is_relevant=True, is_useful=True) for name in "az"]

    assert reading.evidence == "verdict"
    assert reading.positives_of(PoolOrder("q", {"a": 180, "z": 1}, 1), judgments) == {"z"}


def test_a_judge_of_rankings_that_found_nothing_is_one_of_rankings_and_has_no_positive():
    reading = reading_of(RANKING, LabelConfig(), relevant_from=1, seed=1)

    assert reading.evidence == "rank"
    assert reading.positives_of(PoolOrder("q", {}, 1), [Judgment("a", is_relevant=False)]) == set()


def test_a_policy_that_the_judge_cannot_serve_is_refused():
    with pytest.raises(ConfigError, match=r"label\.positives is 'rank', which needs utility_rank"):
        reading_of(SELECTION, LabelConfig(positives="rank"), relevant_from=1, seed=1)


@pytest.mark.parametrize(
    ("judge", "expected"),
    [
        (ListwiseJudgeConfig(kind="listwise", verdict="ranking"), RANKING),
        (LikelihoodJudgeConfig(kind="qa_gain"), {"utility_score"}),
    ],
)
def test_another_judge_is_read_by_the_configuration_in_its_record(tmp_path, judge, expected):
    """Also one that another version wrote, with a setting that is not known any more."""
    (tmp_path / "judgments.parquet").touch()
    write_json(tmp_path / "run.json", {"settings": {"judge": {**judge.science(), "an_old_setting": 2}}})

    assert evidence_given(tmp_path) == expected


@pytest.mark.parametrize("left", ["judgments.parquet", "run.json"])
def test_a_directory_that_is_no_output_of_annotate_is_an_error_that_names_it(tmp_path, left):
    (tmp_path / left).touch()

    with pytest.raises(DataError, match=r"audit\.against: there is no .*judgments\.parquet.* with a run\.json"):
        evidence_given(tmp_path)


def test_a_source_that_names_the_encoder_of_the_run_is_a_list_of_that_encoder():
    sources = [
        {"kind": "bm25"},
        {"kind": "dense", "name": "default"},
        {"kind": "dense", "name": "named", "encoder": {"model": "./own", "batch_tokens": 99}},
        {"kind": "dense", "name": "other", "encoder": {"model": "./own", "passage_prefix": "passage: "}},
    ]
    settings = {
        "output": "runs",
        "data": {"corpus": {"path": "corpus.jsonl"}, "train": {"queries": "queries.jsonl"}},
        "encoder": {"model": "./own"},
        "pool": {"sources": sources},
        "annotate": {"engine": {"kind": "vllm", "model": "./unused"}},
        "train": {"loss": {"temperature": 0.05}},
    }

    assert lists_behind(build_config(RunConfig, settings)) == {"BM25": {"bm25"}, "encoder": {"default", "named"}}
