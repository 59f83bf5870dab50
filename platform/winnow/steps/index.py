"""Encode the corpus with the trained encoder and build its indexes: together they are one retriever version."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from winnow.cluster.encoding import embed_corpus
from winnow.corpora.store import corpus_hash, passages_path
from winnow.modeling.encoder import build_encoder
from winnow.retrieval.manifest import MANIFEST, Manifest
from winnow.retrieval.version import write_version
from winnow.steps import train
from winnow.steps.config import RunConfig
from winnow.steps.ingest import ingested
from winnow.steps.workspace import StepContext, StepOptions, StepPlan, StepResult, find, produce

STEP_VERSION = "4"


def plan(config: RunConfig) -> StepPlan:
    """What ``index`` would compute for ``config``."""
    inputs = {
        "encoder": find(train.plan(config)).content_hash,
        "corpus": corpus_hash(ingested(config).directory),
    }
    settings = {"index": config.index.science(), "precision": config.encoder.precision, "seed": config.seed}
    if config.index.bm25:
        settings["language"] = config.language
    return StepPlan("index", STEP_VERSION, config.output, settings, inputs, records=(MANIFEST,))


def index(config: RunConfig, options: StepOptions = StepOptions()) -> StepResult:
    """The retriever version of the trained encoder; its directory is what ``load_retriever`` takes."""
    return produce(plan(config), partial(_build, config), options)


def _build(config: RunConfig, context: StepContext) -> Mapping[str, Any]:
    trained = config.encoder.at(find(train.plan(config)).directory / train.ENCODER)
    texts = ingested(config).directory
    passages = passages_path(texts)
    embeddings = embed_corpus(trained, passages, output=config.output, cluster=config.cluster)
    manifest = write_version(
        context.directory,
        encoder=build_encoder(trained, device="cpu"),
        passages=passages,
        embeddings=embeddings,
        config=config.index,
        language=config.language,
        card=Path(trained.model) / "README.md",
        seed=config.seed,
        run_id=context.fingerprint,
    )
    context.journal.dataset(
        "corpus",
        path=passages.resolve(),
        digest=corpus_hash(texts),
        context="index",
        num_rows=manifest.num_passages,
    )
    return _report(config, context, manifest)


def _report(config: RunConfig, context: StepContext, manifest: Manifest) -> Mapping[str, Any]:
    seconds = time.time() - context.started
    searched_by = f"{manifest.factory} and BM25" if manifest.bm25_language else manifest.factory
    megabytes = sum(record.size for record in manifest.files.values()) / 1e6
    context.journal.params({f"index.{name}": value for name, value in config.index.science().items()})
    context.journal.params({"index.version": manifest.version})
    context.journal.metrics({"index.num_passages": manifest.num_passages, "index.seconds": seconds})
    print(
        f"index: retriever version {manifest.version}: {manifest.num_passages:,} passages x {manifest.dimension} "
        f"dimensions ({searched_by}), {megabytes:,.0f} MB with its encoder, {seconds:.1f} s",
        flush=True,
    )
    return {
        "version": manifest.version,
        "num_passages": manifest.num_passages,
        "dimension": manifest.dimension,
        "encoder_fingerprint": manifest.encoder_fingerprint,
    }
