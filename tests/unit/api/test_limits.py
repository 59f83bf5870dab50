"""Limits against hostile and unlucky clients: large, slow, gone, and too many."""

import asyncio
import json
import logging

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient

from winnow.api.access import LocalAccess
from winnow.api.config import ApiConfig
from winnow.api.guard import install_guard
from winnow.api.limits import lift_deadline
from winnow.api.prometheus import PrometheusMetrics

GONE = {"type": "http.disconnect"}


def part(body, *, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


class Served:
    """A small application behind the guard, and what happened in it."""

    def __init__(self, *, behind_serve=False, **settings):
        self.hold = asyncio.Event()
        self.events = []
        self.metrics = PrometheusMetrics()
        self.app = FastAPI()
        self.app.post("/v1/search")(self.search)
        self.app.post("/v1/admin/version")(self.swap)
        self.app.post("/stream")(self.stream)
        self.app.get("/health")(self.health)
        install_guard(self.app, ApiConfig(**settings), LocalAccess(None), self.metrics, behind_serve=behind_serve)

    async def search(self, request: Request):
        body = await request.body()
        self.events.append("began")
        try:
            await self.hold.wait()
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise
        return {"size": len(body)}

    async def swap(self, request: Request):
        await request.body()
        lift_deadline(request)
        await self.hold.wait()
        return {}

    async def stream(self, request: Request):
        await request.body()
        return _Halting(self.hold)

    async def health(self):
        return {}

    @property
    def pending(self):
        (line,) = [line for line in self.metrics.render().decode().splitlines() if line.startswith("winnow_pending")]
        return float(line.split()[-1])

    async def ask(self, *parts, path="/v1/search", headers=(), delay_s=0.0):
        """The messages that the application sends for a request whose body comes as ``parts``."""
        sent, coming = [], list(parts)

        async def receive():
            if not coming:
                await asyncio.Event().wait()
            await asyncio.sleep(delay_s)
            return coming.pop(0)

        async def send(message):
            sent.append(message)

        method = "GET" if path == "/health" else "POST"
        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": list(headers)}
        await self.app(scope, receive, send)
        return sent


class _Halting(Response):
    """An answer that stops in the middle until ``hold`` is set."""

    def __init__(self, hold):
        super().__init__()
        self._hold = hold

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self._hold.wait()
        await send({"type": "http.response.body", "body": b"done"})


def status_of(sent):
    return sent[0]["status"]


def error_of(sent):
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1
    body = json.loads(b"".join(message.get("body", b"") for message in sent))
    return starts[0]["status"], body["error"]["type"]


def header_of(sent, name):
    return dict(sent[0]["headers"]).get(name)


def test_a_body_up_to_the_limit_is_read():
    served = Served(max_body_bytes=100)
    served.hold.set()

    sent = asyncio.run(served.ask(part(b"x" * 60, more=True), part(b"x" * 40)))

    assert status_of(sent) == 200


@pytest.mark.parametrize(
    "parts", [[part(b"x" * 101)], [part(b"x" * 60, more=True), part(b"x" * 41, more=True)], [part(b"x" * 10**6)]]
)
@pytest.mark.parametrize("declared", [None, b"5", b"0", b"-1", b"", "²".encode("latin-1"), b"1e9"])
def test_a_body_over_the_limit_is_refused_as_it_arrives_whatever_was_declared(parts, declared):
    served = Served(max_body_bytes=100)
    headers = [] if declared is None else [(b"content-length", declared)]

    sent = asyncio.run(served.ask(*parts, headers=headers))

    assert error_of(sent) == (413, "body_too_large")
    assert served.events == []


@pytest.mark.parametrize("declared", [b"101", b"9" * 5000])
def test_a_body_that_is_declared_too_long_is_refused_unread(declared):
    served = Served(max_body_bytes=100)

    # No part ever arrives, so that reading would never end.
    sent = asyncio.run(asyncio.wait_for(served.ask(headers=[(b"content-length", declared)]), timeout=5))

    assert error_of(sent) == (413, "body_too_large")


LARGE = [(b"content-length", b"20000")]


@pytest.mark.parametrize(
    ("parts", "headers", "settings", "closes"),
    [
        ([], LARGE, {"max_body_bytes": 10_000}, True),
        ([part(b"x" * 200, more=True)], [(b"transfer-encoding", b"chunked")], {"max_body_bytes": 100}, True),
        ([part(b"x" * 20_000)], LARGE, {}, False),
        ([], [(b"content-length", b"200")], {"max_body_bytes": 100}, False),
        ([], [(b"content-length", b"200"), (b"x", b"x" * 9_000)], {"max_body_bytes": 100}, True),
    ],
    ids=["refused unread", "refused half read", "read", "small enough to have arrived", "large with its headers"],
)
def test_the_rest_of_a_large_body_that_was_refused_is_not_waited_for(parts, headers, settings, closes):
    served = Served(behind_serve=True, **settings)
    served.hold.set()

    sent = asyncio.run(asyncio.wait_for(served.ask(*parts, headers=headers), timeout=5))

    assert (header_of(sent, b"connection") == b"close") == closes


def test_a_body_of_many_tiny_parts_ends_at_the_limit():
    served = Served(max_body_bytes=100)

    sent = asyncio.run(served.ask(*[part(b"x", more=True)] * 5000))

    assert error_of(sent) == (413, "body_too_large")


def test_a_slow_body_is_answered_408_and_not_waited_for():
    served = Served(request_timeout_s=0.1)

    sent = asyncio.run(served.ask(*[part(b"x", more=True)] * 1000, delay_s=0.02))

    assert error_of(sent) == (408, "timeout")
    assert header_of(sent, b"connection") == b"close"
    assert header_of(sent, b"x-request-id") is not None
    assert served.events == []


def test_a_body_that_never_comes_is_answered_408():
    served = Served(request_timeout_s=0.05)

    assert error_of(asyncio.run(served.ask())) == (408, "timeout")


def test_slow_work_is_cancelled_answered_once_and_frees_its_slot():
    served = Served(request_timeout_s=0.05, max_pending=1)

    async def two():
        first = await served.ask(part(b"{}"))
        served.hold.set()
        return first, await served.ask(part(b"{}"))

    first, second = asyncio.run(two())

    assert error_of(first) == (408, "timeout")
    assert status_of(second) == 200
    assert served.events == ["began", "cancelled", "began"]
    assert served.pending == 0


def test_an_answer_that_has_begun_is_not_answered_again(caplog):
    served = Served(request_timeout_s=0.05)

    with caplog.at_level(logging.INFO):
        sent = asyncio.run(served.ask(part(b"{}"), path="/stream"))

    assert [message["type"] for message in sent] == ["http.response.start"]
    assert "broken off" in caplog.text
    assert "Traceback" not in caplog.text
    assert served.pending == 0


def test_a_timeout_of_something_inside_is_a_failure_not_a_deadline():
    served = Served()

    @served.app.post("/inner")
    async def inner():
        raise TimeoutError

    reply = TestClient(served.app, raise_server_exceptions=False, base_url="http://localhost").post("/inner")

    assert (reply.status_code, reply.json()["error"]["type"]) == (500, "internal")


def test_a_lifted_deadline_lets_a_swap_take_its_time_but_not_its_body():
    served = Served(request_timeout_s=0.05)

    async def swap():
        asyncio.get_running_loop().call_later(0.15, served.hold.set)
        return await served.ask(part(b"{}"), path="/v1/admin/version")

    assert status_of(asyncio.run(swap())) == 200
    assert error_of(asyncio.run(served.ask(part(b"{", more=True), path="/v1/admin/version"))) == (408, "timeout")


@pytest.mark.parametrize("parts", [[GONE], [part(b'{"queries": [', more=True), GONE]])
def test_a_client_that_goes_away_in_its_body_leaves_one_line_and_no_traceback(parts, caplog):
    served = Served(max_pending=1)

    with caplog.at_level(logging.INFO):
        asyncio.run(served.ask(*parts))

    assert [record.levelname for record in caplog.records if record.name == "winnow.api"] == ["INFO"]
    assert "POST /v1/search 499" in caplog.text
    assert "Traceback" not in caplog.text
    assert served.pending == 0


def test_a_request_that_is_cancelled_from_outside_frees_its_slot(caplog):
    served = Served(max_pending=1)

    async def cancel():
        task = asyncio.create_task(served.ask(part(b"{}")))
        while not served.events:
            await asyncio.sleep(0)
        during = served.pending
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        served.hold.set()
        return during, await served.ask(part(b"{}"))

    with caplog.at_level(logging.INFO):
        during, later = asyncio.run(cancel())

    assert (during, served.pending, status_of(later)) == (1, 0, 200)
    assert "POST /v1/search 499" in caplog.text


def test_a_full_house_refuses_at_once_and_says_when_to_come_again():
    served = Served(max_pending=2)

    async def flood():
        inside = [asyncio.create_task(served.ask(part(b"{}"))) for _ in range(2)]
        while len(served.events) < 2:
            await asyncio.sleep(0)
        # Refused before a body is read, and when a slow body finds the house full at its end.
        unread = await served.ask()
        health = await served.ask(path="/health")
        admin = asyncio.create_task(served.ask(part(b"{}"), path="/v1/admin/version"))
        served.hold.set()
        await asyncio.gather(*inside)
        return unread, health, await admin, await served.ask(part(b"{}"))

    unread, health, admin, later = asyncio.run(flood())

    assert error_of(unread) == (503, "overloaded")
    assert header_of(unread, b"retry-after") == b"1"
    assert [status_of(sent) for sent in (health, admin, later)] == [200, 200, 200]
    assert served.pending == 0


def test_slow_clients_hold_no_slot():
    served = Served(max_pending=1)

    async def beside_slow_ones():
        slow = [asyncio.create_task(served.ask(part(b"{", more=True))) for _ in range(20)]
        await asyncio.sleep(0)
        served.hold.set()
        answered = await served.ask(part(b"{}"))
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        return answered

    assert status_of(asyncio.run(beside_slow_ones())) == 200


def test_a_body_that_ends_when_the_house_is_full_is_refused():
    served = Served(max_pending=1)

    async def late():
        first = asyncio.create_task(served.ask(part(b"{", more=True), part(b"}"), delay_s=0.02))
        second = await asyncio.create_task(served.ask(part(b"{", more=True), part(b"}"), delay_s=0.03))
        served.hold.set()
        return await first, second

    first, second = asyncio.run(late())

    assert (status_of(first), error_of(second)) == (200, (503, "overloaded"))
