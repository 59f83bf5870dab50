"""Ports: free, taken, and what to do about it."""

import socket

import pytest

from winnow.api.ports import bind_port, check_port, is_listening
from winnow.errors import ConfigError


@pytest.fixture
def taken():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_taken_port_is_refused_with_another_one_to_choose(taken):
    with pytest.raises(ConfigError, match=rf"port {taken} on 127.0.0.1 cannot be used .*--set serve.port=\d+"):
        check_port("127.0.0.1", taken)
    assert is_listening("127.0.0.1", taken)


def test_a_free_port_stays_free_after_the_check():
    with bind_port("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]

    check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)

    assert not is_listening("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(ConfigError, match="cannot be used"):
        check_port("192.0.2.1", 8000)
