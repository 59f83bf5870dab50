"""Settings of training."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from winnow.config import Config, speed_knob
from winnow.labels.mining import MiningConfig
from winnow.labels.sampling import Policy, SamplingConfig
from winnow.losses.config import LossConfig
from winnow.modeling.config import LoraConfig, Towers
from winnow.training.watching import AlarmConfig, DevConfig

_SINGLE_POSITIVE: dict[str, Policy] = {"Rand1LH": "random_one", "First1LH": "first"}
"""Names of InfoNCE with one positive per query, and the sampling policy that each stands for."""

Precision = Literal["fp32", "bf16", "fp16"]
"""Arithmetic of the encoder. Its vectors leave it in the dtype of its weights."""


class StageConfig(Config):
    """One stage of a curriculum: what it says takes the place of the same setting under ``train``."""

    name: str = Field(pattern=r"^[\w.-]+$")
    """What reports call the stage."""

    loss: dict[str, Any] = Field(default_factory=dict)
    """Settings of ``train.loss`` that differ in this stage."""

    sampling: dict[str, Any] = Field(default_factory=dict)
    """Settings of ``train.sampling`` that differ in this stage, such as ``labels: human``."""

    epochs: int | None = Field(None, ge=1)
    """Passes over the training queries in this stage."""

    learning_rate: float | None = Field(None, gt=0)
    """Peak of this stage's own schedule."""

    mine: MiningConfig | None = None
    """Take this stage's hard negatives from the ranking of the encoder as the stage before left it."""


class TrainConfig(Config):
    """How an encoder is trained on labelled passages."""

    loss: LossConfig
    """The objective and its temperature."""

    sampling: SamplingConfig = SamplingConfig()
    """Positives and hard negatives per query; with InfoNCE the policy is ``random_one`` unless it is given."""

    stages: tuple[StageConfig, ...] = ()
    """A curriculum: stages one after another, each from the encoder of the one before, with a fresh optimizer.
    By default there is one, with the settings of this section."""

    epochs: int = Field(2, ge=1)
    """Passes over the training queries."""

    batch_size: int = Field(32, ge=1)
    """Queries per batch over all workers; each sees the passages of all the others as negatives."""

    accumulate_batches: int = Field(1, ge=1)
    """Batches per optimizer step. Queries see the negatives of their own batch only; for more negatives at the
    same memory raise ``batch_size`` and switch ``gradient_cache`` on."""

    learning_rate: float = Field(2e-5, gt=0)
    """Of AdamW, at its peak: it rises over the warm-up and then follows ``schedule``."""

    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """The learning rate after the warm-up: down to 0 in a line or half a cosine, or as it is."""

    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of the steps that the learning rate rises over."""

    weight_decay: float = Field(0.01, ge=0)
    """Of AdamW; biases and normalisation weights are left out."""

    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients of a larger norm are scaled down to it."""

    use_dropout: bool = False
    """Train with the encoder's own dropout. Then the number of workers and ``micro_batch_tokens`` change the result
    by more than rounding, and are part of what identifies it."""

    precision: Precision = "fp32"
    """Arithmetic of the encoder; weights, scores and loss stay in fp32. fp16 scales the loss, and skips a step
    whose gradient overflows."""

    projection: int | None = Field(None, ge=1)
    """Put a new linear layer of this many outputs behind the pooling, and train it too."""

    towers: Towers = "tied"
    """Whether queries and passages share their weights. ``untied`` starts with two equal copies."""

    lora: LoraConfig | None = None
    """Train low-rank adapters in place of the weights; they are merged into them at the end."""

    dev: DevConfig | None = None
    """Measure on dev questions while training, and stop early if it is asked for."""

    alarm: AlarmConfig = speed_knob(AlarmConfig())
    """When to stop a run that has collapsed."""

    gradient_cache: bool = speed_knob(False)
    """Encode every batch twice, the first time without keeping activations: memory then depends on
    ``micro_batch_tokens`` and no longer on the batch. Gradients are equal up to rounding (arXiv 2101.06983)."""

    gradient_checkpointing: bool = speed_knob(False)
    """Compute activations again in the backward pass: less memory per micro-batch, about a third more time."""

    num_workers: int | tuple[int, int] = speed_knob(1)
    """Processes that share each batch, or the fewest and the most, between which a run grows and shrinks as
    machines come and go. Results are equal up to rounding."""

    threads_per_worker: int = speed_knob(1, ge=1)
    """CPUs that each worker reserves and computes with."""

    gpus_per_worker: float = speed_knob(0, ge=0, le=1)
    """GPUs that each worker reserves."""

    micro_batch_tokens: int = speed_knob(1024, ge=1)
    """Most tokens that the encoder takes at once, padding included. More means fewer calls and more padding:
    about a thousand on a CPU, tens of thousands on a GPU."""

    checkpoint_every_steps: int = speed_knob(50, ge=1)
    """Most steps that a fault can cost."""

    storage: str | None = speed_knob(None)
    """Where checkpoints go: a folder, or any URL that fsspec knows (its library installed), which all workers
    reach. By default beside the result, under ``output``."""

    max_failures: int = speed_knob(3, ge=0)
    """Lost workers that a run survives before it gives up."""

    @property
    def objective_name(self) -> str:
        """The objective as reports call it: Rand1LH and First1LH rather than InfoNCE."""
        if self.loss.objective != "InfoNCE":
            return self.loss.objective
        return next(name for name, policy in _SINGLE_POSITIVE.items() if policy == self.sampling.policy)

    @property
    def fewest_workers(self) -> int:
        """Workers that a run cannot start without."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    def science(self) -> dict[str, Any]:
        """The settings that can change a result. With dropout that is also how texts are dealt out."""
        dealt = {"num_workers": self.num_workers, "micro_batch_tokens": self.micro_batch_tokens}
        return {**super().science(), **(dealt if self.use_dropout else {})}

    def staged(self) -> list[tuple[StageConfig, "TrainConfig"]]:
        """Every stage with the settings that hold in it; one called ``train`` if none is configured."""
        if not self.stages:
            return [(StageConfig(name="train"), self)]
        return [(stage, self._within(stage)) for stage in self.stages]

    def _within(self, stage: StageConfig) -> "TrainConfig":
        settings = self.model_dump(exclude_unset=True, exclude={"stages"})
        own = stage.model_dump(exclude_unset=True, exclude_none=True, exclude={"name", "mine"})
        if "objective" in stage.loss and self.loss.objective == "InfoNCE":
            # The policy came with the objective that the stage replaces.
            settings.get("sampling", {}).pop("policy", None)
        for section in ("loss", "sampling"):
            own[section] = {**settings.get(section, {}), **own.get(section, {})}
        return TrainConfig.model_validate({**settings, **own})

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
        if self.loss.objective == "InfoNCE" and self.sampling.policy in ("all", "average"):
            raise ValueError(
                f"InfoNCE takes one positive per query, sampling.policy={self.sampling.policy} gives several; "
                "choose random_one or first, or an objective for several such as SumMargLH"
            )
        return self

    @model_validator(mode="after")
    def _pairs_have_several_positives(self) -> Self:
        if self.loss.pair_positives != "all" and self.sampling.policy in _SINGLE_POSITIVE.values():
            raise ValueError(
                f"loss.pair_positives={self.loss.pair_positives} has no effect with one positive per query "
                f"(sampling.policy={self.sampling.policy}); remove it, or take policy: all"
            )
        return self

    @model_validator(mode="after")
    def _storage_holds_no_secret(self) -> Self:
        scheme, separator, rest = (self.storage or "").partition("://")
        if separator and "@" in rest.partition("/")[0]:
            raise ValueError(
                f"storage on {scheme}:// names a user; give credentials by the environment, as its driver describes"
            )
        return self

    @model_validator(mode="after")
    def _workers_are_a_range(self) -> Self:
        least, most = (self.num_workers,) * 2 if isinstance(self.num_workers, int) else self.num_workers
        if not 1 <= least <= most:
            raise ValueError(f"num_workers={self.num_workers}: expected at least 1, and the fewest before the most")
        if 0 < self.gpus_per_worker < 1 < most:
            raise ValueError(
                f"gpus_per_worker={self.gpus_per_worker} would put several workers on one GPU, which NCCL refuses; "
                f"take 1, or one worker"
            )
        return self

    @model_validator(mode="after")
    def _stages_make_sense(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages need names of their own, got {names}")
        for stage in self.stages:
            try:
                settings = self._within(stage)
            except ValidationError as error:
                problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
                raise ValueError(f"stage {stage.name!r} cannot be used: {problems}") from None
            if stage.mine is not None and settings.loss.learns_from_utility:
                raise ValueError(
                    f"stage {stage.name!r} mines negatives, which have no utility scores for "
                    f"{settings.loss.objective}; remove `mine`, or take an objective that learns from positives"
                )
        return self
