"""Ports of this machine: free or taken."""

import os
import socket
from contextlib import closing

from winnow.errors import ConfigError


def bind_port(host: str, port: int) -> socket.socket:
    """A socket bound to ``port`` on ``host`` that does not listen yet. Raises ``ConfigError`` if the port is taken."""
    bound = socket.socket(_family(host))
    # A port whose last connections are still closing is free to a server.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"port {port} on {host} cannot be used ({os.strerror(error.errno or 0)}); "
            f"stop what listens there, or choose another with --set serve.port={_free_port()}"
        ) from error
    return bound


def check_port(host: str, port: int) -> None:
    """Returns if ``port`` is free on ``host``; raises ``ConfigError`` if it is not."""
    bind_port(host, port).close()


def is_listening(host: str, port: int) -> bool:
    """Whether something answers at ``port`` on ``host``."""
    with closing(socket.socket(_family(host))) as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
