"""The alarm: quiet in healthy runs, loud in collapsed ones."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from winnow.labels.sampling import Group
from winnow.records import LabelledPassage
from winnow.training.alarm import CollapseAlarm, StepHealth, effective_rank, save_batch, score_spread
from winnow.training.batches import GlobalBatch
from winnow.training.watching import AlarmConfig

CONFIG = AlarmConfig(patience_steps=5)
HEALTHY = StepHealth(
    loss=2.0,
    grad_norm=1.0,
    score_spread=0.4,
    effective_rank=40.0,
    num_passages=64,
    dimension=384,
    learning_rate=2e-5,
)
ALIKE = replace(HEALTHY, score_spread=1e-4)
LINE = replace(HEALTHY, effective_rank=1.0)


def first_alarm(healths, *, config=CONFIG, first_step=1):
    """The step of the first diagnosis, and the diagnosis."""
    alarm = CollapseAlarm(config)
    for step, health in enumerate(healths, start=first_step):
        diagnosis = alarm.check(step, health)
        if diagnosis is not None:
            return step, diagnosis
    return None


def noisy(health, count):
    return [replace(health, loss=health.loss * (1 + 0.01 * math.sin(step))) for step in range(count)]


def healthy_run(count=200):
    """From chance down to a solved task."""
    return [replace(HEALTHY, loss=4 * 0.95**step, grad_norm=0.9**step) for step in range(count)]


def test_a_healthy_run_that_ends_solved_is_left_alone():
    solved = [replace(HEALTHY, loss=0.0, grad_norm=0.0, effective_rank=1.0)] * 50

    assert first_alarm(healthy_run() + solved) is None


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (ALIKE, "for 5 steps the scores of a query's passages have been all alike"),
        (LINE, "for 5 steps the embeddings have been of rank one"),
        (replace(HEALTHY, effective_rank=0.0), "of rank one"),
    ],
)
def test_a_collapse_stops_the_run_when_it_has_lasted(fault, said):
    step, diagnosis = first_alarm(noisy(HEALTHY, 10) + noisy(fault, 20))

    assert step == 15
    assert said in diagnosis
    assert "lower train.learning_rate" in diagnosis


@pytest.mark.parametrize("fault", [ALIKE, LINE])
def test_a_recovery_starts_the_count_anew(fault):
    ups_and_downs = (noisy(fault, 4) + noisy(HEALTHY, 1)) * 10

    assert first_alarm(ups_and_downs) is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("name", "said"), [("loss", "the loss became"), ("grad_norm", "the gradient norm became")])
@pytest.mark.parametrize("enabled", [True, False])
def test_what_is_no_number_stops_the_run_at_once(name, said, value, enabled):
    step, diagnosis = first_alarm([HEALTHY, replace(HEALTHY, **{name: value})], config=AlarmConfig(enabled=enabled))

    assert step == 2
    assert f"{said} {value}" in diagnosis


def test_a_loss_that_never_moves_is_stuck():
    step, diagnosis = first_alarm([HEALTHY] * 10)

    assert step == 5
    assert "for 5 steps the loss has been stuck at 2 (gradient norm 1.0e+00)" in diagnosis


def test_a_loss_that_jumped_up_and_stays_there_is_stuck():
    step, _ = first_alarm(healthy_run(50) + [replace(HEALTHY, loss=4.1589)] * 10)

    assert step == 55


@pytest.mark.parametrize(
    "healths",
    [
        # Two positives share JointLH's probability at best: its floor is 2 log 2.
        pytest.param([replace(HEALTHY, loss=max(1.3863, 4 * 0.9**s)) for s in range(100)], id="floor of JointLH"),
        pytest.param([replace(HEALTHY, learning_rate=1e-9 * (s + 1)) for s in range(20)], id="warm-up"),
        pytest.param([replace(HEALTHY, learning_rate=0.0)] * 50, id="no learning rate"),
        pytest.param(noisy(HEALTHY, 5) + [HEALTHY] * 4 + noisy(HEALTHY, 9), id="equal by chance for a while"),
        pytest.param([replace(HEALTHY, loss=2 - 1e-5 * s) for s in range(100)], id="slow"),
        pytest.param([replace(HEALTHY, loss=5e-4)] * 100, id="solved from the start"),
    ],
)
def test_equal_losses_of_a_healthy_run_are_not_stuck(healths):
    assert first_alarm(healths) is None


def test_a_run_that_goes_on_at_its_floor_is_not_stuck():
    assert first_alarm([HEALTHY] * 50, first_step=301) is None


@pytest.mark.parametrize(
    "health",
    [
        replace(LINE, num_passages=3, effective_rank=1.0),
        replace(LINE, dimension=1),
        replace(ALIKE, num_passages=1, score_spread=0.0, effective_rank=0.0),
    ],
)
def test_batches_too_small_to_tell_raise_no_alarm(health):
    assert first_alarm(noisy(health, 50)) is None


def test_a_fresh_encoder_whose_scores_hardly_differ_yet_is_left_alone():
    fresh = [replace(health, score_spread=2e-4) for health in noisy(HEALTHY, 100)]

    assert first_alarm(fresh) is None


def test_scores_that_differ_by_rounding_only_need_no_better_days_to_count_as_alike():
    step, diagnosis = first_alarm([replace(health, score_spread=1e-7) for health in noisy(HEALTHY, 10)])

    assert step == 5
    assert "have been all alike (spread 1.0e-07 of their size" in diagnosis


def test_a_disabled_alarm_says_nothing_of_a_collapse():
    assert first_alarm(noisy(ALIKE, 50), config=AlarmConfig(enabled=False, patience_steps=1)) is None


@pytest.mark.parametrize(("count", "dimension"), [(300, 20), (20, 300)])
def test_effective_rank_is_the_participation_ratio_of_the_covariance(count, dimension):
    draws = torch.Generator().manual_seed(3)
    embeddings_ND = torch.randn(count, dimension, generator=draws) * torch.linspace(0.1, 3, dimension) + 5

    eigenvalues = torch.linalg.eigvalsh(torch.cov(embeddings_ND.T.double()))

    expected = (eigenvalues.sum() ** 2 / eigenvalues.square().sum()).item()
    assert effective_rank(embeddings_ND) == pytest.approx(expected, rel=1e-4)


def test_effective_rank_of_a_line_is_1_and_of_a_point_0():
    direction = torch.tensor([3.0, -4.0, 1.0])

    assert effective_rank(torch.linspace(-2, 7, 9)[:, None] * direction + 100) == pytest.approx(1.0, abs=1e-4)
    assert effective_rank(direction.repeat(9, 1)) == 0.0
    assert effective_rank(direction[None]) == 0.0


def test_effective_rank_of_half_precision_and_of_huge_numbers_is_a_number():
    embeddings_ND = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))

    assert effective_rank(embeddings_ND.bfloat16()) == pytest.approx(effective_rank(embeddings_ND), rel=0.02)
    assert effective_rank(1e15 * embeddings_ND) == pytest.approx(effective_rank(embeddings_ND), rel=1e-4)


def test_spread_is_summed_over_queries_as_a_share_of_their_size():
    scores_QP = torch.tensor([[1.0, -1.0], [7.0, 7.0], [3.0, 4.0], [0.0, 0.0]])

    spread, count = score_spread(scores_QP)

    assert spread == pytest.approx(1 + 0 + 0.5 / math.sqrt(12.5) + 0)
    assert count == 4
    assert score_spread(1000 * scores_QP)[0] == pytest.approx(spread)


def test_a_single_passage_has_no_spread_to_speak_of():
    assert score_spread(torch.ones(3, 1)) == (0.0, 0)


def test_spread_tells_texts_apart_from_one_text_many_times():
    draws = torch.Generator().manual_seed(7)
    apart = normalize(torch.randn(40, 64, generator=draws) + 1, dim=1)
    equal = apart[:1].repeat(40, 1)

    assert score_spread(apart @ apart.T)[0] / 40 > 0.1
    assert score_spread(equal @ equal.T)[0] / 40 < 5e-7


class FewTokens:
    def tokens(self, side, text_id):
        return {("query", "q1"): [7], ("passage", "a"): [1, 2], ("passage", "b"): [3]}[side, text_id]


def test_the_batch_of_a_collapse_is_kept_with_its_numbers(tmp_path):
    positive, negative = LabelledPassage("a", "llm"), LabelledPassage("b", "llm")
    batch = GlobalBatch(2, (Group("q1", (positive,), (negative,), frozenset()),))

    path = save_batch(tmp_path / "evidence", 40, batch, FewTokens(), replace(HEALTHY, loss=math.nan))

    assert path == tmp_path / "evidence" / "batch-00000040.json"
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
        "step": 40,
        "epoch": 2,
        "health": {
            "loss": "nan",
            "grad_norm": 1.0,
            "score_spread": 0.4,
            "effective_rank": 40.0,
            "num_passages": 64,
            "dimension": 384,
            "learning_rate": 2e-5,
        },
        "groups": [{"query_id": "q1", "positives": ["a"], "negatives": ["b"]}],
        "query_tokens": {"q1": [7]},
        "passage_tokens": {"a": [1, 2], "b": [3]},
    }
