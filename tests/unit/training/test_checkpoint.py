"""Checkpoints in a folder and on another filesystem: exact, whole, and of one recipe."""

import os
import resource

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from torch import nn

from winnow.errors import ConfigError, DataError, WinnowError
from winnow.training.checkpoint import CheckpointStore, Totals, TrainingState, recipe_differences

RECIPE = {"train": {"learning_rate": 2e-05, "loss": {"objective": "LSEPair"}}, "seed": 8}


class KilledError(BaseException):
    """Nothing catches it, as nothing outlives a kill."""


class Mortal:
    """Counts what is done to a disk; dead after ``left`` more times, and then nothing is done any more."""

    def __init__(self):
        self.left = None

    def live(self):
        if self.left is not None:
            if self.left == 0:
                raise KilledError
            self.left -= 1


class MortalFileSystem(MemoryFileSystem):
    """A filesystem in memory whose writer can be killed, also half-way through an upload."""

    protocol = "mortal"
    store, pseudo_dirs = {}, [""]
    life = Mortal()

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("mortal://"))

    def put_file(self, lpath, rpath, **options):
        try:
            self.life.live()
        except KilledError:
            half = os.path.getsize(lpath) // 2
            with open(lpath, "rb") as file:
                super().pipe_file(rpath, file.read(half))
            raise
        super().put_file(lpath, rpath, **options)

    def pipe_file(self, path, value, **options):
        self.life.live()
        super().pipe_file(path, value, **options)

    def rm_file(self, path):
        self.life.live()
        super().rm_file(path)

    def rmdir(self, path):
        self.life.live()
        super().rmdir(path)

    def mkdir(self, path, create_parents=True, **options):
        self.life.live()
        super().mkdir(path, create_parents, **options)


fsspec.register_implementation("mortal", MortalFileSystem, clobber=True)


@pytest.fixture
def mortal_disk(monkeypatch):
    """Kills what works on the local disk."""
    life = Mortal()

    def while_alive(change):
        def changed(*arguments, **options):
            life.live()
            return change(*arguments, **options)

        return changed

    for name in ("mkdir", "rename", "replace", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, while_alive(getattr(os, name)))
    return life


@pytest.fixture
def remote():
    MortalFileSystem.store.clear()
    MortalFileSystem.pseudo_dirs[:] = [""]
    MortalFileSystem.life.left = None
    return "mortal://bucket/run/checkpoints"


@pytest.fixture(params=["local", "remote"])
def location(request, tmp_path):
    return str(tmp_path / "checkpoints") if request.param == "local" else request.getfixturevalue("remote")


def new_state(*, seed=1):
    draws = torch.Generator().manual_seed(seed)
    shapes = {"matrix": (torch.float32, (5, 3)), "half": (torch.bfloat16, (7,)), "loss.scalar": (torch.float64, ())}
    parameters = {
        name: nn.Parameter(torch.randn(shape, generator=draws, dtype=torch.float64).to(dtype))
        for name, (dtype, shape) in shapes.items()
    }
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.01)
    return TrainingState(parameters, optimizer, Totals(), {})


def take_steps(state, first, last):
    for step in range(first, last):
        draws = torch.Generator().manual_seed(step)
        for parameter in state.parameters.values():
            gradient = torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
            parameter.grad = gradient.to(parameter.dtype)
        state.optimizer.step()
        state.totals.num_queries += 5
    return state


def trained(steps):
    return take_steps(new_state(), 0, steps)


def bits(state):
    """Everything that a checkpoint has to bring back, as bytes."""
    values = {name: value.detach() for name, value in state.parameters.items()}
    for name, parameter in state.parameters.items():
        values |= {f"{name}/{slot}": value for slot, value in state.optimizer.state[parameter].items()}
    return {key: (v.dtype, v.shape, v.reshape(-1).view(torch.uint8).tolist()) for key, v in values.items()}


def names_at(location):
    filesystem, root = fsspec.core.url_to_fs(location)
    return sorted(path.rpartition("/")[2] for path in filesystem.ls(root, detail=False))


def test_a_loaded_state_is_the_saved_one_to_the_bit_and_goes_on_like_it(location):
    saved = trained(3)
    saved.totals.epoch_losses, saved.totals.epoch_valid = [0.1 + 0.2, 1e-300], [15, 2]
    saved.totals.dev, saved.totals.best_value, saved.totals.best_step = [{"step": 2, "nDCG@10": 1 / 3}], 1 / 3, 2
    saved.scaler = {"scale": 65536.0, "_growth_tracker": 3}
    CheckpointStore(location, RECIPE).save(3, saved)
    loaded = new_state(seed=2)
    totals = loaded.totals

    store = CheckpointStore(location, RECIPE)
    store.load(store.latest(), loaded)

    assert store.latest() == 3
    assert bits(loaded) == bits(saved)
    assert loaded.totals is totals
    assert (loaded.totals, loaded.scaler) == (saved.totals, saved.scaler)
    assert bits(take_steps(loaded, 3, 6)) == bits(trained(6))


def test_moments_that_the_checkpoint_does_not_have_are_forgotten(location):
    store, state = CheckpointStore(location, RECIPE), trained(2)
    store.save(1, new_state())

    store.load(1, state)

    assert all(parameter not in state.optimizer.state for parameter in state.parameters.values())


def test_without_a_checkpoint_the_latest_step_is_0(location):
    assert CheckpointStore(location, RECIPE).latest() == 0


def test_only_the_newest_is_kept_and_what_is_not_a_checkpoint_is_left_alone(location):
    store = CheckpointStore(location, RECIPE)
    filesystem, root = fsspec.core.url_to_fs(location)
    filesystem.makedirs(root)
    filesystem.pipe_file(f"{root}/notes.txt", b"mine")

    for step in (3, 6, 9):
        store.save(step, trained(step))
    kept = names_at(location)
    store.remove()

    assert kept == ["notes.txt", "step-00000009"]
    assert names_at(location) == ["notes.txt"]
    assert store.latest() == 0


def test_a_step_that_is_saved_again_is_as_it_was_saved_last(location):
    store, again, loaded = CheckpointStore(location, RECIPE), trained(3), new_state()
    store.save(3, trained(3))
    again.totals.num_bad_evaluations = 1

    store.save(3, again)

    store.load(3, loaded)
    assert loaded.totals.num_bad_evaluations == 1
    assert names_at(location) == ["step-00000003-1"]


def kill_a_save(life, location):
    """Kill the save of step 6 ever later, and go on each time; how often it was killed."""
    for left in range(100):
        store = CheckpointStore(location, RECIPE)
        store.remove()
        store.save(3, trained(3))
        life.left = left
        try:
            store.save(6, trained(6))
            return left
        except KilledError:
            pass
        finally:
            life.left = None
        check_that_it_goes_on(location)
    raise AssertionError("a save never came to its end")


def check_that_it_goes_on(location):
    store, loaded = CheckpointStore(location, RECIPE), new_state()
    assert store.latest() in (3, 6)
    store.load(store.latest(), loaded)
    assert bits(loaded) == bits(trained(store.latest()))
    store.save(9, trained(9))
    assert names_at(location) == ["step-00000009"]


def test_a_save_killed_at_any_instant_leaves_a_whole_checkpoint_on_the_disk(mortal_disk, tmp_path):
    assert kill_a_save(mortal_disk, str(tmp_path / "checkpoints")) >= 8


def test_an_upload_killed_at_any_instant_leaves_a_whole_checkpoint(remote):
    assert kill_a_save(MortalFileSystem.life, remote) >= 8


def test_the_best_parameters_come_back_and_the_rest_of_the_state_stays(location):
    store, state = CheckpointStore(location, RECIPE), trained(3)
    best = bits(state)
    state.totals.best_step = 3
    store.save_best(state)
    take_steps(state, 3, 6)
    store.save(6, state)
    moments = {key: value for key, value in bits(state).items() if "/" in key}

    store.load_best(state)

    assert bits(state) == {key: value for key, value in best.items() if "/" not in key} | moments
    assert names_at(location) == ["best-00000003", "step-00000006"]


def test_a_run_that_falls_back_before_its_best_step_still_has_the_best_of_then(location):
    store, state = CheckpointStore(location, RECIPE), trained(3)
    state.totals.best_step = 3
    store.save_best(state)
    store.save(3, state)
    expected = bits(state)["matrix"]
    take_steps(state, 3, 5)
    state.totals.best_step = 5
    store.save_best(state)
    resumed = new_state()

    store.load(3, resumed)
    store.load_best(resumed)

    assert bits(resumed)["matrix"] == expected


def test_another_recipe_is_refused_with_every_difference(location):
    CheckpointStore(location, RECIPE).save(40, trained(1))
    CheckpointStore(location, RECIPE).save_best(trained(1))
    other = {"train": {"learning_rate": 1e-05, "loss": {"objective": "KL"}}, "seed": 8}
    store, state = CheckpointStore(location, other), new_state()
    before = {name: value.clone() for name, value in state.parameters.items()}

    with pytest.raises(ConfigError) as refused:
        store.load(40, state)
    with pytest.raises(ConfigError, match=r"best parameters of step 0 in .* was written with"):
        store.load_best(state)

    assert str(refused.value).startswith("checkpoint step 40 in ")
    assert str(refused.value).endswith(
        " was written with train.learning_rate 2e-05, this run has 1e-05; "
        'train.loss.objective "LSEPair", this run has "KL"; '
        "give it another folder, or remove the checkpoint to start again"
    )
    assert all(torch.equal(state.parameters[name], value) for name, value in before.items())


def test_a_recipe_is_compared_in_depth():
    stored = {"train": {"stages": [{"name": "llm", "epochs": 1}], "lora": None}, "ratios": [1, 2]}
    current = {"train": {"stages": [{"name": "llm", "epochs": 2}, {"name": "human"}], "lora": {"rank": 8}}}

    assert recipe_differences(stored, stored) == []
    assert recipe_differences(stored, current) == [
        "train.stages.0.epochs 1, this run has 2",
        "train.lora null, this run has nothing",
        "ratios [1, 2], this run has nothing",
        'train.stages.1.name nothing, this run has "human"',
        "train.lora.rank nothing, this run has 8",
    ]


def test_a_long_list_of_differences_is_cut_and_counted(tmp_path):
    CheckpointStore(str(tmp_path), {f"s{n}": 1 for n in range(9)}).save(1, new_state())

    with pytest.raises(ConfigError, match=r"s4 1, this run has 2; and 4 more; give it another folder"):
        CheckpointStore(str(tmp_path), {f"s{n}": 2 for n in range(9)}).load(1, new_state())


def test_settings_that_are_no_json_values_are_the_same_recipe_when_read_back(tmp_path):
    recipe = {"train": {"stages": ({"epochs": 1},), "path": tmp_path}, 1: "number as a name"}
    state, loaded = trained(1), new_state()
    CheckpointStore(str(tmp_path), recipe).save(1, state)

    CheckpointStore(str(tmp_path), recipe).load(1, loaded)

    assert bits(loaded) == bits(state)


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(tmp_path):
    store, state = CheckpointStore(str(tmp_path), RECIPE), trained(3)
    store.save(3, state)
    expected = bits(state)
    state.parameters["big"] = nn.Parameter(torch.zeros(100_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(WinnowError) as full:
            store.save(6, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    loaded = new_state()
    store.load(store.latest(), loaded)
    assert str(full.value).startswith(f"step-00000006 could not be written to '{tmp_path}': ")
    assert " GB free in " in str(full.value)
    assert "the checkpoint of step 3 is still there: make room and run the same command to go on" in str(full.value)
    assert names_at(str(tmp_path)) == ["step-00000003"]
    assert bits(loaded) == expected


def test_a_storage_that_refuses_a_write_is_named(remote, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MortalFileSystem, "put_file", refuse)

    with pytest.raises(WinnowError, match=r"'mortal:///bucket/run/checkpoints'.*there is no earlier checkpoint"):
        CheckpointStore(remote, RECIPE).save(3, trained(3))

    assert CheckpointStore(remote, RECIPE).latest() == 0


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("left", [0.5, 0, None])
def test_a_damaged_checkpoint_is_named_not_believed(tmp_path, name, left):
    store = CheckpointStore(str(tmp_path), RECIPE)
    store.save(3, trained(3))
    path = tmp_path / "step-00000003" / name
    content = path.read_bytes()
    path.unlink()
    if left is not None:
        path.write_bytes(content[: int(left * len(content))])

    with pytest.raises(DataError, match=r"step-00000003 in .* is damaged"):
        store.load(3, new_state())


def test_parameters_of_another_shape_are_refused(tmp_path):
    store, state = CheckpointStore(str(tmp_path), RECIPE), new_state()
    store.save(3, trained(3))
    state.parameters["matrix"] = nn.Parameter(torch.zeros(5, 4))

    with pytest.raises(
        ConfigError, match=r"float32 \(5, 3\) for parameter 'matrix', this run has torch.float32 \(5, 4\)"
    ):
        store.load(3, state)


def test_a_step_that_another_machine_keeps_to_itself_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no step-00000003 in .*storage that every worker shares"):
        CheckpointStore(str(tmp_path), RECIPE).load(3, new_state())


def test_an_unknown_kind_of_storage_is_refused_without_showing_its_password():
    with pytest.raises(ConfigError, match="storage on 'nowhere://' cannot be used") as refused:
        CheckpointStore("nowhere://me:secret@host/run", RECIPE)

    assert "secret" not in str(refused.value)
