"""A run that was killed ends with the same parameters as one that was not."""

import signal

import torch
from distributed.gloo_world import run_world, work_on_training, write_tokens
from fakes import DyingLogger, ListLogger
from safetensors.torch import load_file


def test_a_killed_run_goes_on_to_the_same_bits_on_every_process(tmp_path):
    write_tokens(tmp_path / "tokens")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"

    assert run_world(work_on_training, 2, undisturbed, ListLogger()) == [0, 0]
    codes = run_world(work_on_training, 2, killed, DyingLogger(4, marker=tmp_path / "died"))
    resumed_from = [path.name for path in (killed / "checkpoints").iterdir()]
    assert run_world(work_on_training, 2, killed, ListLogger()) == [0, 0]

    assert codes[0] == -signal.SIGKILL
    assert resumed_from == ["step-00000003"]
    ends = [load_file(world / f"tensors-{rank}.safetensors") for world in (undisturbed, killed) for rank in (0, 1)]
    for name, value in ends[0].items():
        assert all(torch.equal(end[name], value) for end in ends[1:])
