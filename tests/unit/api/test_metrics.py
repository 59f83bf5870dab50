"""What is counted, and under which labels."""

import asyncio

import httpx
import pytest
from fakes import OverlapSearcher
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from winnow.api.access import LocalAccess
from winnow.api.app import build_app
from winnow.api.config import ApiConfig
from winnow.api.metrics import METRICS
from winnow.api.prometheus import PrometheusMetrics
from winnow.records import Passage


@pytest.fixture
def metrics():
    return PrometheusMetrics()


@pytest.fixture
def searcher():
    return OverlapSearcher([Passage("sort", "sort a list")])


@pytest.fixture
def app(searcher, metrics):
    return build_app(searcher, ApiConfig(), access=LocalAccess(None), versions=None, metrics=metrics)


@pytest.fixture
def http(app):
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def read(metrics):
    """Every sample as ``(name, labels): value``."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def requests_by_route(metrics):
    return {
        (dict(labels)["route"], dict(labels)["status"]): value
        for (name, labels), value in read(metrics).items()
        if name == "winnow_request_seconds_count"
    }


def test_requests_are_counted_by_route_and_status(http, metrics):
    http.post("/v1/search", json={"query": "sort"})
    http.post("/v1/search?tracking=1", json={"query": "sort"})
    http.post("/v1/search", json={"query": ""})
    http.get("/v1/search")

    assert requests_by_route(metrics) == {
        ("/v1/search", "200"): 2,
        ("/v1/search", "422"): 1,
        ("/v1/search", "405"): 1,
    }


def test_paths_that_do_not_exist_share_one_label(http, metrics):
    for number in range(20):
        http.get(f"/wp-admin/{number}")

    assert requests_by_route(metrics) == {("-", "404"): 20}


def test_errors_are_counted_by_their_type(http, metrics):
    http.post("/v1/search", json={"query": ""})
    http.post("/v1/search", content=b"{", headers={"content-type": "application/json"})
    http.get("/nothing")

    found = {labels: value for (name, labels), value in read(metrics).items() if name == "winnow_errors_total"}
    assert found == {
        (("type", "invalid_request"),): 1,
        (("type", "invalid_json"),): 1,
        (("type", "not_found"),): 1,
    }


def test_a_failure_inside_is_counted_too(metrics):
    class BrokenSearcher(OverlapSearcher):
        async def search(self, queries, options):
            raise RuntimeError

    app = build_app(BrokenSearcher([]), ApiConfig(), access=LocalAccess(None), versions=None, metrics=metrics)
    http = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    http.post("/v1/search", json={"query": "sort"})

    assert requests_by_route(metrics) == {("/v1/search", "500"): 1}


def test_requests_in_work_are_shown_and_then_gone(app, searcher, metrics):
    async def ask():
        searcher.pause = asyncio.Event()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            asked = [asyncio.create_task(http.post("/v1/search", json={"query": "sort"})) for _ in range(3)]
            while len(searcher.asked) < 3:
                await asyncio.sleep(0)
            during = read(metrics)["winnow_pending_requests", ()]
            searcher.pause.set()
            await asyncio.gather(*asked)
        return during, read(metrics)["winnow_pending_requests", ()]

    assert asyncio.run(asyncio.wait_for(ask(), timeout=20)) == (3, 0)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_of_the_catalogue_can_be_collected_and_shown(name):
    metrics, spec = PrometheusMetrics(), METRICS[name]
    labels = dict.fromkeys(spec.labels, "x")

    match spec.kind:
        case "histogram":
            metrics.observe(name, 3.0, **labels)
        case "counter":
            metrics.count(name, **labels)
        case "gauge":
            metrics.set(name, 1.0, **labels)

    expected = {"histogram": (f"{name}_sum", 3.0), "counter": (name, 1.0), "gauge": (name, 1.0)}
    sample, value = expected[spec.kind]
    assert read(metrics)[sample, tuple(sorted(labels.items()))] == value


def test_two_applications_in_a_process_count_apart():
    first, second = PrometheusMetrics(), PrometheusMetrics()

    first.count("winnow_errors_total", type="internal")

    assert ("winnow_errors_total", (("type", "internal"),)) not in read(second)


def test_what_is_not_in_the_catalogue_cannot_be_collected(metrics):
    with pytest.raises(KeyError, match="winnow_queries_total"):
        metrics.count("winnow_queries_total")
    with pytest.raises(ValueError, match="label"):
        metrics.count("winnow_errors_total", path="/v1/search")
