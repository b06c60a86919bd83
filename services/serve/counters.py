"""What the server counts, as Prometheus reads it. Each server has a registry of its own."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

MEDIA_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Counters:
    """Requests, latencies, batches, refused uploads; the process's memory and processor time."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "deponij_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self._latency = Histogram(
            "deponij_request_seconds",
            "From a request's head to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "deponij_encoder_batch_size",
            "Texts or pictures that were encoded together.",
            ("backbone", "kind"),
            buckets=_SIZES,
            registry=self.registry,
        )
        self.waiting = Gauge(
            "deponij_encoder_waiting", "Texts and pictures that wait to be encoded.", registry=self.registry
        )
        self._refused = Counter(
            "deponij_refused_uploads", "Bodies and pictures refused.", ("reason",), registry=self.registry
        )
        self.under_way = Gauge(
            "deponij_requests_under_way", "Requests being answered.", registry=self.registry
        )

    def answered(self, route: str, method: str, status: int, took_s: float) -> None:
        """One request more."""
        self._requests.labels(route, method, str(status)).inc()
        self._latency.labels(route).observe(took_s)

    def batch_of(self, backbone: str, kind: str) -> Callable[[int], None]:
        """Told the size of each batch."""
        size: Callable[[int], None] = self._batches.labels(backbone, kind).observe
        return size

    def refused(self, reason: str) -> None:
        """One upload more that was not looked at."""
        self._refused.labels(reason).inc()

    def text(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return generate_latest(self.registry)
