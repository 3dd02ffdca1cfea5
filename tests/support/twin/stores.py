import secrets
import threading
from collections.abc import Sequence

from contract.images.store import ImageStore


class MemoryImageStore(ImageStore):
    """The fake for unit tests, held to the same behaviour tests as the real ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        ref = secrets.token_hex(16)
        with self._lock:
            self._images[ref] = data
        return ref

    def get(self, refs: Sequence[str]) -> list[bytes | None]:
        with self._lock:
            return [self._images.get(ref) for ref in refs]

    def delete(self, refs: Sequence[str]) -> None:
        with self._lock:
            for ref in refs:
                self._images.pop(ref, None)


class MemoryThumbnailStore:
    """The fake for unit tests, held to the same behaviour tests as the real one; it forgets nothing."""

    def __init__(self) -> None:
        self._thumbnails: dict[str, bytes] = {}

    def put(self, job_id: str, data: bytes) -> None:
        self._thumbnails[job_id] = data

    def get(self, job_ids: Sequence[str]) -> list[bytes | None]:
        return [self._thumbnails.get(job_id) for job_id in job_ids]


class MemoryKeyStore:
    def __init__(self):
        self._keys = {}

    def put(self, key):
        self._keys[key.id] = key

    def get(self, key_id):
        return self._keys.get(key_id)

    def all(self):
        return sorted(self._keys.values(), key=lambda key: (key.created_ms, key.id))
