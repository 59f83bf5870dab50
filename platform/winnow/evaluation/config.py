"""Settings of the comparison."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from winnow.config import Config

Measure = Annotated[str, Field(pattern=r"^(RR|nDCG|R|P|AP|Success)@[1-9]\d*$")]
"""A measure with its cutoff, in the names of ir-measures; ``RR@10`` is what papers call MRR@10."""


class EvaluateConfig(Config):
    """What is measured, and which differences count."""

    measures: tuple[Measure, ...] = ("RR@10", "nDCG@10", "R@10", "R@100")
    """Measured for every question and system; the largest cutoff says how deep is searched."""

    primary: Measure = "nDCG@10"
    """Decided on beforehand: the champion rule, the plot and the smallest detectable difference look at this one."""

    significance_level: float = Field(default=0.05, gt=0, lt=0.5)
    """A difference with a smaller two-sided p-value is called significant."""

    power: float = Field(default=0.8, gt=0.5, lt=1)
    """How surely a true difference of the smallest detectable size would be found."""

    @model_validator(mode="after")
    def _primary_is_measured(self) -> Self:
        if self.primary not in self.measures or len(set(self.measures)) != len(self.measures):
            raise ValueError(
                f"evaluate.measures needs distinct names with primary {self.primary!r} among them, "
                f"got {list(self.measures)}"
            )
        return self

    @property
    def depth(self) -> int:
        """How many passages are searched for each question."""
        return max(int(measure.partition("@")[2]) for measure in self.measures)
