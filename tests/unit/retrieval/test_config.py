"""Which kinds of index may be asked for, and which settings they take."""

import faiss
import pytest
from pydantic import ValidationError

from winnow.retrieval.config import IndexConfig
from winnow.retrieval.factory import parse_factory


@pytest.mark.parametrize(
    ("factory", "kind", "is_quantised", "needs_training"),
    [
        ("Flat", "flat", False, False),
        ("SQ8", "scalar", True, True),
        ("SQfp16", "scalar", True, False),
        ("PQ4", "product", True, True),
        ("PQ8x4", "product", True, True),
        ("OPQ4_16,PQ4x4", "product", True, True),
        ("HNSW32", "hnsw", False, False),
        ("HNSW32,Flat", "hnsw", False, False),
        ("HNSW32_SQ8", "hnsw", True, True),
        ("HNSW32,SQbf16", "hnsw", True, False),
        ("IVF64,Flat", "ivf", False, True),
        ("IVF64,SQfp16", "ivf", True, True),
        ("OPQ4,IVF64,PQ4x8", "ivf", True, True),
    ],
)
def test_a_factory_string_says_what_the_index_needs(factory, kind, is_quantised, needs_training):
    parsed = parse_factory(factory)

    assert (parsed.kind, parsed.is_quantised, parsed.needs_training) == (kind, is_quantised, needs_training)
    assert parsed.needs_training == (not faiss.index_factory(16, factory, faiss.METRIC_INNER_PRODUCT).is_trained)
    assert parsed.num_lists == (64 if kind == "ivf" else 0)


@pytest.mark.parametrize(
    "factory",
    [
        "",
        "flat",
        "IVF64",
        "IVF0,Flat",
        "HNSW",
        "PQ0",
        "PQ8x99",
        "IDMap,Flat",
        "LSH",
        "Flat,",
        "Flat\n",
        "IVF64,Flat,RFlat",
        "HNSW32,PQ8",
        "OPQ8,Flat",
        "IVF٣,Flat",
        "IVF99999999999999,Flat",
        "PQ48x4fs",
        "SQ8,IVF64,Flat",
        "A" * 10_000,
    ],
)
def test_any_other_string_is_refused_with_the_accepted_forms(factory):
    with pytest.raises(ValidationError, match="is no kind of index that Winnow builds; use one of these forms: Flat"):
        IndexConfig(factory=factory)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factory": "Flat", "ef_search": 64}, "ef_search has no effect with Flat"),
        ({"factory": "IVF64,Flat", "ef_construction": 64}, "ef_construction has no effect with IVF64,Flat"),
        ({"factory": "HNSW32", "num_probes": 4}, "num_probes has no effect"),
        ({"factory": "SQfp16", "train_vectors": 4}, "train_vectors has no effect"),
        ({"factory": "HNSW32", "rescore": 4}, "rescore has no effect"),
        ({"factory": "IVF64,Flat", "num_probes": 65}, "num_probes=65 is more than the 64 lists"),
        ({"factory": "SQ8", "rescore": 0}, "greater than or equal to 1"),
        ({"shard_passages": 0}, "greater than or equal to 1"),
    ],
)
def test_a_setting_without_effect_or_sense_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        IndexConfig(**settings)


def test_the_number_of_build_threads_is_no_part_of_what_is_built():
    assert IndexConfig(build_threads=4).science() == IndexConfig().science()
