"""Metrics of one process, for Prometheus to fetch at ``GET /metrics``."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from winnow.api.metrics import METRICS, MetricSpec

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class PrometheusMetrics:
    """Implements ``Metrics`` with a registry of its own, so that two applications in a process stay apart."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._metrics = {name: _build(name, spec, self._registry) for name, spec in METRICS.items()}

    def observe(self, name: str, value: float, **labels: str) -> None:
        """One more value of a histogram."""
        self._child(name, labels).observe(value)

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        """A counter grows by ``value``."""
        self._child(name, labels).inc(value)

    def set(self, name: str, value: float, **labels: str) -> None:
        """A gauge is ``value`` now."""
        self._child(name, labels).set(value)

    def render(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)

    def _child(self, name: str, labels: dict[str, str]) -> Any:
        return self._metrics[name].labels(**labels) if labels else self._metrics[name]


def _build(name: str, spec: MetricSpec, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    match spec.kind:
        case "histogram":
            return Histogram(name, spec.help, spec.labels, buckets=spec.buckets, registry=registry)
        case "counter":
            return Counter(name, spec.help, spec.labels, registry=registry)
        case "gauge":
            return Gauge(name, spec.help, spec.labels, registry=registry)
