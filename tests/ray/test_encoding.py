"""Encoding a corpus on Ray Data: order, cache, several actors, bad input."""

import os

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny_models import tiny_encoder

from winnow import schema
from winnow.cluster import encoding
from winnow.cluster.config import ClusterConfig
from winnow.cluster.encoding import embed_corpus, embeddings_path
from winnow.errors import ConfigError, DataError
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import build_encoder
from winnow.records import Passage
from winnow.retrieval.embeddings import read_embeddings

PASSAGES = [Passage(f"p{(17 * row) % 600:03d}", f"word{row} " * (1 + row % 7), title=f"t{row}") for row in range(600)]


class ActivelyWaiting(encoding._Encoder):
    """Refuses to work in a process that waits otherwise, or on the GPU that there seems to be."""

    def __init__(self, *arguments):
        torch.cuda.is_available = lambda: True
        super().__init__(*arguments)

    def __call__(self, batch):
        assert os.environ["OMP_WAIT_POLICY"] == "active"
        return super().__call__(batch)


@pytest.fixture
def encoder(tmp_path):
    return EncoderConfig(model=str(tiny_encoder().save(tmp_path / "encoder")), precision="float32")


def rows_in_groups(path):
    metadata = pq.read_metadata(path)
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def write_corpus(path, passages):
    return schema.write_dataset(path, schema.to_table(passages, schema.PASSAGES))


def test_a_corpus_is_encoded_once_in_its_own_order_by_several_actors(
    ray_cluster, tmp_path, encoder, capsys, monkeypatch
):
    # Of this process, which is none of the Ray's, as on a cluster that is joined.
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setattr(encoding, "_Encoder", ActivelyWaiting)
    corpus = write_corpus(tmp_path / "corpus.parquet", PASSAGES)
    cluster = ClusterConfig(encoder_actors=(2, 2), encoder_threads=1)

    path = embed_corpus(encoder, corpus, output=tmp_path, cluster=cluster)

    ids, embeddings = read_embeddings(path)
    assert ids == [passage.passage_id for passage in PASSAGES]
    alone = build_encoder(encoder, device="cpu").encode([f"{p.title} {p.text}" for p in PASSAGES], side="passage")
    assert np.abs(embeddings - alone).max() < 1e-5
    # A row group is what came back, and counted, at a time: of one row group of passages, tasks of 256.
    assert (rows_in_groups(corpus), rows_in_groups(path)) == ([600], [256, 256, 88])
    written = path.stat().st_mtime_ns
    assert embed_corpus(encoder, corpus, output=tmp_path, cluster=cluster) == path
    assert path.stat().st_mtime_ns == written
    assert "600 passages are in the cache" in capsys.readouterr().out


def test_other_passages_another_contract_and_another_precision_are_cached_apart(tmp_path, encoder):
    one = write_corpus(tmp_path / "one.parquet", PASSAGES[:5])
    two = write_corpus(tmp_path / "two.parquet", PASSAGES[:6])
    prefixed = encoder.model_copy(update={"passage_prefix": "passage: "})
    rounded = encoder.model_copy(update={"precision": "bfloat16"})
    more_tokens = encoder.model_copy(update={"batch_tokens": 99})

    asked = [(encoder, one), (encoder, two), (prefixed, one), (rounded, one), (more_tokens, one)]
    first, *others, faster = [embeddings_path(config, corpus, output=tmp_path) for config, corpus in asked]

    assert len({first, *others}) == 4
    assert faster == first


def test_a_corpus_without_passages_is_refused(tmp_path, encoder):
    empty = write_corpus(tmp_path / "empty.parquet", [])

    with pytest.raises(DataError, match=r"empty.parquet holds no passage to encode"):
        embed_corpus(encoder, empty, output=tmp_path, cluster=ClusterConfig())


def test_resources_that_no_node_has_are_refused_instead_of_waited_for(ray_cluster, tmp_path, encoder):
    corpus = write_corpus(tmp_path / "corpus.parquet", PASSAGES[:3])

    with pytest.raises(ConfigError, match="encoding needs 1 x"):
        embed_corpus(encoder, corpus, output=tmp_path, cluster=ClusterConfig(encoder_cpus=1000))
    assert not list((tmp_path / "cache").rglob("*.parquet"))
