"""Early stopping, decided by what a checkpoint holds."""

import json
import math
from dataclasses import asdict

import pytest

from winnow.config import build_config
from winnow.errors import ConfigError
from winnow.training.checkpoint import Totals
from winnow.training.stopping import is_best, is_measured, should_stop
from winnow.training.watching import DevConfig

RISE_AND_FALL = [0.30, 0.35, 0.34, 0.36, 0.36, 0.355, 0.2]


def follow(totals, values, config, *, first_step=10):
    """Which evaluations were the best so far, and where the run stopped."""
    best = []
    for step, value in enumerate(values):
        if should_stop(totals, config):
            return best, first_step + step
        best.append(is_best(totals, first_step + step, {"nDCG@10": value, "RR@10": 0.1}, config))
    return best, None


def test_a_run_stops_when_patience_is_up_and_remembers_its_best_step():
    totals = Totals()

    best, stopped = follow(totals, [*RISE_AND_FALL, 0.9], DevConfig(patience=3))

    assert best == [True, True, False, True, False, False, False]
    assert stopped == 17
    assert (totals.best_value, totals.best_step, totals.num_bad_evaluations) == (0.36, 13, 3)
    assert totals.dev[0] == {"step": 10, "nDCG@10": 0.30, "RR@10": 0.1}


def test_a_rise_within_the_least_gain_does_not_count():
    best, stopped = follow(Totals(), RISE_AND_FALL, DevConfig(patience=2, min_gain=0.02))

    assert best == [True, True, False, False]
    assert stopped == 14


def test_without_patience_nothing_stops_a_run():
    assert follow(Totals(), [0.5, *[0.1] * 20], DevConfig())[1] is None
    assert not should_stop(Totals(num_bad_evaluations=99), None)


@pytest.mark.parametrize("cut", range(7))
def test_a_run_that_goes_on_from_a_checkpoint_decides_alike(cut):
    config = DevConfig(patience=3)
    straight, first = Totals(), Totals()
    follow(straight, RISE_AND_FALL, config)
    follow(first, RISE_AND_FALL[:cut], config)

    resumed = Totals(**json.loads(json.dumps(asdict(first))))
    follow(resumed, RISE_AND_FALL[cut:], config, first_step=10 + cut)

    assert resumed == straight


def test_a_measure_that_is_no_number_is_never_the_best():
    totals = Totals()

    best, _ = follow(totals, [math.nan, 0.1, math.nan, math.nan], DevConfig(patience=2))

    assert best == [False, True, False, False]
    assert totals.best_value == 0.1


@pytest.mark.parametrize(
    ("every_epochs", "expected"),
    [(1.0, [4, 8, 12]), (0.5, [2, 4, 6, 8, 10, 12]), (2.0, [8, 12]), (0.01, [*range(1, 13)])],
)
def test_evaluations_come_at_shares_of_an_epoch_and_after_the_last_step(every_epochs, expected):
    config = DevConfig(every_epochs=every_epochs)

    assert [s for s in range(1, 13) if is_measured(s, config, steps_per_epoch=4, num_steps=12)] == expected


def test_a_least_gain_that_nothing_looks_at_is_refused():
    with pytest.raises(ConfigError, match=r"min_gain=0\.01 has no effect without a patience"):
        build_config(DevConfig, {"min_gain": 0.01})


def test_the_chosen_measure_comes_first_and_none_twice():
    assert DevConfig(measure="RR@10").measures == ("RR@10", "nDCG@10", "R@100")
