"""What a reader of an audit is told, in the terminal, in Markdown and as JSON."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from winnow import schema
from winnow.audit.biases import length_bias, position_bias
from winnow.audit.judges import SecondOpinion, compare_judges
from winnow.audit.lists import compare_with_lists
from winnow.audit.people import Baseline, compare_with_people, with_human_positive
from winnow.audit.plots import plot_audit
from winnow.audit.reordering import compare_readings
from winnow.audit.report import AuditReport, count_queries, main_numbers, report_from_json, report_to_json
from winnow.audit.resampling import Estimate
from winnow.audit.tables import render_markdown, render_terminal, sentences
from winnow.pooling.merge import ListedQuery

HOW = {"samples": 100, "seed": 1}
ROWS = {"q1": "BJ..", "q2": "JJHB", "q3": "J.", "q4": ".."}
LEDGER = {
    "queries": 5,
    "calls": 10,
    "prompt_tokens": 1000,
    "cached_tokens": 500,
    "output_tokens": 20,
    "seconds": 2.0,
    "tokens_per_s": 510.0,
    "cost": None,
    "cost_per_1000_queries": None,
    "currency": "USD",
    "rounds": {},
}


def outcomes(**statuses):
    rows = [
        {"query_id": q, "pool_id": "0", "judge_id": "j", "status": s, "attempts": 1 + (q == "q2"), "passages_cut": 2}
        for q, s in statuses.items()
    ]
    return pa.Table.from_pylist(rows, schema=schema.JUDGED_QUERIES)


def windows(*found):
    columns = pa.schema([("query_id", pa.string()), ("window", pa.int32())])
    return pa.Table.from_pylist([{"query_id": q, "window": w} for q, w in found], schema=columns)


def report(pairs, judged_queries, *, people=None, lists=None):
    return AuditReport(
        judge_id="a-judge",
        labels={"max_positives": 3, "min_score": None},
        queries=count_queries(judged_queries, windows(("q1", None), ("q2", 1), ("q2", 2)), pairs),
        people=people,
        lists=lists,
        second_judge=None,
        second_judge_id=None,
        positions=position_bias(pairs, **HOW),
        reordering=None,
        lengths=length_bias(pairs, **HOW),
        ledger=LEDGER,
    )


@pytest.fixture
def usual(judged):
    pairs = judged(ROWS)
    seen = with_human_positive(pairs)
    people = compare_with_people(
        seen,
        evidence="score",
        baselines={
            "BM25": Baseline(np.arange(8.0), np.ones(8, dtype=bool)),
            "encoder": Baseline(np.zeros(8), np.zeros(8, dtype=bool)),
        },
        document_N=np.array([1, 1, 2, 2, 3, 3, 3, 4]),
        **HOW,
    )
    found = {
        "q1": ListedQuery({"bm25": ["p3", "p4", "p1", "p2"]}, frozenset({"p1", "p2", "p3", "p4"})),
        "q2": ListedQuery({"bm25": ["p1", "p2", "p3", "p7"]}, frozenset({"p1", "p2", "p3"})),
    }
    lists = compare_with_lists(seen, found, {"q1": {"p1": 1}, "q2": {"p7": 1}}, relevant_from=1, **HOW)
    again = SecondOpinion(pairs, ~pairs.is_positive_N, -pairs.score_N)
    complete = report(pairs, outcomes(q1="ok", q2="ok", q3="ok", q4="ok", q5="malformed"), people=people, lists=lists)
    return replace(
        complete,
        second_judge=compare_judges(again, **HOW),
        second_judge_id="another-judge",
        reordering=compare_readings(again, pairs.position_N[::-1], num_asked=5, **HOW),
    )


@pytest.fixture
def empty(judged):
    return report(judged({}), outcomes(q1="malformed", q2="engine_error"))


def terminal(found):
    console = Console(width=160)
    with console.capture() as capture:
        console.print(render_terminal(found))
    return capture.get()


def test_queries_are_counted_by_what_became_of_them(usual):
    queries = usual.queries

    assert queries.statuses == {"malformed": 1, "ok": 4}
    assert queries.positives == {0: 1, 1: 1, 2: 1, 3: 1}
    assert (queries.asked_again, queries.passages_cut, queries.in_windows, queries.num_pairs) == (1, 10, 1, 12)


def test_the_published_table_is_there(usual):
    text = render_markdown(usual)

    assert "| precision | 0.400 |" in text
    assert "| recall | 0.667 |" in text
    assert "| positives per query | 2.500 |" in text


@pytest.mark.parametrize(
    "heading",
    [
        "The judge's labels against human ones: 2 queries, 8 pairs",
        "The judge's order against human labels",
        "What judging adds to the ranked lists: 2 queries",
        "Against another judge: 4 queries, 12 pairs in common",
        "Positives by position in the prompt",
        "The same pools in another order",
        "Length",
    ],
)
def test_every_comparison_has_its_table(usual, heading):
    assert heading in terminal(usual)
    assert f"## {heading}\n" in render_markdown(usual)


def test_a_reader_is_told_what_unlabelled_positives_do_to_the_numbers(usual):
    said = " ".join(sentences(usual))

    assert "4 of 5 queries were judged ok" in said
    assert "2 of the 4 have a passage in the pool that people labelled useful" in said
    assert "A judge's positive that nobody labelled counts as wrong" in said


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.02, 0.1, "includes 0"), (0.02, 0.1, "excludes 0"), (-0.2, -0.1, "excludes 0"), (0.0, 0.1, "includes 0")],
)
def test_the_gain_over_another_scorer_is_said_with_its_interval(usual, low, high, verdict):
    gain = Estimate(0.04, low, high, 2, 7)
    beside = replace(usual.people.beside["BM25"], gain=replace(usual.people.order, auc=gain, sibling_auc=gain))
    found = replace(usual, people=replace(usual.people, beside={"BM25": beside, "encoder": None}))

    said = [sentence for sentence in sentences(found) if "judge minus" in sentence]

    interval = f"+0.040, 95 % interval {low:+.3f} to {high:+.3f} over 2 queries, which {verdict}."
    where = "judge minus BM25, where BM25 did not choose the passages"
    assert said == [f"AUC, {where}: {interval}", f"AUC against siblings, {where}: {interval}"]


def test_a_scorer_that_cannot_be_compared_fairly_is_named(usual):
    text = render_markdown(usual)

    assert "The judge beside encoder: not available, as no list of another scorer" in text
    assert "AUC: judge - BM25, where BM25 did not choose" in text


def test_what_judging_adds_to_the_lists_is_shown_and_said(usual):
    text = render_markdown(usual)

    assert "## What judging adds to the ranked lists: 2 queries" in text
    # q1's passage is the judge's first and the list's third; q2's stands fourth in the list, and nowhere in the pool.
    assert "| RR@10: the pool in the judge's order | 0.500 |" in text
    assert "| RR@10: list bm25 | 0.292 |" in text
    assert "| RR@10: judged pool - list bm25 | 0.208 |" in text
    assert "RR@10 of the pool in the judge's order minus list bm25: +0.208, 95 % interval" in " ".join(sentences(usual))
    assert main_numbers(usual)["RR@10.list.bm25"] == pytest.approx((1 / 3 + 1 / 4) / 2)


def test_without_human_labels_the_rest_is_reported(judged):
    found = report(judged({"q1": "J.", "q2": ".J"}), outcomes(q1="ok", q2="ok"))

    text = render_markdown(found)

    assert "No pool holds a passage that people called relevant" in text
    assert "against human ones" not in text
    assert "Positives by position in the prompt" in text
    assert main_numbers(found).keys() == {"ok_share", "position.p", "length.rho"}


def test_agreement_on_judged_pairs_alone_stands_beside_the_sparse_figure_where_people_rejected_passages(judged, usual):
    """One of two judged positives is right; of four positives of the judge, three go unlabelled or are vetoed."""
    pairs = judged({"q1": "BVJJ-."})
    people = compare_with_people(pairs, evidence="score", baselines={}, document_N=np.full(6, -1), **HOW)
    found = report(pairs, outcomes(q1="ok"), people=people)

    text = render_markdown(found)

    assert "| precision | 0.250 |" in text
    assert "| precision, judged pairs alone | 0.500 |" in text
    assert "Judged pairs alone are the 3 that people called relevant or not relevant" in text
    assert main_numbers(found)["judged_alone.precision"] == 0.5
    assert report_from_json(report_to_json(found)) == found
    assert "No agreement on judged pairs alone: people have rejected no passage" in render_markdown(usual)


def test_where_nothing_was_judged_the_statuses_are_reported(empty, tmp_path):
    text = render_markdown(empty)

    assert "| status engine_error | 1 |" in text
    assert "There is no label to audit" in text
    assert main_numbers(empty) == {"ok_share": 0.0}
    assert plot_audit(tmp_path, empty) == []
    assert "Positives by position" not in terminal(empty)


def test_pools_of_positives_are_reported_without_an_order(judged):
    pairs = judged({"q1": "BB", "q2": "BB"})
    nowhere_N = np.full(4, -1)
    people = compare_with_people(pairs, evidence="score", baselines={}, document_N=nowhere_N, **HOW)

    text = render_markdown(report(pairs, outcomes(q1="ok", q2="ok"), people=people))

    assert "| precision | 1.000 | 1.000 to 1.000 | 2 | 4 |" in text
    assert "| Cohen's kappa | - | - | 2 | 4 |" in text
    assert "No sibling AUC: the passages of the corpus have no document_id" in text


def test_cost_is_that_of_the_ledger(usual):
    assert "Cost: 10 calls, 1,000 prompt tokens (50% from the prefix cache)" in render_markdown(usual)


def test_main_numbers_are_the_ones_to_compare_judges_by(usual):
    numbers = main_numbers(usual)

    assert numbers["recall"] == pytest.approx(2 / 3)
    assert {
        "precision",
        "kappa",
        "auc.judge",
        "auc.judge-BM25",
        "sibling_auc.judge",
        "second_judge.kappa",
    } <= numbers.keys()
    assert numbers["ok_share"] == 0.8


def test_a_report_survives_json(usual, empty):
    for original in (usual, empty):
        assert report_from_json(json.loads(json.dumps(report_to_json(original), allow_nan=False))) == original


def test_pictures_of_equal_numbers_have_equal_bytes(usual, tmp_path):
    first, second = plot_audit(tmp_path / "a", usual), plot_audit(tmp_path / "b", usual)

    assert [path.name for path in first] == ["agreement.png", "positions.png", "positives.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
