"""What the serve section refuses."""

import pytest

from winnow.api.config import ServeConfig
from winnow.config import build_config
from winnow.errors import ConfigError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.1.1", "localhost", "::1"])
def test_loopback_hosts_are_accepted(host):
    assert build_config(ServeConfig, {"host": host}).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "retriever.example.org", ""])
def test_a_host_beyond_loopback_is_refused(host):
    with pytest.raises(ConfigError, match=r"host: .*loopback"):
        build_config(ServeConfig, {"host": host})


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_port_that_does_not_exist_is_refused(port):
    with pytest.raises(ConfigError, match="port"):
        build_config(ServeConfig, {"port": port})


def test_a_request_larger_than_a_batch_is_refused_with_the_two_ways_out():
    with pytest.raises(ConfigError, match="raise max_batch_queries or lower max_queries"):
        build_config(ServeConfig, {"max_queries": 100, "max_batch_queries": 64})
