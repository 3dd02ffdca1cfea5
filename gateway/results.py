"""The results of a submission as they are streamed: rows in order of acceptance, few of them in memory at a time."""

import csv
import io
import json
from collections.abc import Collection, Iterator
from typing import Any

from contract.job import Job, JobStatus
from contract.ledger.ledger import Ledger

#: Jobs read from the ledger at once.
_READ_AT_ONCE = 200
#: The states that are told where none are asked for.
ENDED = tuple(status for status in JobStatus if status.is_final)
#: As `pawqueue submit` writes them.
CSV_COLUMNS = ("file", "label", "confidence", "status", "error_code", "error", "job_id", "latency_ms", "model")
_FROM_JOB = ("status", "prediction", "error", "model", "attempts", "timings", "created_at", "finished_at")
#: A spreadsheet takes a cell that begins so for a formula.
_RISKY = tuple("=+-@'\t\r\n\x7f")

Row = tuple[int, Job]


def rows(
    ledger: Ledger, submission_id: str, after: int, statuses: Collection[JobStatus], limit: int | None = None
) -> Iterator[list[Row]]:
    """Yield the jobs of a submission behind the `after`-th, with their places from 1; what is gone is left out.

    With a `limit` no more than so many, and nothing is read behind the last of them.
    """
    start, left = after, limit
    while left != 0 and (job_ids := ledger.submission_job_ids(submission_id, start, _READ_AT_ONCE)):
        jobs = ledger.get(job_ids)
        part = [(start + at, job) for at, job in enumerate(jobs, 1) if job and job.status in statuses][:left]
        yield part
        start += len(job_ids)
        left = None if left is None else left - len(part)


def ndjson(parts: Iterator[list[Row]]) -> Iterator[str]:
    """A JSON object a line."""
    for part in parts:
        yield "".join(json.dumps(line_of(n, job), separators=(",", ":")) + "\n" for n, job in part)


def line_of(n: int, job: Job) -> dict[str, Any]:
    """A row of the results."""
    values = job.to_dict()
    return {"n": n, "custom_id": job.file, "job_id": job.id} | {name: values[name] for name in _FROM_JOB}


def as_csv(parts: Iterator[list[Row]]) -> Iterator[str]:
    """A header, and a line a job."""
    yield _csv_lines([CSV_COLUMNS])
    for part in parts:
        yield _csv_lines([cells_of(job) for _, job in part])


def cells_of(job: Job) -> tuple[str, ...]:
    """A row of the CSV; text that a spreadsheet would run as a formula gets an apostrophe before it."""
    result = job.result
    prediction, error = (result.prediction, result.error) if result else (None, None)
    model = result.model if result else None
    latency_ms = None if job.finished_ms is None else max(0, job.finished_ms - job.created_ms)
    cells = (
        job.file,
        prediction.label if prediction else "",
        f"{prediction.confidence:.6g}" if prediction else "",
        str(job.status),
        error.code if error else "",
        error.detail if error else "",
        job.id,
        "" if latency_ms is None else str(latency_ms),
        f"{model.name}@{model.version}" if model else "",
    )
    return tuple(f"'{text}" if text.startswith(_RISKY) else text for text in cells)


def _csv_lines(lines: list[tuple[str, ...]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()
