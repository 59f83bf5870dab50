"""Objectives by name, and settings that contradict each other."""

import pytest

from winnow.config import build_config
from winnow.errors import ConfigError
from winnow.training.config import TrainConfig


def build(objective, **sampling):
    loss = {"objective": objective, "temperature": 0.05}
    return build_config(TrainConfig, {"loss": loss, **({"sampling": sampling} if sampling else {})})


@pytest.mark.parametrize(("name", "policy"), [("Rand1LH", "random_one"), ("First1LH", "first")])
def test_a_single_positive_name_is_infonce_with_its_policy_and_is_reported_by_its_name(name, policy):
    config = build(name)

    assert config.loss.objective == "InfoNCE"
    assert config.sampling.policy == policy
    assert config.objective_name == name


def test_aliases_are_reported_by_their_canonical_name():
    assert build("Disj-InfoNCE").objective_name == "SumMargLH"
    assert build("Conj-InfoNCE").objective_name == "JointLH"


def test_infonce_draws_one_random_positive_unless_told_otherwise():
    assert build("InfoNCE", group_size=4).sampling.policy == "random_one"
    assert build("InfoNCE", policy="first").objective_name == "First1LH"


def test_infonce_with_several_positives_is_refused():
    with pytest.raises(ConfigError, match="InfoNCE takes one positive per query"):
        build("InfoNCE", policy="all")


def test_a_name_that_contradicts_its_policy_is_refused():
    with pytest.raises(ConfigError, match=r"Rand1LH means InfoNCE with sampling\.policy=random_one, got first"):
        build("Rand1LH", policy="first")


def test_workers_and_micro_batches_do_not_change_what_is_computed():
    loss = {"objective": "LSEPair", "temperature": 1}
    one = build_config(TrainConfig, {"loss": loss})
    many = build_config(TrainConfig, {"loss": loss, "num_workers": 8, "micro_batch_tokens": 64, "max_failures": 0})

    assert one.science() == many.science()
    assert one.science() != build_config(TrainConfig, {"loss": loss, "epochs": 9}).science()
