"""The cache of query vectors."""

import numpy as np

from winnow.serving.cache import VectorCache


def test_a_vector_is_found_again_and_the_query_not_asked_for_longest_makes_room():
    cache = VectorCache(2)
    for number, query in enumerate(["a", "b"]):
        cache.put(query, np.full(3, number, dtype=np.float32))

    assert cache.get("a").tolist() == [0, 0, 0]
    cache.put("c", np.full(3, 2, dtype=np.float32))

    assert cache.get("b") is None
    assert (cache.get("a").tolist(), cache.get("c").tolist()) == ([0, 0, 0], [2, 2, 2])
    assert len(cache) == 2


def test_a_cache_of_size_0_keeps_nothing():
    cache = VectorCache(0)

    cache.put("a", np.zeros(3, dtype=np.float32))

    assert cache.get("a") is None
    assert not cache.is_on


def test_a_kept_vector_does_not_keep_the_batch_it_came_with():
    cache = VectorCache(2)
    batch = np.zeros((1000, 3), dtype=np.float32)

    cache.put("a", batch[7])

    assert cache.get("a").base is None
