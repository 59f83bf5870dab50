"""Names and settings of objectives."""

import pytest
from pydantic import ValidationError

from winnow.losses.config import LossConfig


@pytest.mark.parametrize(("alias", "canonical"), [("Disj-InfoNCE", "SumMargLH"), ("Conj-InfoNCE", "JointLH")])
def test_published_aliases_become_the_canonical_name(alias, canonical):
    assert LossConfig(objective=alias, temperature=1).objective == canonical


def test_temperature_has_to_be_chosen():
    with pytest.raises(ValidationError, match="temperature"):
        LossConfig(objective="LSEPair")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "LSEPair", "normalise": True}, "no effect with LSEPair"),
        ({"objective": "KL"}, "KL needs utility_temperature"),
        ({"objective": "InfoNCE", "utility_temperature": 0.1}, "no effect with InfoNCE"),
        ({"objective": "Triplet"}, "SumMargLH"),
        ({"objective": "SumMargLH", "pair_positives": "min"}, "pair_positives=min has no effect with SumMargLH"),
        ({"objective": "Conj-InfoNCE", "pair_negatives": "max"}, "pair_negatives=max has no effect with JointLH"),
        ({"objective": "LSEPair", "pair_negatives": "min"}, "'all' or 'max'"),
        ({"objective": "MarginMSE", "utility_temperature": 1, "learn_temperature": True}, "pick KL"),
        ({"temperature": 1e-4, "learn_temperature": True}, r"between 0.001 and 100, got 0.0001"),
        ({"temperature": 101, "learn_temperature": True}, r"between 0.001 and 100, got 101"),
        ({"temperature": 0}, "greater than 0"),
        ({"objective": "KL", "utility_temperature": 0}, "greater than 0"),
        ({"temperature": float("nan")}, "greater than 0|finite"),
        ({"temperature": float("inf")}, "finite"),
    ],
)
def test_settings_without_effect_or_meaning_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        LossConfig(**{"temperature": 1, **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "LSEPair", "pair_positives": "min", "pair_negatives": "max", "learn_temperature": True},
        {"objective": "KL", "utility_temperature": 0.1, "learn_temperature": True},
        {"objective": "JointLH", "normalise": True},
    ],
)
def test_settings_that_go_together_are_kept(settings):
    config = LossConfig(temperature=0.05, **settings)

    assert {name: getattr(config, name) for name in settings} == settings


@pytest.mark.parametrize("temperature", [0.001, 100])
def test_a_learned_temperature_may_start_at_either_bound(temperature):
    assert LossConfig(temperature=temperature, learn_temperature=True).temperature == temperature
