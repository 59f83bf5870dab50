"""A judge against human labels, computed by hand."""

import math

import numpy as np
import pytest

from winnow.audit.people import Baseline, compare_with_people, with_human_positive


def compare(pairs, *, evidence="score", documents=None, baselines=None):
    everywhere_N = np.ones(len(pairs.query_N), dtype=bool)
    scored = {name: Baseline(score_N, everywhere_N) for name, score_N in (baselines or {}).items()}
    document_N = np.full(len(pairs.query_N), -1) if documents is None else np.array(documents)
    return compare_with_people(pairs, evidence=evidence, baselines=scored, document_N=document_N, samples=200, seed=1)


def test_labels_are_pooled_over_queries(judged):
    """5 positives of the judge, 3 of people, 2 of both: precision 2/5, recall 2/3; q3 has no human label."""
    found = compare(with_human_positive(judged({"q1": "BJ..", "q2": "JJHB", "q3": "JJ"})))

    assert (found.num_queries, found.num_pairs) == (2, 8)
    assert found.precision.value == pytest.approx(2 / 5)
    assert found.recall.value == pytest.approx(2 / 3)
    assert (found.positives_per_query.value, found.human_per_query.value) == (2.5, 1.5)
    assert (found.precision.num_pairs, found.recall.num_pairs) == (5, 3)


def test_kappa_by_hand(judged):
    """Both yes 2, judge only 3, people only 1, neither 2 of 8: agreement 4/8, by chance (5x3 + 3x5)/64."""
    found = compare(judged({"q1": "BJ..", "q2": "JJHB"}))

    chance = 30 / 64
    assert found.kappa.value == pytest.approx((0.5 - chance) / (1 - chance))


def test_judged_pairs_alone_leave_out_what_people_have_not_decided(judged):
    """Decided: B, V, -, H, B. Judge and people say yes 2, judge only 1, people only 1, neither 1 of 5."""
    found = compare(judged({"q1": "BV-J.", "q2": "H.JB"}))

    alone = found.judged_alone
    assert alone.num_pairs == 5
    assert (alone.precision.value, alone.recall.value) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    chance = (3 * 3 + 2 * 2) / 25
    assert alone.kappa.value == pytest.approx((3 / 5 - chance) / (1 - chance))
    assert found.precision.value == pytest.approx(2 / 5)


def test_where_people_rejected_nothing_there_is_no_agreement_on_judged_pairs_alone(judged):
    assert compare(judged({"q1": "BJ.", "q2": "H."})).judged_alone is None


def test_order_of_the_judge_stands_beside_that_of_other_scorers(judged):
    """The judge ranks q1's positive first of 3 and q2's last of 2; the other scorer the other way round."""
    pairs = judged({"q1": "H..", "q2": ".H"})

    found = compare(pairs, baselines={"BM25": np.array([1.0, 2.0, 3.0, 1.0, 2.0])})

    assert found.order.auc.value == 0.5
    assert found.order.first_right.value == 0.5
    assert found.beside["BM25"].other.auc.value == 0.5
    assert found.beside["BM25"].gain.auc.value == 0.0
    assert (found.beside["BM25"].gain.auc.low, found.beside["BM25"].gain.auc.high) == (-1.0, 1.0)


def test_siblings_are_the_rest_of_the_positives_own_document(judged):
    """In the pool the positive wins 2 of 3; among its document's passages 1 of 2."""
    found = compare(judged({"q1": ".H.."}), documents=[7, 7, 7, 8])

    assert found.order.auc.value == pytest.approx(2 / 3)
    assert found.order.sibling_auc.value == 0.5
    assert found.order.sibling_auc.num_pairs == 2
    assert found.siblings_absent is None


def test_a_corpus_without_documents_has_no_sibling_figure_and_the_report_says_why(judged):
    found = compare(judged({"q1": ".H"}), baselines={"BM25": np.zeros(2)})

    assert found.order.sibling_auc is None
    assert found.beside["BM25"].gain.sibling_auc is None
    assert "no document_id" in found.siblings_absent


def test_pools_without_siblings_have_no_sibling_figure_either(judged):
    found = compare(judged({"q1": ".H"}), documents=[1, 2])

    assert found.order.sibling_auc is None
    assert "no pool holds another passage" in found.siblings_absent


def test_a_judge_that_only_says_yes_or_no_names_no_first_passage(judged):
    pairs = judged({"q1": "B."}, scores={"q1": [2.0, 0.0]})

    found = compare(pairs, evidence="verdict", baselines={"BM25": np.array([1.0, 0.0])})

    assert found.order.first_right is None
    assert found.beside["BM25"].gain.first_right is None
    assert found.beside["BM25"].other.first_right is None
    assert found.order.auc.value == 1.0


def test_a_pool_of_positives_has_labels_and_no_order(judged):
    found = compare(judged({"q1": "BB", "q2": "BB"}))

    assert (found.precision.value, found.recall.value) == (1.0, 1.0)
    assert found.kappa.value is None
    assert found.order.auc.value is None


def test_a_judge_that_finds_nothing_has_no_precision(judged):
    found = compare(judged({"q1": "H.", "q2": "H."}))

    assert found.precision.value is None
    assert found.recall.value == 0.0


def test_unranked_passages_lose_to_ranked_ones(judged):
    pairs = judged({"q1": ".B."}, scores={"q1": [-math.inf, -1.0, -math.inf]})

    found = compare(pairs, evidence="rank")

    assert (found.order.auc.value, found.order.first_right.value) == (1.0, 1.0)


def test_a_scorer_that_chose_everything_is_not_compared(judged):
    pairs = judged({"q1": "H.", "q2": "H."})
    baseline = Baseline(np.zeros(4), np.array([False, False, True, False]))

    found = compare_with_people(
        pairs, evidence="score", baselines={"BM25": baseline}, document_N=np.full(4, -1), samples=200, seed=1
    )

    assert found.beside == {"BM25": None}


def test_only_pairs_that_a_scorer_did_not_choose_are_compared(judged):
    """Of q1 the judge is right and the other wrong, but for q2, which is left out, it would be the other way round."""
    pairs = judged({"q1": "H.", "q2": ".H"})
    baseline = Baseline(np.array([1.0, 2.0, 1.0, 2.0]), np.array([True, True, False, False]))

    found = compare_with_people(
        pairs, evidence="score", baselines={"BM25": baseline}, document_N=np.full(4, -1), samples=200, seed=1
    ).beside["BM25"]

    assert (found.judge.auc.value, found.other.auc.value, found.gain.auc.value) == (1.0, 0.0, 1.0)
    assert (found.gain.auc.num_queries, found.gain.auc.num_pairs) == (1, 1)
