"""A dev set that gloo processes measure together."""

from pathlib import Path

import torch.distributed as dist
from distributed.gloo_world import write_tokens
from fakes import MeanTower

from winnow.files import write_json
from winnow.training.dev import DevEvaluation, DevSet
from winnow.training.watching import DevConfig


def measure(directory: Path, num_queries: int) -> dict[str, float]:
    """What the first ``num_queries`` questions come to."""
    queries, passages = (tuple(f"{kind}{number}" for number in range(count)) for kind, count in (("q", 20), ("d", 30)))
    qrels = {query_id: {f"d{number}": 1} for number, query_id in enumerate(queries)}
    dev = DevSet(queries[:num_queries], passages, qrels, write_tokens(directory / f"tokens-{num_queries}"))
    return DevEvaluation(MeanTower(dropout=0.3), dev, DevConfig(), micro_batch_tokens=20).measure()


def work_on_dev(directory: Path) -> None:
    """Write what this process measures; with a single question, all but one process have none to encode."""
    own = directory / f"tokens-of-{dist.get_rank()}"
    write_json(directory / f"dev-{dist.get_rank()}.json", [measure(own, 20), measure(own, 1)])
