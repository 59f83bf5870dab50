"""The loop in one process, on a tower of a few numbers."""

import json
import math
import shutil

import pytest
import torch
from distributed.gloo_world import TRAIN, examples, write_tokens
from fakes import ListLogger, MeanTower

from winnow.errors import ConfigError, DataError
from winnow.losses.module import build_loss
from winnow.records import LabelledPassage
from winnow.training.checkpoint import CheckpointStore
from winnow.training.dev import DevSet
from winnow.training.loop import Training
from winnow.training.optimizing import Optimisation, learning_rate_at
from winnow.training.storage import MARKER
from winnow.training.watching import AlarmConfig, DevConfig


class StoppedError(Exception):
    pass


class StoppingLogger(ListLogger):
    def metrics(self, values, *, step=0):
        super().metrics(values, step=step)
        if step == 4:
            raise StoppedError


@pytest.fixture
def tokens(tmp_path):
    return write_tokens(tmp_path / "tokens")


def build(tokens, checkpoints, *, config=TRAIN, logger=None, rows=None, **more):
    tower = MeanTower(dropout=0.3)
    logger = logger or ListLogger()
    rows = [example for example in examples() if example.positives] if rows is None else rows
    training = Training(tower, rows, tokens, config, seed=8, checkpoints=checkpoints, logger=logger, **more)
    return tower, logger, training


def test_training_lowers_the_loss(tokens, tmp_path):
    longer = TRAIN.model_copy(update={"epochs": 12, "use_dropout": False})
    _, _, training = build(tokens, tmp_path / "checkpoints", config=longer)

    losses = training.run().epoch_losses

    assert len(losses) == 12
    assert losses[-1] < losses[0] / 2


def test_every_step_is_logged_and_counted(tokens, tmp_path):
    _, logger, training = build(tokens, tmp_path / "checkpoints")

    summary = training.run()

    assert [step for step, _ in logger.lines] == [1, 2, 3, 4, 5, 6]
    assert set(logger.lines[0][1]) == {
        "train.loss",
        "train.learning_rate",
        "train.grad_norm",
        "train.temperature",
        "train.loss_scale",
        "train.skipped_step",
        "train.score_spread",
        "train.effective_rank",
        "train.tokens_per_s",
        "train.padding_share",
    }
    assert summary.objective == "LSEPair"
    assert summary.num_queries == 30
    assert summary.num_skipped == 0


def test_a_stopped_run_goes_on_to_the_same_bits_and_the_same_summary(tokens, tmp_path):
    straight, _, training = build(tokens, tmp_path / "straight")
    expected = training.run()
    _, _, stopped = build(tokens, tmp_path / "stopped", logger=StoppingLogger())
    with pytest.raises(StoppedError):
        stopped.run()
    resumed, logger, again = build(tokens, tmp_path / "stopped")

    summary = again.run()

    assert logger.lines[0][0] == 4
    assert summary == expected
    for one, other in zip(straight.module.parameters(), resumed.module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_finished_run_has_nothing_left_to_do(tokens, tmp_path):
    _, _, training = build(tokens, tmp_path / "checkpoints")
    expected = training.run()
    _, logger, again = build(tokens, tmp_path / "checkpoints")

    assert again.run() == expected
    assert logger.lines == []


def test_only_the_newest_checkpoint_is_kept_and_a_half_written_one_is_no_checkpoint(tokens, tmp_path):
    _, _, training = build(tokens, tmp_path)
    training.run()
    # As a kill leaves them: all there but the last file, and all there under the name of one that is being written.
    newest = tmp_path / "step-00000006"
    shutil.copytree(newest, tmp_path / "step-00000009", ignore=shutil.ignore_patterns(MARKER))
    shutil.copytree(newest, tmp_path / ".building-step-00000012")

    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000006", "step-00000009"]
    assert (newest / MARKER).exists()
    assert CheckpointStore(str(tmp_path), {}).latest() == 6


def test_rows_without_a_positive_are_counted_and_change_nothing_else(tokens, tmp_path):
    _, _, training = build(tokens, tmp_path, rows=examples())

    summary = training.run()

    assert summary.num_queries == 40
    assert summary.num_skipped == 10


def test_a_loss_that_is_no_number_stops_the_run_with_the_way_out(tokens, tmp_path):
    tower, _, training = build(tokens, tmp_path)
    with torch.no_grad():
        next(tower.module.parameters()).fill_(float("nan"))

    with pytest.raises(ConfigError, match=r"step 1 of 6: the loss became nan; lower train\.learning_rate"):
        training.run()

    assert CheckpointStore(str(tmp_path), {}).latest() == 0


def test_learning_rate_rises_over_the_warm_up_and_falls_to_the_last_step():
    config = TRAIN.model_copy(update={"learning_rate": 1.0, "warmup_share": 0.2})

    rates = [learning_rate_at(step, 10, config) for step in range(10)]

    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


@pytest.mark.parametrize(("schedule", "rates"), [("cosine", [1.0, 0.75, 0.25]), ("constant", [1.0, 1.0, 1.0])])
def test_other_schedules_fall_as_they_are_called(schedule, rates):
    config = TRAIN.model_copy(update={"learning_rate": 1.0, "warmup_share": 0.0, "schedule": schedule})

    assert [learning_rate_at(step, 3, config) for step in range(3)] == pytest.approx(rates)


def test_a_gradient_cache_changes_nothing_even_with_dropout(tokens, tmp_path):
    full, _, training = build(tokens, tmp_path / "full")
    cached, _, with_cache = build(tokens, tmp_path / "cached", config=TRAIN.model_copy(update={"gradient_cache": True}))

    expected, summary = training.run(), with_cache.run()

    assert summary.epoch_losses == pytest.approx(expected.epoch_losses, abs=1e-12)
    for one, other in zip(full.module.parameters(), cached.module.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_learned_temperature_is_trained_logged_and_resumed(tokens, tmp_path):
    learned = TRAIN.model_copy(update={"loss": TRAIN.loss.model_copy(update={"learn_temperature": True})})
    _, _, training = build(tokens, tmp_path / "straight", config=learned)
    expected = training.run()
    _, _, stopped = build(tokens, tmp_path / "stopped", config=learned, logger=StoppingLogger())
    with pytest.raises(StoppedError):
        stopped.run()
    _, logger, again = build(tokens, tmp_path / "stopped", config=learned)

    summary = again.run()

    assert summary.temperature == expected.temperature != TRAIN.loss.temperature
    assert logger.lines[-1][1]["train.temperature"] == summary.temperature


def test_a_checkpoint_of_another_configuration_is_refused_with_the_difference(tokens, tmp_path):
    _, _, training = build(tokens, tmp_path)
    training.run()
    _, _, other = build(tokens, tmp_path, config=TRAIN.model_copy(update={"learning_rate": 0.01}))

    with pytest.raises(ConfigError, match=r"train\.learning_rate 0\.05, this run has 0\.01"):
        other.run()


def test_a_run_that_does_not_get_better_on_dev_stops_and_keeps_its_best(tokens, tmp_path):
    dev = DevSet(("q1", "q2"), ("d0", "d1", "d2", "d3"), {"q1": {"d1": 1}, "q2": {"d3": 1}}, tokens)
    measured = TRAIN.model_copy(
        update={"epochs": 30, "learning_rate": 1e-12, "dev": DevConfig(every_epochs=1, patience=2)}
    )
    tower, logger, training = build(tokens, tmp_path / "straight", config=measured, dev=dev)

    summary = training.run()

    steps = [step for step, values in logger.lines if "dev.nDCG@10" in values]
    assert (steps, summary.best_step) == ([3, 6, 9], 3)
    assert [entry["step"] for entry in summary.dev] == steps
    assert logger.lines[-1][0] == 9
    again, _, finished = build(tokens, tmp_path / "straight", config=measured, dev=dev)
    assert finished.run() == summary
    for one, other in zip(tower.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_run_that_has_collapsed_stops_with_a_diagnosis_and_keeps_the_batch(tokens, tmp_path):
    config = TRAIN.model_copy(update={"alarm": AlarmConfig(patience_steps=2)})
    tower, _, training = build(tokens, tmp_path / "checkpoints", config=config, evidence=tmp_path / "evidence")
    with torch.no_grad():
        tower.module[0].weight.zero_()
        tower.module[2].weight.zero_()

    with pytest.raises(ConfigError, match=r"step 2 of 6: .*all alike.*the batch is in .*batch-00000002\.json"):
        training.run()

    kept = json.loads((tmp_path / "evidence" / "batch-00000002.json").read_text())
    assert len(kept["groups"]) == 5
    assert set(kept["query_tokens"]) == {group["query_id"] for group in kept["groups"]}


def test_an_overflow_in_half_precision_skips_the_step_and_halves_the_loss_scale():
    module, config = torch.nn.Linear(2, 1), TRAIN.model_copy(update={"precision": "fp16", "weight_decay": 0.0})
    optimisation = Optimisation(module, build_loss(config.loss), config, num_steps=10)
    before, scale = module.weight.detach().clone(), optimisation.loss_scale
    module.weight.grad, module.bias.grad = torch.full((1, 2), math.inf), torch.zeros(1)

    overflow = optimisation.step(0)
    module.weight.grad = torch.full((1, 2), optimisation.loss_scale)
    calm = optimisation.step(1)

    assert (overflow.is_skipped, calm.is_skipped) == (True, False)
    assert optimisation.loss_scale == scale / 2
    assert calm.grad_norm == pytest.approx(math.sqrt(2), rel=1e-3)
    assert not torch.equal(module.weight, before)
    assert Optimisation(module, build_loss(config.loss), config, num_steps=10).loss_scale == scale


def test_a_gradient_that_no_loss_scale_makes_finite_ends_the_run(tokens, tmp_path):
    config = TRAIN.model_copy(update={"precision": "fp16", "epochs": 10})
    tower, logger, training = build(tokens, tmp_path, config=config)
    tower.module[2].weight.register_hook(lambda gradient: gradient * math.inf)

    with pytest.raises(ConfigError, match="not finite in fp16, however far the loss is scaled down"):
        training.run()

    assert {values["train.skipped_step"] for _, values in logger.lines} == {True}


def test_a_labelled_passage_without_tokens_is_named(tokens, tmp_path):
    row = examples()[1]
    unknown = type(row)(row.query_id, row.query, (LabelledPassage("d99", "llm"),), row.negatives)
    _, _, training = build(tokens, tmp_path, rows=[unknown])

    with pytest.raises(DataError, match="no tokens for passage 'd99'"):
        training.run()
