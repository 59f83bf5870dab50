"""A Ray that cannot be joined or started is found out before Ray waits for it."""

import time

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
