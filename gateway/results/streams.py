"""The results of a submission as NDJSON or CSV, read from the ledger a page at a time."""

import csv
import io
import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from contract.job import Job, JobStatus
from contract.ledger.ledger import Ledger
from contract.result_row import CSV_COLUMNS, ResultRow

#: Maximum number of jobs read from the ledger in one call.
_PAGE_MAX_JOBS = 200
#: The statuses that are included by default.
FINAL_STATUSES = tuple(status for status in JobStatus if status.is_final)
_JOB_MEMBERS = (
    "status", "prediction", "error", "model", "attempts", "timings", "created_at", "finished_at", "warnings",
)  # fmt: skip

NumberedJob = tuple[int, Job]


def read_pages(
    ledger: Ledger, submission_id: str, after: int, statuses: Collection[JobStatus], limit: int | None = None
) -> Iterator[list[NumberedJob]]:
    """Yield the jobs of a submission after job number `after`; jobs are numbered from 1 in order of acceptance.

    Jobs whose records have expired are omitted. With a `limit`, at most that many jobs are yielded.
    """
    start, left = after, limit
    while left != 0 and (job_ids := ledger.submission_job_ids(submission_id, start, _PAGE_MAX_JOBS)):
        jobs = ledger.get(job_ids)
        page = [(start + n, job) for n, job in enumerate(jobs, 1) if job and job.status in statuses][:left]
        yield page
        start += len(job_ids)
        left = None if left is None else left - len(page)


def to_ndjson(pages: Iterable[list[NumberedJob]]) -> Iterator[str]:
    """One JSON object per line."""
    for page in pages:
        yield "".join(json.dumps(_line(n, job), separators=(",", ":")) + "\n" for n, job in page)


def to_csv(pages: Iterable[list[NumberedJob]]) -> Iterator[str]:
    """A header, then one line per job."""
    yield _csv_lines([CSV_COLUMNS])
    for page in pages:
        yield _csv_lines(ResultRow.of(job).cells() for _, job in page)


def _line(n: int, job: Job) -> dict[str, Any]:
    values = job.to_dict()
    return {"n": n, "custom_id": job.file, "job_id": job.id} | {name: values[name] for name in _JOB_MEMBERS}


def _csv_lines(rows: Iterable[Iterable[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
