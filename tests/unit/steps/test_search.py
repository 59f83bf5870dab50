"""Filters on the command line."""

import pytest

from winnow.errors import ConfigError
from winnow.retrieval.filtering import parse_filter
from winnow.steps.search import parse_conditions


def test_a_repeated_field_accepts_each_of_its_values():
    found = parse_conditions(["source=wiki", "title=a=b", "source=docs", "document_id="])

    assert found == parse_filter({"source": ["wiki", "docs"], "title": "a=b", "document_id": ""})


def test_no_conditions_are_no_filter():
    assert parse_conditions([]) is None


@pytest.mark.parametrize("condition", ["", "source", "=wiki"])
def test_what_is_no_condition_is_refused_with_the_form(condition):
    with pytest.raises(ConfigError, match=f"--filter '{condition}' is not of the form field=value"):
        parse_conditions([condition])
