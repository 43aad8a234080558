"""What a server counts, as Prometheus reads it. Never what a cell holds."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sensorium_requests", "Requests by route and status.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "sensorium_request_seconds",
            "Time from first byte to answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.rows = Counter("sensorium_rows", "Rows answered.", ("model",), registry=self.registry)
        self.batches = Histogram(
            "sensorium_batch_rows", "Rows answered together.", ("model",), buckets=_ROWS, registry=self.registry
        )
        self.passes = Histogram(
            "sensorium_batch_seconds", "Time of a batch in the model.", ("model",), buckets=_SECONDS, registry=self.registry
        )
        self.windows = Counter(
            "sensorium_live_windows",
            "Windows of live streams, by what became of them.",
            ("outcome",),
            registry=self.registry,
        )
        self.lag = Histogram(
            "sensorium_live_seconds", "From a window's last chunk to its answer.", buckets=_SECONDS, registry=self.registry
        )
        self.held = Gauge("sensorium_held_bytes", "Bytes of the requests that are inside.", registry=self.registry)
        self.inside = Gauge("sensorium_rows_inside", "Rows waiting or being answered.", ("model",), registry=self.registry)

    def batch(self, model: str, rows: int, seconds: float) -> None:
        """A batch was answered."""
        self.rows.labels(model).inc(rows)
        self.batches.labels(model).observe(rows)
        self.passes.labels(model).observe(seconds)

    def watch(self, model: str, load: Callable[[], int]) -> None:
        """Read the rows that are inside whenever the metrics are."""
        self.inside.labels(model).set_function(load)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        text: bytes = generate_latest(self.registry)
        return text
