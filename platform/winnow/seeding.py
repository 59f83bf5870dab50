"""Seeds derived from a run seed and names, so no draw depends on global state or on order."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(run_seed: int, *parts: str | int) -> int:
    """A 63-bit seed that depends on every part and on nothing else.

    >>> derive_seed(13, "epoch", 2, "q7") == derive_seed(13, "epoch", 2, "q7")
    True
    >>> derive_seed(13, "ab", "c") == derive_seed(13, "a", "bc")
    False
    """
    payload = "\x1f".join([str(run_seed), *map(str, parts)]).encode()
    return int.from_bytes(hashlib.sha256(payload).digest()[:8], "big") >> 1


@contextmanager
def seeded_torch(seed: int, device: "torch.device") -> Iterator[None]:
    """Torch's own generators, on the CPU and on ``device``, seeded for the block and put back after it.

    For code that takes no generator, such as dropout. Other GPUs are left alone: each that is asked for its state
    gets a context of some hundred megabytes from this process.
    """
    import torch

    is_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if is_cuda else []):
        torch.default_generator.manual_seed(seed)
        if is_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
