"""The Prometheus metrics of a worker."""

import threading
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from contract.job import Job, Timings
from contract.tracing import exemplar_of

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class WorkerMetrics:
    """The metrics of one worker process and their registry."""

    def __init__(self, batch_size: int) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "pawqueue_job_seconds",
            "Time that jobs spend in each phase, in seconds.",
            ["model", "queue", "phase"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        sizes = sorted({1, 2, 4, 8, 16, 24, 32, batch_size})
        self.batch_size = Histogram(
            "pawqueue_batch_size", "Images predicted in one call.", ["model"], buckets=sizes, registry=self.registry
        )
        self.images = Counter("pawqueue_worker_images_total", "Images predicted.", ["model"], registry=self.registry)
        busy_ratio = Gauge(
            "pawqueue_worker_busy_ratio",
            "Share of time spent predicting since the last heartbeat.",
            registry=self.registry,
        )
        self.busy = BusyMeter(busy_ratio)
        self.late_commits = Counter(
            "pawqueue_worker_late_commits_total",
            "Results dropped because a later claim of the job exists.",
            registry=self.registry,
        )

        self.shadow_dropped = Counter(
            "pawqueue_shadow_dropped_total",
            "Images of a model's sample that its shadow did not predict, because jobs left no time or it failed.",
            ["model"],
            registry=self.registry,
        )

    def add_model(self, name: str) -> None:
        """Export the counts of a model as 0 before its first batch."""
        self.batch_size.labels(name)
        self.images.labels(name)

    def observe(self, job: Job, model: str, timings: Timings, finished_ms: int) -> None:
        """Count one finished job of a model."""
        phases = {
            "queue": timings.queue_ms,
            "batch_wait": timings.batch_wait_ms,
            "decode": timings.decode_ms,
            "predict": timings.predict_ms,
            "total": max(0, finished_ms - job.created_ms),
        }
        exemplar = exemplar_of(job.traceparent)
        for phase, phase_ms in phases.items():
            self.seconds.labels(model, job.queue, phase).observe(phase_ms / 1000, exemplar)


class BusyMeter:
    """Measures the share of time that the model spends predicting."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._lock = threading.Lock()
        self._busy_s = 0.0
        self._sampled_at_s = time.monotonic()

    def add(self, busy_s: float) -> None:
        """Count `busy_s` seconds of predicting."""
        with self._lock:
            self._busy_s += busy_s

    def sample(self) -> float:
        """Start a new period; returns the busy share of the previous one, 0..1, and sets the gauge to it."""
        with self._lock:
            now_s, busy_s = time.monotonic(), self._busy_s
            elapsed_s, self._sampled_at_s, self._busy_s = now_s - self._sampled_at_s, now_s, 0.0
        ratio = min(1.0, busy_s / elapsed_s) if elapsed_s > 0 else 0.0
        self._gauge.set(ratio)
        return ratio
