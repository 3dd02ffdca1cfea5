"""How jobs, claims and results are written in Redis."""

import json
from typing import Any

from contract.job import SCHEMA, Job, JobResult, JobStatus
from contract.ledger.types import Claim, Submit
from contract.submission import COUNTED, Counts, Submission

_OPTIONAL = ("file", "image", "deadline_ms", "owner", "submission")


def job_to_fields(job: Job) -> dict[str, str | int]:
    """A queued job as the fields of its stored record; absent ones are not stored."""
    fields: dict[str, Any] = {
        "v": SCHEMA,
        "status": str(job.status),
        "queue": job.queue,
        "created_ms": job.created_ms,
        "size_bytes": job.size_bytes,
    }
    return fields | {name: value for name in _OPTIONAL if (value := getattr(job, name))}


def submit_to_row(submit: Submit) -> list[str | int]:
    """A submit as the arguments that `submit.lua` takes for a job."""
    job, fields = submit.job, job_to_fields(submit.job)
    head: list[str | int] = [job.id, job.queue, job.created_ms, job.deadline_ms or 0, job.size_bytes]
    values: list[str | int] = [value for field in fields.items() for value in field]
    return [*head, submit.idempotency_key, submit.fingerprint, job.owner, job.submission, len(values), *values]


def result_to_json(result: JobResult) -> str:
    """A result as it is stored."""
    return json.dumps(result.to_dict(), separators=(",", ":"), ensure_ascii=False)


def code_of(result: JobResult) -> str:
    """The error code of a result, empty for a prediction."""
    return result.error.code if result.error else ""


def claim_from_row(job_id: str, row: list[str] | None) -> Claim | None:
    """A claim out of a record as a flat list; None where there was none to have."""
    if not row:
        return None
    job = job_from_fields(job_id, dict(pairs(row)))
    return Claim(job, job.fence, alone="alone" in row[::2]) if job else None


def job_from_fields(job_id: str, fields: dict[str, str]) -> Job | None:
    """A job out of its stored record; None where there is none."""
    if not fields:
        return None
    result = fields.get("outcome")
    return Job(
        id=job_id,
        queue=fields["queue"],
        status=JobStatus(fields["status"]),
        created_ms=int(fields["created_ms"]),
        file=fields.get("file", ""),
        size_bytes=int(fields.get("size_bytes", 0)),
        image=fields.get("image", ""),
        owner=fields.get("owner", ""),
        submission=fields.get("submission", ""),
        started_ms=_int_or_none(fields.get("started_ms")),
        finished_ms=_int_or_none(fields.get("finished_ms")),
        deadline_ms=_int_or_none(fields.get("deadline_ms")),
        attempts=int(fields.get("attempts", 0)),
        fence=int(fields.get("fence", 0)),
        result=JobResult.from_dict(json.loads(result)) if result else None,
    )


def rejected_to_row(job: Job) -> list[str | int]:
    """An image that became no job as the arguments that `reject.lua` takes for it."""
    fields = job_to_fields(job) | ({"outcome": result_to_json(job.result)} if job.result else {})
    values: list[str | int] = [value for field in fields.items() for value in field]
    return [job.id, job.submission, len(values), *values]


def submission_to_fields(submission: Submission) -> dict[str, str | int]:
    """A new submission as the fields of its stored record, the same ones for every submission."""
    return {
        "name": submission.name,
        "queue": submission.queue,
        "owner": submission.owner,
        "deadline_s": "" if submission.deadline_s is None else repr(submission.deadline_s),
        "created_ms": submission.created_ms,
    }


def submission_from_fields(submission_id: str, fields: dict[str, str]) -> Submission | None:
    """A submission out of its stored record; None where there is none."""
    if not fields:
        return None
    times = {name: _int_or_none(fields.get(name)) for name in _SUBMISSION_TIMES}
    return Submission(
        id=submission_id,
        queue=fields["queue"],
        created_ms=int(fields["created_ms"]),
        name=fields["name"],
        owner=fields["owner"],
        deadline_s=float(fields["deadline_s"]) if fields["deadline_s"] else None,
        counts=Counts(**{name: int(fields.get(name, 0)) for name in COUNTED}),
        mark_processed=int(fields.get("mark_processed", 0)),
        **times,
    )


_SUBMISSION_TIMES = ("closed_ms", "canceled_ms", "finished_ms", "started_ms", "mark_ms")


def _int_or_none(text: str | None) -> int | None:
    return None if text is None else int(text)


def pairs(flat: list[str]) -> list[tuple[str, str]]:
    """Names and values out of the flat list in which Lua returns a hash."""
    return list(zip(flat[::2], flat[1::2], strict=True))
