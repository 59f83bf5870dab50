"""What the serve section refuses."""

from pathlib import Path

import pytest

from winnow.api.config import ServeConfig
from winnow.config import build_config
from winnow.errors import ConfigError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.1.1", "localhost", "::1"])
def test_loopback_hosts_need_no_keys(host):
    assert build_config(ServeConfig, {"host": host}).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "retriever.example.org", ""])
def test_a_host_beyond_loopback_needs_keys(host):
    with pytest.raises(ConfigError, match=r"make one with `winnow keys create`"):
        build_config(ServeConfig, {"host": host})

    assert build_config(ServeConfig, {"host": host, "keys": "keys.json"}, base=Path("/etc")).host == host


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_port_that_does_not_exist_is_refused(port):
    with pytest.raises(ConfigError, match="port"):
        build_config(ServeConfig, {"port": port})


@pytest.mark.parametrize(("asked", "expected"), [(3, (3, 3)), ([1, 4], (1, 4)), ([2, 2], (2, 2))])
def test_replicas_are_a_number_or_a_range(asked, expected):
    assert build_config(ServeConfig, {"num_replicas": asked}).replica_range == expected


@pytest.mark.parametrize("asked", [0, -1, [0, 2], [3, 2], [1, 2, 3], [1], "two"])
def test_a_range_of_replicas_that_holds_nothing_is_refused(asked):
    with pytest.raises(ConfigError, match="num_replicas"):
        build_config(ServeConfig, {"num_replicas": asked})


@pytest.mark.parametrize(
    "settings",
    [
        {"max_k": 0},
        {"max_queries": 0},
        {"request_timeout_s": 0},
        {"max_pending": 0},
        {"cache_queries": -1},
        {"rate_per_minute": 0},
        {"encoder_runtime": "tensorrt"},
        {"device": "tpu"},
        {"generator": {"kind": "vllm", "model": "package:llm"}},
        {"generator": {"kind": "server", "model": "m", "base_url": "http://user:secret@host/v1"}},
        {"cors": "*"},
    ],
)
def test_a_setting_that_cannot_work_is_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        build_config(ServeConfig, settings)
