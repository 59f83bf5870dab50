"""Seeds: equal parts give equal seeds, and nothing else does."""

import ast
from contextlib import contextmanager
from pathlib import Path

import torch

import winnow.seeding
from winnow.seeding import derive_seed, seeded_torch


def test_a_seed_is_the_same_on_every_machine():
    assert derive_seed(13, "epoch", 2, "q7") == 3739898321082127534


def test_parts_do_not_run_into_each_other():
    assert derive_seed(13, "ab", "c") != derive_seed(13, "a", "bc")
    assert derive_seed(1, "3") != derive_seed(13)


def test_torch_is_seeded_for_a_block_and_goes_on_after_it_as_if_there_had_been_none():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = torch.rand(1)

    with seeded_torch(11, torch.device("cpu")):
        inside = torch.rand(4)

    assert torch.equal(inside, torch.rand(4, generator=torch.Generator().manual_seed(11)))
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


def test_only_the_gpu_that_is_named_is_asked_for_its_state(monkeypatch):
    """Written for a machine of eight GPUs, of which a process may have but one: with stand-ins for torch's own."""
    touched = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: touched.append(str(device)))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: touched.append(str(device)))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: touched.append("all"))
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: touched.append(f"seeded {torch.cuda.current[-1]}"))
    monkeypatch.setattr(torch.cuda, "current", ["cuda:0"], raising=False)
    monkeypatch.setattr(torch.cuda, "device", _current)

    with seeded_torch(1, torch.device("cpu")):
        on_cpu = list(touched)
    with seeded_torch(1, torch.device("cuda", 5)):
        pass

    assert on_cpu == []
    assert touched == ["cuda:5", "seeded cuda:5", "cuda:5"]


@contextmanager
def _current(device):
    torch.cuda.current.append(str(device))
    yield
    torch.cuda.current.pop()


def test_nobody_else_seeds_torch_as_a_whole():
    """``torch.manual_seed`` and a ``fork_rng`` without devices go through all GPUs of the machine."""
    package = Path(winnow.seeding.__file__).parent
    everywhere = {
        f"{path.relative_to(package)}:{node.lineno}"
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (
            ast.unparse(node.func) in ("torch.manual_seed", "torch.cuda.manual_seed_all", "torch.seed")
            or (ast.unparse(node.func) == "torch.random.fork_rng" and not node.args)
        )
    }

    assert everywhere == set()
