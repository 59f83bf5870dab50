"""The judge beside the lists that made the pools: fair to both, by hand and by simulation."""

from itertools import chain

import numpy as np
import pytest

from winnow.audit.lists import chosen_by_others, compare_with_lists
from winnow.audit.pairs import JudgedPairs
from winnow.audit.people import Baseline, compare_with_people
from winnow.pooling.merge import ListedQuery, RankedList, best_first
from winnow.records import ScoredPassage

HOW = {"samples": 200, "seed": 1}
NUM_QUERIES, NUM_PASSAGES, DEPTH = 400, 300, 12


def compare(pairs, lists, qrels, *, brought=None, **settings):
    found = {
        query_id: ListedQuery(each, frozenset(chain(*each.values()) if brought is None else brought[query_id]))
        for query_id, each in lists.items()
    }
    return compare_with_lists(pairs, found, qrels, **{"relevant_from": 1, **HOW, **settings})


def values(by_measure):
    return [found.value for found in by_measure.values()]


def test_the_judged_pool_and_each_list_are_measured_as_rankings(judged):
    """The judge orders q1 as p2, p1, p3 and q2 as p1, p2; the list has q1's relevant p1 third and lacks q2's p9."""
    pairs = judged({"q1": "...", "q2": ".."}, scores={"q1": [2.0, 3.0, 1.0], "q2": [2.0, 1.0]})
    lists = {"q1": {"bm25": ["p2", "p3", "p1"]}, "q2": {"bm25": ["p1", "p2"]}}

    found = compare(pairs, lists, {"q1": {"p1": 1}, "q2": {"p9": 1}})

    assert found.num_queries == 2
    assert values(found.judged) == pytest.approx([(1 / 2 + 0) / 2, (1 / np.log2(3)) / 2])
    assert values(found.lists["bm25"]) == pytest.approx([(1 / 3 + 0) / 2, (1 / np.log2(4)) / 2])
    assert found.gains["bm25"]["RR@10"].value == pytest.approx((1 / 2 - 1 / 3) / 2)


def test_a_positive_that_only_people_added_is_no_merit_of_the_judge(judged):
    pairs = judged({"q1": "H.."})
    lists, qrels = {"q1": {"bm25": ["p2", "p3", "p8", "p1"]}}, {"q1": {"p1": 1}}

    added = compare(pairs, lists, qrels, brought={"q1": {"p2", "p3"}})
    brought = compare(pairs, lists, qrels, brought={"q1": {"p1", "p2", "p3"}})

    assert [each.judged["RR@10"].value for each in (added, brought)] == [0.0, 1.0]
    assert added.lists["bm25"]["RR@10"].value == 1 / 4


def test_what_the_judge_has_not_told_apart_stays_in_the_order_of_the_lists(judged):
    pairs = judged({"q1": "..."}, scores={"q1": [-np.inf, -np.inf, 1.0]})

    found = compare(pairs, {"q1": {"bm25": ["p1", "p2", "p3"]}}, {"q1": {"p2": 1}})

    assert found.judged["RR@10"].value == pytest.approx(1 / 3)


def test_grades_below_the_lowest_relevant_one_do_not_count(judged):
    lists, qrels = {"q1": {"bm25": ["p1", "p2"]}}, {"q1": {"p1": 1, "p2": 2}}

    assert compare(judged({"q1": ".."}), lists, qrels, relevant_from=2).lists["bm25"]["RR@10"].value == 1 / 2
    assert compare(judged({"q1": ".."}), lists, {"q1": {"p1": 1}}, relevant_from=2) is None


def test_only_what_other_lists_brought_from_their_top_on_is_fair(judged):
    """The encoder's third is not in the pool: its fourth, which BM25 brought, was chosen by BM25."""
    pairs = judged({"q1": ".....", "q2": "."})
    lists = {"bm25": ["p4", "p5", "p1"], "encoder": ["p1", "p2", "p8", "p4"]}
    found = {"q1": ListedQuery(lists, frozenset({"p1", "p2", "p4", "p5"})), "q2": ListedQuery(lists, frozenset())}

    assert chosen_by_others(pairs, found, {"bm25"}).tolist() == [True, True, False, False, False, False]
    assert chosen_by_others(pairs, found, {"encoder"}).tolist() == [True, False, False, True, True, False]
    assert not chosen_by_others(pairs, found, {"bm25", "encoder"}).any()


@pytest.fixture(scope="module")
def simulated():
    """Pools of BM25 and the encoder, and a judge: three scorers that are equally good, and err apart from each other.

    Each passage's score is normal, and 3 higher for the one that is relevant.
    """
    draws = np.random.default_rng(5)
    columns, found, qrels, lexical = [], {}, {}, []
    for query in range(NUM_QUERIES):
        relevant = draws.integers(NUM_PASSAGES)
        scores = draws.normal(size=(3, NUM_PASSAGES))
        scores[:, relevant] += 3
        judge, bm25, encoder = scores
        lists = {"bm25": _ranked(bm25), "encoder": _ranked(encoder)}
        ranked = [RankedList(name, [ScoredPassage(each, 0.0) for each in ids]) for name, ids in lists.items()]
        pool = sorted(best_first(ranked, 2 * DEPTH))
        found[f"q{query}"] = ListedQuery(lists, frozenset(pool))
        qrels[f"q{query}"] = {f"p{relevant}": 1}
        places = [int(name[1:]) for name in pool]
        columns += [(query, f"p{p}", position, judge[p], p == relevant) for position, p in enumerate(places)]
        lexical += bm25[places].tolist()
    query_N, ids, position_N, score_N, is_human_N = zip(*columns, strict=True)
    pairs = JudgedPairs(
        query_ids=tuple(found),
        query_N=np.array(query_N),
        passage_id_N=np.array(ids, dtype=object),
        position_N=np.array(position_N),
        num_words_N=np.ones(len(ids), dtype=int),
        is_positive_N=np.zeros(len(ids), dtype=bool),
        is_human_N=np.array(is_human_N),
        is_decided_N=np.array(is_human_N),
        best_rank_N=np.ones(len(ids)),
        score_N=np.array(score_N),
    )
    return pairs, found, qrels, np.array(lexical)


def _ranked(scores):
    return [f"p{place}" for place in np.argsort(-scores)[:DEPTH]]


def beside_bm25(pairs, lexical_N, is_fair_N):
    baselines = {"BM25": Baseline(lexical_N, is_fair_N)}
    nowhere_N = np.full(len(lexical_N), -1)
    seen = compare_with_people(pairs, evidence="score", baselines=baselines, document_N=nowhere_N, **HOW)
    return seen.beside["BM25"]


def test_a_judge_as_good_as_the_pooler_looks_as_good_on_what_neither_chose(simulated):
    pairs, found, _, lexical_N = simulated

    fair = beside_bm25(pairs, lexical_N, chosen_by_others(pairs, found, {"bm25"}))
    whole = beside_bm25(pairs, lexical_N, np.ones(len(lexical_N), dtype=bool))

    assert fair.gain.auc.low < 0 < fair.gain.auc.high
    assert abs(fair.gain.auc.value) < 0.01
    assert abs(fair.gain.first_right.value) < 0.06
    # On the whole pool, which BM25 chose, an equal judge looks far better: the comparison that is not made.
    assert whole.gain.auc.low > 0.07
    assert whole.gain.first_right.low > 0.2


def test_a_better_judge_is_seen_to_be_better(simulated):
    pairs, found, _, lexical_N = simulated
    is_fair_N = chosen_by_others(pairs, found, {"bm25"})

    worse = beside_bm25(pairs, np.where(pairs.is_human_N, lexical_N - 2, lexical_N), is_fair_N)

    assert worse.gain.auc.low > 0.02


def test_a_judge_that_repeats_the_only_list_adds_nothing_to_it_and_a_blind_one_takes_away(simulated):
    pairs, found, qrels, lexical_N = simulated
    alone = {
        query_id: ListedQuery({"bm25": each.lists["bm25"]}, frozenset(each.lists["bm25"]))
        for query_id, each in found.items()
    }

    def gain(score_N):
        fields = {name: getattr(pairs, name) for name in pairs.__dataclass_fields__}
        judged = JudgedPairs(**{**fields, "score_N": score_N})
        return compare_with_lists(judged, alone, qrels, relevant_from=1, **HOW).gains["bm25"]["RR@10"]

    assert gain(lexical_N).value == 0.0
    assert gain(np.random.default_rng(8).normal(size=len(lexical_N))).high < -0.1
    assert gain(pairs.score_N).low > 0.1
