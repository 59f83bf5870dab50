"""The application in one process: up in moments, swapped over HTTP, gone after SIGTERM without a lost request."""

import asyncio
import json
import os
import shutil
import signal
import socket
import threading
import time

import httpx
import pytest
from fakes import MovableAlias
from tiny_versions import PASSAGES, write_tiny_version

from winnow.api.config import ApiConfig, ServeConfig
from winnow.api.keys import create_key
from winnow.api.ports import bind_port
from winnow.api.prometheus import PrometheusMetrics
from winnow.api.protocol import SwapBusyError, SwapRefusedError
from winnow.errors import ConfigError, DataError
from winnow.retrieval.manifest import read_manifest
from winnow.retrieval.reference import Directories, Located
from winnow.serving import claims
from winnow.serving.service import RetrieverService
from winnow.serving.standalone import LocalVersions, serve_alone


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return write_tiny_version(tmp_path_factory.mktemp("first") / "v")


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    return write_tiny_version(tmp_path_factory.mktemp("second") / "v", PASSAGES[::-1])


@pytest.fixture
def port():
    with bind_port("127.0.0.1", 0) as bound:
        return bound.getsockname()[1]


def served(config, reference, visit, *, stop_with=signal.SIGTERM, source=Directories(), claim=None):
    """What ``visit`` returns, called with the URL beside a server that is stopped by a signal afterwards, if by any."""
    outcome = []

    def go():
        try:
            outcome.append(visit(f"http://127.0.0.1:{config.port}"))
        except BaseException as error:
            outcome.append(error)
        finally:
            if stop_with is not None:
                os.kill(os.getpid(), stop_with)

    visitor = threading.Thread(target=go)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    serve_alone(config, reference=str(reference), source=source, claim=claim, on_ready=visitor.start)
    visitor.join(10)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


@pytest.mark.parametrize("stop_with", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_until_it_is_told_to_stop_and_its_port_is_free_then(first, port, stop_with):
    def visit(url):
        with httpx.Client(base_url=url) as http:
            found = http.post("/v1/search", json={"query": "a bridge made of stone", "k": 1}).json()
            ready = http.get("/ready").status_code
            metrics = http.get("/metrics").text
            admin = http.post("/v1/admin/version", json={"retriever": str(first)}).status_code
        return found, ready, metrics, admin

    found, ready, metrics, admin = served(ServeConfig(port=port), first, visit, stop_with=stop_with)

    assert found["results"][0][0]["passage_id"] == "bridge"
    assert found["version"] == read_manifest(first).version
    assert ready == 200
    assert 'winnow_stage_seconds_count{stage="encode"}' in metrics
    assert admin == 403
    bind_port("127.0.0.1", port).close()


def test_a_key_may_swap_the_version_over_http_and_back(first, second, port, tmp_path):
    keys = tmp_path / "keys.json"
    token = create_key(keys, name="ops", scopes=["admin"])

    def visit(url):
        with httpx.Client(base_url=url, headers={"X-API-Key": token}) as http:
            there = http.post("/v1/admin/version", json={"retriever": str(second)})
            found = http.post("/v1/search", json={"query": "stone bridge", "k": 1}).json()
            wrong = http.post("/v1/admin/version", json={"retriever": str(tmp_path)})
            back = http.post("/v1/admin/version", json={"retriever": str(first)})
        return there, found, wrong, back, httpx.post(f"{url}/v1/search", json={"query": "otter"}).status_code

    there, found, wrong, back, stranger = served(ServeConfig(port=port, keys=keys), first, visit)

    versions = read_manifest(first).version, read_manifest(second).version
    assert (there.json()["previous"], there.json()["version"]) == versions
    assert found["version"] == versions[1]
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (424, "dependency_failed")
    assert (back.json()["previous"], back.json()["version"]) == versions[::-1]
    assert stranger == 401


def test_what_is_served_was_served_before_and_is_wanted_is_claimed_and_again_and_again(
    first, second, port, tmp_path, monkeypatch
):
    monkeypatch.setattr(claims, "_RENEW_EVERY_S", 0.01)
    keys, path = tmp_path / "keys.json", tmp_path / "claim-alone.json"
    token = create_key(keys, name="ops", scopes=["admin"])
    an_hour_ago = round(time.time()) - 3600

    def visit(url):
        before = wait_for(path, lambda said: said.get("serves"))
        os.utime(path, (an_hour_ago, an_hour_ago))
        httpx.post(f"{url}/v1/admin/version", json={"retriever": str(second)}, headers={"X-API-Key": token}, timeout=20)
        after = wait_for(path, lambda said: said["before"] is not None)
        os.utime(path, (an_hour_ago, an_hour_ago))
        until = time.monotonic() + 20
        while path.stat().st_mtime == an_hour_ago and time.monotonic() < until:
            time.sleep(0.01)
        return before, after, path.stat().st_mtime

    config, claim = ServeConfig(port=port, keys=keys), claims.Claim(tmp_path, "alone")
    before, after, renewed = served(config, first, visit, claim=claim)

    one, two = read_manifest(first).version, read_manifest(second).version
    assert before == {"wants": [], "serves": one, "before": None}
    assert after == {"wants": [], "serves": two, "before": one}
    assert renewed > an_hour_ago


def wait_for(path, is_so):
    """What the claim at ``path`` says, once it says so."""
    until = time.monotonic() + 20
    while not is_so(said := json.loads(path.read_text())) and time.monotonic() < until:
        time.sleep(0.01)
    return said


def test_a_moved_alias_is_served_without_being_asked(first, second, port):
    registry = MovableAlias({"1": first, "2": second})

    def visit(url):
        versions = [httpx.get(f"{url}/info").json()["version"]]
        registry.named = "2"
        until = time.monotonic() + 20
        while versions[-1] == versions[0] and time.monotonic() < until:
            time.sleep(0.05)
            versions.append(httpx.get(f"{url}/info").json()["version"])
        return versions[0], versions[-1]

    config = ServeConfig(port=port, follow_registry_s=0.05)
    before, after = served(config, "winnow@champion", visit, source=registry)

    assert (before, after) == (read_manifest(first).version, read_manifest(second).version)


def test_a_request_in_work_is_answered_although_the_stop_came(first, port):
    body = b'{"query": "stone bridge", "k": 1}'
    head = (
        "POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )

    def visit(_):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head.encode() + body[:10])
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)
            refused = socket.socket().connect_ex(("127.0.0.1", port))
            connection.sendall(body[10:])
            return refused, connection.makefile("rb").read()

    refused, answer = served(ServeConfig(port=port), first, visit, stop_with=None)

    assert refused != 0
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"bridge"' in answer


def test_a_request_that_does_not_end_is_given_up_after_the_drain(first, port):
    def visit(_):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)
            begun = time.monotonic()
            connection.settimeout(5)
            connection.makefile("rb").read()
            return time.monotonic() - begun

    assert 0.2 < served(ServeConfig(port=port, drain_s=0.3), first, visit, stop_with=None) < 3


def test_a_taken_port_is_refused_before_anything_is_loaded(tmp_path, port):
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()

        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 cannot be used"):
            serve_alone(ServeConfig(port=port), reference=str(tmp_path / "nowhere"))


def test_a_version_that_cannot_be_served_leaves_the_port_free(tmp_path, port):
    with pytest.raises(DataError, match="no retriever version"):
        serve_alone(ServeConfig(port=port), reference=str(tmp_path / "nowhere"))

    bind_port("127.0.0.1", port).close()


class Fetching(Directories):
    """A source that does as it is told."""

    def __init__(self, fetch):
        self.fetch = lambda reference: Located(fetch(reference))


def with_versions(first, act, *, fetch):
    async def run():
        service = RetrieverService(ApiConfig(), PrometheusMetrics())
        await service.start(first)
        try:
            return await act(LocalVersions(service, reference="a", located=Located(first), source=Fetching(fetch)))
        finally:
            await service.stop()

    return asyncio.run(run())


def test_a_swap_to_what_is_served_already_loads_nothing(first, tmp_path):
    manifest_only = tmp_path / "v"
    manifest_only.mkdir()
    shutil.copy(first / "manifest.json", manifest_only)

    async def act(versions):
        return await versions.swap("b"), await versions.describe()

    outcome, described = with_versions(first, act, fetch=lambda _: manifest_only)

    version = read_manifest(first).version
    assert (outcome.version, outcome.previous, outcome.replicas) == (version, version, 1)
    assert described == {
        "wanted": {"reference": "b", "directory": str(manifest_only), "notice": None},
        "replicas": {"local": version},
    }


@pytest.mark.parametrize("problem", [DataError("no such entry"), ConfigError("registry down"), OSError("disk")])
def test_a_reference_that_leads_nowhere_is_refused_and_says_what_is_still_served(first, problem):
    def fetch(_):
        raise problem

    async def act(versions):
        with pytest.raises(SwapRefusedError, match=rf"'model@gone' cannot be served, and \w+ still is: {problem}"):
            await versions.swap("model@gone")
        return await versions.describe()

    assert with_versions(first, act, fetch=fetch)["wanted"]["reference"] == "a"


def test_one_swap_at_a_time_and_a_caller_that_goes_away_does_not_stop_it(first, second):
    gate, entered = threading.Event(), threading.Event()

    def fetch(_):
        entered.set()
        assert gate.wait(10)
        return second

    async def act(versions):
        caller = asyncio.create_task(versions.swap("b"))
        await asyncio.to_thread(entered.wait, 10)
        with pytest.raises(SwapBusyError):
            await versions.swap("c")
        caller.cancel()
        gate.set()
        while (described := await versions.describe())["wanted"]["reference"] != "b":
            await asyncio.sleep(0.01)
        return described

    described = with_versions(first, act, fetch=fetch)

    assert described["replicas"] == {"local": read_manifest(second).version}
