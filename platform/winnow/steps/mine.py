"""New hard negatives for a stage of training: what the current encoder ranks high and nobody calls useful."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from winnow import schema
from winnow.cluster.encoding import embed_corpus
from winnow.corpora.copies import Copies
from winnow.corpora.store import passages_path, read_copies, read_split
from winnow.labels.mining import MiningConfig, MiningCounts, mine_negatives
from winnow.labels.sampling import SamplingConfig, as_known
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import build_encoder
from winnow.modeling.protocol import Encode
from winnow.progress import progress
from winnow.records import TrainingExample
from winnow.retrieval.dense import ExactSearch
from winnow.retrieval.embeddings import read_embeddings
from winnow.steps.config import RunConfig
from winnow.steps.ingest import ingested
from winnow.training.config import StageConfig

_BLOCK = 256
"""Queries whose ranked lists are held at a time."""


def mine(
    config: RunConfig,
    encoder: EncoderConfig,
    examples: Sequence[TrainingExample],
    stage: StageConfig,
    sampling: SamplingConfig,
    output: Path,
) -> Path:
    """``output`` with the examples of ``stage``: their negatives are those that ``encoder`` finds hard.

    What people said is in them as far as ``sampling`` knows it.
    """
    if output.exists():
        return output
    assert stage.mine is not None, "steps/train.py mines for stages that ask for it"
    texts = ingested(config).directory
    corpus = read_split(texts, "train").corpus
    embeddings = embed_corpus(encoder, passages_path(texts, corpus), output=config.output, cluster=config.cluster)
    ids, passages_PD = read_embeddings(embeddings)
    copies = read_copies(texts, corpus)
    miner = Miner(build_encoder(encoder), ids, passages_PD, copies, stage.mine, device=config.cluster.search_device)
    with (
        schema.writing_dataset(output, schema.TRAINING_EXAMPLES) as append,
        progress(len(examples), label="mine", unit="queries") as bar,
    ):
        for start in range(0, len(examples), _BLOCK):
            known = [as_known(each, sampling, seed=config.seed) for each in examples[start : start + _BLOCK]]
            mined = miner.mine(known, stage.name)
            append(schema.to_table(mined, schema.TRAINING_EXAMPLES))
            bar.advance(len(mined))
    counts = miner.counts
    print(
        f"mine: {counts.num_mined:,} hard negatives for {len(examples):,} queries, {counts.num_without:,} queries "
        f"without one; {counts.num_too_close:,} passages scored too near to a positive",
        flush=True,
    )
    return output


class Miner:
    """Ranks a corpus, without its copies, for the queries of examples, and counts what it found."""

    def __init__(
        self,
        encoder: Encode,
        passage_ids: Sequence[str],
        passages_PD: NDArray[np.float32],
        copies: Copies,
        config: MiningConfig,
        *,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        self._encoder = encoder
        if copies.first_of:
            rows = copies.rows_without(passage_ids)
            passage_ids, passages_PD = [passage_ids[row] for row in rows], passages_PD[rows]
        self._passages_PD = passages_PD
        self._search = ExactSearch(passage_ids, self._passages_PD, device=device).search
        self._row_of = {passage_id: row for row, passage_id in enumerate(passage_ids)}
        self._config = config
        self.counts = MiningCounts()

    def mine(self, examples: Sequence[TrainingExample], stage: str) -> list[TrainingExample]:
        """``examples``, as those of ``stage``, with new negatives."""
        queries_QD = self._encoder.encode([example.query for example in examples], side="query")
        # Positives, and what is withheld, are taken out of a ranking before its ranks are counted.
        depth = self._config.last_rank + max(len(each.positives) + len(each.withheld) for each in examples)
        rankings = self._search(queries_QD, k=depth)
        mined = []
        for example, query_D, ranked in zip(examples, queries_QD, rankings, strict=True):
            pairs = [(passage.passage_id, passage.score) for passage in ranked]
            scores = self._positive_scores(example, query_D)
            mined.append(replace(mine_negatives(example, pairs, scores, self._config, self.counts), stage=stage))
        return mined

    def _positive_scores(self, example: TrainingExample, query_D: NDArray[np.float32]) -> Mapping[str, float]:
        known = [p.passage_id for p in example.positives if p.passage_id in self._row_of]
        rows = [self._row_of[passage_id] for passage_id in known]
        return dict(zip(known, (self._passages_PD[rows] @ query_D).tolist(), strict=True))
