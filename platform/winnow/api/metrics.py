"""What the application measures of itself: a closed catalogue, and the protocol of whatever collects it.

``prometheus.py`` collects for one process; ``winnow/cluster`` has the adapter for Ray, built from the same catalogue.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

MetricKind = Literal["histogram", "counter", "gauge"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_QUERIES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
_TOKENS = (16.0, 64.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric. ``buckets`` are the upper bounds of a histogram's; other kinds have none."""

    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS: Mapping[str, MetricSpec] = {
    "winnow_request_seconds": MetricSpec(
        "histogram", "From a request's first byte to the end of its answer.", ("route", "status"), _SECONDS
    ),
    "winnow_stage_seconds": MetricSpec(
        "histogram", "Time in one stage: queue, encode, search, fetch or generate.", ("stage",), _SECONDS
    ),
    "winnow_batch_queries": MetricSpec("histogram", "Texts encoded together.", (), _QUERIES),
    "winnow_batch_tokens": MetricSpec("histogram", "Tokens encoded together, padding included.", (), _TOKENS),
    "winnow_pending_requests": MetricSpec("gauge", "Requests in work."),
    "winnow_errors_total": MetricSpec("counter", "Answers that are errors, by their type.", ("type",)),
    "winnow_retriever_info": MetricSpec("gauge", "1 for the retriever version that is searched.", ("version",)),
    "winnow_cache_lookups_total": MetricSpec("counter", "Look-ups of query vectors: hit or miss.", ("result",)),
    "winnow_empty_lists_total": MetricSpec(
        "counter", "Queries of hybrid searches for which one list found nothing: dense or bm25.", ("list",)
    ),
    "winnow_swaps_total": MetricSpec("counter", "Swaps of the retriever version: done or refused.", ("result",)),
}


class Metrics(Protocol):
    """Collects what is in ``METRICS``. Cheap enough for every request; called from the event loop and from threads."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """One more value of a histogram."""

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        """A counter grows by ``value``."""

    def set(self, name: str, value: float, **labels: str) -> None:
        """A gauge is ``value`` now."""

    def render(self) -> bytes | None:
        """All of it in Prometheus' text format; ``None`` where something else publishes it."""
