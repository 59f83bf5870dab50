"""Recall by source and depth, sizes and findings, against numbers worked out by hand."""

import json

import pytest

from winnow.pooling.merge import RankedList
from winnow.pooling.report import plot_recall, render_counts, render_recall
from winnow.pooling.statistics import (
    PoolCounter,
    PoolStatistics,
    shown_depths,
    statistics_from_json,
    statistics_to_json,
)
from winnow.records import Candidate, CandidatePool, Finding, ScoredPassage


def hits(source: str, names: str) -> RankedList:
    return RankedList(source, [ScoredPassage(name, 0.0) for name in names])


def pool(query_id: str, **found_by: str) -> CandidatePool:
    """Passages by name, with the sources that found them."""
    candidates = [
        Candidate(name, "", "", tuple(Finding(source, 1) for source in sources.split()))
        for name, sources in found_by.items()
    ]
    return CandidatePool(query_id, "?", tuple(candidates))


@pytest.fixture
def statistics() -> PoolStatistics:
    """q1 has the positives a and z (z on no list); q2 has d, which dense alone has; q3 has none; q4 found nothing."""
    counter = PoolCounter({"bm25": 3, "dense": 2})
    counter.count(pool("q1", a="bm25 dense", b="bm25", z=""), [hits("bm25", "bca"), hits("dense", "ax")], {"a", "z"})
    counter.count(pool("q2", b="bm25"), [hits("bm25", "bc"), hits("dense", "ed")], {"d"})
    counter.count(pool("q3", b="bm25"), [hits("bm25", "b"), hits("dense", "")], set())
    counter.count(pool("q4"), [hits("bm25", ""), hits("dense", "")], set())
    return counter.result()


def test_recall_is_the_mean_over_questions_that_have_a_human_positive(statistics):
    # q1: half of its positives (a) at bm25's rank 3 and dense's rank 1; q2: all of them at dense's rank 2.
    assert statistics.recall == {"bm25": {1: 0, 2: 0, 3: 0.25}, "dense": {1: 0.25, 2: 0.75}}
    assert statistics.union_recall == {1: 0.25, 2: 0.75, 3: 0.75}
    assert statistics.pool_recall == 0.5


def test_human_positives_are_found_added_or_missing(statistics):
    assert (statistics.num_judged, statistics.human_positives) == (2, {"found": 1, "added": 1, "missing": 1})


def test_sizes_and_findings_are_counted(statistics):
    assert (statistics.num_pools, statistics.num_candidates, statistics.mean_size) == (4, 5, 1.25)
    assert (statistics.fewest, statistics.most, statistics.num_empty_pools) == (0, 3, 1)
    assert statistics.found_by == {"bm25": 3, "bm25+dense": 1, "only people": 1}
    assert statistics.empty_lists == {"bm25": 1, "dense": 2}


def test_statistics_survive_a_file(statistics):
    assert statistics_from_json(json.loads(json.dumps(statistics_to_json(statistics)))) == statistics


def test_the_end_of_a_list_is_among_the_depths_shown():
    assert shown_depths(15) == [1, 2, 3, 5, 10, 15]
    assert shown_depths(1) == [1]
    assert shown_depths(100)[-2:] == [50, 100]


def test_without_human_positives_there_is_no_recall_and_the_rest_is_told():
    counter = PoolCounter({"bm25": 3})
    counter.count(pool("q1", b="bm25"), [hits("bm25", "b")], set())

    statistics = counter.result()

    assert (statistics.recall, statistics.union_recall, statistics.pool_recall) == ({}, {}, None)
    assert render_counts(statistics) == ["1 questions, 1 candidates (1.0 per question, 1 to 1); 1 found by bm25"]


def test_the_table_shows_no_recall_beyond_the_end_of_a_list(statistics):
    columns = [list(column.cells) for column in render_recall(statistics).columns]

    assert columns[0] == ["bm25", "dense", "union", "pool"]
    assert columns[3] == ["0.250", "-", "0.750", "0.500"]


def test_equal_numbers_give_equal_pictures(statistics, tmp_path):
    first, second = (plot_recall(tmp_path / name, statistics).read_bytes() for name in ("a.png", "b.png"))

    assert first == second
    assert first.startswith(b"\x89PNG")
