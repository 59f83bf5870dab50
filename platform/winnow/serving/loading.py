"""A retriever version from disk, ready to be searched: loaded, warmed, and found to answer as it should.

Legend: N texts, K results, D dimension.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from winnow.api.config import ApiConfig, EncoderRuntime
from winnow.errors import DataError, WinnowError
from winnow.files import user_cache
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.frozen import freeze_encoder
from winnow.modeling.onnx_runtime import load_runtime
from winnow.modeling.protocol import Side, TokenEncode
from winnow.modeling.text import passage_text
from winnow.records import Passage, ScoredPassage
from winnow.retrieval.retriever import Hits, Retriever, load_retriever
from winnow.serving.active import ActiveVersion
from winnow.serving.cache import VectorCache

Load = Callable[[Path, ApiConfig, int], ActiveVersion]
"""Directory, settings, number of threads."""

_NUM_PROBES = 8
_PROBE_K = 10
_PROBE_CHARS = 400
_LEAST_SCORE = 0.9
_LEAST_SCORE_OF_PQ = 0.5
"""A passage is found with its own length squared, or a little less if its vector is quantised; PQ is coarse."""


def use_threads(count: int) -> None:
    """Make encoding and searching in the calling thread use ``count`` threads each."""
    # The tokenizer has threads of its own, one per core, which would take turns with everything else.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(count)
    faiss.omp_set_num_threads(count)


def load_version(directory: Path, config: ApiConfig, threads: int) -> ActiveVersion:
    """The version in ``directory``, after it has answered questions about its own passages.

    Raises ``DataError``, ``ConfigError``.
    """
    use_threads(threads)
    try:
        active = _load(directory, config, threads)
        _probe(active)
    except WinnowError:
        raise
    except Exception as error:
        # What a library makes of a file that is wrong cannot be foreseen, and must not end what is served.
        raise DataError(
            f"the retriever version at {str(directory)!r} cannot be used ({type(error).__name__}: {error}); "
            f"fetch it again, or build it with `winnow index --force`"
        ) from error
    return active


def _load(directory: Path, config: ApiConfig, threads: int) -> ActiveVersion:
    retriever = load_retriever(
        directory,
        device=config.encoder_device,
        fusion=config.fusion,
        memory_map=config.memory_map,
        index_device=config.device,
        verify=config.verify,
    )
    _check_index(retriever)
    retriever = retriever.with_encoder(_for_runtime(retriever.encoder, config.encoder_runtime, threads))
    vectors = VectorCache(config.cache_queries)
    return ActiveVersion(retriever.version, retriever, retriever.encoder, directory, vectors)


def _for_runtime(encoder: DenseEncoder, runtime: EncoderRuntime, threads: int) -> TokenEncode:
    if runtime == "torch":
        return freeze_encoder(encoder)
    return load_runtime(encoder, runtime, threads=threads, cache=user_cache("runtimes"))


def _check_index(retriever: Retriever) -> None:
    """Returns if the index finds passages by their own vectors, made by the encoder that made those in it."""
    own, texts = _own_passages(retriever)
    own_ND = _check_vectors(retriever.encoder, texts, "passage")
    hits = retriever.rank(texts, own_ND, 1, mode="dense")
    least = _LEAST_SCORE_OF_PQ if "PQ" in retriever.info()["factory"] else _LEAST_SCORE
    share = float(np.mean(hits.scores_QK[:, 0] >= least * np.square(own_ND).sum(axis=1)))
    if share < 0.5:
        raise DataError(
            f"the index finds {share:.0%} of {len(own)} passages by their own vectors, so it is not of the encoder "
            f"beside it; build the version with `winnow index --force`"
        )


def _probe(active: ActiveVersion) -> None:
    """Returns if the version answers as it should. It is warm then: what is allocated once has been."""
    _, texts = _own_passages(active.retriever)
    queries = [text[:_PROBE_CHARS] for text in texts]
    _check_vectors(active.encoder, queries[:1], "query")
    queries_ND = _check_vectors(active.encoder, queries, "query")
    for mode in active.retriever.modes:
        hits = active.retriever.rank(queries, queries_ND, _PROBE_K, mode=mode)
        for found in active.retriever.fetch(hits):
            _check_found(active, mode, found)


def _own_passages(retriever: Retriever) -> tuple[list[ScoredPassage], list[str]]:
    """Some passages from all over the corpus, and what the encoder read of each."""
    count = retriever.info()["num_passages"]
    positions_K = np.unique(np.linspace(0, count - 1, _NUM_PROBES).astype(np.int64))
    own = retriever.fetch(Hits(np.zeros((1, len(positions_K)), np.float32), positions_K[None]))[0]
    return own, [passage_text(Passage(passage.passage_id, passage.text, passage.title)) for passage in own]


def _check_vectors(encoder: TokenEncode, texts: Sequence[str], side: Side) -> NDArray[np.float32]:
    first_ND, second_ND = (encoder.encode(texts, side=side) for _ in range(2))
    if not np.isfinite(first_ND).all() or not first_ND.any(axis=1).all():
        raise DataError("the encoder gives vectors that are not finite, or zero, for passages of this version")
    if not np.allclose(first_ND, second_ND, atol=1e-4):
        raise DataError("the encoder gives other vectors when the same passages are encoded again")
    return first_ND


def _check_found(active: ActiveVersion, mode: str, found: Sequence[ScoredPassage]) -> None:
    scores = [passage.score for passage in found]
    if not np.isfinite(scores).all() or scores != sorted(scores, reverse=True):
        raise DataError(f"a {mode} search finds scores that are not finite, or not best first: {scores[:3]}")
    facts = active.retriever.info()
    # A search that looks into few cells of an IVF index may see fewer; BM25 finds what shares a word.
    least = 1 if "IVF" in facts["factory"] else min(_PROBE_K, facts["num_passages"])
    if mode != "bm25" and len(found) < least:
        raise DataError(f"a {mode} search finds {len(found)} passages, expected {least}")
