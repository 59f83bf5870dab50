"""What people's grades say of a passage: that it is relevant, that it is not, or something between."""

from collections.abc import Mapping
from typing import Literal

Opinion = Literal["positive", "withheld", "negative"]
"""What somebody, a person or a judge, holds of a passage. ``withheld``: neither positive nor negative."""


def opinion_of(grade: int, relevant_from: int) -> Opinion:
    """What ``grade`` says where the lowest grade of a relevant passage is ``relevant_from``, at least 1.

    >>> [opinion_of(grade, 2) for grade in (3, 2, 1, 0, -1)]
    ['positive', 'positive', 'withheld', 'negative', 'negative']
    """
    if grade >= relevant_from:
        return "positive"
    return "withheld" if grade > 0 else "negative"


def relevant(grades: Mapping[str, int], relevant_from: int) -> set[str]:
    """The passages of one query that people called relevant."""
    return {passage_id for passage_id, grade in grades.items() if opinion_of(grade, relevant_from) == "positive"}
