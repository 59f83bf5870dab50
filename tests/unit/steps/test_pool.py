"""Pools from lists that need no encoder: BM25 and run files, with and without human labels."""

import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from winnow.config import build_config
from winnow.errors import ConfigError, DataError
from winnow.steps import pool
from winnow.steps.config import RunConfig

TEXTS = {"p1": "red apples", "p2": "green apples", "p3": "blue cars", "p4": "old cars", "p5": "a quiet street"}
QUERIES = [{"_id": "q1", "text": "apples", "answers": ["fruit"]}, {"_id": "q2", "text": "cars"}]
RUN = "q2 Q0 p5 1 3.5 x\nq2 Q0 p9 2 3.0 x\nq2 Q0 p3 3 2.5 x\nq1 Q0 p5 1 9 x\nq8 Q0 p5 1 9 x\n"


def configure(
    folder: Path,
    *,
    texts: dict[str, str] = TEXTS,
    run: str = RUN,
    qrels: str | None = "q1\tp3\t2\nq2\tp3\t1\n",
    **settings,
) -> RunConfig:
    rows = [{"_id": name, "text": text} for name, text in texts.items()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUERIES))
    (folder / "other.run").write_text(run)
    train = {"queries": "queries.jsonl"}
    if qrels is not None:
        (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)
        train |= {"qrels": "qrels.tsv", "questions": "all"}
    sources = [{"kind": "bm25", "depth": 3}, {"kind": "trec_run", "name": "other", "path": "other.run", "depth": 2}]
    whole = {
        "output": str(folder / "runs"),
        "data": {"corpus": {"path": "corpus.jsonl"}, "train": train},
        "encoder": {"model": "./unused"},
        "pool": {"sources": sources, **settings},
        "annotate": {"engine": {"kind": "vllm", "model": "./unused"}},
        "train": {"loss": {"temperature": 0.05}},
    }
    return build_config(RunConfig, whole, base=folder)


def read(directory: Path) -> dict[str, dict]:
    return {row["query_id"]: row for row in pq.read_table(directory / pool.POOLS).to_pylist()}


def found_by(row: dict) -> dict[str, list[tuple[str, int]]]:
    return {p["passage_id"]: [(found["source"], found["rank"]) for found in p["found_by"]] for p in row["passages"]}


def test_bm25_reads_texts_and_questions_in_the_language_of_the_run(tmp_path):
    texts = {"p1": "das alte Haus", "p2": "apples der Nachbarn", "p3": "viele Häuser und cars"}
    english = configure(tmp_path, texts=texts, qrels=None, sources=[{"kind": "bm25"}])
    german = english.model_copy(update={"language": "german"})
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "Haus"}\n')

    found = [sorted(found_by(read(pool.pool(config).directory)["q1"])) for config in (english, german)]

    assert found == [["p1"], ["p1", "p3"]]
    assert pool.plan(english).fingerprint != pool.plan(german).fingerprint


def test_the_language_of_the_run_changes_no_pool_without_bm25(tmp_path):
    runs_only = configure(tmp_path, sources=[{"kind": "trec_run", "name": "other", "path": "other.run", "depth": 2}])
    german = runs_only.model_copy(update={"language": "german"})

    assert pool.plan(runs_only).fingerprint == pool.plan(german).fingerprint


def test_a_run_file_is_united_with_bm25_and_every_finding_is_kept(tmp_path):
    pools = read(pool.pool(configure(tmp_path)).directory)

    # p9 is no passage of the corpus, so p3 moves up to the second place of the run's list.
    assert found_by(pools["q2"]) == {"p3": [("bm25", 1), ("other", 2)], "p4": [("bm25", 2)], "p5": [("other", 1)]}
    assert pools["q1"]["answers"] == ["fruit"]


def test_equal_passages_are_one_in_a_pool_with_the_findings_and_the_labels_of_both(tmp_path):
    """p6 says what p5 says; the run has it first, and people have labelled it. The cars have copies, too."""
    run = "q2 Q0 p6 1 3.5 x\nq2 Q0 p5 2 3.0 x\nq2 Q0 p3 3 2.5 x\nq2 Q0 p4 4 2.5 x\n"
    copies = {"p6": "a  quiet street", "p7": "blue  cars", "p8": "blue cars ", "p9": " blue cars"}
    config = configure(tmp_path, run=run, qrels="q2\tp6\t2\nq2\tp5\t0\n", texts={**TEXTS, **copies})

    row = read(pool.pool(config).directory)["q2"]

    # Depths count texts: the run's second is in its third line, and copies of p3 do not crowd p4 out of BM25's list.
    assert found_by(row) == {"p3": [("bm25", 1), ("other", 2)], "p4": [("bm25", 2)], "p5": [("other", 1)]}
    assert {p["passage_id"]: p["human_label"] for p in row["passages"]} == {"p3": None, "p4": None, "p5": 2}


def test_bad_lines_of_a_run_are_counted_printed_and_listed(tmp_path, capsys):
    result = pool.pool(configure(tmp_path))

    rows = [json.loads(line) for line in (result.directory / pool.QUARANTINE).read_text().splitlines()]
    assert [(row["line"], row["reason"]) for row in rows] == [(2, "unknown_passage"), (5, "unknown_query")]
    assert result.summary["quarantined"] == {"unknown_passage": 1, "unknown_query": 1}
    assert "unknown_passage" in capsys.readouterr().out


def test_human_positives_are_marked_and_added_only_if_asked(tmp_path):
    marked = read(pool.pool(configure(tmp_path)).directory)
    added = read(pool.pool(configure(tmp_path, add_human_positives=True)).directory)

    def labels(row: dict) -> dict[str, int]:
        return {p["passage_id"]: p["human_label"] for p in row["passages"] if p["human_label"] is not None}

    assert (labels(marked["q1"]), labels(marked["q2"])) == ({}, {"p3": 1})
    assert (labels(added["q1"]), labels(added["q2"])) == ({"p3": 2}, {"p3": 1})
    assert found_by(added["q1"])["p3"] == []


def test_human_labels_change_no_pool_id(tmp_path):
    with_labels = read(pool.pool(configure(tmp_path)).directory)
    without = read(pool.pool(configure(tmp_path, qrels=None)).directory)

    assert {name: row["pool_id"] for name, row in with_labels.items()} == {
        name: row["pool_id"] for name, row in without.items()
    }


def test_statistics_and_a_picture_are_published_and_shown(tmp_path, capsys):
    config = configure(tmp_path)
    result = pool.pool(config)
    capsys.readouterr()

    pool.show_stats(config)

    statistics = json.loads((result.directory / pool.STATISTICS).read_text())
    # q1's positive is on no list; q2's is first by BM25 and second in the run.
    assert statistics["recall"] == {"bm25": {"1": 0.5, "2": 0.5, "3": 0.5}, "other": {"1": 0.0, "2": 0.5}}
    assert statistics["pool_recall"] == 0.5
    assert statistics["human_positives"] == {"found": 1, "added": 0, "missing": 1}
    shown = capsys.readouterr().out
    assert "recall of human positives, 2 questions" in shown
    assert str(result.directory / pool.PLOT) in shown
    journal = [json.loads(line) for line in (result.directory / "journal.jsonl").read_text().splitlines()]
    assert {entry["path"] for entry in journal if entry["kind"] == "artifact"} == {pool.STATISTICS, pool.PLOT}


def test_without_human_labels_the_statistics_say_what_recall_needs(tmp_path, capsys):
    config = configure(tmp_path, qrels=None)
    result = pool.pool(config)

    pool.show_stats(config)

    assert "data.train.qrels" in capsys.readouterr().out
    assert not (result.directory / pool.PLOT).exists()


def test_statistics_of_pools_that_are_not_there_name_the_command(tmp_path):
    with pytest.raises(DataError, match="winnow pool"):
        pool.show_stats(configure(tmp_path))


def test_human_positives_cannot_be_added_without_human_labels(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.train\.qrels"):
        pool.plan(configure(tmp_path, qrels=None, add_human_positives=True))


def test_another_content_of_the_run_file_or_the_qrels_means_other_pools(tmp_path):
    fingerprints = {
        pool.plan(configure(tmp_path)).fingerprint,
        pool.plan(configure(tmp_path)).fingerprint,
        pool.plan(configure(tmp_path, run=RUN + "q1 Q0 p1 2 8 x\n")).fingerprint,
        pool.plan(configure(tmp_path, qrels="q1\tp1\t1\n")).fingerprint,
    }

    assert len(fingerprints) == 3


def test_pools_are_written_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "_BLOCK", 1)

    path = pool.pool(configure(tmp_path)).directory / pool.POOLS

    assert pq.ParquetFile(path).num_row_groups == 2
    assert pq.read_schema(path).metadata[b"winnow_schema_version"] == b"1"
    assert list(read(path.parent)) == ["q1", "q2"]


@pytest.mark.parametrize(
    ("run", "complaint"),
    [
        ("", "nothing is in there"),
        ("q1 Q0 p5\nq9 Q0 p5 1 9 x\n", r"line 1 of .*other\.run: expected a whole number as rank, got 'p5'"),
        ("q9 Q0 p5 1 9 x\nq1 Q0 p9 1 9 x\n", r"line 1 of .*other\.run: query 'q9' is not among the questions"),
    ],
)
def test_a_run_without_a_usable_line_stops_if_there_is_no_other_list(tmp_path, run, complaint):
    alone = [{"kind": "trec_run", "path": "other.run"}]
    with pytest.raises(DataError, match=complaint) as error:
        pool.pool(configure(tmp_path, run=run, sources=alone))

    if run:
        quarantine = Path(str(error.value).rpartition("all of them are in ")[2])
        assert len(quarantine.read_text().splitlines()) == 2


def test_a_run_without_a_usable_line_beside_another_list_is_counted(tmp_path):
    pools = read(pool.pool(configure(tmp_path, run="q9 Q0 p5 1 9 x\n")).directory)

    assert found_by(pools["q1"]) == {"p1": [("bm25", 1)], "p2": [("bm25", 2)]}


def test_a_compressed_run_is_read_like_a_plain_one_and_leaves_nothing_unpacked(tmp_path):
    config = configure(tmp_path)
    plain = read(pool.pool(config).directory)
    (tmp_path / "other.run").write_bytes(gzip.compress(RUN.encode(), mtime=0))

    result = pool.pool(config)

    assert read(result.directory) == plain
    assert not [path for path in result.directory.iterdir() if path.name.startswith(".unpacked")]


def test_lists_are_found_again_as_deep_as_asked_with_what_each_brings_and_nothing_is_published(tmp_path, capsys):
    """p6 says what p5 says. The run is read two texts deep for pools; both positives are added by people."""
    run = "q2 Q0 p6 1 4 x\nq2 Q0 p9 2 3 x\nq2 Q0 p5 3 2 x\nq2 Q0 p2 4 1 x\nq2 Q0 p1 5 0 x\n"
    config = configure(tmp_path, run=run, texts={**TEXTS, "p6": "a quiet  street"}, add_human_positives=True)
    pool.pool(config)
    capsys.readouterr()

    listed = pool.lists_again(config, {"q1", "q2"}, depth=10)

    # The run has nothing for q1; people added p3 to its pool, and no list did.
    assert listed["q1"].lists == {"bm25": ["p1", "p2"], "other": []}
    assert listed["q1"].brought == {"p1", "p2"}
    assert listed["q2"].lists == {"bm25": ["p3", "p4"], "other": ["p5", "p2", "p1"]}
    # Two lines of the run that can be used say the same: p1 is the third text, too deep for the pool.
    assert listed["q2"].brought == {"p2", "p3", "p4", "p5"}
    assert "published" not in capsys.readouterr().out
    assert list(pool.lists_again(config, {"q2"}, depth=1)) == ["q2"]
    assert pool.lists_again(config, {"q2"}, depth=1)["q2"].lists["bm25"] == ["p3", "p4"]


def test_lists_are_found_again_in_compressed_runs(tmp_path):
    config = configure(tmp_path)
    packed = tmp_path / "other.run.gz"
    packed.write_bytes(gzip.compress(RUN.encode(), mtime=0))
    (run,) = [source for source in config.pool.sources if source.kind == "trec_run"]
    alone = config.pool.model_copy(update={"sources": (run.model_copy(update={"path": packed}),)})
    config = config.model_copy(update={"pool": alone})
    pool.pool(config)

    listed = pool.lists_again(config, {"q1", "q2"}, depth=10)

    assert {name: each.lists for name, each in listed.items()} == {
        "q1": {"other": ["p5"]},
        "q2": {"other": ["p5", "p3"]},
    }
