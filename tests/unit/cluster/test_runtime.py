"""A Ray that cannot be joined or started is found out before Ray waits for it."""

import os
import tempfile
import time
from pathlib import Path

import pytest
import ray

from winnow.cluster.config import ClusterConfig
from winnow.cluster.runtime import ray_session
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
