"""The step `label` on judgments as `annotate` publishes them: which evidence, which threshold, what is said."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from winnow import schema
from winnow.config import build_config
from winnow.errors import ConfigError, DataError
from winnow.steps import annotate, label, pool
from winnow.steps.config import RunConfig
from winnow.steps.workspace import find, produce

NUMBER = 6


def configure(folder: Path, **settings) -> RunConfig:
    """Question i shares a word with passage i, which is its human positive, and another word with all passages."""
    passages = [{"_id": f"p{i}", "text": f"answer number{i} about things"} for i in range(NUMBER)]
    queries = [{"_id": f"q{i}", "text": f"number{i} things"} for i in range(NUMBER)]
    for name, rows in {"corpus": passages, "queries": queries}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "qrels.tsv").write_text("".join(f"q{i} 0 p{i} 1\n" for i in range(NUMBER)))
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text("{}")
    whole = {
        "output": str(folder / "runs"),
        "data": {"corpus": {"path": "corpus.jsonl"}, "train": {"queries": "queries.jsonl", "qrels": "qrels.tsv"}},
        "encoder": {"model": "./unused"},
        "pool": {"sources": [{"kind": "bm25"}], "max_passages": 3},
        "annotate": {"engine": {"kind": "vllm", "model": "./model"}},
        "label": settings,
        "train": {"loss": {"temperature": 0.05}},
    }
    return build_config(RunConfig, whole, base=folder)


def publish_judgments(config: RunConfig, evidence_of, *, failed: Sequence[str] = ()) -> None:
    """What ``annotate`` would leave behind; ``evidence_of`` says for a query and a passage what the judge found."""
    pool.pool(config)
    rows = pq.read_table(find(pool.plan(config)).directory / pool.POOLS).to_pylist()
    key = {"judge_id": "j", "pool_id": "p"}
    queries = [{**key, "query_id": row["query_id"], "attempts": 1, "passages_cut": 0, "status": "ok"} for row in rows]
    for query in queries:
        query["status"] = "malformed" if query["query_id"] in failed else "ok"
    judgments = [
        {**key, "query_id": row["query_id"], "passage_id": p["passage_id"], **evidence_of(row["query_id"], p)}
        for row in rows
        if row["query_id"] not in failed
        for p in row["passages"]
    ]

    def build(context):
        for name, columns, found in [
            (annotate.JUDGED_QUERIES, schema.JUDGED_QUERIES, queries),
            (annotate.JUDGMENTS, schema.JUDGMENTS, judgments),
        ]:
            schema.write_dataset(context.directory / name, schema.to_table(found, columns))
        return {"statuses": {"ok": len(rows)}}

    produce(annotate.plan(config), build)


def is_right(query_id: str, passage: dict) -> bool:
    return query_id[1:] == passage["passage_id"][1:]


def by_score(query_id: str, passage: dict) -> dict:
    return {"utility_score": 2.0 if is_right(query_id, passage) else 0.5}


def by_verdict(query_id: str, passage: dict) -> dict:
    """The judge calls another passage useful, and misses the human positive."""
    return {"is_useful": passage["human_label"] is None, "is_relevant": True}


def examples_in(directory: Path) -> dict[str, tuple[list[str], list[str]]]:
    return {
        row["query_id"]: tuple([p["passage_id"] for p in row[side]] for side in ("positives", "negatives"))
        for row in pq.read_table(directory / label.EXAMPLES).to_pylist()
    }


def test_scores_give_labels_for_what_was_judged_ok(tmp_path):
    config = configure(tmp_path)
    publish_judgments(config, by_score, failed=["q2"])

    result = label.label(config)

    examples = examples_in(result.directory)
    assert {name: positives for name, (positives, _) in examples.items()} == {
        f"q{i}": [f"p{i}"] for i in range(NUMBER) if i != 2
    }
    assert all(len(negatives) == 2 for _, negatives in examples.values())
    assert result.summary["left_out"] == {"malformed": 1}
    assert result.summary["positives_by"] == "score"


def test_human_positives_that_the_judge_rejects_are_kept_out_of_the_negatives_and_counted(tmp_path, capsys):
    config = configure(tmp_path)
    publish_judgments(config, by_verdict)

    result = label.label(config)

    for query_id, (positives, negatives) in examples_in(result.directory).items():
        assert f"p{query_id[1:]}" not in positives + negatives
    assert (result.summary["positives_by"], result.summary["human_positives_kept_out"]) == ("useful", NUMBER)
    assert f"{NUMBER} human positives were kept out" in capsys.readouterr().out


def test_a_calibrated_threshold_is_printed_stored_and_used(tmp_path, capsys):
    # q0's own passage scores no more than the others: best agreement is reached without it.
    def scores(query_id: str, passage: dict) -> dict:
        right = is_right(query_id, passage) and query_id != "q0"
        return {"utility_score": 2.0 if right else 0.5}

    config = configure(tmp_path, min_score="calibrated")
    publish_judgments(config, scores)

    result = label.label(config)

    assert result.summary["calibration"]["threshold"] == 2.0
    assert result.summary["calibration"]["precision"] == 1.0
    assert result.summary["calibration"]["recall"] == pytest.approx(5 / 6)
    assert result.summary["left_out"] == {"no_positive": 1}
    assert label.label_settings(config).min_score == 2.0
    assert "min_score 2 was calibrated on 6 queries with human positives: F1 0.909" in capsys.readouterr().out


def test_calibration_on_failed_queries_alone_is_an_error_that_says_what_to_do(tmp_path):
    def scores(query_id: str, passage: dict) -> dict:
        return {"utility_score": None if passage["human_label"] else 1.0}

    config = configure(tmp_path, min_score="calibrated")
    publish_judgments(config, scores)

    with pytest.raises(DataError, match=r"data\.train\.qrels"):
        label.label(config)


def test_settings_without_effect_on_this_judge_are_said(tmp_path, capsys):
    config = configure(tmp_path, max_drop=0.1)
    publish_judgments(config, by_verdict)

    label.label(config)

    assert "label: max_drop has no effect with positives by useful" in capsys.readouterr().out


def test_evidence_that_is_not_there_is_an_error_before_anything_is_written(tmp_path):
    config = configure(tmp_path, positives="rank")
    publish_judgments(config, by_score)

    with pytest.raises(ConfigError, match="utility_rank"):
        label.label(config)


def test_no_positive_anywhere_is_an_error_with_the_reasons(tmp_path):
    config = configure(tmp_path, min_score=99.0)
    publish_judgments(config, by_score, failed=["q1"])

    with pytest.raises(DataError, match=r"none of 6 queries.*'malformed': 1|none of 6 queries.*'no_positive': 5"):
        label.label(config)
