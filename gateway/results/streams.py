"""The results of a submission as NDJSON or CSV, read from the ledger a page at a time.

There are two orders. Jobs are only appended to the order of finishing, so a reader can follow it with a cursor while
the submission runs. The order of acceptance ends before the first unfinished job: beyond it, a job could still finish
before one that the reader already has, and the reader would miss it.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from contract.csv_text import csv_line
from contract.job import Job, JobStatus
from contract.ledger.ledger import Ledger
from contract.result_row import CSV_COLUMNS, ResultRow
from contract.web.turns import yield_turn

#: Maximum number of jobs read from the ledger in one call, which cannot be interrupted: 2 ms.
_PAGE_MAX_JOBS = 50
#: The statuses that are included by default.
FINAL_STATUSES = tuple(status for status in JobStatus if status.is_final)
_JOB_MEMBERS = (
    "status", "prediction", "error", "model", "attempts", "timings", "created_at", "finished_at", "warnings",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listed:
    """A job in the results of its submission."""

    job: Job
    #: Its number in order of acceptance, from 1.
    n: int
    #: Its number in order of finishing, from 1; None in results in order of acceptance.
    cursor: int | None = None


def in_order_of_finishing(
    ledger: Ledger, submission_id: str, cursor: int, statuses: Collection[JobStatus], limit: int | None = None
) -> Iterator[list[Listed]]:
    """Yield the finished jobs after a cursor in pages, at most `limit` jobs. Expired records are omitted."""
    ledger.list_finished(submission_id)
    return _selected(_finished(ledger, submission_id, cursor), statuses, limit)


def in_order_of_acceptance(
    ledger: Ledger, submission_id: str, after: int, statuses: Collection[JobStatus], limit: int | None = None
) -> Iterator[list[Listed]]:
    """Yield the jobs after job number `after` in pages, at most `limit` jobs. Expired records are omitted.

    Ends before the first unfinished job, unless `statuses` includes unfinished jobs.
    """
    pages = _accepted(ledger, submission_id, after)
    if all(status.is_final for status in statuses):
        pages = _until_unfinished(pages)
    return _selected(pages, statuses, limit)


def to_ndjson(pages: Iterable[list[Listed]]) -> Iterator[str]:
    """One JSON object per line."""
    for page in pages:
        yield "".join(json.dumps(_line(listed), separators=(",", ":")) + "\n" for listed in page)


def to_csv(pages: Iterable[list[Listed]], *, with_cursor: bool = False) -> Iterator[str]:
    """A header, then one line per job; `with_cursor` adds the cursor as last column."""
    yield csv_line([*CSV_COLUMNS, *(["cursor"] if with_cursor else [])])
    for page in pages:
        yield "".join(
            csv_line([*ResultRow.of(listed.job).cells(), *([listed.cursor] if with_cursor else [])]) for listed in page
        )


def _finished(ledger: Ledger, submission_id: str, cursor: int) -> Iterator[list[Listed]]:
    while found := ledger.submission_finished(submission_id, cursor, _PAGE_MAX_JOBS):
        yield_turn()
        jobs = ledger.get([job_id for _, job_id in found])
        places = enumerate(zip(jobs, found, strict=True), cursor + 1)
        yield [Listed(job, n, place) for place, (job, (n, _)) in places if job and _is_numbered(job, n)]
        cursor += len(found)


def _accepted(ledger: Ledger, submission_id: str, after: int) -> Iterator[list[Listed]]:
    while job_ids := ledger.submission_job_ids(submission_id, after, _PAGE_MAX_JOBS):
        yield_turn()
        jobs = enumerate(ledger.get(job_ids), after + 1)
        yield [Listed(job, n) for n, job in jobs if job and _is_numbered(job, n)]
        after += len(job_ids)


def _is_numbered(job: Job, n: int) -> bool:
    """False if this is a later job with the same id: its image was resent after the first record had expired."""
    return job.number in (0, n)


def _until_unfinished(pages: Iterable[list[Listed]]) -> Iterator[list[Listed]]:
    for page in pages:
        finished = list(takewhile(lambda listed: listed.job.status.is_final, page))
        yield finished
        if len(finished) < len(page):
            return


def _selected(
    pages: Iterable[list[Listed]], statuses: Collection[JobStatus], limit: int | None
) -> Iterator[list[Listed]]:
    left = limit
    for page in pages:
        yield_turn()
        selected = [listed for listed in page if listed.job.status in statuses][:left]
        yield selected
        left = None if left is None else left - len(selected)
        if left == 0:
            return


def _line(listed: Listed) -> dict[str, Any]:
    job, values = listed.job, listed.job.to_dict()
    head = {"n": listed.n, "cursor": listed.cursor, "custom_id": job.file, "job_id": job.id}
    return head | {name: values[name] for name in _JOB_MEMBERS}
