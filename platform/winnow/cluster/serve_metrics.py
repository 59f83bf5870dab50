"""The application's metrics as Ray's, which Ray exports for all replicas of a cluster together."""

from ray.util.metrics import Counter, Gauge, Histogram

from winnow.api.metrics import METRICS, MetricSpec


class RayMetrics:
    """Implements ``winnow.api.metrics.Metrics``. Ray has its own exporter, so there is nothing to render."""

    def __init__(self) -> None:
        self._made = {name: _make(name, spec) for name, spec in METRICS.items()}

    def observe(self, name: str, value: float, **labels: str) -> None:
        self._made[name].observe(value, tags=labels)

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        if value:
            # Ray's counters refuse to count nothing.
            self._made[name].inc(value, tags=labels)

    def set(self, name: str, value: float, **labels: str) -> None:
        self._made[name].set(value, tags=labels)

    def render(self) -> None:
        return None


def _make(name: str, spec: MetricSpec) -> Counter | Gauge | Histogram:
    match spec.kind:
        case "histogram":
            return Histogram(name, spec.help, boundaries=list(spec.buckets), tag_keys=tuple(spec.labels))
        case "counter":
            return Counter(name, spec.help, tag_keys=tuple(spec.labels))
        case _:
            return Gauge(name, spec.help, tag_keys=tuple(spec.labels))
