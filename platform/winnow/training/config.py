"""Settings of training."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from winnow.config import Config, speed_knob
from winnow.labels.sampling import Policy, SamplingConfig
from winnow.losses.config import LossConfig

_SINGLE_POSITIVE: dict[str, Policy] = {"Rand1LH": "random_one", "First1LH": "first"}
"""Names of InfoNCE with one positive per query, and the sampling policy that each stands for."""


class TrainConfig(Config):
    """How an encoder is trained on labelled passages."""

    loss: LossConfig
    """The objective and its temperature."""

    sampling: SamplingConfig = SamplingConfig()
    """Positives and hard negatives per query; with InfoNCE the policy is ``random_one`` unless it is given."""

    epochs: int = Field(2, ge=1)
    """Passes over the training queries."""

    batch_size: int = Field(32, ge=1)
    """Queries per step over all workers; each sees the passages of all the others as negatives."""

    learning_rate: float = Field(2e-5, gt=0)
    """Of AdamW, at its peak: it rises over the warm-up and falls linearly to 0."""

    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of the steps that the learning rate rises over."""

    weight_decay: float = Field(0.01, ge=0)
    """Of AdamW; biases and normalisation weights are left out."""

    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients of a larger norm are scaled down to it."""

    use_dropout: bool = False
    """Train with the encoder's own dropout. Then the number of workers changes the result by more than rounding."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the encoder; weights, scores and loss stay in fp32."""

    num_workers: int = speed_knob(1, ge=1)
    """Processes that share each batch. Results are equal up to rounding."""

    threads_per_worker: int = speed_knob(1, ge=1)
    """CPUs that each worker reserves and computes with."""

    gpus_per_worker: float = speed_knob(0, ge=0, le=1)
    """GPUs that each worker reserves."""

    micro_batch_tokens: int = speed_knob(1024, ge=1)
    """Most tokens that the encoder takes at once, padding included. More means fewer calls and more padding:
    about a thousand on a CPU, tens of thousands on a GPU."""

    checkpoint_every_steps: int = speed_knob(50, ge=1)
    """Most steps that a fault can cost."""

    max_failures: int = speed_knob(3, ge=0)
    """Lost workers that a run survives before it gives up."""

    @model_validator(mode="before")
    @classmethod
    def _resolve_single_positive(cls, settings: Any) -> Any:
        """Rand1LH and First1LH become InfoNCE with their sampling policy."""
        if not isinstance(settings, Mapping) or not isinstance(settings.get("loss"), Mapping):
            return settings
        loss, sampling = dict(settings["loss"]), settings.get("sampling", {})
        name = loss.get("objective")
        if name not in (*_SINGLE_POSITIVE, "InfoNCE") or not isinstance(sampling, Mapping):
            return settings
        policy = _SINGLE_POSITIVE.get(name, "random_one")
        given = sampling.get("policy", policy)
        if name != "InfoNCE" and given != policy:
            raise ValueError(f"{name} means InfoNCE with sampling.policy={policy}, got {given}; remove one of the two")
        return {**settings, "loss": {**loss, "objective": "InfoNCE"}, "sampling": {**sampling, "policy": given}}

    @model_validator(mode="after")
    def _one_positive_for_infonce(self) -> Self:
        if self.loss.objective == "InfoNCE" and self.sampling.policy == "all":
            raise ValueError(
                "InfoNCE takes one positive per query, sampling.policy=all gives several; "
                "choose random_one or first, or an objective for several such as SumMargLH"
            )
        return self

    @property
    def objective_name(self) -> str:
        """The objective as reports call it: Rand1LH and First1LH rather than InfoNCE."""
        if self.loss.objective != "InfoNCE":
            return self.loss.objective
        return next(name for name, policy in _SINGLE_POSITIVE.items() if policy == self.sampling.policy)
