"""Every refusal is JSON of one shape, names the field, and repeats little of what came in, escaped."""

import json

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict

from winnow.api.access import LocalAccess
from winnow.api.bodies import read_body
from winnow.api.config import ApiConfig
from winnow.api.errors import describe_errors, refuse
from winnow.api.guard import install_guard
from winnow.api.prometheus import PrometheusMetrics
from winnow.api.protocol import NotReadyError, SwapBusyError, SwapRefusedError
from winnow.errors import DataError, IndexMismatchError


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    queries: list[str]
    k: int = 10


def an_app():
    app = FastAPI()

    @app.post("/v1/search", responses=describe_errors(422, 503))
    async def search(request: Request):
        return {"num_queries": len((await read_body(request, Body)).queries)}

    @app.get("/v1/admin/version")
    async def describe():
        return {}

    @app.post("/v1/admin/version")
    async def swap():
        return {}

    @app.get("/raise")
    async def fail():
        raise app.state.error

    install_guard(app, ApiConfig(), LocalAccess(None), PrometheusMetrics())
    return app


@pytest.fixture(scope="module")
def http():
    return TestClient(an_app(), raise_server_exceptions=False, base_url="http://localhost")


def post(http, body, content_type="application/json"):
    return http.post("/v1/search", content=body, headers={"content-type": content_type})


def error_of(reply):
    error = reply.json()["error"]
    assert set(error) == {"type", "message", "request_id"}
    return reply.status_code, error["type"], error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b'{"queries": ["\xff"]}',
        b'{"queries": ["\xed\xa0\x80"]}',
        b'{"queries": ["a"]} trailing',
        b"[" * 100_000,
        b'{"queries":' * 50_000,
        b'{"queries": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"queries": ["a"], "k": NaN}',
        b'{"queries": ["a"], "k": -Infinity}',
        b'{"queries": ["\\ud800"]}',
        b'{"queries": ["a"], "queries": ["b"]}',
        b"\x00",
        b"\xef\xbb\xbf{}",
        '{"queries": ["a"]}'.encode("utf-16"),
        b"'queries'",
    ],
    ids=lambda body: ascii(body[:30]),
)
def test_what_is_no_json_is_refused_as_such(http, body):
    status, type_, message = error_of(post(http, body))

    assert (status, type_) == (400, "invalid_json")
    assert len(message) < 300


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "the body is missing"),
        (b"null", "the body"),
        (b"[]", "the body"),
        (b'"text"', "the body"),
        (b"{}", "queries is missing"),
        (b'{"queries": "a"}', "queries: "),
        (b'{"queries": {"a": 1}}', "queries: "),
        (b'{"queries": [1]}', "queries.0: "),
        (b'{"queries": [null]}', "queries.0: "),
        (b'{"queries": ["a"], "k": "5"}', "k: "),
        (b'{"queries": ["a"], "k": true}', "k: "),
        (b'{"queries": ["a"], "k": 1.5}', "k: "),
        (b'{"queries": ["a"], "k": 1e400}', "k: "),
        (b'{"queries": ["a"], "k": [[[[[]]]]]}', "k: "),
        (b'{"queries": ["a"], "top_k": 5}', "top_k is not a known field"),
        (b'{"queries": ["a"], "\\u202e<script>": 5}', r"\u202e<script> is not a known field"),
        (b'{"queries": ["a"], "__proto__": {}}', "__proto__ is not a known field"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_is_json_but_not_the_right_one_is_refused_by_field(http, body, expected):
    status, type_, message = error_of(post(http, body))

    assert (status, type_) == (422, "invalid_request")
    assert message.startswith(expected)


@pytest.mark.parametrize(
    "body",
    [
        {"queries": 1, "k": "x" * 900_000},
        {"queries": ["a"], "x" * 900_000: 1},
        {"queries": ["a"], "\n\r\x1b[31m" * 100: 1},
        {"queries": ["a"], "k": "\u2028\x00" * 1000},
        {"queries": [{"deep": ["y" * 900_000]}]},
        {"queries": list(range(50_000))},
        {"queries": ["a"], **{f"field{number}": number for number in range(5_000)}},
    ],
    ids=["value", "field", "escapes", "separators", "inside", "many values", "many fields"],
)
def test_no_message_repeats_more_than_a_little_of_the_request(http, body):
    status, _, message = error_of(post(http, json.dumps(body).encode()))

    assert status == 422
    assert len(message) < 600
    assert message.isprintable()
    assert "x" * 81 not in message
    assert "y" * 81 not in message


def test_a_huge_number_is_refused_and_not_printed(http):
    status, _, message = error_of(post(http, b'{"queries": ["a"], "k": "' + b"9" * 4000 + b'"}'))
    big_status, _, big_message = error_of(post(http, b'{"queries": [' + b"9" * 4000 + b"]}"))

    assert (status, big_status) == (422, 422)
    assert "9" * 81 not in message + big_message


def test_many_problems_are_counted_not_listed(http):
    _, _, message = error_of(post(http, b'{"queries": [1, 2, 3, 4, 5]}'))

    assert message.count("queries.") == 3
    assert message.endswith("and 2 more")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded", "x"]
)
def test_another_content_type_is_refused(http, content_type):
    status, type_, message = error_of(post(http, b'{"queries": ["a"]}', content_type))

    assert (status, type_) == (422, "invalid_request")
    assert "application/json" in message


@pytest.mark.parametrize(
    "address",
    ["/", "/v2/search", "/v1/search/", "/v1//search", "/%2e%2e/etc/passwd", "/<script>", "/v1/search%0d%0aa: b"],
)
def test_an_unknown_path_lists_the_right_ones_and_repeats_nothing(http, address):
    reply = http.post(address, follow_redirects=False)

    status, type_, message = error_of(reply)
    assert (status, type_) == (404, "not_found")
    assert "POST /v1/search" in message
    assert "GET /v1/admin/version" in message
    assert not any(part in reply.text + str(reply.headers) for part in ("passwd", "script", "a: b"))


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("GET", "/v1/search", "POST"),
        ("DELETE", "/v1/admin/version", "GET, POST"),
        ("OPTIONS", "/v1/search", "POST"),
        ("TRACE", "/v1/search", "POST"),
        ("FOO", "/v1/search", "POST"),
    ],
)
def test_a_wrong_method_says_which_are_right(http, method, address, allowed):
    reply = http.request(method, address)

    status, type_, message = error_of(reply)
    assert (status, type_, reply.headers["allow"]) == (405, "method_not_allowed", allowed)
    assert message.endswith(f"expected {allowed}")


@pytest.mark.parametrize(
    ("error", "status", "type_", "retry_after"),
    [
        (DataError("mode='bm25' is not stored"), 422, "invalid_request", None),
        (NotReadyError("loading"), 503, "overloaded", "1"),
        (SwapBusyError("another swap"), 503, "overloaded", "5"),
        (SwapRefusedError("broken"), 424, "dependency_failed", None),
        (refuse(404, "no generator"), 404, "not_found", None),
        (refuse(429, "slow down", headers={"Retry-After": "7"}), 429, "rate_limited", "7"),
        (refuse(418, "teapot"), 418, "invalid_request", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_errors_of_what_is_behind_have_their_answer(http, error, status, type_, retry_after):
    http.app.state.error = error

    reply = http.get("/raise")

    assert error_of(reply) == (status, type_, str(getattr(error, "detail", error)))
    assert reply.headers.get("retry-after") == retry_after


@pytest.mark.parametrize(
    "error",
    [
        IndexMismatchError("secret"),
        RuntimeError("secret"),
        RecursionError("secret"),
        MemoryError("secret"),
        UnicodeDecodeError("utf-8", b"secret", 0, 1, "secret"),
        ExceptionGroup("secret", [ValueError("secret")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_inside_is_told_without_its_details(http, error, caplog):
    http.app.state.error = error

    reply = http.get("/raise")

    assert error_of(reply)[:2] == (500, "internal")
    assert type(error).__name__ in reply.text
    assert "secret" not in reply.text
    assert '"secret"' not in caplog.text


def test_a_message_that_json_cannot_carry_is_still_answered(http):
    http.app.state.error = DataError("field '\ud800' " + "x" * 10_000)

    status, _, message = error_of(http.get("/raise"))

    assert status == 422
    assert message.startswith(r"field '\ud800' xxx")
    assert len(message) < 1100


def test_the_description_has_the_error_answers_that_were_asked_for(http):
    responses = http.get("/openapi.json").json()["paths"]["/v1/search"]["post"]["responses"]

    assert {"422", "503"} <= set(responses)
    assert responses["503"]["description"] == "overloaded"
