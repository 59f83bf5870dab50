"""What the application says of itself."""

import pytest
from fakes import OverlapSearcher
from fastapi.testclient import TestClient

import winnow
from winnow.api.access import LocalAccess
from winnow.api.app import build_app
from winnow.api.config import ApiConfig
from winnow.api.keys import create_key
from winnow.api.prometheus import PrometheusMetrics
from winnow.api.protocol import Readiness


class SilentMetrics(PrometheusMetrics):
    """Published elsewhere, as Ray's are."""

    def render(self):
        return None


def serve(searcher, *, keys=None, metrics=None):
    app = build_app(
        searcher, ApiConfig(), access=LocalAccess(keys), versions=None, metrics=metrics or PrometheusMetrics()
    )
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


@pytest.fixture
def searcher():
    return OverlapSearcher([])


def test_health_touches_nothing():
    reply = serve(None).get("/health")

    assert (reply.status_code, reply.json()) == (200, {"status": "ok"})


def test_ready_names_the_version_and_when_it_was_last_searched(searcher):
    reply = serve(searcher).get("/ready")

    assert (reply.status_code, reply.json()) == (200, {"status": "ready", "version": "v1", "age_s": 0.5})


@pytest.mark.parametrize(
    ("readiness", "message"),
    [
        (Readiness(is_ready=False, detail="no search has been tried yet"), "no search has been tried yet"),
        (Readiness(is_ready=False, detail="the last search failed", age_s=0.1), "the last search failed"),
        (Readiness(is_ready=True, detail="worked", version="v1", age_s=5.01), "5.0 s old"),
        (Readiness(is_ready=True, detail="worked", version="v1", age_s=None), "worked"),
    ],
)
def test_not_ready_is_503_with_a_pause_to_keep(searcher, readiness, message):
    searcher.state = readiness

    reply = serve(searcher).get("/ready")

    assert (reply.status_code, reply.json()["error"]["type"]) == (503, "overloaded")
    assert reply.headers["retry-after"] == "1"
    assert message in reply.json()["error"]["message"]


def test_info_tells_versions_counts_and_limits(searcher):
    assert serve(searcher).get("/info").json() == {
        "version": "v1",
        "winnow": winnow.__version__,
        "notice": None,
        "retriever": {"version": "v1", "count": 0},
        "limits": {
            "max_queries": 64,
            "max_k": 1000,
            "max_results": 16_000,
            "max_query_chars": 4000,
            "max_text_chars": 20_000,
            "max_body_bytes": 1_000_000,
        },
    }


def test_info_passes_on_what_an_operator_should_know(searcher):
    class StaleSearcher(OverlapSearcher):
        def info(self):
            return {"version": None, "notice": "the registry could not be reached"}

    info = serve(StaleSearcher([])).get("/info").json()

    assert (info["version"], info["notice"]) == (None, "the registry could not be reached")


def test_metrics_are_there_in_the_text_format(searcher):
    reply = serve(searcher).get("/metrics")

    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE winnow_request_seconds histogram" in reply.text


def test_metrics_that_are_published_elsewhere_are_no_path_here(searcher):
    http = serve(searcher, metrics=SilentMetrics())

    assert http.get("/metrics").status_code == 404
    assert "/metrics" not in http.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize("path", ["/info", "/metrics", "/openapi.json"])
def test_what_describes_the_service_needs_a_key_once_there_are_keys(searcher, tmp_path, path):
    token = create_key(tmp_path / "keys.json", name="app", scopes=("search",))
    http = serve(searcher, keys=tmp_path / "keys.json")

    assert http.get(path).status_code == 401
    assert http.get(path, headers={"authorization": f"Bearer {token}"}).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_what_a_balancer_asks_needs_no_key(searcher, tmp_path, path):
    create_key(tmp_path / "keys.json", name="app", scopes=("search",))

    assert serve(searcher, keys=tmp_path / "keys.json").get(path).status_code == 200
