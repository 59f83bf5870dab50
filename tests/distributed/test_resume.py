"""A run that was killed ends with the same parameters as one that was not."""

import signal

import pytest
import torch
import torch.distributed as dist
from distributed.gloo_world import run_world, work_on_training, write_tokens
from fakes import DyingLogger, ListLogger
from safetensors.torch import load_file

from winnow.errors import DataError, WinnowError
from winnow.training.gather import on_every_worker, on_first_worker


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


def fail_on_rank(rank):
    if dist.get_rank() == rank:
        raise DataError("this worker does not see the file")


def work_that_fails_on_one(directory):
    """The second of two workers fails where all work, the first one where it alone does."""
    with pytest.raises(WinnowError, match=r"does not see|1 other workers failed"):
        on_every_worker(lambda: fail_on_rank(1), torch.device("cpu"))
    with pytest.raises(WinnowError, match=r"does not see|the first worker failed"):
        on_first_worker(lambda: fail_on_rank(0), torch.device("cpu"))


def test_what_fails_on_one_worker_fails_on_all_and_none_waits(tmp_path):
    assert run_world(work_that_fails_on_one, 2, tmp_path / "world") == [0, 0]
