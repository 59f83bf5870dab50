"""The cluster file validates offline, and every job's resource request fits one of its node types."""

import copy
from pathlib import Path

import pytest
import yaml

from winnow.config import load_config
from winnow.steps.config import RunConfig

ROOT = Path(__file__).parents[2]
CLUSTER = yaml.safe_load((ROOT / "cluster.yaml").read_text())
NODE_TYPES = CLUSTER["available_node_types"]
CONFIGS = [*sorted((ROOT / "jobs" / "configs").rglob("*.yaml")), ROOT / "examples" / "pydocs" / "run.yaml"]


def requests(config: RunConfig) -> dict[str, dict[str, float]]:
    """What one actor or worker of each step reserves."""
    engine, train, cluster = config.annotate.engine, config.train, config.cluster
    return {
        "annotate": {"CPU": engine.cpus, "GPU": engine.gpus},
        "train": {"CPU": train.threads_per_worker, "GPU": train.gpus_per_worker},
        "encode": {"CPU": cluster.encoder_cpus, "GPU": cluster.encoder_gpus},
        "serve": {"CPU": config.serve.replica_cpus},
    }


def test_the_cluster_file_validates_offline():
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(CLUSTER))
    validate_config(prepared)

    assert prepared["available_node_types"].keys() == NODE_TYPES.keys()


def test_the_head_takes_no_work_and_the_others_can_grow_and_shrink():
    assert NODE_TYPES[CLUSTER["head_node_type"]]["resources"] == {"CPU": 0}
    workers = [node for name, node in NODE_TYPES.items() if name != CLUSTER["head_node_type"]]
    assert [node["min_workers"] < node["max_workers"] for node in workers] == [True] * len(workers)


def test_ray_asks_for_a_token_on_every_node():
    for commands in (CLUSTER["head_start_ray_commands"], CLUSTER["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in commands[-1]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_request_of_a_job_fits_a_node_type(path):
    unmet = {
        step: request
        for step, request in requests(load_config(RunConfig, path)).items()
        if not any(
            all(node["resources"].get(name, 0) >= amount for name, amount in request.items())
            for node in NODE_TYPES.values()
        )
    }

    assert unmet == {}


@pytest.mark.parametrize("verb", ["pool", "annotate", "label", "train", "index", "evaluate", "run"])
def test_every_batch_verb_has_a_job_with_its_submit_line(verb):
    text = (ROOT / "jobs" / f"{verb}.py").read_text()

    assert f"ray job submit --runtime-env jobs/runtime_env.yaml -- \\\n    python jobs/{verb}.py --config" in text
    assert f'main("{verb}")' in text
