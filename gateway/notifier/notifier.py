"""Claims deliveries that are due, tries them in threads, and records what happened."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics

from contract.errors import UnavailableError
from contract.job import now_ms
from contract.ledger.webhooks import Delivery, WebhookStore
from contract.log import get_logger
from contract.outbound import Outbound
from contract.tracing import Tracer, is_sampled, traceparent_of
from gateway.notifier.message import Outcome, send

_log = get_logger(__name__)

#: Tries at the same time, in total and of a lane: a slow endpoint occupies at most `LANE_MAX`.
TRIES_MAX = 64
LANE_MAX = 8
#: Longer than a try, so that no other notifier repeats it meanwhile.
_LEASE_MS = 30_000
#: Pause between two looks for deliveries while none is due.
_POLL_S = 0.25
#: Pause after Redis did not respond.
_OUTAGE_POLL_S = 1.0
_TRIM_S = 60.0
#: How much later than planned a try may be, at random, so that deliveries do not arrive together.
_JITTER = 0.2
#: A delivery whose endpoint is paused again and again dies this much later than with all its tries.
_GRACE_S = 86_400
#: The loop counts as hanging if it has not turned for this long.
_HANGS_S = 60.0
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)


class NotifierMetrics:
    """The metrics of one notifier. The state of the outbox is among the metrics of the gateway."""

    def __init__(self) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self.tries = Gauge(
            "pawqueue_webhook_tries_in_progress", "Deliveries that are being tried.", registry=self.registry
        )
        self.seconds = Histogram(
            "pawqueue_webhook_try_seconds",
            "Duration of a try to deliver an event, by result.",
            ["result"],
            buckets=_SECONDS,
            registry=self.registry,
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a delivery is tried again."""

    #: The pauses between the tries.
    pauses_s: Sequence[float]

    @property
    def max_age_ms(self) -> int:
        """When a delivery dies even if it has tries left."""
        return int(1000 * ((1 + _JITTER) * sum(self.pauses_s) + _GRACE_S))

    def pause_ms(self, failed: int, retry_after_s: int, jitter: float) -> int | None:
        """The pause after this many failed tries, at least `retry_after_s`; None after the last one.

        `jitter` is a random number, 0..1.
        """
        if failed > len(self.pauses_s):
            return None
        return int(1000 * max(self.pauses_s[failed - 1] * (1 + _JITTER * jitter), retry_after_s))


class Notifier:
    """Delivers events until it is stopped; several notifiers share the work."""

    def __init__(  # noqa: PLR0913 - one for each part that a test may replace
        self,
        webhooks: WebhookStore,
        outbound: Outbound,
        schedule: Schedule,
        *,
        dead_ttl_s: int,
        prefix: str = "",
        metrics: NotifierMetrics | None = None,
        tracer: Tracer | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._webhooks, self._outbound, self._schedule = webhooks, outbound, schedule
        self._dead_ttl_s, self._prefix, self._jitter = dead_ttl_s, prefix, jitter
        self.metrics = metrics or NotifierMetrics()
        self._tracer = tracer
        self._busy: Counter[str] = Counter()
        #: Set when a try has ended.
        self._changed = threading.Event()
        self._lock = threading.Lock()
        self._stopping = False
        self._turned_s = time.monotonic()
        self._problem = "Redis was not asked yet."

    def run(self) -> None:
        """Deliver events until `stop` is called, then wait for the tries in progress."""
        next_trim_s = 0.0
        with ThreadPoolExecutor(TRIES_MAX, "webhook") as pool:
            while not self._stopping:
                self._turned_s = time.monotonic()
                self._changed.clear()
                try:
                    claimed = self._claim()
                    if time.monotonic() >= next_trim_s:
                        self._webhooks.trim(self._dead_ttl_s)
                        next_trim_s = time.monotonic() + _TRIM_S
                    self._problem = ""
                except UnavailableError as error:
                    if not self._problem:
                        _log.warning("Deliveries wait", reason=error.detail)
                    self._problem = error.detail
                    self._changed.wait(_OUTAGE_POLL_S)
                    continue
                for delivery in claimed:
                    pool.submit(self._deliver, delivery)
                if not claimed:
                    self._changed.wait(_POLL_S)

    def stop(self) -> None:
        """Claim no more deliveries; `run` returns when the tries in progress have ended.

        A handler of signals may call it, so it takes no lock.
        """
        self._stopping = True

    def liveness_problem(self) -> str:
        """Why the process should be replaced; empty if it is healthy."""
        hangs = time.monotonic() > self._turned_s + _HANGS_S and not self._stopping
        return "The loop that claims deliveries hangs." if hangs else ""

    def readiness_problem(self) -> str:
        """Why no events are delivered; empty if they are."""
        return "The notifier is stopping." if self._stopping else self.liveness_problem() or self._problem

    def _claim(self) -> list[Delivery]:
        with self._lock:
            busy = {lane: count for lane, count in self._busy.items() if count}
        free = TRIES_MAX - sum(busy.values())
        if not free:
            return []
        claimed = self._webhooks.claim(free, _LEASE_MS, LANE_MAX, self._schedule.max_age_ms, busy)
        with self._lock:
            self._busy.update(delivery.lane for delivery in claimed)
        return claimed

    def _deliver(self, delivery: Delivery) -> None:
        started_s = time.monotonic()
        try:
            with self.metrics.tries.track_inprogress():
                self._try(delivery, started_s)
        except UnavailableError as error:  # it is tried again when its lease expires
            _log.warning("A delivery was not settled", delivery=delivery.id, reason=error.detail)
        # The thread has no caller that would report it.
        except Exception:  # noqa: BLE001
            _log.exception("A delivery failed unexpectedly", delivery=delivery.id)
        finally:
            with self._lock:
                self._busy[delivery.lane] -= 1
                if not self._busy[delivery.lane]:
                    del self._busy[delivery.lane]
            self._changed.set()

    def _try(self, delivery: Delivery, started_s: float) -> None:
        time_ms = now_ms()
        secrets = self._webhooks.secrets(delivery.owner).valid(time_ms)
        outcome = self._send(delivery, secrets, time_ms // 1000)
        self.metrics.seconds.labels(outcome.result).observe(time.monotonic() - started_s)
        failed = delivery.tries + 1
        pause_ms = self._schedule.pause_ms(failed, outcome.retry_after_s, self._jitter())
        self._webhooks.settle(delivery, outcome.result, pause_ms, outcome.problem)
        self._log_outcome(delivery, outcome, failed, is_last=pause_ms is None)

    def _send(self, delivery: Delivery, secrets: Sequence[str], now_s: int) -> Outcome:
        """Try once, in the trace of the job if it has one."""
        traceparent = delivery.record.get("traceparent", "")
        if not self._tracer or not is_sampled(traceparent):
            return send(self._outbound, delivery, secrets, self._prefix, now_s, traceparent)
        attributes = {"pawqueue.job_id": delivery.subject, "pawqueue.attempt": delivery.tries + 1}
        span = self._tracer.start("webhook", traceparent, kind="CLIENT", attributes=attributes)
        try:
            outcome = send(self._outbound, delivery, secrets, self._prefix, now_s, traceparent_of(span))
            if outcome.problem:
                self._tracer.fail(span, outcome.result)
            return outcome
        finally:
            span.end()

    def _log_outcome(self, delivery: Delivery, outcome: Outcome, failed: int, *, is_last: bool) -> None:
        if outcome.result == "delivered":
            return
        is_dead = is_last or outcome.result == "gone"
        # Without the URL, which may contain a secret.
        fields = {"delivery": delivery.id, "type": delivery.type, "subject": delivery.subject, "owner": delivery.owner}
        log = _log.warning if is_dead else _log.info
        log("A delivery is dead" if is_dead else "A delivery failed", **fields, tries=failed, reason=outcome.problem)
