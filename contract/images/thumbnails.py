"""Thumbnails that workers store for the dashboard. They expire after a short time."""

import base64
from collections.abc import Sequence
from typing import cast

import redis

from contract.ledger import keys
from contract.ledger.connection import read_scripts, redis_errors_as_unavailable


class ThumbnailStore:
    """Stores thumbnails in the ledger's Redis by job id, Base64-encoded because its client decodes replies as text."""

    def __init__(self, client: "redis.Redis", ttl_s: int) -> None:
        self._redis = client
        self._ttl_s = ttl_s
        self._put = client.register_script(read_scripts()["thumbnail"])

    @redis_errors_as_unavailable
    def put(self, job_id: str, data: bytes, fence: int) -> bool:
        """Store the thumbnail of a job that was processed under the claim `fence`; it expires no later than the job.

        Returns:
            False if the job was purged or claimed again in the meantime; nothing is stored.
        """
        return bool(self._put(args=[job_id, fence, self._ttl_s, base64.b64encode(data).decode()]))

    @redis_errors_as_unavailable
    def get(self, job_ids: Sequence[str]) -> list[bytes | None]:
        """Read thumbnails in one round trip; None for a job without one."""
        if not job_ids:
            return []
        found = cast("list[str | None]", self._redis.mget([keys.thumbnail(job_id) for job_id in job_ids]))
        return [base64.b64decode(text) if text else None for text in found]
