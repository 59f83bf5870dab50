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


OWN = [(i, f"p{i}") for i in range(NUMBER)]
"""Every question's own passage."""


LISTWISE = {"kind": "listwise"}


def configure(
    folder: Path,
    *,
    qrels: Sequence[tuple[int, str] | tuple[int, str, int]] = OWN,
    judge: dict | None = None,
    relevant_from: int = 1,
    **settings,
) -> RunConfig:
    """Question i shares a word with passage i and another with all passages but ``far``, which no pool holds."""
    passages = [{"_id": f"p{i}", "text": f"answer number{i} about things"} for i in range(NUMBER)]
    passages += [{"_id": "far", "text": "elsewhere entirely"}, {"_id": "far2", "text": "elsewhere entirely"}]
    queries = [{"_id": f"q{i}", "text": f"number{i} things"} for i in range(NUMBER)]
    for name, rows in {"corpus": passages, "queries": queries}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "qrels.tsv").write_text("".join(f"q{i} 0 {passage} {(*grade, 1)[0]}\n" for i, passage, *grade in qrels))
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text("{}")
    judged = {"qrels": "qrels.tsv", "questions": "all", "relevant_from": relevant_from}
    train = {"queries": "queries.jsonl", **(judged if qrels else {})}
    whole = {
        "output": str(folder / "runs"),
        "data": {"corpus": {"path": "corpus.jsonl"}, "train": train},
        "encoder": {"model": "./unused"},
        "pool": {"sources": [{"kind": "bm25"}], "max_passages": 3},
        "annotate": {"engine": {"kind": "vllm", "model": "./model"}, **({"judge": judge} if judge else {})},
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
    """The judge calls the other passages useful, and misses the question's own."""
    return {"is_useful": not is_right(query_id, passage), "is_relevant": True}


def by_rank(query_id: str, passage: dict) -> dict:
    """A judge that finds nothing relevant, in any pool."""
    return {"is_relevant": False}


def examples_in(directory: Path) -> dict[str, tuple[list[str], list[str]]]:
    return {
        row["query_id"]: tuple([p["passage_id"] for p in row[side]] for side in ("positives", "negatives"))
        for row in pq.read_table(directory / label.EXAMPLES).to_pylist()
    }


def sources_in(directory: Path) -> dict[str, dict[str, str]]:
    rows = pq.read_table(directory / label.EXAMPLES).to_pylist()
    return {row["query_id"]: {p["passage_id"]: p["source"] for p in row["positives"]} for row in rows}


def test_scores_give_labels_for_what_was_judged_ok(tmp_path):
    config = configure(tmp_path, qrels=[])
    publish_judgments(config, by_score, failed=["q2"])

    result = label.label(config)

    examples = examples_in(result.directory)
    assert {name: positives for name, (positives, _) in examples.items()} == {
        f"q{i}": [f"p{i}"] for i in range(NUMBER) if i != 2
    }
    assert all(len(negatives) == 2 for _, negatives in examples.values())
    assert result.summary["left_out"] == {"malformed": 1}
    assert result.summary["positives_by"] == "score"
    assert result.summary["positives"] == {"llm": NUMBER - 1, "human": 0, "both": 0}


def test_each_positive_says_who_named_it_also_outside_the_pool_and_for_queries_that_were_not_judged(tmp_path, capsys):
    config = configure(tmp_path, qrels=[(0, "p0"), (1, "far"), (2, "p2"), (3, "unheard-of")])
    publish_judgments(config, by_score, failed=["q2", "q4"])

    result = label.label(config)

    assert sources_in(result.directory) == {
        "q0": {"p0": "both"},
        "q1": {"p1": "llm", "far": "human"},
        "q2": {"p2": "human"},
        "q3": {"p3": "llm"},
        "q5": {"p5": "llm"},
    }
    assert examples_in(result.directory)["q2"] == (["p2"], [])
    assert result.summary["positives"] == {"llm": 3, "human": 2, "both": 1}
    assert (result.summary["only_human_positives"], result.summary["left_out"]) == (1, {"malformed": 1})
    said = capsys.readouterr().out
    assert "5 of 6 queries have a positive (left out: 1 malformed)" in said
    assert "by score 1.00 positives per query (4 with 1)" in said
    assert "the judge alone 3, by people alone 2, by both 1; 1 queries have only human ones" in said


def test_a_label_of_a_copy_is_one_of_the_passage_that_stands_for_it(tmp_path):
    config = configure(tmp_path, qrels=[(0, "far2"), (1, "far"), (2, "far", 0), (2, "far2", 1)])
    publish_judgments(config, by_score)

    result = label.label(config)

    for query_id in ("q0", "q1", "q2"):
        assert sources_in(result.directory)[query_id] == {f"p{query_id[1:]}": "llm", "far": "human"}
    assert "far2" not in str(pq.read_table(result.directory / label.EXAMPLES).to_pylist())


def test_what_people_say_against_the_judge_is_stored_beside_it_and_counted(tmp_path, capsys):
    """In q0 people veto one of the judge's positives, too."""
    config = configure(tmp_path, judge=LISTWISE)
    publish_judgments(config, by_verdict)
    vetoed = next(p for p in examples_in(label.label(config).directory)["q0"][0] if p != "p0")
    config = configure(tmp_path, judge=LISTWISE, qrels=[*OWN, (0, vetoed, 0)])
    publish_judgments(config, by_verdict)
    capsys.readouterr()

    result = label.label(config)

    for row in pq.read_table(result.directory / label.EXAMPLES).to_pylist():
        own = f"p{row['query_id'][1:]}"
        assert {p["passage_id"]: p["source"] for p in row["positives"]}[own] == "human"
        assert {p["passage_id"]: p["source"] for p in row["negatives"]}[own] == "llm"
        if row["query_id"] == "q0":
            assert {p["passage_id"]: p["source"] for p in row["positives"]}[vetoed] == "llm"
            assert {p["passage_id"]: p["source"] for p in row["negatives"]}[vetoed] == "human"
    assert result.summary["positives_by"] == "useful"
    assert (result.summary["negatives_overruled"], result.summary["positives_overruled"]) == (NUMBER, 1)
    assert f"they overrule 1 positives and {NUMBER} hard negatives of the judge" in capsys.readouterr().out


def test_the_lowest_relevant_grade_is_another_input_and_moves_what_is_below_it_to_the_withheld(tmp_path):
    stored = []
    for relevant_from in (1, 2):
        config = configure(tmp_path, qrels=[(0, "far", 1), (1, "far", 2)], relevant_from=relevant_from)
        publish_judgments(config, by_score)
        rows = pq.read_table(label.label(config).directory / label.EXAMPLES).to_pylist()
        sides = ("positives", "withheld")
        stored.append([[side for side in sides if "far" in str(row[side])] for row in rows[:2]])

    assert stored == [[["positives"], ["positives"]], [["withheld"], ["positives"]]]


def test_a_judge_of_rankings_that_found_nothing_anywhere_leaves_its_negatives_to_the_human_positives(tmp_path):
    """No row holds a rank; the configuration says that the judge gives them."""
    config = configure(tmp_path, judge={**LISTWISE, "verdict": "ranking"})
    publish_judgments(config, by_rank)

    result = label.label(config)

    assert result.summary["positives_by"] == "rank"
    assert {positives[0] for positives, _ in examples_in(result.directory).values()} == {f"p{i}" for i in range(NUMBER)}
    assert all(len(negatives) == 3 for _, negatives in examples_in(result.directory).values())
    assert result.summary["negatives_overruled"] == NUMBER


def test_the_best_of_a_selection_is_what_the_lists_had_highest_not_the_first_id(tmp_path):
    config = configure(tmp_path, qrels=[], judge=LISTWISE, max_positives=1)
    publish_judgments(config, lambda query_id, passage: {"is_useful": True, "is_relevant": True})

    examples = examples_in(label.label(config).directory)

    # BM25 has each question's own passage first; p0 is in more pools than its own.
    assert {name: positives for name, (positives, _) in examples.items()} == {f"q{i}": [f"p{i}"] for i in range(NUMBER)}


def test_other_human_labels_are_another_input_of_labelling(tmp_path):
    fingerprints = []
    for qrels in (OWN, [*OWN, (0, "far")]):
        config = configure(tmp_path, qrels=qrels)
        publish_judgments(config, by_score)
        fingerprints.append(label.plan(config).inputs["qrels"])
        label.label(config)

    assert len(set(fingerprints)) == 2
    assert sources_in(find(label.plan(config)).directory)["q0"] == {"p0": "both", "far": "human"}


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
    assert (result.summary["left_out"], result.summary["only_human_positives"]) == ({}, 1)
    assert sources_in(result.directory)["q0"] == {"p0": "human"}
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
    config = configure(tmp_path, max_drop=0.1, judge=LISTWISE)
    publish_judgments(config, by_verdict)

    label.label(config)

    assert "label: max_drop has no effect with positives by useful" in capsys.readouterr().out


def test_evidence_that_is_not_there_is_an_error_before_anything_is_written(tmp_path):
    config = configure(tmp_path, positives="rank")
    publish_judgments(config, by_score)

    with pytest.raises(ConfigError, match="utility_rank"):
        label.label(config)


def test_no_positive_anywhere_is_an_error_with_the_reasons(tmp_path):
    config = configure(tmp_path, qrels=[], min_score=99.0)
    publish_judgments(config, by_score, failed=["q1"])

    with pytest.raises(DataError, match=r"none of 6 queries.*\{'no_positive': 5, 'malformed': 1\}"):
        label.label(config)
