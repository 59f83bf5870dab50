"""Both clients against a scripted transport, and once against the real application; over HTTP: tests/ray."""

import asyncio
import base64
import inspect
import json
import socket
import ssl
import struct
import threading
import time
from contextlib import contextmanager, suppress

import httpx
import pytest
from fakes import OverlapSearcher
from scripted import ScriptedEngine

from winnow.api.access import LocalAccess
from winnow.api.app import build_app
from winnow.api.config import ApiConfig
from winnow.api.keys import create_key
from winnow.api.prometheus import PrometheusMetrics
from winnow.api.protocol import SwapOutcome
from winnow.client import Answer, AsyncWinnowClient, Citation, ServiceError, Swap, WinnowClient
from winnow.errors import ConfigError, DataError
from winnow.records import Passage, ScoredPassage

URL = "http://127.0.0.1:8000"
FOUND = {"results": [[{"passage_id": "sort", "score": 0.5, "title": "list.sort"}]], "version": "v1"}


class Service:
    """Answers with what it was given, in turn, the last one for ever; keeps the requests."""

    def __init__(self, *replies):
        self.replies = list(replies)
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, dict):
            return httpx.Response(200, json=reply)
        # A copy, because a response can be read by one client only.
        return httpx.Response(reply.status_code, content=reply.content, headers=reply.headers)

    @property
    def sent(self):
        return json.loads(self.requests[-1].content)


def refusal(status, *, headers=None, **error):
    return httpx.Response(status, json={"error": {"type": "t", "message": "m", **error}}, headers=headers)


def blocking(service, method, *arguments, **options):
    settings = {name: options.pop(name) for name in ("api_key", "retries", "timeout_s") if name in options}
    with WinnowClient(URL, transport=httpx.MockTransport(service), pause_s=0.001, **settings) as client:
        return getattr(client, method)(*arguments, **options)


def awaiting(service, method, *arguments, **options):
    settings = {name: options.pop(name) for name in ("api_key", "retries", "timeout_s") if name in options}

    async def ask():
        transport = httpx.MockTransport(service)
        async with AsyncWinnowClient(URL, transport=transport, pause_s=0.001, **settings) as client:
            return await getattr(client, method)(*arguments, **options)

    return asyncio.run(ask())


@pytest.fixture(params=[blocking, awaiting])
def ask(request, monkeypatch):
    monkeypatch.delenv("WINNOW_API_KEY", raising=False)
    return request.param


def test_search_gives_scored_passages_per_query_and_their_version(ask):
    hit = {
        "passage_id": "p",
        "score": 1.5,
        "title": "t",
        "text": "x",
        "document_id": "d",
        "metadata": {"lang": "en"},
        "colour": 3,
    }
    service = Service({"results": [[hit], []], "version": "v1"})

    found = ask(service, "search", ["one", "two"], k=1)

    assert found == [[ScoredPassage("p", 1.5, "t", "x", "d", {"lang": "en"})], []]
    assert found.version == "v1"
    assert service.requests[0].url == f"{URL}/v1/search"
    assert service.sent == {"queries": ["one", "two"], "k": 1, "with_text": True, "mode": "dense"}


def test_search_sends_mode_filter_and_text_wish(ask):
    service = Service(FOUND)

    ask(service, "search", ["café 東京"], mode="hybrid", filter={"lang": ("en", "de"), "kind": "m"}, with_text=False)

    assert service.sent == {
        "queries": ["café 東京"],
        "k": 10,
        "with_text": False,
        "mode": "hybrid",
        "filter": {"lang": ["en", "de"], "kind": "m"},
    }


def test_one_query_gives_one_list(ask):
    found = ask(Service(FOUND), "search_one", "sort", 3)

    assert found == [ScoredPassage("sort", 0.5, "list.sort", "")]
    assert found.version == "v1"


def test_vectors_come_in_the_order_of_the_texts(ask):
    encoded = [base64.b64encode(struct.pack("<2f", *row)).decode() for row in ([0.5, -2.0], [1.0, 0.25])]
    data = [{"index": 1, "embedding": encoded[1]}, {"index": 0, "embedding": encoded[0]}]
    service = Service({"data": data, "model": "v1"})

    vectors = ask(service, "embed", ["a", "b"], side="passage")

    assert vectors == [[0.5, -2.0], [1.0, 0.25]]
    assert service.sent["input"] == ["a", "b"]
    assert service.sent["input_type"] == "passage"


def test_an_answer_is_typed(ask):
    reply = {
        "answer": "Use sort [1].",
        "is_supported": True,
        "reason": None,
        "citations": [{"number": 1, "passage_id": "sort"}],
        "passages": [{"passage_id": "sort", "score": 0.5, "title": "list.sort", "text": "x"}],
        "left_out": 1,
        "version": "v1",
        "model": "m",
        "usage": {"prompt_tokens": 7},
    }
    service = Service(reply)

    answer = ask(service, "answer", "how?", 2)

    assert answer == Answer(
        "Use sort [1].",
        True,
        None,
        (Citation(1, "sort"),),
        (ScoredPassage("sort", 0.5, "list.sort", "x"),),
        1,
        "v1",
        "m",
        {"prompt_tokens": 7},
    )
    assert service.sent == {"query": "how?", "k": 2, "mode": "dense"}


def test_what_was_cut_or_empty_is_told(ask):
    hit = {"passage_id": "a", "score": 1.0, "title": ""}
    found = {"results": [[hit], []], "version": "v1"}
    vectors = {"data": [{"index": 0, "embedding": "AACAPw=="}], "model": "v1"}

    assert ask(Service({**found, "words_cut": [0, 7]}), "search", ["a", "b"]).words_cut == (0, 7)
    assert ask(Service({**found, "words_cut": [3]}), "search_one", "a").words_cut == (3,)
    assert ask(Service(found), "search", ["a", "b"]).words_cut == ()
    assert ask(Service({**found, "empty_lists": [[], ["bm25"]]}), "search", ["a", "b"]).empty_lists == ((), ("bm25",))
    assert ask(Service({**found, "empty_lists": [["dense"]]}), "search_one", "a").empty_lists == (("dense",),)
    assert ask(Service(found), "search", ["a", "b"]).empty_lists == ()
    assert ask(Service({**vectors, "truncated": 1}), "embed", ["a"]).truncated == 1
    assert ask(Service(vectors), "embed", ["a"]) == [[1.0]]


def test_texts_are_only_cut_where_that_is_wanted(ask):
    service = Service({"data": [], "model": "v1", "truncated": 0})

    ask(service, "embed", ["a"], truncate=False)

    assert service.sent["truncate"] is False


def test_health_readiness_and_versions(ask):
    assert ask(Service({"status": "ok"}), "health")
    assert ask(Service({"version": "v1"}), "ready") == "v1"
    assert ask(Service({"version": "v1"}), "info") == {"version": "v1"}
    assert ask(Service({"wanted": "v1"}), "versions") == {"wanted": "v1"}


@pytest.mark.parametrize("failure", [refusal(503), httpx.ConnectError("refused"), httpx.ReadError("lost")])
def test_a_service_that_is_down_is_neither_healthy_nor_ready_and_is_asked_once(ask, failure):
    service = Service(failure)

    assert not ask(service, "health")
    assert not ask(service, "ready")
    assert len(service.requests) == 2


def test_a_swap_names_both_versions(ask):
    service = Service({"version": "v2", "previous": "v1", "seconds": 1.5, "replicas": 3})

    assert ask(service, "swap", "winnow@champion") == Swap("v2", "v1", 1.5, 3)
    assert service.sent == {"retriever": "winnow@champion"}


@pytest.mark.parametrize(
    "failure",
    [
        refusal(503, headers={"Retry-After": "0"}),
        refusal(429),
        refusal(408),
        httpx.ConnectError("refused"),
        httpx.ReadError("lost"),
        httpx.RemoteProtocolError("lost"),
    ],
)
def test_what_may_pass_is_tried_again(ask, failure):
    service = Service(failure, failure, FOUND)

    assert len(ask(service, "search", ["sort"])) == 1
    assert len(service.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 424, 500, 502, 307])
def test_what_would_come_back_the_same_is_raised_at_once_with_its_type(ask, status):
    service = Service(refusal(status, type="kind", message="queries.0 is empty", request_id="r-7"))

    with pytest.raises(
        ServiceError, match=rf"/v1/search answered {status}: queries.0 is empty \(request r-7\)"
    ) as told:
        ask(service, "search", [""])

    assert (told.value.status, told.value.type, told.value.request_id) == (status, "kind", "r-7")
    assert len(service.requests) == 1


def test_a_service_that_stays_busy_is_given_up_with_its_words(ask):
    service = Service(httpx.Response(503, text="no replica yet", headers={"X-Request-ID": "r-8"}))

    with pytest.raises(ServiceError, match="503: no replica yet") as told:
        ask(service, "search", ["sort"], retries=2)

    assert len(service.requests) == 3
    assert (told.value.status, told.value.type, told.value.request_id) == (503, None, "r-8")


@pytest.mark.parametrize("failure", [refusal(503), refusal(429), httpx.ReadError("lost"), httpx.ReadTimeout("slow")])
def test_a_swap_that_was_sent_is_not_sent_again(ask, failure):
    service = Service(failure)

    with pytest.raises(ServiceError):
        ask(service, "swap", "v2")

    assert len(service.requests) == 1


def test_a_swap_that_found_nobody_is_sent_again(ask):
    service = Service(httpx.ConnectError("refused"), {"version": "v2", "previous": "v1", "seconds": 1})

    assert ask(service, "swap", "v2").version == "v2"


@pytest.mark.parametrize(
    ("wanted", "least", "most"), [("2", 2, 2.1), ("900", 30, 30.1), ("soon", 0, 0.1), ("²", 0, 0.1)]
)
def test_the_pause_the_service_asks_for_is_kept_up_to_half_a_minute(monkeypatch, wanted, least, most):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    busy = refusal(503, headers=[(b"Retry-After", wanted.encode("latin-1"))])

    blocking(Service(busy, FOUND), "search", ["sort"], timeout_s=60)

    assert len(pauses) == 1
    assert least <= pauses[0] <= most


def test_pauses_grow_and_are_not_all_alike(monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    client = WinnowClient(URL, transport=httpx.MockTransport(Service(refusal(429))), pause_s=1, retries=3, timeout_s=99)

    with pytest.raises(ServiceError):
        client.search(["sort"])

    assert all(half / 2 <= pause <= half for pause, half in zip(pauses, [1, 2, 4], strict=True))
    assert len({pause / 2**number for number, pause in enumerate(pauses)}) == 3


def test_a_pause_beyond_the_time_limit_is_not_waited_for(ask):
    service = Service(refusal(429, headers={"Retry-After": "20"}, message="too often"))
    started = time.monotonic()

    with pytest.raises(ServiceError, match="429: too often"):
        ask(service, "search", ["sort"], timeout_s=5)

    assert time.monotonic() - started < 2
    assert len(service.requests) == 1


def test_an_attempt_gets_only_the_time_that_is_left(ask):
    service = Service(FOUND)

    ask(service, "search", ["sort"], timeout_s=7)

    assert 6 < service.requests[0].extensions["timeout"]["read"] <= 7


@contextmanager
def dripping(head, drip):
    """The address of a server that sends ``head``, and then ``drip`` every 20 ms, until nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(head)
                while True:
                    connection.sendall(drip)
                    time.sleep(0.02)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.join(10)
        assert not server.is_alive(), "the client kept the connection"


def wait_blocking(address, **settings):
    with WinnowClient(address, **settings) as client:
        client.info()


def wait_awaiting(address, **settings):
    async def ask():
        async with AsyncWinnowClient(address, **settings) as client:
            await client.info()

    asyncio.run(ask())


BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize("wait", [wait_blocking, wait_awaiting])
@pytest.mark.parametrize(("head", "drip"), [(BODY, b" "), (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a")], ids=["body", "head"])
def test_an_answer_that_drips_ends_with_the_time_for_the_call(wait, head, drip):
    with dripping(head, drip) as address:
        started = time.monotonic()
        with pytest.raises(ServiceError, match=r"no whole answer from .*/info within the client's timeout_s"):
            wait(address, timeout_s=0.4)
        took_s = time.monotonic() - started

    assert 0.39 < took_s < 1.2


def test_a_transport_for_certificates_keeps_the_time_as_well():
    transport = httpx.HTTPTransport(verify=ssl.create_default_context())
    with dripping(BODY, b" ") as address:
        started = time.monotonic()
        with pytest.raises(ServiceError, match="no whole answer"):
            wait_blocking(address, timeout_s=0.4, transport=transport)

    assert time.monotonic() - started < 1.2


def test_a_later_call_has_its_own_time():
    """The connection is kept between calls, and the time of the first one is over by then."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    def serve(listener):
        connection, _ = listener.accept()
        with connection:
            for _ in range(2):
                connection.recv(65536)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,), daemon=True)
        server.start()
        with WinnowClient(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.5, retries=0) as client:
            first = client.info()
            time.sleep(0.6)
            second = client.info()
        server.join(10)

    assert (first, second) == ({}, {})


def test_the_key_is_sent_and_never_shown(ask, monkeypatch):
    monkeypatch.setenv("WINNOW_API_KEY", "wn_environment")
    service = Service(FOUND)

    ask(service, "search", ["sort"])
    ask(service, "search", ["sort"], api_key="wn_argument")
    ask(service, "search", ["sort"], api_key="")

    sent = [request.headers.get("Authorization") for request in service.requests]
    assert sent == ["Bearer wn_environment", "Bearer wn_argument", None]
    assert "wn_" not in repr(WinnowClient(URL)) + repr(vars(WinnowClient(URL)))


@pytest.mark.parametrize("key", ["wn_secret\n", "wn_sécret", "wn secret"])
def test_a_key_with_a_line_break_is_refused_without_showing_it(key):
    with pytest.raises(ConfigError, match="not shown") as told:
        WinnowClient(URL, api_key=key)

    assert "secret" not in str(told.value)


def test_a_password_in_the_address_is_not_shown(ask):
    client = WinnowClient("http://me:hidden@127.0.0.1:8000", transport=httpx.MockTransport(Service(refusal(500))))

    with pytest.raises(ServiceError) as told:
        client.info()

    assert "hidden" not in str(told.value) + repr(client)


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(200, text="<html>welcome</html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"results": [[{"score": 1}]], "version": "v"}),
        httpx.Response(200, json={"results": 7, "version": "v"}),
    ],
)
def test_an_answer_of_another_service_is_named_as_such(ask, reply):
    with pytest.raises(ServiceError, match=r"answered 200, but not as Winnow does.*is the address"):
        ask(Service(reply), "search", ["sort"])


def test_a_text_where_a_list_belongs_is_refused_before_anything_is_sent(ask):
    service = Service(FOUND)

    with pytest.raises(TypeError, match="expected a list of texts, got the text 'sort'"):
        ask(service, "search", "sort")

    assert service.requests == []


def test_half_a_surrogate_pair_is_named(ask):
    with pytest.raises(DataError, match="half a surrogate pair"):
        ask(Service(FOUND), "search", ["bad \ud800 text"])


def test_an_address_where_nothing_listens_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"

    with (
        WinnowClient(address, pause_s=0.001, retries=1) as client,
        pytest.raises(ServiceError, match=f"no answer from {address}.*winnow serve"),
    ):
        client.search(["sort"])


def test_help_shows_a_methods_own_arguments_and_result():
    assert str(inspect.signature(WinnowClient(URL).embed)).startswith("(texts: ")
    assert "Call" not in str(inspect.signature(WinnowClient.search))
    assert inspect.iscoroutinefunction(AsyncWinnowClient.search)


class OtherVersions:
    """Swaps to whatever it is told."""

    async def swap(self, reference):
        return SwapOutcome(reference, "v1", 0.5, replicas=2)

    async def describe(self):
        return {"wanted": "v1"}


@pytest.fixture
def service(tmp_path):
    """The real application as a transport, and a key for it."""
    passage = Passage("sort", "sort a list", title="list.sort", document_id="list", metadata={"lang": "en"})
    key = create_key(tmp_path / "keys.json", name="tests", scopes=["admin"])
    engine = ScriptedEngine({"how to sort": "Call sort [1]."})
    app = build_app(
        OverlapSearcher([passage]),
        ApiConfig(),
        access=LocalAccess(tmp_path / "keys.json"),
        versions=OtherVersions(),
        metrics=PrometheusMetrics(),
        build_engine=lambda: engine,
    )
    return httpx.ASGITransport(app), key


def test_the_real_application_is_understood(service):
    transport, key = service

    async def ask():
        async with AsyncWinnowClient(URL, api_key=key, transport=transport) as client:
            found = await client.search(["sort my list", "x"], k=1, mode="dense", filter={"lang": ["en"]})
            assert found == [
                [ScoredPassage("sort", score, "list.sort", "sort a list", "list", {"lang": "en"})] for score in (2, 0)
            ]
            assert found.version == "v1"
            assert (await client.search_one("sort", with_text=False))[0].text == ""
            vectors = await client.embed(["sort a list", "other"], side="passage")
            assert [len(vector) for vector in vectors] == [8, 8]
            answer = await client.answer("how to sort")
            assert (answer.answer, answer.is_supported) == ("Call sort [1].", True)
            assert answer.citations == (Citation(1, "sort"),)
            assert answer.passages[0].passage_id == "sort"
            assert await client.health()
            assert await client.ready()
            assert (await client.info())["version"] == "v1"
            assert await client.versions() == {"wanted": "v1"}
            assert await client.swap("v2") == Swap("v2", "v1", 0.5, 2)

    asyncio.run(ask())


def test_the_real_applications_errors_are_understood(service):
    transport, key = service

    async def ask(api_key, queries):
        async with AsyncWinnowClient(URL, api_key=api_key, transport=transport) as client:
            with pytest.raises(ServiceError) as told:
                await client.search(queries)
            return told.value

    empty, unknown = asyncio.run(ask(key, [""])), asyncio.run(ask("wn_unknown", ["sort"]))

    assert (empty.status, empty.type, unknown.status, unknown.type) == (422, "invalid_request", 401, "unauthorized")
    assert empty.request_id
    assert unknown.request_id != empty.request_id
    assert "wn_unknown" not in str(unknown)
