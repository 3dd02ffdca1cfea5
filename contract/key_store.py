"""Where API keys are kept: in memory for tests, in the ledger's Redis otherwise."""

import json
import threading
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass

import redis

from contract import keys
from contract.redis_client import unavailable_when_gone


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is stored of an API key."""

    id: str
    #: For people.
    name: str
    scopes: tuple[str, ...]
    #: SHA-256 of the secret, in hexadecimal.
    digest: str
    created_ms: int
    #: Such as `100 per minute`; empty: the default of the settings.
    rate_limit: str = ""
    revoked_ms: int | None = None


class KeyStore(ABC):
    """Keeps API keys by id; methods raise `UnavailableError` when the store does not answer."""

    @abstractmethod
    def put(self, key: ApiKey) -> None:
        """Store a key, or what has changed of it."""

    @abstractmethod
    def get(self, key_id: str) -> ApiKey | None:
        """Read one; None for an unknown id."""

    @abstractmethod
    def all(self) -> list[ApiKey]:
        """Read all, revoked ones included, oldest first."""


class MemoryKeyStore(KeyStore):
    """The fake for unit tests, held to the same behaviour tests as the real one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, ApiKey] = {}

    def put(self, key: ApiKey) -> None:
        with self._lock:
            self._keys[key.id] = key

    def get(self, key_id: str) -> ApiKey | None:
        with self._lock:
            return self._keys.get(key_id)

    def all(self) -> list[ApiKey]:
        with self._lock:
            return sorted(self._keys.values(), key=_age)


class RedisKeyStore(KeyStore):
    """API keys in one hash of the ledger's Redis."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client

    @unavailable_when_gone
    def put(self, key: ApiKey) -> None:
        self._redis.hset(keys.API_KEYS, key.id, json.dumps(asdict(key)))

    @unavailable_when_gone
    def get(self, key_id: str) -> ApiKey | None:
        text = self._redis.hget(keys.API_KEYS, key_id)
        return _read(str(text)) if text else None

    @unavailable_when_gone
    def all(self) -> list[ApiKey]:
        texts: list[str] = self._redis.hvals(keys.API_KEYS)  # type: ignore[assignment]  # its client is not async
        return sorted(map(_read, texts), key=_age)


def _read(text: str) -> ApiKey:
    values = json.loads(text)
    return ApiKey(**{**values, "scopes": tuple(values["scopes"])})


def _age(key: ApiKey) -> tuple[int, str]:
    return key.created_ms, key.id
