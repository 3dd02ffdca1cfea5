"""Submissions in the ledger on Redis: one hash and one list each."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, cast

import redis

from contract import keys
from contract.job import Job
from contract.ledger_records import rejected_to_row, submission_from_fields, submission_to_fields
from contract.ledger_submissions import SubmissionLedger
from contract.ledger_types import Submitted
from contract.redis_client import read_scripts, unavailable_when_gone
from contract.submission import Submission


class RedisSubmissions(SubmissionLedger):
    """See `SubmissionLedger`; safe to share between threads."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client
        self._scripts = {name: client.register_script(text) for name, text in read_scripts().items()}

    def _run(self, script: str, *arguments: str | int) -> Any:
        return self._scripts[script](args=list(arguments))

    @unavailable_when_gone
    def open_submission(self, submission: Submission, ttl_s: int) -> Submitted:
        values = [value for item in submission_to_fields(submission).items() for value in item]
        head = (submission.id, submission.owner, submission.created_ms, ttl_s, len(values))
        return Submitted(self._run("open", *head, *values))

    @unavailable_when_gone
    def close_submission(self, submission_id: str, ttl_s: int, now_ms: int = 0, *, withdrawn: bool = False) -> None:
        self._run("close", submission_id, now_ms, ttl_s, int(withdrawn))

    @unavailable_when_gone
    def submission(self, submission_id: str) -> Submission | None:
        return self._read([submission_id])[0]

    @unavailable_when_gone
    def submissions(self, owner: str, count: int) -> list[Submission]:
        ids = cast("list[str]", self._redis.zrevrange(keys.submissions(owner), 0, -1))
        chunks = (ids[at : at + count] for at in range(0, len(ids), count))
        found = (submission for chunk in chunks for submission in self._alive(owner, chunk))
        return list(islice(found, count))

    def _alive(self, owner: str, ids: list[str]) -> list[Submission]:
        """Read submissions, and take those off the list whose time to live has ended."""
        found = self._read(ids)
        gone = [one_id for one_id, submission in zip(ids, found, strict=True) if submission is None]
        if gone:
            self._redis.zrem(keys.submissions(owner), *gone)
        return [submission for submission in found if submission]

    def _read(self, ids: Sequence[str]) -> list[Submission | None]:
        pipeline = self._redis.pipeline(transaction=False)
        for one_id in ids:
            pipeline.hgetall(keys.submission(one_id))
        return [submission_from_fields(one_id, row) for one_id, row in zip(ids, pipeline.execute(), strict=True)]

    @unavailable_when_gone
    def submission_job_ids(self, submission_id: str, start: int, count: int) -> list[str]:
        key = keys.submission_jobs(submission_id)
        return cast("list[str]", self._redis.lrange(key, start, start + count - 1))

    @unavailable_when_gone
    def reject(self, jobs: Sequence[Job], ttl_s: int, now_ms: int = 0) -> list[bool]:
        rows = [value for job in jobs for value in rejected_to_row(job)]
        return [bool(value) for value in self._run("reject", now_ms, ttl_s, *rows)]
