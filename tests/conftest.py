"""Shared by all tiers: one local Ray per process for the whole run of tests, no network, no telemetry."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before any library reads them; winnow.cluster sets Ray's own switches, loopback among them.
os.environ.update(HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", TOKENIZERS_PARALLELISM="false")
os.environ.pop("RAY_ADDRESS", None)
os.environ.pop("MLFLOW_TRACKING_URI", None)
# What tests start imports the fakes too: Ray's workers, and the process that others are forked from, whose preload
# Python 3.11 gives no other path and drops without a word if it cannot be imported.
os.environ["PYTHONPATH"] = str(Path(__file__).parent)

import winnow.cluster  # noqa: F401


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray of 3 CPUs, whatever the machine has: actors of the tests are small."""
    from winnow.cluster.config import ClusterConfig
    from winnow.cluster.runtime import ray_session

    with ray_session(ClusterConfig(num_cpus=3, object_store_mb=300)):
        yield


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory) -> Path:
    """Where the first test that needs the small language model converts it for all, in both processes of a run."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    (shared / "models").mkdir(exist_ok=True)
    return shared / "models"
