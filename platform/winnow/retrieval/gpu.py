"""Flat and IVF indexes on a CUDA device. Needs ``faiss-gpu``."""

import threading
from collections.abc import Sequence

import faiss
import numpy as np
from numpy.typing import NDArray

from winnow.errors import ConfigError
from winnow.retrieval.factory import parse_factory
from winnow.retrieval.ranking import Ranked
from winnow.retrieval.shard import Find

_MOST_RESULTS = 2048
"""The largest k that FAISS takes on a GPU."""


def on_gpu(indexes: Sequence[faiss.Index], factory: str) -> list[Find]:
    """A search for each of ``indexes`` on the GPU, which gets a copy of it. Raises ``ConfigError``."""
    if parse_factory(factory).kind not in ("flat", "ivf"):
        raise ConfigError(f"FAISS searches {factory} on a CPU only; use device cpu, or build a Flat or IVF index")
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        raise ConfigError("device cuda needs faiss-gpu and a CUDA device, and one is missing here; use device cpu")
    resources = faiss.StandardGpuResources()
    # FAISS on a GPU is not safe to share between threads, nor is the scratch memory that the shards share.
    lock = threading.Lock()
    try:
        return [_GpuSearch(faiss.index_cpu_to_gpu(resources, 0, index), index, resources, lock) for index in indexes]
    except RuntimeError as error:
        raise ConfigError(
            f"{factory} cannot be copied to the GPU ({error}); use device cpu, or another index"
        ) from None


class _GpuSearch:
    """Searches one index on the GPU; one search at a time."""

    def __init__(
        self, copy: faiss.Index, index: faiss.Index, resources: "faiss.StandardGpuResources", lock: threading.Lock
    ) -> None:
        self._copy = copy
        self._index = index
        self._resources = resources
        self._lock = lock

    def __call__(self, queries_QD: NDArray[np.float32], k: int) -> Ranked:
        if k > _MOST_RESULTS:
            return self._index.search(queries_QD, k)
        with self._lock:
            return self._copy.search(queries_QD, k)
