"""Thumbnails that workers keep for the dashboard, for a short time."""

import base64
from collections.abc import Sequence
from typing import cast

import redis

from contract.ledger import keys
from contract.ledger.connection import unavailable_when_gone


class ThumbnailStore:
    """Thumbnails by job id in the ledger's Redis, as Base64: that client reads text only."""

    def __init__(self, client: "redis.Redis", ttl_s: int) -> None:
        self._redis = client
        self._ttl_s = ttl_s

    @unavailable_when_gone
    def put(self, job_id: str, data: bytes) -> None:
        """Store one until it expires."""
        self._redis.set(keys.thumbnail(job_id), base64.b64encode(data).decode(), ex=self._ttl_s)

    @unavailable_when_gone
    def get(self, job_ids: Sequence[str]) -> list[bytes | None]:
        """Read many in one round trip; None for a job that has none."""
        if not job_ids:
            return []
        found = cast("list[str | None]", self._redis.mget([keys.thumbnail(job_id) for job_id in job_ids]))
        return [base64.b64decode(text) if text else None for text in found]
