"""One stage of training: its texts tokenised, its workers run, what it came to."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from winnow.cluster.training import tokenise, train_on_ray
from winnow.config import fingerprint
from winnow.corpora.store import corpus_hash, passage_ids, read_passages, read_split, split_hash
from winnow.files import hash_file, read_json, write_json
from winnow.modeling.config import EncoderConfig
from winnow.modeling.contract import read_contract
from winnow.models import content_hash
from winnow.steps.config import RunConfig
from winnow.steps.ingest import ingested
from winnow.steps.workspace import StepContext
from winnow.tracking.journal import Journal
from winnow.training.checkpoint import CheckpointStore
from winnow.training.config import TrainConfig
from winnow.training.dev import choose_dev
from winnow.training.examples import UsableExamples, read_examples
from winnow.training.job import TrainingJob, write_dev
from winnow.training.protocol import RunLogger
from winnow.training.texts import named_passages, select_texts, token_key, training_texts
from winnow.training.tokens import TokenStore

ENCODER = "encoder"
_SUMMARY = ".summary.json"
"""Hidden, and so no part of the result's hash: how much was padding depends on the number of workers."""


@dataclass(frozen=True)
class Stage:
    """A stage about to run."""

    number: int
    name: str
    settings: TrainConfig
    encoder: EncoderConfig
    """To start from."""
    examples: Path
    first_step: int
    """Steps that the stages before it have taken."""
    directory: Path

    @property
    def output(self) -> Path:
        return self.directory / ENCODER


@dataclass(frozen=True)
class _LaterSteps:
    """Logs a stage's steps as those of the whole run."""

    logger: RunLogger
    first_step: int

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        self.logger.metrics(values, step=self.first_step + step)


def run_stage(
    config: RunConfig, context: StepContext, stage: Stage, usable: UsableExamples, dev: Path | None
) -> dict[str, Any]:
    """What the stage came to, without times; an earlier, killed, attempt's result is taken as it is."""
    summary = stage.directory / _SUMMARY
    if summary.exists():
        return read_json(summary)
    started = time.time()
    tokens = _tokenise(config, stage.examples)
    job = TrainingJob(
        encoder=stage.encoder,
        examples=stage.examples,
        tokens=tokens,
        config=_continued(stage.settings) if stage.number > 1 else stage.settings,
        seed=config.seed,
        checkpoints=_checkpoints(config, context, stage),
        output=stage.output,
        logger=_LaterSteps(Journal(context.directory.resolve() / context.journal.path.name), stage.first_step),
        dev=dev,
    )
    store = CheckpointStore(job.checkpoints, {})
    if context.force:
        store.remove()
    outcome = train_on_ray(job)
    counts = {
        "stage": stage.name,
        **asdict(outcome),
        "num_examples": len(usable.examples),
        "examples_left_out": usable.left_out,
        "texts_at_token_limit": _at_limit(config, TokenStore(tokens)),
    }
    _print(counts, seconds=time.time() - started)
    write_json(summary, counts)
    store.remove()
    return counts


def _continued(settings: TrainConfig) -> TrainConfig:
    """Of a later stage: the projection is there by now."""
    return settings.model_copy(update={"projection": None})


def _checkpoints(config: RunConfig, context: StepContext, stage: Stage) -> str:
    if config.train.storage is None:
        return str(stage.directory / ".checkpoints")
    # Two output roots may use one storage, and neither knows of the other's locks.
    root = fingerprint(str(config.output.resolve()))[:8]
    return f"{config.train.storage.rstrip('/')}/{context.fingerprint}-{root}/{stage.number}-{stage.name}"


def _print(counts: Mapping[str, Any], *, seconds: float) -> None:
    losses = " -> ".join(f"{loss:.4f}" for loss in counts["epoch_losses"])
    measured = "".join(f", dev {name} {value:.4f}" for name, value in kept_measures(counts).items())
    kept = "" if counts["best_step"] is None else f" (kept: step {counts['best_step']})"
    print(
        f"train: {counts['objective']} on {counts['num_examples']:,} queries "
        f"(left out: {counts['examples_left_out'] or 'none'}), {counts['num_steps']:,} steps, loss by epoch {losses}"
        f"{measured}{kept}, {counts['num_skipped']:,} rows skipped, {counts['num_tokens']:,} tokens "
        f"({counts['padding_share']:.1%} padding), {seconds:.1f} s; "
        f"texts at the token limit, longer ones are cut: {counts['texts_at_token_limit']}",
        flush=True,
    )


def kept_measures(counts: Mapping[str, Any]) -> dict[str, float]:
    """The dev measures of the parameters that a stage kept, by name; none if it measured nothing."""
    step = counts["best_step"] or max((row["step"] for row in counts["dev"]), default=0)
    return {
        name: value for row in counts["dev"] if row["step"] == step for name, value in row.items() if name != "step"
    }


def _tokenise(config: RunConfig, examples: Path) -> Path:
    """The token shards of all texts that ``examples`` name; runs that differ in how they train share them."""
    directory = ingested(config).directory
    corpus = read_split(directory, "train").corpus
    output = _token_cache(config, hash_file(examples), corpus_hash(directory, corpus))
    if output.exists():
        return output
    rows = read_examples(examples)
    passages = read_passages(directory, corpus, only=named_passages(rows))
    return tokenise(training_texts(rows, passages), config.encoder, output)


def _token_cache(config: RunConfig, *texts: str) -> Path:
    output = (config.output / "cache" / "tokens" / token_key(config.encoder, *texts)).resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    return output


def dev_questions(config: RunConfig, directory: Path) -> Path | None:
    """The dev questions that are measured while training, if any, with their texts tokenised."""
    if config.train.dev is None:
        return None
    inputs = ingested(config).directory
    split = read_split(inputs, "dev")
    chosen = choose_dev(
        split.qrels,
        passage_ids(inputs, split.corpus),
        config.train.dev,
        seed=config.seed,
        relevant_from=split.relevant_from,
    )
    print(
        f"train: dev measures on {len(chosen.queries):,} questions and {len(chosen.passages):,} passages (left out: "
        f"{chosen.num_unjudged:,} without a useful passage, {chosen.num_unfindable:,} whose useful passages are not in "
        f"the corpus, {chosen.num_not_drawn:,} beyond dev.max_queries)",
        flush=True,
    )
    wanted = set(chosen.queries)
    queries = [query for query in split.queries if query.query_id in wanted]
    key = fingerprint(chosen.queries, chosen.passages, split_hash(inputs, "dev"), corpus_hash(inputs, split.corpus))
    tokens = _token_cache(config, "dev", key)
    if not tokens.exists():
        passages = read_passages(inputs, split.corpus, only=chosen.passages)
        tokenise(select_texts(queries, chosen.passages, passages), config.encoder, tokens)
    return write_dev(
        directory / ".dev.json",
        chosen.queries,
        chosen.passages,
        split.qrels,
        relevant_from=split.relevant_from,
        tokens=tokens,
    )


def _at_limit(config: RunConfig, tokens: TokenStore) -> dict[str, int]:
    contract = read_contract(config.encoder.locate(), config.encoder)
    limits = {"query": contract.query_max_tokens, "passage": contract.passage_max_tokens}
    return {side: int((tokens.lengths(side) >= limit).sum()) for side, limit in limits.items()}


def text_inputs(config: RunConfig) -> dict[str, str]:
    """Hashes of what token ids depend on: the training corpus and the encoder's files."""
    directory = ingested(config).directory
    return {
        "corpus": corpus_hash(directory, read_split(directory, "train").corpus),
        "encoder": content_hash(config.encoder.locate()),
    }
