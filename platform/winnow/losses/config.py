"""Settings of the objective."""

from typing import Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from winnow.config import Config

LikelihoodName = Literal["InfoNCE", "JointLH", "SumMargLH", "LSEPair"]
DistillationName = Literal["KL", "MarginMSE"]
ObjectiveName = Literal[LikelihoodName, DistillationName]

ALIASES: dict[str, ObjectiveName] = {"Disj-InfoNCE": "SumMargLH", "Conj-InfoNCE": "JointLH"}
"""Names under which the same formulas were published, and the canonical ones that reports use."""


class LossConfig(Config):
    """Which objective to train with, and how sharply."""

    objective: ObjectiveName = "SumMargLH"
    """How several positives of one query share the loss; KL and MarginMSE learn from utility scores instead.
    Under ``train``, Rand1LH and First1LH are understood too: InfoNCE with one random, or the first, positive."""

    temperature: float = Field(gt=0)
    """Scores are divided by this. Required: 0.01-0.05 for normalised embeddings, 1.0 for dot products."""

    utility_temperature: float | None = Field(None, gt=0)
    """KL and MarginMSE only, and required there: utility scores are divided by this to be in the units of scores."""

    normalise: bool = False
    """JointLH only: divide by the number of positives."""

    @field_validator("objective", mode="before")
    @classmethod
    def _canonical(cls, name: object) -> object:
        return ALIASES.get(name, name) if isinstance(name, str) else name

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> Self:
        if self.normalise and self.objective != "JointLH":
            raise ValueError(f"normalise=True has no effect with {self.objective}; remove it or pick JointLH")
        if self.learns_from_utility and self.utility_temperature is None:
            raise ValueError(f"{self.objective} needs utility_temperature, which brings utilities to the scores' units")
        if not self.learns_from_utility and self.utility_temperature is not None:
            raise ValueError(f"utility_temperature has no effect with {self.objective}; remove it, or pick KL")
        return self

    @property
    def learns_from_utility(self) -> bool:
        """Whether the objective takes utility scores in place of positives and negatives."""
        return self.objective in get_args(DistillationName)
