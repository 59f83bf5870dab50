"""Ids and the log line: what is taken over, what is written, and above all what is not."""

import logging
import re

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from winnow.api.errors import Failures, install_error_handlers, refuse
from winnow.api.prometheus import PrometheusMetrics
from winnow.api.request_ids import REQUEST_ID, RequestIds

SECRET = "my secret question"


def an_app(metrics=None, *, log_queries=False):
    app = FastAPI()
    install_error_handlers(app)

    @app.post("/v1/search/{name}")
    async def search(name: str, request: Request):
        request.state.queries = [SECRET, "forged\nline \ud800"]
        return {"seen": [request.state.request_id, REQUEST_ID.get()]}

    @app.get("/broken")
    async def broken():
        raise RuntimeError(SECRET)

    @app.get("/refused")
    async def refused():
        raise refuse(503, "later")

    app.add_middleware(Failures)
    app.add_middleware(RequestIds, metrics=metrics or PrometheusMetrics(), log_queries=log_queries)
    return app


@pytest.fixture
def http():
    return TestClient(an_app(), raise_server_exceptions=False, base_url="http://localhost")


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "winnow.api"]


@pytest.mark.parametrize("request_id", ["a", "A-b_c.9", "x" * 128])
def test_an_id_is_taken_over_and_given_back(http, request_id):
    reply = http.post("/v1/search/a", headers={"X-Request-ID": request_id})

    assert reply.headers.get_list("x-request-id") == [request_id]
    assert reply.json()["seen"] == [request_id, request_id]


@pytest.mark.parametrize(
    "request_id", [b"", b"x" * 129, b"a b", b"a\tb", b"<script>", b"a\xc3\xa9", b"a;b", b"a,b", b"%0d%0a", b"\xff"]
)
def test_any_other_id_is_replaced_and_repeated_nowhere(http, request_id, caplog):
    with caplog.at_level(logging.INFO):
        reply = http.get("/nowhere", headers={"X-Request-ID": request_id})

    assert re.fullmatch("[0-9a-f]{16}", reply.headers["x-request-id"])
    assert reply.json()["error"]["request_id"] == reply.headers["x-request-id"]
    assert lines(caplog)[0].startswith(reply.headers["x-request-id"])


def test_every_request_gets_its_own_id(http):
    assert len({http.get("/nowhere").headers["x-request-id"] for _ in range(50)}) == 50


@pytest.mark.parametrize(("address", "status"), [("/nowhere", 404), ("/broken", 500), ("/refused", 503)])
def test_an_error_has_the_id_in_its_header_and_in_its_body(http, address, status):
    reply = http.get(address, headers={"X-Request-ID": "r-1"})

    assert (reply.status_code, reply.headers["x-request-id"]) == (status, "r-1")
    assert reply.json()["error"]["request_id"] == "r-1"


def test_a_line_names_the_route_but_neither_path_nor_question(http, caplog):
    with caplog.at_level(logging.INFO):
        http.post("/v1/search/alice", params={"q": SECRET}, headers={"X-Request-ID": "r-1"}, content=SECRET)
        http.get("/etc/passwd", headers={"X-Request-ID": "r-2"})

    first, second = lines(caplog)
    assert re.fullmatch(r"r-1 POST /v1/search/\{name\} 200 \d+\.\d ms key=-", first)
    assert re.fullmatch(r"r-2 GET - 404 \d+\.\d ms key=-", second)


def test_questions_are_logged_only_when_that_is_switched_on_and_stay_on_their_line(caplog):
    http = TestClient(an_app(log_queries=True), base_url="http://localhost")

    with caplog.at_level(logging.INFO):
        http.post("/v1/search/a")

    (line,) = lines(caplog)
    assert line.endswith(r'queries=["my secret question", "forged\nline \ud800"]')
    assert len(line.splitlines()) == 1


def test_a_failure_is_logged_with_its_place_but_without_its_text(http, caplog):
    with caplog.at_level(logging.DEBUG):
        http.get("/broken", headers={"X-Request-ID": "r-1"})

    failure, line = lines(caplog)
    assert failure.startswith("request r-1 failed with RuntimeError")
    assert "in broken" in failure
    assert line.startswith("r-1 GET /broken 500")
    assert f'"{SECRET}"' not in caplog.text
    assert f"RuntimeError: {SECRET}" not in caplog.text


def test_time_and_errors_are_counted_by_route_status_and_type():
    metrics = PrometheusMetrics()
    http = TestClient(an_app(metrics), raise_server_exceptions=False, base_url="http://localhost")

    http.post("/v1/search/alice")
    http.get("/refused")
    http.get("/nowhere")

    counted = metrics.render().decode()
    assert 'winnow_request_seconds_count{route="/v1/search/{name}",status="200"} 1.0' in counted
    assert 'winnow_request_seconds_count{route="/refused",status="503"} 1.0' in counted
    assert 'winnow_errors_total{type="overloaded"} 1.0' in counted
    assert 'winnow_errors_total{type="not_found"} 1.0' in counted
    assert "alice" not in counted
