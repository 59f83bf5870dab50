"""``/v1/admin/version``: swaps, and who may ask for them."""

from types import SimpleNamespace

import pytest
from fakes import OverlapSearcher
from fastapi.testclient import TestClient

from winnow.api.access import LocalAccess
from winnow.api.app import build_app
from winnow.api.config import ApiConfig
from winnow.api.keys import create_key
from winnow.api.prometheus import PrometheusMetrics
from winnow.api.protocol import SwapBusyError, SwapOutcome, SwapRefusedError
from winnow.retrieval.reference import Directories, Located
from winnow.serving.standalone import LocalVersions
from winnow.tracking.fetching import RetrieverFetcher

PATH = "/v1/admin/version"


class ScriptedVersions:
    """Carries out every swap, or none with ``error``."""

    def __init__(self, *, error=None):
        self._error = error
        self.asked = []

    async def swap(self, reference):
        self.asked.append(reference)
        if self._error is not None:
            raise self._error
        return SwapOutcome(reference, "v1", 0.25, 2)

    async def describe(self):
        return {"wanted": "v1", "replicas": {"a": "v1"}}


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "keys.json"
    return path, {scope: create_key(path, name=scope, scopes=(scope,)) for scope in ("search", "admin")}


def serve(versions, keys):
    app = build_app(
        OverlapSearcher([]), ApiConfig(), access=LocalAccess(keys), versions=versions, metrics=PrometheusMetrics()
    )
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def test_a_swap_answers_when_all_replicas_have_the_version(tokens):
    keys, by_scope = tokens
    versions = ScriptedVersions()
    http = serve(versions, keys)

    reply = http.post(PATH, json={"retriever": "winnow@champion"}, headers=bearer(by_scope["admin"]))

    assert reply.status_code == 200
    assert reply.json() == {"version": "winnow@champion", "previous": "v1", "seconds": 0.25, "replicas": 2}
    assert versions.asked == ["winnow@champion"]


def test_what_is_served_can_be_asked_for(tokens):
    keys, by_scope = tokens

    reply = serve(ScriptedVersions(), keys).get(PATH, headers=bearer(by_scope["admin"]))

    assert reply.json() == {"wanted": "v1", "replicas": {"a": "v1"}}


@pytest.mark.parametrize(
    ("error", "status", "type_"),
    [
        (SwapRefusedError("the index does not match its manifest"), 424, "dependency_failed"),
        (SwapBusyError("another swap is going on"), 503, "overloaded"),
    ],
)
def test_a_swap_that_cannot_be_says_why(tokens, error, status, type_):
    keys, by_scope = tokens

    reply = serve(ScriptedVersions(error=error), keys).post(
        PATH, json={"retriever": "winnow/7"}, headers=bearer(by_scope["admin"])
    )

    assert (reply.status_code, reply.json()["error"]["type"]) == (status, type_)
    assert str(error) in reply.json()["error"]["message"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("scope", "status"), [("search", 403), (None, 401)])
def test_nobody_without_the_scope_gets_in(tokens, method, scope, status):
    keys, by_scope = tokens
    versions = ScriptedVersions()
    headers = bearer(by_scope[scope]) if scope else {}

    reply = serve(versions, keys).request(method, PATH, json={"retriever": "evil"}, headers=headers)

    assert reply.status_code == status
    assert versions.asked == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_keys_the_admin_paths_are_closed(method):
    reply = serve(ScriptedVersions(), None).request(method, PATH, json={"retriever": "evil"})

    assert (reply.status_code, reply.json()["error"]["type"]) == (403, "forbidden")
    assert "keys" in reply.json()["error"]["message"]


def test_where_nothing_can_be_swapped_the_path_is_not_found(tokens):
    keys, by_scope = tokens

    reply = serve(None, keys).post(PATH, json={"retriever": "winnow/7"}, headers=bearer(by_scope["admin"]))

    assert reply.status_code == 404
    assert "serve.retriever" in reply.json()["error"]["message"]


NEVER = ["", 7, "x" * 5000, "a\0b", "\0", "x" * 4000, "/data/" + "é" * 128, f"{'m' * 256}@champion", "s3://bucket/v"]


@pytest.mark.parametrize("body", [{}, {"path": "x"}, *({"retriever": reference} for reference in NEVER)])
def test_a_swap_to_nothing_is_refused(tokens, body):
    keys, by_scope = tokens
    versions = ScriptedVersions()

    reply = serve(versions, keys).post(PATH, json=body, headers=bearer(by_scope["admin"]))

    assert reply.status_code == 422
    assert versions.asked == []


@pytest.mark.parametrize(
    "reference", ["~nobody-of-this-name/x", "/dev/null", "loop", "/" + "d/" * 2000, "/nowhere", "é" * 127]
)
@pytest.mark.parametrize("source", ["directories", "registry"])
def test_what_cannot_be_had_is_refused_with_the_reason_and_what_is_served_goes_on(tmp_path, tokens, source, reference):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    fetcher = Directories() if source == "directories" else RetrieverFetcher(f"sqlite:///{tmp_path}/none.db", tmp_path)
    serving = SimpleNamespace(info=lambda: {"version": "v1"})
    versions = LocalVersions(serving, reference="first", located=Located(tmp_path), source=fetcher)
    keys, by_scope = tokens
    asked = str(tmp_path / "loop") if reference == "loop" else reference

    reply = serve(versions, keys).post(PATH, json={"retriever": asked}, headers=bearer(by_scope["admin"]))

    assert (reply.status_code, reply.json()["error"]["type"]) == (424, "dependency_failed")
    assert "cannot be served, and v1 still is" in reply.json()["error"]["message"]
