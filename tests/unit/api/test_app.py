"""The HTTP application over a small in-memory search, called without a network."""

import asyncio
import json

import httpx
import pytest
from fakes import OverlapSearcher
from fastapi.testclient import TestClient

from winnow.api.app import build_app
from winnow.api.config import ApiConfig
from winnow.records import Passage

PASSAGES = [
    Passage("copy", "copy a file to another place", title="shutil.copy"),
    Passage("sort", "sort a list in place", title="list.sort"),
]


@pytest.fixture
def searcher():
    return OverlapSearcher(PASSAGES)


@pytest.fixture
def http(searcher):
    return TestClient(build_app(searcher), raise_server_exceptions=False)


def test_search_answers_each_query_in_order_and_names_the_version(http):
    reply = http.post("/v1/search", json={"queries": ["sort my list", "copy my file"], "k": 1})

    assert reply.status_code == 200
    assert reply.json() == {
        "results": [
            [{"passage_id": "sort", "score": 2.0, "title": "list.sort", "text": "sort a list in place"}],
            [{"passage_id": "copy", "score": 2.0, "title": "shutil.copy", "text": "copy a file to another place"}],
        ],
        "version": "v1",
    }


def test_k_beyond_the_corpus_gives_what_there_is(http):
    reply = http.post("/v1/search", json={"queries": ["sort"], "k": 1000})

    assert [hit["passage_id"] for hit in reply.json()["results"][0]] == ["sort", "copy"]


def test_health_and_info_answer(http):
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/info").json() == {
        "version": "v1",
        "retriever": {"version": "v1", "count": 2},
        "limits": {"max_queries": 64, "max_k": 1000, "max_query_chars": 4000, "max_body_bytes": 1_000_000},
    }


def test_the_openapi_description_lists_the_error_types(http):
    description = http.get("/openapi.json").json()

    assert set(description["paths"]) == {"/v1/search", "/health", "/info"}
    assert {"400", "413", "422", "503"} <= set(description["paths"]["/v1/search"]["post"]["responses"])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"k": 3}, "queries is missing"),
        ({"queries": []}, "queries: List should have at least 1 item"),
        ({"queries": "sort"}, "queries: Input should be a valid list"),
        ({"queries": [7]}, "queries.0: Input should be a valid string"),
        ({"queries": ["sort", " \n"]}, "queries.1 is empty"),
        ({"queries": [""]}, "queries.0 is empty"),
        ({"queries": ["x" * 4001]}, "queries.0 has 4001 characters, at most 4000"),
        ({"queries": ["x"] * 65}, "65 in one request, at most 64"),
        ({"queries": ["sort"], "k": 0}, "k: Input should be greater than or equal to 1, got 0"),
        ({"queries": ["sort"], "k": 10**9}, "k: 1000000000 is more than the 1000 passages"),
        ({"queries": ["sort"], "k": "5"}, "k: Input should be a valid integer"),
        ({"queries": ["sort"], "k": True}, "k: Input should be a valid integer"),
        ({"queries": ["sort"], "top_k": 5}, "top_k is not a known field; expected queries and k"),
        (["sort"], "the body: "),
    ],
)
def test_a_request_that_breaks_a_rule_is_refused_with_the_rule(http, body, expected):
    reply = http.post("/v1/search", json=body)

    assert reply.status_code == 422
    assert reply.json()["error"]["type"] == "invalid_request"
    assert expected in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"queries": ["\xff\xfe"]}', b'{"queries": ["sort"]} trailing', b"[" * 100_000],
    ids=["cut", "invalid UTF-8", "trailing", "too deep"],
)
def test_a_body_that_is_not_json_is_refused(http, body):
    reply = http.post("/v1/search", content=body, headers={"content-type": "application/json"})

    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_json")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_an_empty_body_is_refused(http, content_type):
    reply = http.post("/v1/search", content=b"", headers={"content-type": content_type})

    assert (reply.status_code, reply.json()["error"]["type"]) == (422, "invalid_request")
    assert reply.json()["error"]["message"] == "the body is missing"


def test_a_lone_surrogate_is_refused_and_not_echoed(http):
    body = b'{"queries": ["\\ud800"], "\\udfff": 1}'

    reply = http.post("/v1/search", content=body, headers={"content-type": "application/json"})

    assert reply.status_code == 422
    assert reply.json()["error"]["type"] == "invalid_request"


def test_an_unknown_path_is_not_found(http):
    reply = http.post("/v2/search", json={"queries": ["sort"]})

    assert (reply.status_code, reply.json()["error"]["type"]) == (404, "not_found")
    assert "POST /v1/search" in reply.json()["error"]["message"]


def test_a_wrong_method_says_which_one_is_right(http):
    reply = http.get("/v1/search")

    assert (reply.status_code, reply.json()["error"]["type"]) == (405, "method_not_allowed")
    assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize("declares_length", [True, False])
def test_a_body_over_the_limit_is_refused(searcher, declares_length):
    http = TestClient(build_app(searcher, ApiConfig(max_body_bytes=200)))
    body = json.dumps({"queries": ["x" * 300]}).encode()
    content = body if declares_length else iter([body[:150], body[150:]])

    reply = http.post("/v1/search", content=content, headers={"content-type": "application/json"})

    assert (reply.status_code, reply.json()["error"]["type"]) == (413, "body_too_large")


def test_a_failure_inside_is_told_without_its_details():
    class BrokenSearcher(OverlapSearcher):
        async def search(self, queries, k):
            raise RuntimeError("secret path /srv/index")

    http = TestClient(build_app(BrokenSearcher(PASSAGES)), raise_server_exceptions=False)

    reply = http.post("/v1/search", json={"queries": ["sort"]})

    assert (reply.status_code, reply.json()["error"]["type"]) == (500, "internal")
    assert "secret" not in reply.text


def test_more_than_the_pending_limit_is_refused_at_once_and_the_place_is_free_afterwards(searcher):
    app = build_app(searcher, ApiConfig(max_pending=1))
    body = {"queries": ["sort"]}

    async def flood():
        searcher.pause = asyncio.Event()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            both = [asyncio.create_task(http.post("/v1/search", json=body)) for _ in range(2)]
            done, waiting = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            searcher.pause.set()
            return done.pop().result(), await waiting.pop(), await http.post("/v1/search", json=body)

    refused, answered, later = asyncio.run(asyncio.wait_for(flood(), timeout=20))

    assert (refused.status_code, refused.json()["error"]["type"]) == (503, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert (answered.status_code, later.status_code) == (200, 200)
