"""The HTTP application as a whole over a small in-memory search, called without a network."""

import asyncio
import json

import httpx
import pytest
from fakes import OverlapSearcher
from fastapi.testclient import TestClient

from winnow.api.access import LocalAccess
from winnow.api.app import build_app
from winnow.api.config import ApiConfig
from winnow.api.prometheus import PrometheusMetrics
from winnow.records import Passage

PASSAGES = [Passage("sort", "sort a list in place", title="list.sort")]
POSTS = {"/v1/search", "/v1/embeddings", "/v1/answer", "/v1/admin/version"}


@pytest.fixture
def searcher():
    return OverlapSearcher(PASSAGES)


def build(searcher, config=ApiConfig()):
    return build_app(searcher, config, access=LocalAccess(None), versions=None, metrics=PrometheusMetrics())


@pytest.fixture
def http(searcher):
    return TestClient(build(searcher), base_url="http://localhost", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def description():
    return TestClient(build(OverlapSearcher([])), base_url="http://localhost").get("/openapi.json").json()


def test_the_description_lists_every_path(description):
    assert description["openapi"].startswith("3.")
    assert set(description["paths"]) == POSTS | {"/health", "/ready", "/info", "/metrics"}


@pytest.mark.parametrize("path", sorted(POSTS))
def test_the_description_has_body_answer_and_errors_of_each_path(description, path):
    operation = description["paths"][path]["post"]

    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert body["additionalProperties"] is False
    assert all("description" in field or "anyOf" in field or "type" in field for field in body["properties"].values())
    assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("Response")
    assert {"400", "401", "403", "408", "413", "422", "429", "500", "503"} <= set(operation["responses"])


def test_every_reference_in_the_description_leads_somewhere(description):
    def references(node):
        if isinstance(node, dict):
            yield from ([node["$ref"]] if "$ref" in node else [])
            node = list(node.values())
        for child in node if isinstance(node, list) else ():
            yield from references(child)

    known = {f"#/components/schemas/{name}" for name in description["components"]["schemas"]}

    assert set(references(description)) <= known
    assert len(known) > 10


def test_the_description_says_how_to_show_a_key(description):
    schemes = description["components"]["securitySchemes"]
    secured = {path for path, methods in description["paths"].items() if "security" in next(iter(methods.values()))}

    assert [(scheme["type"], scheme["scheme"]) for scheme in schemes.values()] == [("http", "bearer")]
    assert secured == POSTS | {"/info", "/metrics"}


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/oauth2-redirect", "/static/x.js"])
def test_there_are_no_pages_that_load_scripts(http, path):
    assert http.get(path).status_code == 404


def test_an_unknown_path_is_not_found_and_says_which_there_are(http):
    reply = http.post("/v2/search", json={"queries": ["sort"]})

    assert (reply.status_code, reply.json()["error"]["type"]) == (404, "not_found")
    assert "POST /v1/search" in reply.json()["error"]["message"]


def test_a_path_with_a_slash_too_many_is_not_found_and_leads_nowhere(http):
    reply = http.post("/v1/search/", json={"query": "sort"}, follow_redirects=False)

    assert reply.status_code == 404


@pytest.mark.parametrize(("path", "allowed"), [("/v1/search", "POST"), ("/v1/admin/version", "GET, POST")])
def test_a_wrong_method_says_which_one_is_right(http, path, allowed):
    reply = http.put(path)

    assert (reply.status_code, reply.json()["error"]["type"]) == (405, "method_not_allowed")
    assert reply.headers["allow"] == allowed


@pytest.mark.parametrize("path", sorted(POSTS))
def test_a_web_page_of_another_host_is_not_let_in(http, path):
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}

    preflight = http.options(path, headers=asked)
    plain = http.post(path, json={"query": "sort"}, headers=asked)

    for reply in (preflight, plain):
        assert not [name for name in reply.headers if name.startswith("access-control-")]
    assert preflight.status_code == 405


@pytest.mark.parametrize("path", sorted(POSTS - {"/v1/admin/version", "/v1/answer"}))
@pytest.mark.parametrize("declares_length", [True, False])
def test_a_body_over_the_limit_is_refused_everywhere(searcher, path, declares_length):
    http = TestClient(build(searcher, ApiConfig(max_body_bytes=200)), base_url="http://localhost")
    body = json.dumps({"queries": ["x" * 300]}).encode()
    content = body if declares_length else iter([body[:150], body[150:]])

    reply = http.post(path, content=content, headers={"content-type": "application/json"})

    assert (reply.status_code, reply.json()["error"]["type"]) == (413, "body_too_large")


def test_every_answer_carries_the_id_of_its_request(http):
    named = http.post("/v1/search", json={"query": ""}, headers={"x-request-id": "ask-7"})
    unnamed = http.post("/v1/search", json={"query": "sort"})

    assert named.headers["x-request-id"] == named.json()["error"]["request_id"] == "ask-7"
    assert unnamed.headers["x-request-id"]


@pytest.mark.parametrize(("is_on", "count"), [(False, 0), (True, 1)])
def test_queries_are_in_the_log_only_if_that_is_switched_on(searcher, caplog, is_on, count):
    caplog.set_level("INFO", logger="winnow.api")

    app = build(searcher, ApiConfig(log_requests=True, log_queries=is_on))
    TestClient(app, base_url="http://localhost").post("/v1/search", json={"query": "private matter"})

    assert sum("private matter" in line for line in caplog.messages) == count
    assert any("/v1/search 200" in line for line in caplog.messages)


def test_more_than_the_pending_limit_is_refused_at_once_and_the_place_is_free_afterwards(searcher):
    app = build(searcher, ApiConfig(max_pending=1))
    body = {"queries": ["sort"]}

    async def flood():
        searcher.pause = asyncio.Event()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            both = [asyncio.create_task(http.post("/v1/search", json=body)) for _ in range(2)]
            done, waiting = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            searcher.pause.set()
            return done.pop().result(), await waiting.pop(), await http.post("/v1/search", json=body)

    refused, answered, later = asyncio.run(asyncio.wait_for(flood(), timeout=20))

    assert (refused.status_code, refused.json()["error"]["type"]) == (503, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert (answered.status_code, later.status_code) == (200, 200)


def test_a_search_that_takes_too_long_is_given_up(searcher):
    app = build(searcher, ApiConfig(request_timeout_s=0.05))

    async def ask():
        searcher.pause = asyncio.Event()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            return await http.post("/v1/search", json={"query": "sort"})

    reply = asyncio.run(asyncio.wait_for(ask(), timeout=20))

    assert (reply.status_code, reply.json()["error"]["type"]) == (408, "timeout")
