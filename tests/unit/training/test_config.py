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


def test_with_dropout_how_texts_are_dealt_out_is_part_of_the_identity():
    loss = {"objective": "LSEPair", "temperature": 1}
    one, other = (
        build_config(TrainConfig, {"loss": loss, "use_dropout": True, "micro_batch_tokens": tokens})
        for tokens in (64, 128)
    )

    assert one.science() != other.science()


def test_a_stage_with_another_objective_does_not_inherit_the_policy_of_rand1lh():
    differing = [{"name": name, "loss": {"objective": name}} for name in ("SumMargLH", "First1LH")]
    loss = {"objective": "Rand1LH", "temperature": 0.05}

    config = build_config(TrainConfig, {"loss": loss, "stages": differing})

    assert [(s.objective_name, s.sampling.policy) for _, s in config.staged()] == [
        ("SumMargLH", "all"),
        ("First1LH", "first"),
    ]


def test_a_storage_url_with_a_user_in_it_is_refused_without_showing_it():
    with pytest.raises(ConfigError, match="storage on sftp:// names a user") as caught:
        build_config(
            TrainConfig, {"loss": {"objective": "LSEPair", "temperature": 1}, "storage": "sftp://ann:pw1@host/runs"}
        )

    assert "pw1" not in str(caught.value)


def test_a_choice_among_positives_needs_several_of_them():
    loss = {"objective": "LSEPair", "temperature": 1, "pair_positives": "min"}

    with pytest.raises(ConfigError, match=r"pair_positives=min has no effect with one positive per query"):
        build_config(TrainConfig, {"loss": loss, "sampling": {"policy": "random_one"}})


def test_workers_and_micro_batches_do_not_change_what_is_computed():
    loss = {"objective": "LSEPair", "temperature": 1}
    one = build_config(TrainConfig, {"loss": loss})
    many = build_config(TrainConfig, {"loss": loss, "num_workers": 8, "micro_batch_tokens": 64, "max_failures": 0})

    assert one.science() == many.science()
    assert one.science() != build_config(TrainConfig, {"loss": loss, "epochs": 9}).science()


def stages(*stages, **train):
    return build_config(
        TrainConfig, {"loss": {"objective": "SumMargLH", "temperature": 0.05}, "stages": list(stages), **train}
    )


def test_a_stage_differs_from_the_whole_in_what_it_says():
    config = stages(
        {"name": "llm"},
        {
            "name": "human",
            "epochs": 1,
            "learning_rate": 1e-6,
            "loss": {"objective": "Rand1LH"},
            "sampling": {"labels": "human", "human_share": 0.2},
        },
        epochs=3,
        sampling={"group_size": 16},
    )

    (first, llm), (second, human) = config.staged()

    assert (first.name, second.name) == ("llm", "human")
    assert (llm.epochs, llm.learning_rate, llm.objective_name) == (3, 2e-5, "SumMargLH")
    assert (human.epochs, human.learning_rate, human.objective_name) == (1, 1e-6, "Rand1LH")
    assert (human.sampling.group_size, human.sampling.labels, human.sampling.human_share) == (16, "human", 0.2)
    assert human.loss.temperature == 0.05
    assert llm.stages == human.stages == ()


def test_without_stages_there_is_one_with_the_settings_of_the_section():
    config = build("LSEPair")

    ((stage, settings),) = config.staged()

    assert stage.name == "train"
    assert settings is config


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"name": "a", "loss": {"objective": "Nonsense"}}, "stage 'a' cannot be used: loss.objective"),
        ({"name": "a", "sampling": {"groups": 3}}, "stage 'a' cannot be used: sampling.groups: Extra inputs"),
        ({"name": "a", "batch_size": 3}, "stages.0.batch_size: Extra inputs"),
        ({"name": "../up"}, "stages.0.name"),
        (
            {"name": "a", "mine": {}, "loss": {"objective": "KL", "utility_temperature": 1}},
            "stage 'a' mines negatives, which have no utility scores for KL",
        ),
    ],
)
def test_a_stage_that_cannot_be_used_is_named(stage, message):
    with pytest.raises(ConfigError, match=message):
        stages(stage)


def test_two_stages_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="stages need names of their own"):
        stages({"name": "a"}, {"name": "a"})


@pytest.mark.parametrize("num_workers", [0, (3, 2), (0, 2)])
def test_a_range_of_workers_that_is_none_is_refused(num_workers):
    with pytest.raises(ConfigError, match="num_workers"):
        build_config(TrainConfig, {"loss": {"objective": "LSEPair", "temperature": 1}, "num_workers": num_workers})
