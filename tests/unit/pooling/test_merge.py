"""United ranked lists: the best of each in turn, every finding kept, the order seeded, human positives marked."""

from collections import Counter

from winnow.pooling.merge import RankedList, merge_ranked_lists
from winnow.records import Finding, Passage, Query, ScoredPassage

PASSAGES = {name: Passage(name, f"text of {name}") for name in "abcdefgh"}
QUERY = Query("q1", "a question", answers=("an answer",))


def ranked(source: str, names: str, cap: int | None = None) -> RankedList:
    return RankedList(source, [ScoredPassage(name, 1.0 / rank) for rank, name in enumerate(names, start=1)], cap)


def merge(*lists: RankedList, max_passages: int = 10, seed: int = 1, query: Query = QUERY, **human: object):
    return merge_ranked_lists(query, lists, PASSAGES, max_passages=max_passages, seed=seed, **human)


def names_in(pool) -> set[str]:
    return {passage.passage_id for passage in pool.passages}


def test_a_full_pool_takes_the_lists_in_turn_and_counts_a_shared_passage_once():
    pool = merge(ranked("bm25", "abc"), ranked("dense", "bde"), max_passages=4)

    assert names_in(pool) == {"a", "b", "d", "c"}


def test_any_number_of_lists_is_read_in_turn():
    pool = merge(ranked("bm25", "abc"), ranked("dense", "def"), ranked("splade", "ghb"), max_passages=5)

    assert names_in(pool) == {"a", "d", "g", "b", "e"}


def test_a_source_brings_in_no_more_than_its_cap_and_what_others_brought_does_not_count():
    # Read in turn: bm25 brings a, dense brings b (bm25's second hit costs bm25 nothing), bm25 brings c, then is at 2.
    pool = merge(ranked("bm25", "abcdef", cap=2), ranked("dense", "b"))

    assert names_in(pool) == {"a", "b", "c"}


def test_a_passage_beyond_one_cap_may_be_brought_in_by_another_list_and_keeps_both_findings():
    pool = merge(ranked("bm25", "abc", cap=1), ranked("dense", "dc"))

    found = {passage.passage_id: [finding.source for finding in passage.found_by] for passage in pool.passages}
    assert found == {"a": ["bm25"], "d": ["dense"], "c": ["bm25", "dense"]}


def test_every_list_that_found_a_passage_is_kept_with_its_rank():
    pool = merge(ranked("bm25", "ab"), ranked("dense", "b"))

    found = {passage.passage_id: passage.found_by for passage in pool.passages}
    assert found["b"] == (Finding("bm25", 2, 0.5), Finding("dense", 1, 1.0))


def test_the_order_depends_on_seed_and_query_alone():
    lists = ranked("bm25", "abcdef")
    orders = {
        tuple(passage.passage_id for passage in merge(lists, seed=seed, query=Query(name, "x")).passages)
        for seed in range(5)
        for name in ("q1", "q2")
    }

    assert merge(lists) == merge(lists)
    assert len(orders) > 5


def test_a_query_that_nothing_was_found_for_gets_an_empty_pool():
    assert merge(ranked("bm25", ""), ranked("dense", "")).passages == ()


def test_the_answers_of_the_query_go_into_the_pool():
    assert merge(ranked("bm25", "a")).answers == ("an answer",)


def test_human_labels_are_marked_on_what_was_found_and_nothing_is_added_unasked():
    pool = merge(ranked("bm25", "abc"), human_labels={"b": 2, "c": 0, "h": 1})

    assert {passage.passage_id: passage.human_label for passage in pool.passages} == {"a": None, "b": 2, "c": 0}


def test_a_missed_human_positive_takes_the_place_of_the_last_passage_that_is_none():
    pool = merge(ranked("bm25", "abcd"), max_passages=4, human_labels={"d": 1, "h": 1}, add_human_positives=True)

    added = next(passage for passage in pool.passages if passage.passage_id == "h")
    assert names_in(pool) == {"a", "b", "d", "h"}
    assert (added.found_by, added.human_label) == ((), 1)


def test_a_human_positive_that_a_list_had_beyond_the_cap_is_added_with_its_finding():
    pool = merge(ranked("bm25", "abcd"), max_passages=2, human_labels={"d": 1}, add_human_positives=True)

    added = next(passage for passage in pool.passages if passage.passage_id == "d")
    assert names_in(pool) == {"a", "d"}
    assert added.found_by == (Finding("bm25", 4, 0.25),)


def test_a_pool_with_room_loses_nothing_to_an_added_positive_and_judged_useless_passages_are_not_added():
    pool = merge(ranked("bm25", "ab"), max_passages=4, human_labels={"g": 0, "h": 1}, add_human_positives=True)

    assert names_in(pool) == {"a", "b", "h"}


def test_of_more_human_positives_than_places_the_most_relevant_are_kept():
    labels = {"e": 1, "f": 3, "g": 2, "h": 2}

    pool = merge(ranked("bm25", "abe"), max_passages=3, human_labels=labels, add_human_positives=True)

    assert names_in(pool) == {"f", "g", "h"}


def test_the_place_of_an_added_positive_tells_nothing():
    places = Counter()
    for number in range(800):
        pool = merge(
            ranked("bm25", "abcd"),
            max_passages=4,
            query=Query(f"q{number}", "?"),
            human_labels={"h": 1},
            add_human_positives=True,
        )
        places[[passage.passage_id for passage in pool.passages].index("h")] += 1

    # 200 are expected in each of four places; 5 standard deviations are 61.
    assert all(abs(places[place] - 200) < 61 for place in range(4))
