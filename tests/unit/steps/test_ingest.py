"""All inputs are checked once; what cannot be used is counted, kept in quarantine and never fatal by itself."""

import gzip
import json
import os
from pathlib import Path

import pytest

from winnow.config import build_config
from winnow.corpora.config import DataConfig
from winnow.corpora.store import collection_names, read_passages, read_split
from winnow.errors import ConfigError, DataError
from winnow.steps.config import RunConfig
from winnow.steps.ingest import ingest, plan

CORPUS = '{"_id": "p1", "text": "one"}\n{"_id": "p2", "text": "two"}\n'
QUERIES = '{"_id": "q1", "text": "which?"}\n{"_id": "q2", "text": "what?"}\n'
OTHERS = {"dev": "why?", "own": "where?"}
QRELS = "query-id\tcorpus-id\tscore\nq1\tp1\t1\n"


def configure(folder: Path, **files: str) -> RunConfig:
    contents = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels.tsv": QRELS, **files}
    for name, text in contents.items():
        (folder / name).write_text(text)
    for name, question in OTHERS.items():
        (folder / f"{name}.jsonl").write_text(json.dumps({"_id": "q1", "text": question}) + "\n")
    settings = {
        "output": str(folder / "runs"),
        "data": {
            "corpus": {"path": "corpus.jsonl"},
            "train": {"queries": "queries.jsonl"},
            "dev": {"queries": "dev.jsonl", "qrels": "qrels.tsv"},
            "test": [{"name": "own", "queries": "own.jsonl", "qrels": "qrels.tsv", "corpus": {"path": "corpus.jsonl"}}],
        },
        "encoder": {"model": "./encoder"},
        "annotate": {"engine": {"kind": "vllm", "model": "./llm"}},
        "train": {"loss": {"temperature": 0.05}},
    }
    return build_config(RunConfig, settings, base=folder)


def test_every_split_is_stored_with_its_corpus(tmp_path):
    directory = ingest(configure(tmp_path)).directory

    assert [passage.passage_id for passage in read_passages(directory)] == ["p1", "p2"]
    assert collection_names(directory) == ["own"]
    assert (read_split(directory, "dev").corpus, read_split(directory, "own").corpus) == ("corpus", "own")
    assert read_split(directory, "dev").qrels == {"q1": {"p1": 1}}
    assert read_split(directory, "train").qrels == {}


def test_copies_are_kept_counted_and_said(tmp_path, capsys):
    doubled = CORPUS + '{"_id": "p3", "text": " one"}\n{"_id": "p4", "title": "one", "text": "two"}\n'

    result = ingest(configure(tmp_path, **{"corpus.jsonl": doubled}))

    assert [passage.passage_id for passage in read_passages(result.directory)] == ["p1", "p2", "p3", "p4"]
    # The test collection reads the same file.
    assert result.summary["copies"] == {"corpus": 1, "own": 1}
    assert "ingest: 1 passages in corpus are copies" in capsys.readouterr().out
    assert ingest(configure(tmp_path, **{"corpus.jsonl": CORPUS})).summary["copies"] == {}


def test_bad_rows_of_all_files_are_counted_and_kept_in_quarantine(tmp_path, capsys):
    bad_corpus = CORPUS + '{"_id": "p1", "text": "again"}\n{"_id": "p3", "text": ""}\n'
    bad_qrels = QRELS + "q1\tnowhere\t1\nq9\tp1\t1\nq1\tp2\tmuch\n"

    result = ingest(configure(tmp_path, **{"corpus.jsonl": bad_corpus, "qrels.tsv": bad_qrels}))

    # dev and the test collection read the same qrels, the run and the test collection the same corpus
    assert result.summary["quarantined"] == {
        "duplicate_id": 2,
        "empty_text": 2,
        "unknown_passage": 2,
        "unknown_query": 2,
        "bad_relevance": 2,
    }
    rows = [json.loads(line) for line in (result.directory / "quarantine.jsonl").read_text().splitlines()]
    assert len(rows) == sum(result.summary["quarantined"].values())
    assert "unknown_passage" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
def test_an_empty_file_is_an_error_that_names_it(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name} holds no \w+: the file is empty"):
        ingest(configure(tmp_path, **{name: ""}))


@pytest.mark.parametrize(
    ("name", "text", "first"),
    [
        ("corpus.jsonl", 'nonsense\n{"_id": "p1"}\n', r"line 1: expected a JSON object .*'nonsense'"),
        ("queries.jsonl", '\n{"_id": "q1", "txt": "x"}\nnonsense\n', r"line 2: expected a field 'text'.*txt"),
        ("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\tp1\tyes\n\tp1\t1\n", r"line 2: expected a whole number.*'yes'"),
    ],
)
def test_a_file_without_a_usable_row_shows_the_first_and_leaves_the_quarantine(tmp_path, name, text, first):
    with pytest.raises(DataError, match=rf"{name} holds no usable \w+: 2 rows were rejected .*{first}") as error:
        ingest(configure(tmp_path, **{name: text}))

    quarantine = Path(str(error.value).rpartition("all of them are in ")[2])
    assert [json.loads(line)["path"] for line in quarantine.read_text().splitlines()] == [str(tmp_path / name)] * 2


def test_packed_inputs_and_a_dataset_in_a_folder_are_inputs_like_others(tmp_path):
    config = configure(tmp_path)
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"_id": ["p1", "p2"], "text": ["one", "two"]}).save_to_disk(tmp_path / "corpus")
    (tmp_path / "queries.jsonl.gz").write_bytes(gzip.compress(QUERIES.encode(), mtime=0))
    data = {"corpus": {"path": tmp_path / "corpus"}, "train": {"queries": tmp_path / "queries.jsonl.gz"}}
    packed = config.model_copy(update={"data": build_config(DataConfig, data)})

    first = ingest(packed)
    (tmp_path / "corpus" / "more.txt").write_text("changed")

    assert first.summary["kept"] == {"corpus.passages": 2, "train.queries": 2, "train.qrels": 0}
    assert plan(packed).fingerprint != first.fingerprint


@pytest.mark.parametrize("name", ["train", "dev", "corpus"])
def test_a_collection_cannot_take_the_place_of_what_the_run_is_made_from(name):
    """Corpora and splits are stored under their names: a collection called ``corpus`` would replace the run's own."""
    judged = {"queries": "q.jsonl", "qrels": "q.tsv"}
    test = [{"name": name, **judged, "corpus": {"path": "other.jsonl"}}]

    with pytest.raises(ConfigError, match=name):
        build_config(DataConfig, {"corpus": {"path": "c.jsonl"}, "train": {"queries": "t.jsonl"}, "test": test})


def test_a_pipe_is_refused_before_it_is_waited_for(tmp_path):
    config = configure(tmp_path)
    (tmp_path / "queries.jsonl").unlink()
    os.mkfifo(tmp_path / "queries.jsonl")

    with pytest.raises(DataError, match="pipe"):
        plan(config)


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    config = configure(tmp_path)
    (tmp_path / "qrels.tsv").unlink()

    with pytest.raises(DataError, match=r"qrels\.tsv"):
        ingest(config)


def test_a_changed_file_is_ingested_again(tmp_path):
    first = ingest(configure(tmp_path))

    second = ingest(configure(tmp_path, **{"queries.jsonl": QUERIES + '{"_id": "q3", "text": "who?"}\n'}))

    assert not second.skipped
    assert second.directory != first.directory


def test_dev_and_test_questions_are_left_out_of_training_counted_and_said(tmp_path, capsys):
    """One file of questions and one of labels per split, as BEIR ships them."""
    questions = {"q1": "Which?", "q2": "what?", "q3": "which", "q4": "who?", "q5": "why?", "q6": "how?", "q7": "How"}
    rows = "".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in questions.items())
    config = configure(tmp_path, **{"queries.jsonl": rows + "nonsense\n"})
    judged = {"train": ["q1", "q2", "q3", "q6", "q7"], "dev": ["q2", "q4"], "own": ["q4", "q3"]}
    for split, names in judged.items():
        (tmp_path / f"{split}.tsv").write_text("".join(f"{name} 0 p1 1\n" for name in names))
    shared = {name: {"queries": tmp_path / "queries.jsonl", "qrels": tmp_path / f"{name}.tsv"} for name in judged}
    data = {
        "corpus": config.data.corpus,
        "train": {**shared["train"], "questions": "judged"},
        "dev": shared["dev"],
        "test": [{"name": "own", **shared["own"]}],
    }

    result = ingest(config.model_copy(update={"data": build_config(DataConfig, data)}))

    stored = {name: read_split(result.directory, name) for name in judged}
    # q1 is the test's q3 in other letters, q2 is dev's, q4 is the test's, q7 is q6 again.
    assert {name: [query.query_id for query in split.queries] for name, split in stored.items()} == {
        "train": ["q6"],
        "dev": ["q2"],
        "own": ["q3", "q4"],
    }
    assert [split.qrels for split in stored.values()] == [
        {"q6": {"p1": 1}},
        {"q2": {"p1": 1}},
        {"q4": {"p1": 1}, "q3": {"p1": 1}},
    ]
    assert result.summary["left_out"] == {
        "train.queries not in its qrels": 2,
        "train.queries asked by own": 2,
        "train.queries asked by dev": 1,
        "train.queries asked before": 1,
        "train.qrels of those": 4,
        "dev.queries not in its qrels": 5,
        "dev.queries asked by own": 1,
        "dev.qrels of those": 1,
        "own.queries not in its qrels": 5,
    }
    # All three splits read this row.
    assert result.summary["quarantined"] == {"malformed_json": 1}
    assert "left out 2 train.queries asked by own" in capsys.readouterr().out


def test_a_split_that_loses_all_its_questions_is_an_error_that_says_to_whom(tmp_path):
    config = configure(tmp_path, **{"queries.jsonl": '{"_id": "a", "text": "WHY"}\n{"_id": "b", "text": "where"}\n'})

    with pytest.raises(DataError, match=r"no question of 'train' is left: 1 asked by own, 1 asked by dev"):
        ingest(config)
