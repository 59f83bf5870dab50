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
    ],
)
def test_settings_without_effect_or_meaning_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        LossConfig(temperature=1, **settings)
