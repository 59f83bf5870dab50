"""A Ray that cannot be joined or started is found out before Ray waits for it."""

import os
import tempfile
import time
from pathlib import Path

import pytest
import ray

from winnow.api.config import ServeConfig
from winnow.cluster.config import ClusterConfig
from winnow.cluster.runtime import note_crowding, ray_session
from winnow.cluster.serving import plan_serving, retriever_application
from winnow.errors import ConfigError

ADDRESSES = {
    "http://127.0.0.1:8265": "is of the job API; submit the command",
    "ray://127.0.0.1:10001": "is of Ray Client",
    "127.0.0.1:9": "ConnectionRefusedError",
    "nosuch.invalid:6379": "Name or service not known|Temporary failure in name resolution",
    "6379": "expected host:port",
    "nonsense": "expected host:port",
}


@pytest.fixture
def no_ray(monkeypatch):
    """Whatever the other tests of this process have started is out of sight."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_leads_nowhere_says_so_in_seconds(no_ray, monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    started = time.monotonic()

    with pytest.raises(ConfigError, match=ADDRESSES[address]) as caught, ray_session(ClusterConfig()):
        pass

    assert time.monotonic() - started < 15
    assert f"RAY_ADDRESS={address!r}" in str(caught.value)
    assert "unset RAY_ADDRESS to get a local Ray" in str(caught.value)


@pytest.mark.parametrize(
    ("trouble", "expected", "said"),
    [
        # What Ray raises where its processes do not come up in time.
        (Exception("The current node timed out during startup."), ConfigError, "Exception: The current node timed out"),
        (ValueError("too large\nfor this node"), ConfigError, r"ValueError: too large\); docs/cluster.md"),
        (TypeError("init() got an unexpected keyword argument"), TypeError, "unexpected"),
    ],
)
def test_a_ray_that_does_not_start_is_said_in_a_line_and_leaves_nothing(no_ray, monkeypatch, trouble, expected, said):
    def fail(**_):
        raise trouble

    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr("tempfile.tempdir", str(folder := Path(tempfile.mkdtemp(dir="/tmp"))))
    monkeypatch.setattr(os, "environ", os.environ.copy())

    with pytest.raises(expected, match=said) as caught, ray_session(ClusterConfig()):
        pass

    assert "\n" not in str(caught.value)
    folder.rmdir()  # which is empty


# Processes, threads, CPUs that each reserves; what is said on a Ray of 4 CPUs and a machine of 2 cores.
CROWDS = [
    (2, 1, 1, None),
    (1, 3, 1, "1 processes x 3 threads on 2 cores"),
    (9, 1, 1, "4 processes x 1 threads on 2 cores"),
    (9, 1, 2, None),
    (1, 3, 8, "1 processes x 3 threads on 2 cores"),
    (2, 2, 0, "2 processes x 2 threads on 2 cores"),
    (8, 0, 1, None),
]


@pytest.mark.parametrize(("processes", "threads", "cpus", "said"), CROWDS)
def test_more_threads_than_cores_are_said_of_the_processes_that_ray_has_room_for(
    monkeypatch, capsys, processes, threads, cpus, said
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})

    note_crowding("judging", processes=processes, threads=threads, cpus=cpus)

    err = capsys.readouterr().err
    assert (said or "") in err
    assert err.count("\n") == (0 if said is None else 1)


@pytest.mark.parametrize("replicas", [1, (1, 2)])
def test_replicas_wait_as_was_chosen_here_on_any_node(monkeypatch, tmp_path, replicas):
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.delenv("WINNOW_HAPROXY_LIMITS", raising=False)
    plan = plan_serving("somewhere", ServeConfig(num_replicas=replicas), output=tmp_path)

    deployment = retriever_application(plan)._bound_deployment

    assert deployment.ray_actor_options["runtime_env"]["env_vars"] == {"OMP_WAIT_POLICY": "active"}


@pytest.mark.parametrize(
    ("devices", "reserved"),
    [
        ({}, 0),
        ({"device": "cuda"}, 1),
        ({"encoder_device": "cuda"}, 1),
        ({"device": "cuda", "encoder_device": "cuda"}, 1),
    ],
)
@pytest.mark.parametrize("replicas", [1, (1, 2)])
def test_a_replica_reserves_a_gpu_if_it_encodes_or_searches_on_one(monkeypatch, tmp_path, devices, reserved, replicas):
    monkeypatch.delenv("WINNOW_HAPROXY_LIMITS", raising=False)
    plan = plan_serving("somewhere", ServeConfig(num_replicas=replicas, **devices), output=tmp_path)

    deployment = retriever_application(plan)._bound_deployment

    assert deployment.ray_actor_options["num_gpus"] == reserved
