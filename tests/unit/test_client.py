"""The client against a real HTTP server on loopback."""

import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from fakes import OverlapSearcher

from winnow.api.app import build_app
from winnow.client import ServiceError, WinnowClient
from winnow.records import Passage, ScoredPassage

APP = build_app(OverlapSearcher([Passage("sort", "sort a list", title="list.sort")]))


@contextmanager
def running(app):
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


class Busy:
    """Answers 503 a number of times before it lets requests through, and counts them."""

    def __init__(self, times, *, headers=()):
        self.times = times
        self.num_requests = 0
        self.headers = list(headers)

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            self.num_requests += 1
        if scope["type"] != "http" or self.num_requests > self.times:
            await APP(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 503, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"no replica yet"})


def unused_address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_search_gives_scored_passages_per_query():
    with running(APP) as url, WinnowClient(url) as client:
        results = client.search(["sort my list", "nothing here"], k=1)

    assert results == [
        [ScoredPassage("sort", 2.0, "list.sort", "sort a list")],
        [ScoredPassage("sort", 0.0, "list.sort", "sort a list")],
    ]


def test_info_and_health():
    with running(APP) as url, WinnowClient(url) as client:
        assert client.health()
        assert client.info()["version"] == "v1"


def test_a_busy_service_is_asked_again():
    busy = Busy(2)

    with running(busy) as url, WinnowClient(url, pause_s=0.01) as client:
        results = client.search(["sort"])

    assert len(results) == 1
    assert busy.num_requests == 3


def test_the_pause_the_service_asks_for_is_kept():
    busy = Busy(1, headers=[(b"retry-after", b"1")])

    with running(busy) as url, WinnowClient(url, pause_s=0.01) as client:
        started = time.monotonic()
        client.search(["sort"])

    assert time.monotonic() - started >= 1


def test_a_service_that_stays_busy_is_given_up_with_its_words():
    busy = Busy(99)

    with (
        running(busy) as url,
        WinnowClient(url, pause_s=0.01, retries=2) as client,
        pytest.raises(ServiceError, match="503: no replica yet") as caught,
    ):
        client.search(["sort"])

    assert busy.num_requests == 3
    assert (caught.value.status, caught.value.type) == (503, None)


def test_a_refused_request_is_not_repeated_and_carries_its_type():
    counting = Busy(0)

    with (
        running(counting) as url,
        WinnowClient(url) as client,
        pytest.raises(ServiceError, match=r"queries\.0 is empty") as caught,
    ):
        client.search([""])

    assert counting.num_requests == 1
    assert (caught.value.status, caught.value.type) == (422, "invalid_request")


def test_an_address_where_nothing_listens_is_named():
    address = unused_address()

    with (
        WinnowClient(address, pause_s=0.01, retries=1) as client,
        pytest.raises(ServiceError, match=f"no answer from {address}.*winnow serve"),
    ):
        client.search(["sort"])

    assert not WinnowClient(address).health()


def test_the_client_needs_neither_torch_nor_ray():
    code = "import sys, winnow.client; sys.exit(bool({'torch', 'ray', 'fastapi', 'mlflow'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
