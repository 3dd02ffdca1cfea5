"""The results of a submission as NDJSON or CSV, read from the ledger a part at a time."""

import csv
import io
import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from contract.job import Job, JobStatus
from contract.ledger.ledger import Ledger
from contract.result_row import CSV_COLUMNS, ResultRow

#: Jobs read from the ledger in one call.
_PART_MAX_JOBS = 200
#: The states that are included by default.
FINAL = tuple(status for status in JobStatus if status.is_final)
_FROM_JOB = ("status", "prediction", "error", "model", "attempts", "timings", "created_at", "finished_at")

NumberedJob = tuple[int, Job]


def read_parts(
    ledger: Ledger, submission_id: str, after: int, statuses: Collection[JobStatus], limit: int | None = None
) -> Iterator[list[NumberedJob]]:
    """Yield the jobs of a submission after the first `after`, numbered from 1 in order of acceptance.

    Expired jobs are omitted. With a `limit`, nothing is read beyond it.
    """
    start, left = after, limit
    while left != 0 and (job_ids := ledger.submission_job_ids(submission_id, start, _PART_MAX_JOBS)):
        jobs = ledger.get(job_ids)
        part = [(start + at, job) for at, job in enumerate(jobs, 1) if job and job.status in statuses][:left]
        yield part
        start += len(job_ids)
        left = None if left is None else left - len(part)


def to_ndjson(parts: Iterable[list[NumberedJob]]) -> Iterator[str]:
    """One JSON object per line."""
    for part in parts:
        yield "".join(json.dumps(_line(n, job), separators=(",", ":")) + "\n" for n, job in part)


def to_csv(parts: Iterable[list[NumberedJob]]) -> Iterator[str]:
    """A header, then one line per job."""
    yield _csv_lines([CSV_COLUMNS])
    for part in parts:
        yield _csv_lines(ResultRow.of(job).cells() for _, job in part)


def _line(n: int, job: Job) -> dict[str, Any]:
    values = job.to_dict()
    return {"n": n, "custom_id": job.file, "job_id": job.id} | {name: values[name] for name in _FROM_JOB}


def _csv_lines(rows: Iterable[Iterable[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
