"""Train the encoder on the labelled passages, in one stage or several."""

import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from winnow.cluster.runtime import ray_session
from winnow.config import fingerprint
from winnow.corpora.store import corpus_hash, has_dev, labels_hash, read_split, split_hash
from winnow.errors import ConfigError
from winnow.files import write_json
from winnow.modeling.card import ModelCard, write_card
from winnow.modeling.encoder import build_encoder
from winnow.steps import label
from winnow.steps.config import RunConfig
from winnow.steps.ingest import ingested
from winnow.steps.label import EXAMPLES
from winnow.steps.mine import mine
from winnow.steps.stage import ENCODER, Stage, dev_questions, kept_measures, run_stage, text_inputs
from winnow.steps.workspace import StepContext, StepOptions, StepPlan, StepResult, find, produce
from winnow.training.examples import read_examples, usable_examples

STEP_VERSION = "4"
STAGES = "stages"


def plan(config: RunConfig) -> StepPlan:
    """What ``train`` would compute for ``config``."""
    labels = find(label.plan(config)).content_hash
    inputs = {"training_examples": labels, **text_inputs(config), **_dev_inputs(config)}
    settings = {"train": config.train.science(), "encoder": config.encoder.science(), "seed": config.seed}
    return StepPlan("train", STEP_VERSION, config.output, settings, inputs)


def train(config: RunConfig, options: StepOptions = StepOptions()) -> StepResult:
    """The trained encoder, in ``encoder/`` of the result's directory, and what its training came to."""
    return produce(plan(config), partial(_build, config), options)


def _build(config: RunConfig, context: StepContext) -> Mapping[str, Any]:
    labelled = find(label.plan(config))
    labels = (labelled.directory / EXAMPLES).resolve()
    examples = read_examples(labels)
    staged = config.train.staged()
    usable = [usable_examples(examples, settings, seed=config.seed) for _, settings in staged]
    _log_inputs(config, context, labels, labelled.content_hash, len(usable[0].examples))
    directory = context.directory.resolve()
    encoder, reports = config.encoder, []
    with ray_session(config.cluster):
        dev = dev_questions(config, directory)
        for number, (stage, settings) in enumerate(staged, start=1):
            folder = directory / STAGES / f"{number}-{stage.name}"
            folder.mkdir(parents=True, exist_ok=True)
            own = labels
            if stage.mine is not None:
                own = mine(config, encoder, examples, stage, settings.sampling, folder / EXAMPLES)
            first_step = sum(report["num_steps"] for report in reports)
            begun = Stage(number, stage.name, settings, encoder, own, first_step, folder)
            reports.append(run_stage(config, context, begun, usable[number - 1], dev))
            encoder = config.encoder.at(begun.output)
    _publish(directory, Path(encoder.model))
    return _report(config, context, reports)


def _publish(directory: Path, trained: Path) -> None:
    """Put the last stage's encoder where the result has it; those in between are not kept."""
    if not (directory / ENCODER).exists():
        trained.rename(directory / ENCODER)
    for between in directory.glob(f"{STAGES}/*/{ENCODER}"):
        shutil.rmtree(between)


def _log_inputs(config: RunConfig, context: StepContext, labels: Path, digest: str, num_rows: int) -> None:
    names = [settings.objective_name for _, settings in config.train.staged()]
    context.journal.params({"objective": " -> ".join(names), **_flat("train", config.train.science())})
    context.journal.dataset(EXAMPLES, path=labels, digest=digest, context="training", num_rows=num_rows)


def _report(config: RunConfig, context: StepContext, reports: Sequence[dict[str, Any]]) -> Mapping[str, Any]:
    # How much was padding depends on the number of workers, and what later steps depend on may not.
    science = [{name: value for name, value in report.items() if name != "padding_share"} for report in reports]
    write_json(context.directory / "training.json", science)
    seconds = time.time() - context.started
    skipped = sum(report["num_skipped"] for report in reports)
    context.journal.metrics({"train.seconds": seconds, "train.skipped_rows": skipped})
    write_card(context.directory / ENCODER, _card(config, context, reports))
    context.journal.artifact(f"{ENCODER}/README.md")
    return {"num_steps": sum(report["num_steps"] for report in reports), "stages": list(reports)}


def _card(config: RunConfig, context: StepContext, reports: Sequence[dict[str, Any]]) -> ModelCard:
    trained = config.encoder.at(context.directory / ENCODER)
    return ModelCard(
        name=config.name,
        base_model=str(config.encoder.model),
        run_id=context.fingerprint,
        dimension=build_encoder(trained, device="cpu").dimension,
        recipe={"objective": " -> ".join(report["objective"] for report in reports), **config.train.science()},
        data={
            "training queries": reports[0]["num_examples"],
            "steps": sum(report["num_steps_taken"] for report in reports),
            "tokens": sum(report["num_tokens"] for report in reports),
        },
        measures={f"dev {name}": value for name, value in kept_measures(reports[-1]).items()},
    )


def _dev_inputs(config: RunConfig) -> dict[str, str]:
    """What of the dev split training depends on. Raises ``ConfigError`` if it is wanted and not there."""
    if config.train.dev is None:
        return {}
    directory = ingested(config).directory
    if not has_dev(directory):
        raise ConfigError("train.dev measures on dev questions, and there is no `data.dev`; add it, or drop train.dev")
    corpus = corpus_hash(directory, read_split(directory, "dev").corpus)
    return {"dev": fingerprint(split_hash(directory, "dev"), labels_hash(directory, "dev"), corpus)}


def _flat(prefix: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{prefix}.{name}"
        flat.update(_flat(key, value) if isinstance(value, Mapping) else {key: value})
    return flat
