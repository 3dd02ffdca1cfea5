"""How jobs, submissions and results are stored in Redis."""

import json
from typing import Any

from contract.job import SCHEMA, Job, JobResult, JobStatus
from contract.ledger.types import Claim, Submit
from contract.queues import split_queue_name
from contract.submission import COUNTED, Counts, Submission

_OPTIONAL = ("file", "image", "deadline_ms", "owner", "submission", "model", "top_k", "webhook", "traceparent")


def job_to_fields(job: Job) -> dict[str, str | int]:
    """The stored fields of a queued job; empty ones are left out."""
    fields: dict[str, Any] = {
        "v": SCHEMA,
        "status": str(job.status),
        "queue": job.queue_name,
        "created_ms": job.created_ms,
        "size_bytes": job.size_bytes,
    }
    return fields | {name: value for name in _OPTIONAL if (value := getattr(job, name))}


def submit_to_row(submit: Submit) -> list[str | int]:
    """The arguments of `submit.lua` for one job."""
    job, fields = submit.job, job_to_fields(submit.job)
    head: list[str | int] = [job.id, job.queue_name, job.created_ms, job.deadline_ms or 0, job.size_bytes]
    if job.webhook:
        fields["called"] = job.id  # the record has another id if another owner uses this one
    values: list[str | int] = [value for field in fields.items() for value in field]
    return [
        *head,
        submit.idempotency_key,
        submit.fingerprint,
        job.owner,
        job.submission,
        submit.own_id,
        len(values),
        *values,
    ]


def result_to_json(result: JobResult) -> str:
    """The stored form of a result."""
    return json.dumps(result.to_dict(), separators=(",", ":"), ensure_ascii=False)


def code_of(result: JobResult) -> str:
    """The error code of a result; empty for a prediction."""
    return result.error.code if result.error else ""


def claim_from_row(job_id: str, row: list[str]) -> Claim:
    """Read a claim from a reply of `claim.lua`."""
    fields = dict(pairs(row))
    job = _job_of(job_id, fields)
    return Claim(job, job.fence, fields.get("routed", ""), "alone" in fields, fields.get("instead", ""))


def job_from_fields(job_id: str, fields: dict[str, str]) -> Job | None:
    """Read a job from its stored fields; None if there are none. Unknown fields, from a newer version, are ignored."""
    return _job_of(job_id, fields) if fields else None


def _job_of(job_id: str, fields: dict[str, str]) -> Job:
    result = fields.get("outcome")  # the name of the result in stored records
    return Job(
        id=job_id,
        queue=split_queue_name(fields["queue"])[0],
        model=fields.get("model", ""),
        top_k=int(fields.get("top_k", 0)),
        status=JobStatus(fields["status"]),
        created_ms=int(fields["created_ms"]),
        file=fields.get("file", ""),
        size_bytes=int(fields.get("size_bytes", 0)),
        traceparent=fields.get("traceparent", ""),
        image=fields.get("image", ""),
        owner=fields.get("owner", ""),
        submission=fields.get("submission", ""),
        webhook=fields.get("webhook", ""),
        number=int(fields.get("n", 0)),
        started_ms=_int_or_none(fields.get("started_ms")),
        finished_ms=_int_or_none(fields.get("finished_ms")),
        deadline_ms=_int_or_none(fields.get("deadline_ms")),
        attempts=int(fields.get("attempts", 0)),
        fence=int(fields.get("fence", 0)),
        result=JobResult.from_dict(json.loads(result)) if result else None,
    )


def rejected_to_row(job: Job, own_id: str) -> list[str | int]:
    """The arguments of `reject.lua` for one rejected image; `own_id` as in `Submit`."""
    fields = job_to_fields(job) | ({"outcome": result_to_json(job.result)} if job.result else {})
    values: list[str | int] = [value for field in fields.items() for value in field]
    return [job.id, job.submission, own_id, job.owner, len(values), *values]


def submission_to_fields(submission: Submission) -> dict[str, str | int]:
    """The stored fields of a new submission, among them all that `open.lua` compares."""
    called: dict[str, str | int] = {"called": submission.id} if submission.webhook else {}  # as in `submit_to_row`
    return called | {
        "name": submission.name,
        "queue": submission.queue,
        "model": submission.model,
        "top_k": submission.top_k or "",
        "owner": submission.owner,
        "webhook": submission.webhook,
        "deadline_s": "" if submission.deadline_s is None else repr(submission.deadline_s),
        "created_ms": submission.created_ms,
    }


def submission_from_fields(submission_id: str, fields: dict[str, str]) -> Submission | None:
    """Read a submission from its stored fields; None if there are none."""
    if not fields:
        return None
    times = {name: _int_or_none(fields.get(name)) for name in _SUBMISSION_TIMES}
    return Submission(
        id=submission_id,
        queue=fields["queue"],
        created_ms=int(fields["created_ms"]),
        name=fields["name"],
        owner=fields["owner"],
        webhook=fields.get("webhook", ""),
        model=fields.get("model", ""),
        top_k=int(fields.get("top_k") or 0),
        deadline_s=float(fields["deadline_s"]) if fields["deadline_s"] else None,
        counts=Counts(**{name: int(fields.get(name, 0)) for name in COUNTED}),
        mark_processed=int(fields.get("mark_processed", 0)),
        **times,
    )


_SUBMISSION_TIMES = ("closed_ms", "canceled_ms", "finished_ms", "started_ms", "mark_ms")


def _int_or_none(text: str | None) -> int | None:
    return None if text is None else int(text)


def pairs(flat: list[str]) -> list[tuple[str, str]]:
    """The name-value pairs of a hash, which Lua returns as a flat list."""
    return list(zip(flat[::2], flat[1::2], strict=True))
