"""``POST /v1/search``: what it takes, what it answers, and what it refuses."""

import asyncio
import json
import threading
from dataclasses import replace

import pytest
from fakes import OverlapSearcher
from fastapi.testclient import TestClient

from winnow.api.access import LocalAccess
from winnow.api.app import build_app
from winnow.api.bodies import json_response_of
from winnow.api.config import ApiConfig
from winnow.api.prometheus import PrometheusMetrics
from winnow.api.protocol import NotReadyError, SearchOptions
from winnow.errors import DataError
from winnow.records import Passage
from winnow.retrieval.filtering import parse_filter

PASSAGES = [
    Passage("copy", "copy a file to another place", title="shutil.copy", document_id="shutil"),
    Passage("sort", "sort a list in place", title="list.sort", metadata={"kind": "method"}),
]
COPY = {
    "passage_id": "copy",
    "score": 2.0,
    "title": "shutil.copy",
    "text": "copy a file to another place",
    "document_id": "shutil",
}
SORT = {
    "passage_id": "sort",
    "score": 2.0,
    "title": "list.sort",
    "text": "sort a list in place",
    "metadata": {"kind": "method"},
}


def serve(searcher, config=ApiConfig()):
    app = build_app(searcher, config, access=LocalAccess(None), versions=None, metrics=PrometheusMetrics())
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


@pytest.fixture
def searcher():
    return OverlapSearcher(PASSAGES)


@pytest.fixture
def http(searcher):
    return serve(searcher)


def test_each_query_is_answered_in_order_and_the_version_is_named(http):
    reply = http.post("/v1/search", json={"queries": ["sort my list", "copy my file"], "k": 1})

    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == {"results": [[SORT], [COPY]], "version": "v1"}


def test_one_query_needs_no_list(http):
    reply = http.post("/v1/search", json={"query": "copy my file", "k": 1})

    assert reply.json() == {"results": [[COPY]], "version": "v1"}


def test_hits_come_without_text_if_it_is_not_wanted(http):
    reply = http.post("/v1/search", json={"query": "copy my file", "k": 1, "with_text": False})

    assert reply.json()["results"] == [[{key: COPY[key] for key in COPY if key != "text"}]]


def test_k_beyond_the_corpus_gives_what_there_is(http):
    reply = http.post("/v1/search", json={"queries": ["sort"], "k": 1000})

    assert [hit["passage_id"] for hit in reply.json()["results"][0]] == ["sort", "copy"]


def test_an_answer_says_which_queries_lost_words_and_nothing_if_none_did():
    class CuttingSearcher(OverlapSearcher):
        async def search(self, queries, options):
            cut = [1 if "my" in query else 0 for query in queries]
            return replace(await super().search(queries, options), words_cut=cut)

    http = serve(CuttingSearcher(PASSAGES))

    cut = http.post("/v1/search", json={"queries": ["sort list", "copy my file"], "k": 1}).json()
    whole = http.post("/v1/search", json={"queries": ["sort list", "copy file"], "k": 1}).json()

    assert cut == {"results": [[SORT], [COPY]], "version": "v1", "words_cut": [0, 1]}
    assert whole == {"results": [[SORT], [COPY]], "version": "v1"}


def test_an_answer_says_which_list_of_a_hybrid_search_was_empty(searcher):
    class OneSidedSearcher(OverlapSearcher):
        async def search(self, queries, options):
            empty = [("bm25",) if query == "東京" else () for query in queries]
            return replace(await super().search(queries, options), empty_lists=empty)

    http = serve(OneSidedSearcher(PASSAGES))

    one = http.post("/v1/search", json={"queries": ["sort list", "東京"], "k": 1, "mode": "hybrid"}).json()
    none = http.post("/v1/search", json={"query": "sort list", "k": 1, "mode": "hybrid"}).json()

    assert one["empty_lists"] == [[], ["bm25"]]
    assert "empty_lists" not in none


@pytest.mark.parametrize(("num_queries", "k", "status"), [(4, 25, 200), (4, 26, 422), (1, 100, 200), (1, 101, 422)])
def test_an_answer_has_no_more_passages_than_configured(searcher, num_queries, k, status):
    http = serve(searcher, ApiConfig(max_results=100))

    reply = http.post("/v1/search", json={"queries": ["sort"] * num_queries, "k": k})

    assert reply.status_code == status
    if status == 422:
        assert f"is {num_queries * k} passages, at most 100 are allowed" in reply.json()["error"]["message"]
        assert searcher.asked == []


def test_a_large_answer_is_the_small_ones_together():
    passages = [Passage(f"p{number}", f'text "{number}" \u2028 \U0001f4c4') for number in range(60)]
    http = serve(OverlapSearcher(passages))

    small = [http.post("/v1/search", json={"query": query, "k": 60}).json() for query in ("text", "zebra")]
    large = http.post("/v1/search", json={"queries": ["text", "zebra"], "k": 60}).json()

    assert len(large["results"][0]) == 60
    assert large == {"results": [answer["results"][0] for answer in small], "version": "v1"}


@pytest.mark.parametrize(("num_values", "is_aside"), [(100, False), (101, True)])
def test_what_is_large_is_rendered_beside_the_event_loop(num_values, is_aside):
    async def act():
        reply = await json_response_of(lambda: {"thread": threading.get_ident()}, num_values=num_values)
        return json.loads(reply.body)["thread"] != threading.get_ident()

    assert asyncio.run(act()) == is_aside


def test_every_option_reaches_the_search(http, searcher):
    body = {"query": "sort", "k": 3, "mode": "hybrid", "filter": {"kind": ["method", "class"]}, "with_text": False}

    reply = http.post("/v1/search", json=body)

    expected = SearchOptions(3, "hybrid", parse_filter({"kind": ["class", "method"]}), with_text=False)
    assert searcher.asked == [expected]
    assert [hit["passage_id"] for hit in reply.json()["results"][0]] == ["sort"]


def test_what_is_left_out_of_a_request_has_the_documented_defaults(http, searcher):
    http.post("/v1/search", json={"query": "sort"})

    assert searcher.asked == [SearchOptions(10, "dense", None, with_text=True)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"k": 3}, "expected either query (a text) or queries (a list of texts), got neither"),
        ({"query": "sort", "queries": ["sort"]}, "got both"),
        ({"queries": []}, "queries: List should have at least 1 item"),
        ({"queries": "sort"}, "queries: Input should be a valid list"),
        ({"queries": [7]}, "queries.0: Input should be a valid string"),
        ({"query": 7}, "query: Input should be a valid string"),
        ({"queries": ["sort", " \n"]}, "queries.1 is empty"),
        ({"queries": [""]}, "queries.0 is empty"),
        ({"query": "\u2003"}, "query is empty"),
        ({"queries": ["x" * 4001]}, "queries.0 has 4001 characters, at most 4000"),
        ({"query": "x" * 4001}, "query has 4001 characters, at most 4000"),
        ({"queries": ["x"] * 65}, "65 in one request, at most 64"),
        ({"query": "sort", "k": 0}, "k: Input should be greater than or equal to 1, got 0"),
        ({"query": "sort", "k": -1}, "k: Input should be greater than or equal to 1, got -1"),
        ({"query": "sort", "k": 10**9}, "k: 1000000000 is more than the 1000 passages"),
        ({"query": "sort", "k": "5"}, "k: Input should be a valid integer"),
        ({"query": "sort", "k": 5.0}, "k: Input should be a valid integer"),
        ({"query": "sort", "k": True}, "k: Input should be a valid integer"),
        ({"query": "sort", "with_text": 1}, "with_text: Input should be a valid boolean"),
        ({"query": "sort", "mode": "sparse"}, "mode: Input should be 'dense', 'bm25' or 'hybrid'"),
        ({"query": "sort", "filter": {"kind": 7}}, "filter.kind"),
        ({"query": "sort", "filter": {"kind": []}}, "'kind' needs a text or a list of texts"),
        ({"query": "sort", "filter": {"": "x"}}, "a filter's field is a name"),
        ({"query": "sort", "filter": [["kind", "method"]]}, "filter: Input should be a valid dictionary"),
        ({"query": "sort", "top_k": 5}, "top_k is not a known field"),
        (["sort"], "the body: "),
        (7, "the body: "),
    ],
)
def test_a_request_that_breaks_a_rule_is_refused_with_the_rule(http, searcher, body, expected):
    reply = http.post("/v1/search", json=body)

    assert (reply.status_code, reply.json()["error"]["type"]) == (422, "invalid_request")
    assert expected in reply.json()["error"]["message"]
    assert searcher.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"queries": ["\xff\xfe"]}',
        b'{"queries": ["sort"]} trailing',
        b"[" * 100_000,
        b'{"query": "sort", "k": NaN}',
        b'{"query": "sort", "k": -Infinity}',
        b'{"query": "\\ud800"}',
        b'{"query": "sort", "\\udfff": 1}',
        b'{"query": "sort", "k": 1, "k": 2}',
        b'{"query": "sort", "filter": {"kind": "a", "kind": "b"}}',
        b'{"query": "sort", "k": 1' + b"0" * 5000 + b"}",
        b"\xef\xbb\xbf{}",
        b"{'query': 'sort'}",
    ],
    ids=[
        "cut",
        "invalid UTF-8",
        "trailing",
        "too deep",
        "NaN",
        "infinity",
        "lone surrogate",
        "lone surrogate in a name",
        "repeated name",
        "repeated name inside",
        "number of 5,000 digits",
        "byte order mark",
        "single quotes",
    ],
)
def test_a_body_that_is_not_json_is_refused(http, body):
    reply = http.post("/v1/search", content=body, headers={"content-type": "application/json"})

    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_json")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_an_empty_body_is_refused(http, content_type):
    reply = http.post("/v1/search", content=b"", headers={"content-type": content_type})

    assert (reply.status_code, reply.json()["error"]["type"]) == (422, "invalid_request")
    assert "the body is missing" in reply.json()["error"]["message"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", None, "json\u00e9"])
def test_json_that_a_web_page_may_send_unasked_is_refused(http, searcher, content_type):
    headers = {} if content_type is None else {"content-type": content_type.encode("latin-1")}

    reply = http.post("/v1/search", content=b'{"query": "sort"}', headers=headers)

    assert (reply.status_code, reply.json()["error"]["type"]) == (422, "invalid_request")
    assert "expected application/json" in reply.json()["error"]["message"]
    assert searcher.asked == []


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/x+json"])
def test_every_way_to_say_json_is_taken(http, content_type):
    reply = http.post("/v1/search", content=b'{"query": "sort"}', headers={"content-type": content_type})

    assert reply.status_code == 200


def test_a_query_of_any_script_comes_through_whole(http, searcher):
    searcher.asked.clear()
    query = "\U0001f4c4 \u0642\u0627\u0626\u0645\u0629 \x00 sort"

    reply = http.post("/v1/search", json={"query": query, "k": 1})

    assert reply.json()["results"][0][0]["passage_id"] == "sort"


@pytest.mark.parametrize(
    ("error", "status", "type_"),
    [
        (NotReadyError("no version is loaded yet"), 503, "overloaded"),
        (DataError("mode 'bm25' needs a BM25 index"), 422, "invalid_request"),
        (RuntimeError("secret path /srv/index"), 500, "internal"),
    ],
)
def test_what_goes_wrong_behind_the_application_has_its_answer(error, status, type_):
    class BrokenSearcher(OverlapSearcher):
        async def search(self, queries, options):
            raise error

    reply = serve(BrokenSearcher(PASSAGES)).post("/v1/search", json={"query": "sort"})

    assert (reply.status_code, reply.json()["error"]["type"]) == (status, type_)
    assert ("retry-after" in reply.headers) == (status == 503)
    assert "secret" not in reply.text
