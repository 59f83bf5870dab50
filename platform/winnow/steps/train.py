"""Train the encoder on the labelled passages."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from winnow.cluster.runtime import ray_session
from winnow.cluster.training import TrainingJob, tokenise, train_on_ray
from winnow.config import fingerprint
from winnow.corpora.store import corpus_hash, read_passages, read_split
from winnow.errors import DataError
from winnow.files import hash_tree, write_json
from winnow.modeling.contract import read_contract
from winnow.modeling.text import passage_text
from winnow.models import locate_model
from winnow.records import Passage, TrainingExample
from winnow.steps import label
from winnow.steps.config import RunConfig
from winnow.steps.ingest import ingested
from winnow.steps.label import EXAMPLES
from winnow.steps.workspace import StepContext, StepOptions, StepPlan, StepResult, find, produce
from winnow.tracking.journal import Journal
from winnow.training.examples import UsableExamples, read_examples, usable_examples
from winnow.training.loop import TrainingSummary
from winnow.training.tokens import TEXTS, TokenStore

STEP_VERSION = "1"
ENCODER = "encoder"


def plan(config: RunConfig) -> StepPlan:
    """What ``train`` would compute for ``config``."""
    inputs = {"training_examples": find(label.plan(config)).content_hash, **_text_inputs(config)}
    settings = {"train": config.train.science(), "encoder": config.encoder.science(), "seed": config.seed}
    return StepPlan("train", STEP_VERSION, config.output, settings, inputs)


def train(config: RunConfig, options: StepOptions = StepOptions()) -> StepResult:
    """The trained encoder, in ``encoder/`` of the result's directory, and what its training came to."""
    return produce(plan(config), partial(_build, config), options)


def _build(config: RunConfig, context: StepContext) -> Mapping[str, Any]:
    labelled = find(label.plan(config))
    examples_path = (labelled.directory / EXAMPLES).resolve()
    examples = read_examples(examples_path)
    usable = usable_examples(examples, config.train.loss)
    directory = context.directory.resolve()
    context.journal.params({"objective": config.train.objective_name, **_flat("train", config.train.science())})
    context.journal.dataset(
        EXAMPLES,
        path=examples_path,
        digest=labelled.content_hash,
        context="training",
        num_rows=len(usable.examples),
    )
    with ray_session(config.cluster):
        tokens = _tokenise(config, examples, labelled.content_hash)
        job = TrainingJob(
            encoder=config.encoder,
            examples=examples_path,
            tokens=tokens,
            config=config.train,
            seed=config.seed,
            checkpoints=directory / ".checkpoints",
            output=directory / ENCODER,
            logger=Journal(directory / context.journal.path.name),
        )
        summary = train_on_ray(job)
    shutil.rmtree(job.checkpoints)
    return _report(config, context, usable, summary, TokenStore(tokens))


def _report(
    config: RunConfig, context: StepContext, usable: UsableExamples, summary: TrainingSummary, tokens: TokenStore
) -> Mapping[str, Any]:
    counts = {
        **asdict(summary),
        "num_examples": len(usable.examples),
        "examples_left_out": usable.left_out,
        "texts_at_token_limit": _at_limit(config, tokens),
    }
    write_json(context.directory / "training.json", counts)
    seconds = time.time() - context.started
    context.journal.metrics({"train.seconds": seconds, "train.skipped_rows": summary.num_skipped})
    losses = " -> ".join(f"{loss:.4f}" for loss in summary.epoch_losses)
    print(
        f"train: {summary.objective} on {len(usable.examples):,} queries (left out: {usable.left_out or 'none'}), "
        f"{summary.num_steps:,} steps, loss by epoch {losses}, {summary.num_skipped:,} rows skipped, "
        f"{summary.num_tokens:,} tokens ({summary.padding_share:.1%} padding), {seconds:.1f} s; "
        f"texts at the token limit, longer ones are cut: {counts['texts_at_token_limit']}",
        flush=True,
    )
    return counts


def _tokenise(config: RunConfig, examples: Sequence[TrainingExample], examples_hash: str) -> Path:
    """The token shards of all texts that ``examples`` name; runs that differ in how they train share them."""
    key = fingerprint(config.encoder.science(), _text_inputs(config), examples_hash)
    output = (config.output / "cache" / "tokens" / key).resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    directory = ingested(config).directory
    passages = read_passages(directory, read_split(directory, "train").corpus)
    return tokenise(_texts(examples, passages), config.encoder, output)


def _texts(examples: Sequence[TrainingExample], passages: Sequence[Passage]) -> pa.Table:
    by_id = {passage.passage_id: passage for passage in passages}
    used = {labelled.passage_id for example in examples for labelled in (*example.positives, *example.negatives)}
    if unknown := sorted(used - by_id.keys()):
        raise DataError(
            f"{len(unknown)} labelled passages, such as {unknown[0]!r}, are not in the corpus of the training queries; "
            f"label again with the corpus that is configured now"
        )
    rows = [{"side": "query", "id": example.query_id, "text": example.query} for example in examples]
    rows += [{"side": "passage", "id": name, "text": passage_text(by_id[name])} for name in sorted(used)]
    return pa.Table.from_pylist(rows, schema=TEXTS)


def _at_limit(config: RunConfig, tokens: TokenStore) -> dict[str, int]:
    contract = read_contract(locate_model(config.encoder.model), config.encoder)
    limits = {"query": contract.query_max_tokens, "passage": contract.passage_max_tokens}
    return {side: int((tokens.lengths(side) >= limit).sum()) for side, limit in limits.items()}


def _text_inputs(config: RunConfig) -> dict[str, str]:
    directory = ingested(config).directory
    model = locate_model(config.encoder.model)
    return {
        "corpus": corpus_hash(directory, read_split(directory, "train").corpus),
        "encoder": fingerprint(hash_tree(model)),
    }


def _flat(prefix: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{prefix}.{name}"
        flat.update(_flat(key, value) if isinstance(value, Mapping) else {key: value})
    return flat
