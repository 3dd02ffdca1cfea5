"""The spans of jobs: each has its steps in the trace in which it was accepted, and a batch links to its jobs.

A job's spans are created when its result is committed, with the times that were measured. If a worker dies, the one
that processes the job again adds its spans to the same trace.
"""

import time
from collections.abc import Sequence

from contract.job import JobResult
from contract.tracing import Tracer, is_sampled, traceparent_of
from worker.pipeline.item import Item

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000


class JobSpans:
    """Creates the spans of jobs whose trace is exported."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def add_batch(self, batch: Sequence[Item], began_s: float, ended_s: float) -> None:
        """Create the span of a batch that was predicted at these monotonic times, in the trace of its first job."""
        traced = [item for item in batch if is_sampled(item.claim.job.traceparent)]
        for item in traced:
            self._begin(item)
        if not traced:
            return
        jobs = [traceparent_of(item.span) for item in traced]
        model = traced[0].model
        span = self._tracer.start(
            "batch",
            jobs[0],
            began_ns=_wall_ns(began_s),
            links=jobs,
            attributes={"pawqueue.model": f"{model.name}@{model.version}", "pawqueue.batch_size": len(batch)},
        )
        span.end(_wall_ns(ended_s))
        for item in traced:
            item.batch = traceparent_of(span)

    def add_job(self, item: Item, result: JobResult) -> None:
        """Create the spans of a job whose result was just committed."""
        job = item.claim.job
        if not is_sampled(job.traceparent):
            return
        if item.span is None:
            self._begin(item)
        process, tracer, ended_ns = traceparent_of(item.span), self._tracer, time.time_ns()
        claimed_ns = (job.started_ms or job.created_ms) * _NS_PER_MS
        tracer.record("queue", job.traceparent, job.created_ms * _NS_PER_MS, claimed_ns)
        if result.timings and result.prediction:
            ready_ns = _wall_ns(item.ready_at_s)
            tracer.record("decode", process, ready_ns - _ns(result.timings.decode_ms), ready_ns)
            began_ns = ready_ns + _ns(result.timings.batch_wait_ms)
            predicted_ns = began_ns + _ns(result.timings.predict_ms)
            tracer.record("predict", process, began_ns, predicted_ns, [item.batch] if item.batch else ())
            tracer.record("commit", process, predicted_ns, ended_ns)
        if result.error:
            tracer.fail(item.span, result.error.code)
        item.span.end(ended_ns)

    def _begin(self, item: Item) -> None:
        job = item.claim.job
        item.span = self._tracer.start(
            "process",
            job.traceparent,
            kind="CONSUMER",
            began_ns=(job.started_ms or job.created_ms) * _NS_PER_MS,
            attributes={"pawqueue.job_id": job.id, "pawqueue.attempt": job.attempts, "pawqueue.queue": job.queue_name},
        )


def _ns(ms: float) -> int:
    return int(ms * _NS_PER_MS)


def _wall_ns(monotonic_s: float) -> int:
    """A monotonic time of this process as nanoseconds since 1970."""
    return time.time_ns() - int((time.monotonic() - monotonic_s) * _NS_PER_S)
