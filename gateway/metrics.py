"""The gateway's metrics for Prometheus: its requests, and the counts from the ledger that the autoscaler uses."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from contract.errors import UnavailableError, error_classes
from contract.job import now_ms
from contract.ledger.feedback import FeedbackStore
from contract.ledger.ledger import Ledger
from contract.ledger.models import Route
from contract.ledger.types import Heartbeat, LedgerStats
from contract.ledger.webhooks import OutboxStats
from contract.queues import QUEUES, split_queue_name
from contract.tracing import current_traceparent, exemplar_of
from contract.web.limits import Refusals

#: The methods that have a time series of their own: those of RFC 9110, PATCH and QUERY. A client can make up others.
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
#: The label of all other methods and codes.
OTHER = "other"
#: Codes of problems: those of expected errors, and those of the web framework.
CODES = frozenset({*error_classes(), "internal", "method_not_allowed"})

#: Days of feedback from which the accuracy is measured.
_ACCURACY_DAYS = 7
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class GatewayMetrics:
    """The metrics of one gateway process and their registry.

    Every label has a closed set of values, because each value is kept in memory and sent at every scrape.
    """

    def __init__(
        self,
        ledger: Ledger,
        ledger_limit_bytes: int,
        accuracy_target: float = 0.0,
        count_streams: Callable[[], int] = lambda: 0,
    ) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self.registry.register(LedgerCollector(ledger, ledger_limit_bytes, accuracy_target))
        self._requests = Counter(
            "pawqueue_http_requests_total",
            "HTTP requests.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "pawqueue_http_request_seconds",
            "Time to respond, including waiting for results.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        streams = Gauge("pawqueue_event_streams", "Open event streams.", registry=self.registry)
        streams.set_function(count_streams)
        self._refused = Counter(
            "pawqueue_refused_total", "Rejected requests and images, by error code.", ["reason"], registry=self.registry
        )

    def count_request(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count a request. `route` is a rule, not a path: otherwise every job id would create a new time series."""
        label = method if method in METHODS else OTHER
        self._requests.labels(label, route, status).inc()
        self._seconds.labels(label, route).observe(duration_s, exemplar_of(current_traceparent()))

    def count_refused(self, code: str, count: int = 1) -> None:
        """Count rejected requests or images."""
        self._refused.labels(code if code in CODES else OTHER).inc(count)


class RefusalCollector(Collector):  # type: ignore[misc]
    """Exports the counts of what the web server refused before a request reached the application."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals

    def collect(self) -> Iterator[CounterMetricFamily]:
        refused = CounterMetricFamily(
            "pawqueue_server_refused_total",
            "Requests that the web server refused and connections that it closed, by reason.",
            labels=["reason"],
        )
        for reason, count in self._refusals.counts.items():
            refused.add_metric([reason.value], count)
        yield refused


class LedgerCollector(Collector):  # type: ignore[misc]
    """Reads the ledger at each scrape; if that fails, it exports only `pawqueue_ledger_up`, never false zeros."""

    def __init__(self, ledger: Ledger, limit_bytes: int, accuracy_target: float) -> None:
        self._ledger = ledger
        self._limit_bytes = limit_bytes
        self._accuracy_target = accuracy_target

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing: otherwise registering would read the ledger."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        try:
            stats, workers, models = self._ledger.stats(), self._ledger.workers(), self._ledger.models
            routes, default = models.routes(), models.default()
            live = {name: route.live for name, route in routes.items()}
            versions, shadows = self._ledger.counts.totals(), self._ledger.shadows.totals()
            feedback = self._ledger.feedback.totals()
            accuracies = _accuracies(self._ledger.feedback, live, {name for name, _, _ in feedback})
            stored = self._ledger.server().used_bytes
            outbox = self._ledger.webhooks.stats(now_ms())
        except UnavailableError:
            yield GaugeMetricFamily("pawqueue_ledger_up", "Whether the ledger responds.", value=0)
            return
        yield GaugeMetricFamily("pawqueue_ledger_up", "Whether the ledger responds.", value=1)
        yield GaugeMetricFamily("pawqueue_workers", "Workers with a live heartbeat.", value=len(workers))
        yield GaugeMetricFamily("pawqueue_ledger_bytes", "Memory used by the ledger's Redis.", value=stored)
        limit = "Memory above which uploads are refused."
        yield GaugeMetricFamily("pawqueue_ledger_limit_bytes", limit, value=self._limit_bytes)
        yield from _gauges(stats, list(live), default)
        yield from _totals(stats, default)
        yield from _models(live, workers)
        yield from _versions(versions)
        yield from _canaries(routes)
        yield _feedback(feedback)
        yield _shadows(shadows)
        yield from _deliveries(outbox)
        yield accuracies
        target = "The accuracy below which an alert fires; 0 for no alert."
        yield GaugeMetricFamily("pawqueue_accuracy_target", target, value=self._accuracy_target)


def _gauges(stats: LedgerStats, models: Sequence[str], default: str) -> Iterator[GaugeMetricFamily]:
    labels = ["model", "queue"]
    jobs = GaugeMetricFamily("pawqueue_queue_jobs", "Jobs that are queued or running.", labels=[*labels, "state"])
    age = GaugeMetricFamily("pawqueue_oldest_job_age_seconds", "Age of the oldest queued job.", labels=labels)
    for model in dict.fromkeys([default, *models]):
        names = {model, ""} if model == default else {model}
        for queue in QUEUES:
            row = stats.of_queue(queue, names)
            jobs.add_metric([model, queue, "queued"], row.queued)
            jobs.add_metric([model, queue, "running"], row.running)
            age.add_metric([model, queue], row.oldest_age_ms / 1000)
    yield jobs
    yield age
    yield GaugeMetricFamily("pawqueue_dead_jobs", "Jobs in the dead-letter list.", value=stats.dead)


def _totals(stats: LedgerStats, default: str) -> Iterator[CounterMetricFamily]:
    labels = ["model", "queue", "status", "label"]
    finished = CounterMetricFamily("pawqueue_jobs_total", "Finished jobs.", labels=labels)
    counts: dict[tuple[str, str, str, str], int] = {}
    for (name, status, label), count in stats.totals.items():
        queue, model = split_queue_name(name)
        values = (model or default, queue, status, label)
        counts[values] = counts.get(values, 0) + count
    for values, count in counts.items():
        finished.add_metric(list(values), count)
    errors = CounterMetricFamily("pawqueue_job_errors_total", "Jobs that finished with an error.", labels=["code"])
    for code, count in stats.errors.items():
        errors.add_metric([code], count)
    yield finished
    yield errors


def _versions(totals: Mapping[tuple[str, str, str], int]) -> Iterator[CounterMetricFamily]:
    labels = ["model", "version"]
    jobs = CounterMetricFamily("pawqueue_version_jobs_total", "Jobs that a version processed.", labels=labels)
    text = "Jobs on which a version raised an exception; those of a canary are retried."
    errors = CounterMetricFamily("pawqueue_version_errors_total", text, labels=labels)
    for (model, version, kind), count in totals.items():
        (errors if kind == "errors" else jobs).add_metric([model, version], count)
    yield jobs
    yield errors


def _canaries(routes: Mapping[str, Route]) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    text = "Share of the jobs that a canary gets, 0..1."
    share = GaugeMetricFamily("pawqueue_canary_share", text, labels=["model", "version"])
    text = "Canaries that were taken back because they were worse than the live version."
    taken_back = CounterMetricFamily("pawqueue_canaries_taken_back_total", text, labels=["model"])
    for name, route in routes.items():
        if route.canary:
            share.add_metric([name, route.canary.version], route.canary.percent / 100)
        taken_back.add_metric([name], route.taken_back)
    yield share
    yield taken_back


def _feedback(totals: Mapping[tuple[str, str, bool], int]) -> CounterMetricFamily:
    feedback = CounterMetricFamily(
        "pawqueue_feedback_total",
        "Predictions whose right label was reported. A second report on a job with another label counts once more.",
        labels=["model", "version", "correct"],
    )
    for (model, version, is_right), count in totals.items():
        feedback.add_metric([model, version, str(is_right).lower()], count)
    return feedback


def _shadows(totals: Mapping[tuple[str, str, bool], int]) -> CounterMetricFamily:
    compared = CounterMetricFamily(
        "pawqueue_shadow_total",
        "Jobs that the shadow of a model predicted too, by the version of the shadow.",
        labels=["model", "version", "agreed"],
    )
    for (model, version, has_agreed), count in totals.items():
        compared.add_metric([model, version, str(has_agreed).lower()], count)
    return compared


def _deliveries(outbox: OutboxStats) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    yield GaugeMetricFamily(
        "pawqueue_oldest_due_delivery_seconds",
        "How long the first delivery to a webhook that is due has waited since then.",
        value=outbox.oldest_due_ms / 1000,
    )
    yield GaugeMetricFamily("pawqueue_dead_deliveries", "Dead deliveries that are kept.", value=outbox.dead)
    totals = CounterMetricFamily(
        "pawqueue_deliveries_total",
        "Deliveries to webhooks: events that were delivered, tries that failed, and deliveries that died.",
        labels=["result"],
    )
    for result in ("delivered", "failed", "dead"):
        totals.add_metric([result], outbox.totals.get(result, 0))
    yield totals


def _accuracies(store: FeedbackStore, live: Mapping[str, str], names: Container[str]) -> GaugeMetricFamily:
    """The accuracy of the live versions with feedback."""
    accuracy = GaugeMetricFamily(
        "pawqueue_feedback_accuracy",
        f"Accuracy of live versions by the feedback on jobs of the last {_ACCURACY_DAYS} days, and its 95 % interval.",
        labels=["model", "version", "bound"],
    )
    for name, version in live.items():
        if name in names:
            for found in store.of_model(name, _ACCURACY_DAYS):
                if found.version == version:
                    low, high = found.count.interval
                    accuracy.add_metric([name, version, "low"], low)
                    accuracy.add_metric([name, version, "mid"], found.count.right / found.count.total)
                    accuracy.add_metric([name, version, "high"], high)
    return accuracy


def _models(live: Mapping[str, str], workers: Sequence[Heartbeat]) -> Iterator[GaugeMetricFamily]:
    serving = GaugeMetricFamily("pawqueue_model_workers", "Workers that take jobs of a model.", labels=["model"])
    failing = GaugeMetricFamily(
        "pawqueue_model_failing_workers", "Workers that cannot load the live version of a model.", labels=["model"]
    )
    for model, version in live.items():
        serving.add_metric([model], sum(beat.takes_jobs_of(model) for beat in workers))
        # No jobs wait for a version that is not live: a promotion or a canary that failed reports its own problem.
        failed = (held for beat in workers for held in beat.models if held.problem)
        failing.add_metric([model], sum((held.name, held.version) == (model, version) for held in failed))
    yield serving
    yield failing
