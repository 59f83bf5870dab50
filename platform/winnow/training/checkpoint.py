"""Where a training run stands, in storage: whole or absent, and nothing in it is unpickled.

``step-<n>/`` holds the trained parameters, the optimizer's moments, the loss scale and the counts so far.
Learning rate, order of the data, sampling and dropout are functions of (seed, step), so the step is all
there is to say about scheduler, random state and position. ``best-<n>/`` holds the parameters that did best
on dev. Both hold the recipe of their run, and a run of another recipe does not go on from them.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from winnow.errors import ConfigError, DataError, WinnowError
from winnow.files import read_json, write_json
from winnow.training.storage import open_folders

_NAME = re.compile(r"(step|best)-(\d{8,})(?:-(\d+))?")
_MODEL, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_MOST_DIFFERENCES = 5


@dataclass
class Totals:
    """Counts over all workers since the first step, and what dev evaluations came to."""

    num_steps: int = 0
    num_queries: int = 0
    num_skipped: int = 0
    num_tokens: int = 0
    num_padding: int = 0
    epoch_losses: list[float] = field(default_factory=list)
    """Sum of the losses of each epoch's valid queries, the last one up to the current step."""
    epoch_valid: list[int] = field(default_factory=list)
    """Number of those queries."""
    best_value: float | None = None
    """The best dev measure so far."""
    best_step: int = 0
    """The step it was measured after; 0 without one."""
    num_bad_evaluations: int = 0
    """Evaluations since then, none of which was better."""
    widest_spread: float = 0.0
    """Of a query's scores, as the alarm saw it."""
    dev: list[dict[str, float]] = field(default_factory=list)
    """Every evaluation: its step and the measures by name."""


@dataclass
class TrainingState:
    """What a step changes."""

    parameters: dict[str, nn.Parameter]
    """Those that are trained, of encoder and loss."""
    optimizer: Optimizer
    totals: Totals
    scaler: dict[str, float] = field(default_factory=dict)
    """The loss scale of fp16; empty otherwise."""


_Kind = Literal["step", "best"]


class _Folder(NamedTuple):
    kind: str
    step: int
    revision: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.step:08d}" + (f"-{self.revision}" if self.revision else "")


class CheckpointStore:
    """The checkpoints of one run at ``location``, a path or any fsspec URL.

    One process saves, all may load. A save that is killed at any instant leaves the checkpoint before it.
    """

    def __init__(self, location: str, recipe: Mapping[str, Any]) -> None:
        self._folders = open_folders(location, _NAME)
        self._recipe = json.loads(json.dumps(recipe, default=str))

    def latest(self) -> int:
        """The step of the newest checkpoint, 0 if there is none."""
        return max((folder.step for folder in self._found("step")), default=0)

    def save(self, step: int, state: TrainingState) -> None:
        """Publish ``state`` after ``step`` steps, then remove what it replaces. Raises ``WinnowError``.

        Older best parameters go only now: until this instant a run could go on from where they were the best.
        """

        def fill(folder: Path) -> None:
            _save_tensors(state.parameters, folder / _MODEL)
            _save_tensors(_moments(state), folder / _OPTIMIZER)
            values = {"recipe": self._recipe, "totals": asdict(state.totals), "scaler": state.scaler}
            write_json(folder / _STATE, values)

        kept = {self._publish("step", step, fill), self._newest("best", state.totals.best_step)}
        for folder in [*self._found("step"), *self._found("best")]:
            if folder not in kept:
                self._folders.remove(folder.name)

    def load(self, step: int, state: TrainingState) -> None:
        """Put what was saved after ``step`` steps into ``state``. Raises ``ConfigError``, ``DataError``."""
        with self._opened("step", step) as folder:
            stored = self._read_state(folder, f"checkpoint step {step}")
            values, moments = load_file(folder / _MODEL), load_file(folder / _OPTIMIZER)
            self._check_names(state.totals, stored["totals"])
            self._set_parameters(state.parameters, values)
            _set_moments(state, moments)
        for name, value in stored["totals"].items():
            setattr(state.totals, name, value)
        state.scaler.clear()
        state.scaler.update(stored["scaler"])

    def save_best(self, state: TrainingState) -> None:
        """Keep the parameters as those of ``state.totals.best_step``. Raises ``WinnowError``."""

        def fill(folder: Path) -> None:
            _save_tensors(state.parameters, folder / _MODEL)
            write_json(folder / _STATE, {"recipe": self._recipe})

        self._publish("best", state.totals.best_step, fill)

    def load_best(self, state: TrainingState) -> None:
        """Put the parameters of ``state.totals.best_step`` into ``state``; the rest of it stays as it is."""
        with self._opened("best", state.totals.best_step) as folder:
            self._read_state(folder, f"best parameters of step {state.totals.best_step}")
            self._set_parameters(state.parameters, load_file(folder / _MODEL))

    def remove(self) -> None:
        """Remove all checkpoints, for a run that is through."""
        self._folders.remove_all()

    def _found(self, kind: _Kind) -> list[_Folder]:
        matches = (_NAME.fullmatch(name) for name in self._folders.names())
        folders = [_Folder(m[1], int(m[2]), int(m[3] or 0)) for m in matches if m]
        return [folder for folder in folders if folder.kind == kind]

    def _newest(self, kind: _Kind, step: int) -> _Folder | None:
        return max((folder for folder in self._found(kind) if folder.step == step), default=None)

    def _publish(self, kind: _Kind, step: int, fill: Callable[[Path], None]) -> _Folder:
        """The new folder. What is there of the same step stays until then, under a lower revision."""
        self._folders.remove_leftovers()
        there = self._newest(kind, step)
        new = _Folder(kind, step, 0 if there is None else there.revision + 1)
        try:
            self._folders.write(new.name, fill)
        except (OSError, SafetensorError) as error:
            raise self._not_written(new, error) from error
        return new

    def _not_written(self, folder: _Folder, error: Exception) -> WinnowError:
        scratch = self._folders.scratch
        free = shutil.disk_usage(scratch).free / 1e9
        last = self.latest()
        kept = f"the checkpoint of step {last} is still there" if last else "there is no earlier checkpoint"
        return WinnowError(
            f"{folder.name} could not be written to {self._folders.where!r}: {error} ({free:.2f} GB free in "
            f"{str(scratch)!r}); {kept}: make room and run the same command to go on"
        )

    @contextmanager
    def _opened(self, kind: _Kind, step: int) -> Iterator[Path]:
        folder = self._newest(kind, step)
        if folder is None:
            raise ConfigError(
                f"no {kind}-{step:08d} in {self._folders.where!r} as this machine sees it; "
                f"checkpoints need storage that every worker shares"
            )
        try:
            with self._folders.read(folder.name) as path:
                yield path
        except (SafetensorError, FileNotFoundError, ValueError) as error:
            raise DataError(
                f"{folder.name} in {self._folders.where!r} is damaged ({error}); remove it to start again"
            ) from error

    def _read_state(self, folder: Path, label: str) -> dict[str, Any]:
        stored = read_json(folder / _STATE)
        differences = recipe_differences(stored["recipe"], self._recipe)
        if differences:
            more = len(differences) - _MOST_DIFFERENCES
            listed = "; ".join(differences[:_MOST_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
            raise ConfigError(
                f"{label} in {self._folders.where!r} was written with {listed}; "
                f"give it another folder, or remove the checkpoint to start again"
            )
        return stored

    def _check_names(self, totals: Totals, stored: Mapping[str, Any]) -> None:
        if stored.keys() != {each.name for each in fields(totals)}:
            raise ConfigError(
                f"the checkpoint in {self._folders.where!r} counts {sorted(stored)}, as another version of Winnow "
                f"does; go on with that version, or remove the checkpoint to start again"
            )

    def _set_parameters(self, parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
        own, stored = _shapes(parameters), _shapes(values)
        if own != stored:
            name = min(name for name in own.keys() | stored.keys() if own.get(name) != stored.get(name))
            raise ConfigError(
                f"the checkpoint in {self._folders.where!r} has {stored.get(name, 'nothing')} for parameter {name!r}, "
                f"this run has {own.get(name, 'nothing')}; go on with the encoder that it was written with, "
                f"or remove the checkpoint to start again"
            )
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(values[name])


def recipe_differences(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """The settings that differ, by dotted name.

    >>> recipe_differences({"train": {"epochs": 2, "seed": 1}}, {"train": {"epochs": 3, "seed": 1}})
    ['train.epochs 2, this run has 3']
    """
    before, now = _flat(stored), _flat(current)
    names = [*before, *(name for name in now if name not in before)]
    shown = {name: (before.get(name, "nothing"), now.get(name, "nothing")) for name in names}
    return [f"{name} {old}, this run has {new}" for name, (old, new) in shown.items() if old != new]


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Leaves as JSON text, by dotted name. A list of settings (the stages) counts its members."""
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping) or not value:
        return {name: json.dumps(value)}
    leaves: dict[str, str] = {}
    for key, item in value.items():
        leaves.update(_flat(item, f"{name}.{key}" if name else str(key)))
    return leaves


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: value.detach().contiguous() for name, value in tensors.items()}, path)


def _moments(state: TrainingState) -> dict[str, Tensor]:
    return {
        f"{name}/{slot}": value
        for name, parameter in state.parameters.items()
        for slot, value in state.optimizer.state.get(parameter, {}).items()
    }


def _set_moments(state: TrainingState, moments: Mapping[str, Tensor]) -> None:
    groups = state.optimizer.param_groups
    # AdamW counts its steps on the CPU unless one of its fused kernels does.
    counts_on_device = any(group.get("fused") or group.get("capturable") for group in groups)
    for parameter in state.parameters.values():
        state.optimizer.state.pop(parameter, None)
    for key, value in moments.items():
        name, _, slot = key.rpartition("/")
        parameter = state.parameters[name]
        device = parameter.device if slot != "step" or counts_on_device else "cpu"
        # A copy: what was loaded may still be the file, which goes with the next checkpoint.
        state.optimizer.state[parameter][slot] = value.to(device, copy=True)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{value.dtype} {tuple(value.shape)}" for name, value in tensors.items()}
