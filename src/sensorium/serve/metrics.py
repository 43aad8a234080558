"""Metrics of a server in the format of Prometheus. They never contain cells."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one server, in a separate registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sensorium_requests", "Requests by route and status.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "sensorium_request_seconds",
            "Seconds from the first byte to the answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.rows = Counter("sensorium_rows", "Rows answered.", ("model",), registry=self.registry)
        self.batches = Histogram(
            "sensorium_batch_rows", "Rows per batch.", ("model",), buckets=_ROWS, registry=self.registry
        )
        self.passes = Histogram(
            "sensorium_batch_seconds",
            "Seconds of a batch in the model.",
            ("model",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.windows = Counter(
            "sensorium_live_windows",
            "Windows of live streams by outcome.",
            ("outcome",),
            registry=self.registry,
        )
        self.lag = Histogram(
            "sensorium_live_seconds",
            "Seconds from the last chunk of a window to its answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.held = Gauge("sensorium_held_bytes", "Bytes of the requests in progress.", registry=self.registry)
        self.inside = Gauge("sensorium_rows_inside", "Rows in progress.", ("model",), registry=self.registry)

    def record_batch(self, model: str, rows: int, seconds: float) -> None:
        """Record that ``model`` answered a batch of ``rows`` rows in ``seconds``."""
        self.rows.labels(model).inc(rows)
        self.batches.labels(model).observe(rows)
        self.passes.labels(model).observe(seconds)

    def watch_load(self, model: str, load: Callable[[], int]) -> None:
        """Report the rows in progress of ``model``, as returned by ``load`` whenever the metrics are read."""
        self.inside.labels(model).set_function(load)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        text: bytes = generate_latest(self.registry)
        return text
