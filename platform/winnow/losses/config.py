"""Settings of the objective."""

from typing import Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from winnow.config import Config

LikelihoodName = Literal["InfoNCE", "JointLH", "SumMargLH", "LSEPair"]
DistillationName = Literal["KL", "MarginMSE"]
ObjectiveName = Literal[LikelihoodName, DistillationName]
PairPositives = Literal["all", "min", "max"]
PairNegatives = Literal["all", "max"]

ALIASES: dict[str, ObjectiveName] = {"Disj-InfoNCE": "SumMargLH", "Conj-InfoNCE": "JointLH"}
"""Names under which the same formulas were published, and the canonical ones that reports use."""

LEARNED_TEMPERATURES = (0.001, 100.0)
"""Bounds of a learned temperature: beyond them a loss is flat, or blind to all but one passage."""


class LossConfig(Config):
    """Which objective to train with, and how sharply."""

    objective: ObjectiveName = "SumMargLH"
    """How several positives of one query share the loss; KL and MarginMSE learn from utility scores instead.
    Under ``train``, Rand1LH and First1LH are understood too: InfoNCE with one random, or the first, positive."""

    temperature: float = Field(gt=0, allow_inf_nan=False)
    """Scores are divided by this. Required: 0.01-0.05 for normalised embeddings, 1.0 for dot products."""

    learn_temperature: bool = False
    """Train the temperature too, from ``temperature`` on, between 0.001 and 100. Not with MarginMSE."""

    utility_temperature: float | None = Field(None, gt=0, allow_inf_nan=False)
    """KL and MarginMSE only, and required there: utility scores are divided by this to be in the units of scores."""

    normalise: bool = False
    """JointLH only: divide by the number of positives."""

    pair_positives: PairPositives = "all"
    """LSEPair only: pair negatives with all positives, or with the lowest-scored (``min``) or the
    highest-scored one (``max``) alone."""

    pair_negatives: PairNegatives = "all"
    """LSEPair only: pair positives with all negatives, or with the highest-scored one (``max``) alone."""

    @field_validator("objective", mode="before")
    @classmethod
    def _canonical(cls, name: object) -> object:
        return ALIASES.get(name, name) if isinstance(name, str) else name

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> Self:
        if self.normalise and self.objective != "JointLH":
            raise ValueError(f"normalise=True has no effect with {self.objective}; remove it or pick JointLH")
        for name, value in {"pair_positives": self.pair_positives, "pair_negatives": self.pair_negatives}.items():
            if value != "all" and self.objective != "LSEPair":
                raise ValueError(f"{name}={value} has no effect with {self.objective}; remove it or pick LSEPair")
        if not self.learns_from_utility and self.utility_temperature is not None:
            raise ValueError(f"utility_temperature has no effect with {self.objective}; remove it, or pick KL")
        return self

    @model_validator(mode="after")
    def _temperatures_make_sense(self) -> Self:
        if self.learns_from_utility and self.utility_temperature is None:
            raise ValueError(f"{self.objective} needs utility_temperature, which brings utilities to the scores' units")
        if not self.learn_temperature:
            return self
        if self.objective == "MarginMSE":
            # Margins are fitted in absolute size: enlarging the temperature shrinks them all, which lowers the
            # error of margins that are wrong as well as any learning would.
            raise ValueError(
                "learn_temperature has no use with MarginMSE, whose error falls by shrinking every margin; "
                "set utility_temperature to the ratio of the two scales, or pick KL"
            )
        low, high = LEARNED_TEMPERATURES
        if not low <= self.temperature <= high:
            raise ValueError(f"a learned temperature starts between {low:g} and {high:g}, got {self.temperature!r}")
        return self

    @property
    def learns_from_utility(self) -> bool:
        """Whether the objective takes utility scores in place of positives and negatives."""
        return self.objective in get_args(DistillationName)
