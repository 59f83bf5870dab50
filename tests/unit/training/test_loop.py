"""The loop in one process, on a tower of a few numbers."""

import pytest
import torch
from distributed.gloo_world import TRAIN, examples, write_tokens
from fakes import ListLogger, MeanTower

from winnow.errors import ConfigError, DataError
from winnow.records import LabelledPassage
from winnow.training.checkpoint import latest_step
from winnow.training.loop import Training, learning_rate_at


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


def build(tokens, checkpoints, *, config=TRAIN, logger=None, rows=None):
    tower = MeanTower(dropout=0.3)
    logger = logger or ListLogger()
    rows = [example for example in examples() if example.positives] if rows is None else rows
    return tower, logger, Training(tower, rows, tokens, config, seed=8, checkpoints=checkpoints, logger=logger)


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
    (tmp_path / ".building-00000009").mkdir()

    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000006"]
    assert latest_step(tmp_path) == 6


def test_rows_without_a_positive_are_counted_and_change_nothing_else(tokens, tmp_path):
    _, _, training = build(tokens, tmp_path, rows=examples())

    summary = training.run()

    assert summary.num_queries == 40
    assert summary.num_skipped == 10


def test_a_loss_that_is_no_number_stops_the_run_with_the_way_out(tokens, tmp_path):
    tower, _, training = build(tokens, tmp_path)
    with torch.no_grad():
        next(tower.module.parameters()).fill_(float("nan"))

    with pytest.raises(ConfigError, match=r"the loss became nan at step 1 of 6; lower train\.learning_rate"):
        training.run()

    assert latest_step(tmp_path) == 0


def test_learning_rate_rises_over_the_warm_up_and_falls_to_the_last_step():
    config = TRAIN.model_copy(update={"learning_rate": 1.0, "warmup_share": 0.2})

    rates = [learning_rate_at(step, 10, config) for step in range(10)]

    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


def test_a_labelled_passage_without_tokens_is_named(tokens, tmp_path):
    row = examples()[1]
    unknown = type(row)(row.query_id, row.query, (LabelledPassage("d99", "llm"),), row.negatives)
    _, _, training = build(tokens, tmp_path, rows=[unknown])

    with pytest.raises(DataError, match="no tokens for passage 'd99'"):
        training.run()
