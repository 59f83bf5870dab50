"""United ranked lists: the best of each in turn, every finding kept, the order seeded."""

from winnow.pooling.merge import merge_ranked_lists
from winnow.records import Finding, Passage, Query, ScoredPassage

PASSAGES = {name: Passage(name, f"text of {name}") for name in "abcdef"}
QUERY = Query("q1", "a question")


def ranked(names: str) -> list[ScoredPassage]:
    return [ScoredPassage(name, 1.0 / rank) for rank, name in enumerate(names, start=1)]


def merge(lists: dict[str, str], *, max_passages: int = 10, seed: int = 1, query: Query = QUERY):
    return merge_ranked_lists(
        query, {name: ranked(names) for name, names in lists.items()}, PASSAGES, max_passages=max_passages, seed=seed
    )


def test_a_full_pool_takes_the_lists_in_turn_and_counts_a_shared_passage_once():
    pool = merge({"bm25": "abc", "dense": "bde"}, max_passages=4)

    assert {passage.passage_id for passage in pool.passages} == {"a", "b", "d", "c"}


def test_every_list_that_found_a_passage_is_kept_with_its_rank():
    pool = merge({"bm25": "ab", "dense": "b"})

    found = {passage.passage_id: passage.found_by for passage in pool.passages}
    assert found["b"] == (Finding("bm25", 2, 0.5), Finding("dense", 1, 1.0))


def test_the_order_depends_on_seed_and_query_alone():
    lists = {"bm25": "abcdef"}
    orders = {
        tuple(passage.passage_id for passage in merge(lists, seed=seed, query=Query(name, "x")).passages)
        for seed in range(5)
        for name in ("q1", "q2")
    }

    assert merge(lists) == merge(lists)
    assert len(orders) > 5


def test_a_query_that_nothing_was_found_for_gets_an_empty_pool():
    assert merge({"bm25": "", "dense": ""}).passages == ()
