"""Where a training run stands, on disk: whole or absent, and nothing in it is unpickled.

``step-<n>/`` holds the parameters, AdamW's moments and the counts so far. Learning rate, order of the
data, sampling and dropout are functions of (seed, step), so the step is all there is to say about them.
"""

import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from winnow.files import read_json, write_json

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class Totals:
    """Counts over all workers since the first step."""

    num_queries: int = 0
    num_skipped: int = 0
    num_tokens: int = 0
    num_padding: int = 0
    epoch_losses: list[float] = field(default_factory=list)
    """Sum of the losses of each epoch's valid queries, the last one up to the current step."""
    epoch_valid: list[int] = field(default_factory=list)
    """Number of those queries."""


def latest_step(directory: Path) -> int:
    """The step of the newest checkpoint under ``directory``, 0 if there is none."""
    return max((_step_of(path) for path in directory.glob("step-*")), default=0)


def save_checkpoint(directory: Path, step: int, module: nn.Module, optimizer: Optimizer, totals: Totals) -> None:
    """Publish the state after ``step`` steps, then remove older ones: a full disk leaves the last good one."""
    building = directory / f".building-{step:08d}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    parameters = dict(module.named_parameters())
    save_file({name: value.detach().contiguous() for name, value in parameters.items()}, building / "model.safetensors")
    save_file(_moments(parameters, optimizer), building / "optimizer.safetensors")
    write_json(building / "totals.json", asdict(totals))
    os.rename(building, _path(directory, step))
    for path in directory.glob("step-*"):
        if _step_of(path) < step:
            shutil.rmtree(path)


def load_checkpoint(directory: Path, step: int, module: nn.Module, optimizer: Optimizer) -> Totals:
    """Put the state after ``step`` steps into ``module`` and ``optimizer``; the counts up to there."""
    folder = _path(directory, step)
    parameters = dict(module.named_parameters())
    values = load_file(folder / "model.safetensors")
    moments = load_file(folder / "optimizer.safetensors")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
            if f"{name}/step" in moments:
                optimizer.state[parameter] = _moments_of(name, moments, parameter.device)
    return Totals(**read_json(folder / "totals.json"))


def _moments(parameters: dict[str, nn.Parameter], optimizer: Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": optimizer.state[parameter][key].contiguous()
        for name, parameter in parameters.items()
        if parameter in optimizer.state
        for key in _MOMENTS
    }


def _moments_of(name: str, moments: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    # AdamW keeps its step counters on the CPU.
    return {key: moments[f"{name}/{key}"].to("cpu" if key == "step" else device) for key in _MOMENTS}


def _path(directory: Path, step: int) -> Path:
    return directory / f"step-{step:08d}"


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
