"""Sources of candidate pools: any number, told apart by name."""

import pytest

from winnow.config import build_config
from winnow.errors import ConfigError
from winnow.pooling.config import PoolConfig


def test_a_source_is_called_by_its_kind_unless_it_has_a_name():
    config = build_config(PoolConfig, {"sources": [{"kind": "bm25"}, {"kind": "dense", "name": "e5", "depth": 5}]})

    assert [(source.name, source.depth) for source in config.sources] == [("bm25", 30), ("e5", 5)]


def test_several_sources_of_one_kind_are_fine_under_different_names(tmp_path):
    runs = [{"kind": "trec_run", "name": name, "path": f"{name}.run"} for name in ("splade", "colbert")]

    config = build_config(PoolConfig, {"sources": runs}, base=tmp_path)

    assert [source.path for source in config.sources] == [tmp_path / "splade.run", tmp_path / "colbert.run"]


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        ([], "empty"),
        ([{"kind": "bm25"}, {"kind": "bm25", "depth": 5}], "bm25"),
        ([{"kind": "dense", "name": "union"}], "union"),
        ([{"kind": "bm25", "name": "a+b"}], "name"),
        ([{"kind": "trec_run", "name": "x"}], "path"),
        ([{"kind": "bm25", "depth": 0}], "depth"),
        ([{"kind": "bm25", "max_passages": 0}], "max_passages"),
        ([{"kind": "splade"}], "splade"),
        (["bm25"], "bm25"),
    ],
)
def test_sources_that_cannot_be_used_are_refused_by_name(sources, named):
    with pytest.raises(ConfigError, match=named):
        build_config(PoolConfig, {"sources": sources})
