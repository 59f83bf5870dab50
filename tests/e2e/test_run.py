"""The main job on a cut-down example: real models, real vLLM, Ray Train, Serve over HTTP."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow.tracking import MlflowClient

from winnow.config import load_config
from winnow.files import read_json
from winnow.retrieval.retriever import load_retriever
from winnow.steps.config import RunConfig
from winnow.steps.run import run
from winnow.tracking.fetching import RetrieverFetcher

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "pydocs"
VERBS = ["ingest", "pool", "annotate", "label", "train", "index", "evaluate", "serve"]


def cut(path: Path, target: Path, count: int) -> None:
    target.write_text("".join(path.read_text().splitlines(keepends=True)[:count]))


@pytest.fixture(scope="module")
def config(tmp_path_factory, model_cache) -> RunConfig:
    """The example's own YAML on its first modules and questions."""
    folder = tmp_path_factory.mktemp("pydocs")
    (folder / "runs" / "cache").mkdir(parents=True)
    (folder / "runs" / "cache" / "models").symlink_to(model_cache)
    (folder / "run.yaml").write_text((EXAMPLE / "run.yaml").read_text())
    (folder / "modules.txt").write_text((EXAMPLE / "modules.txt").read_text())
    cut(EXAMPLE / "train.jsonl", folder / "train.jsonl", 12)
    for split in ("dev", "test"):
        cut(EXAMPLE / f"{split}.jsonl", folder / f"{split}.jsonl", 10)
        (folder / f"{split}.qrels.tsv").write_text((EXAMPLE / f"{split}.qrels.tsv").read_text())
    stages = "train.stages=[{name: llm}, {name: harder, mine: {last_rank: 20, max_negatives: 4}}]"
    small = ["data.corpus.limit=400", "encoder.passage_max_tokens=48", "pool.max_passages=4", "serve.port=8799"]
    # One worker: tests/ray/test_train.py has two, and every start of a worker takes its time.
    train = ["train.batch_size=6", "train.epochs=1", "train.num_workers=1", stages]
    return load_config(RunConfig, folder / "run.yaml", [*small, *train, f"output={folder / 'runs'}"])


@pytest.fixture(scope="module")
def results(config, ray_cluster):
    return run(config)


@pytest.mark.timeout(1800)
def test_every_step_is_done_and_leaves_a_record(results):
    assert list(results) == VERBS
    assert {verb: result.skipped for verb, result in results.items()} == dict.fromkeys(VERBS, False)
    assert all((result.directory / "run.json").exists() for result in results.values())


def test_every_training_question_was_judged_on_all_its_candidates(results):
    pools = pq.read_table(results["pool"].directory / "candidate_pools.parquet")
    judgments = pq.read_table(results["annotate"].directory / "judgments.parquet").to_pylist()

    candidates = {(row["query_id"], p["passage_id"]) for row in pools.to_pylist() for p in row["passages"]}
    assert pools.num_rows == 12
    assert {(row["query_id"], row["passage_id"]) for row in judgments} == candidates
    assert all(np.isfinite(row["utility_score"]) for row in judgments)


def test_training_moved_the_encoder_and_it_loads_in_sentence_transformers(results, config):
    from sentence_transformers import SentenceTransformer

    from winnow.modeling.encoder import DenseEncoder, build_encoder

    text = ["how do I copy a file?"]
    directory = results["train"].directory / "encoder"
    theirs = SentenceTransformer(str(directory), device="cpu").encode(text, prompt_name="query")
    ours = DenseEncoder.load(directory).encode(text, side="query")
    before = build_encoder(config.encoder).encode(text, side="query")

    assert (ours * theirs).sum() > 0.9999
    assert np.abs(ours - before).max() > 1e-5


def test_a_second_stage_learnt_from_negatives_that_the_first_one_found_hard(results):
    directory = results["train"].directory
    labelled = pq.read_table(results["label"].directory / "training_examples.parquet").to_pylist()
    mined = pq.read_table(directory / "stages" / "2-harder" / "training_examples.parquet").to_pylist()
    first, second = results["train"].summary["stages"]

    assert [row["positives"] for row in mined] == [row["positives"] for row in labelled]
    assert {negative["source"] for row in mined for negative in row["negatives"]} == {"mined"}
    assert (first["stage"], second["stage"]) == ("llm", "harder")
    assert [entry["step"] for entry in first["dev"]] == [first["num_steps"]]
    assert not list(directory.glob("stages/*/encoder"))


def test_the_card_of_the_encoder_is_in_the_served_version(results):
    cards = [results["train"].directory / "encoder" / "README.md", results["index"].directory / "encoder" / "README.md"]

    assert cards[0].read_text() == cards[1].read_text()
    assert "| loss.objective | SumMargLH |" in cards[0].read_text()
    assert results["train"].fingerprint in cards[0].read_text()


def test_the_table_compares_four_systems_on_dev_and_test(results):
    reports = read_json(results["evaluate"].directory / "table.json")

    assert [report["collection"] for report in reports] == ["dev", "pydocs"]
    for report in reports:
        assert list(report["means"]) == ["BM25", "off-the-shelf", "trained", "hybrid"]
        assert set(report["means"]["trained"]) == {"RR@10", "nDCG@10", "R@10", "R@100"}


def test_answers_came_over_http_with_the_version_of_the_index(results, config):
    answers = read_json(results["serve"].directory / "answers.json")

    assert list(answers) == list(config.serve.ask)
    assert all(len(hits) == config.serve.ask_k for hits in answers.values())
    assert results["serve"].summary["version"] == results["index"].summary["version"]


def test_mlflow_has_a_parent_with_a_child_per_step_and_a_champion(results, config):
    client = MlflowClient(f"sqlite:///{config.output / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    runs = client.search_runs([experiment.experiment_id])
    parents = [found for found in runs if "mlflow.parentRunId" not in found.data.tags]
    children = [found for found in runs if found.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]

    assert len(parents) == 1
    assert {found.info.run_name for found in children} == set(VERBS)
    assert {found.info.status for found in runs} == {"FINISHED"}
    train = next(found for found in children if found.info.run_name == "train")
    losses = client.get_metric_history(train.info.run_id, "train.loss")
    assert [point.step for point in losses] == list(range(1, results["train"].summary["num_steps"] + 1))
    assert client.get_model_version_by_alias("winnow", "champion").version in ("1", 1)


def test_the_champion_can_be_fetched_from_the_registry_and_searched(results, config, tmp_path):
    fetched = RetrieverFetcher(f"sqlite:///{config.output / 'mlflow.db'}", tmp_path).fetch("winnow@champion")

    retriever = load_retriever(fetched.directory)
    assert retriever.version == results["index"].summary["version"]
    found = retriever.search(["what time was a file last changed?"], 3, mode="hybrid")
    assert [len(hits) for hits in found] == [3]


def test_a_second_run_does_nothing_again(results, config, capsys):
    again = run(config.model_copy(update={"serve": config.serve.model_copy(update={"ask": ()})}))

    assert {verb: result.skipped for verb, result in again.items()} == dict.fromkeys(VERBS[:-1], True)
    assert {verb: result.content_hash for verb, result in again.items()} == {
        verb: results[verb].content_hash for verb in VERBS[:-1]
    }
    assert "up to date" in capsys.readouterr().out


def test_another_objective_trains_again_and_judges_nothing_again(results, config, tmp_path):
    from winnow.steps import annotate, train
    from winnow.steps.workspace import find

    settings = config.model_dump(mode="json", exclude_unset=True)
    settings["train"]["loss"]["objective"] = "LSEPair"
    other = RunConfig.model_validate(json.loads(json.dumps(settings)))

    assert find(annotate.plan(other)).directory == results["annotate"].directory
    assert not train.plan(other).directory.exists()
