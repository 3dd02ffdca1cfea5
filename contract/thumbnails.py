"""Small images that workers keep for the dashboard, for a short while: in memory for tests, in Redis otherwise."""

import base64
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import redis

from contract import keys
from contract.redis_client import unavailable_when_gone


class ThumbnailStore(ABC):
    """Keeps thumbnails by job id; methods raise `UnavailableError` when the store does not answer."""

    @abstractmethod
    def put(self, job_id: str, data: bytes) -> None:
        """Store one, for its time to live."""

    @abstractmethod
    def get(self, job_ids: Sequence[str]) -> list[bytes | None]:
        """Read many in one round trip; None for a job that has none."""


class MemoryThumbnailStore(ThumbnailStore):
    """The fake for unit tests, held to the same behaviour tests as the real one; it forgets nothing."""

    def __init__(self) -> None:
        self._thumbnails: dict[str, bytes] = {}

    def put(self, job_id: str, data: bytes) -> None:
        self._thumbnails[job_id] = data

    def get(self, job_ids: Sequence[str]) -> list[bytes | None]:
        return [self._thumbnails.get(job_id) for job_id in job_ids]


class RedisThumbnailStore(ThumbnailStore):
    """Thumbnails in the ledger's Redis, as text: its client reads text only."""

    def __init__(self, client: "redis.Redis", ttl_s: int) -> None:
        self._redis = client
        self._ttl_s = ttl_s

    @unavailable_when_gone
    def put(self, job_id: str, data: bytes) -> None:
        self._redis.set(keys.thumbnail(job_id), base64.b64encode(data).decode(), ex=self._ttl_s)

    @unavailable_when_gone
    def get(self, job_ids: Sequence[str]) -> list[bytes | None]:
        if not job_ids:
            return []
        found = cast("list[str | None]", self._redis.mget([keys.thumbnail(job_id) for job_id in job_ids]))
        return [base64.b64decode(text) if text else None for text in found]
