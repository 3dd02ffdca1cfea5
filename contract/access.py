"""API keys and their scopes: how keys are stored, and how the gateway and the dashboard check them.

An API key has the form `pq_<id>_<secret>`. The id is public: it identifies the key in lists and logs, and is
recorded with the jobs that were sent with the key. Only a SHA-256 of the secret is stored: a secret of 256 random bits
does not need a slow hash.
"""

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

import redis

from contract.errors import ForbiddenError, UnauthorizedError
from contract.job import Job, known_fields, now_ms
from contract.ledger import keys
from contract.ledger.connection import redis_errors_as_unavailable
from contract.submission import Submission

_PREFIX = "pq"
#: How long a key is cached. A revoked key stops working within this time.
KEY_CACHE_S = 2.0
#: Compared when the id is unknown: rejecting an unknown id must take as long as rejecting a wrong secret.
_NO_DIGEST = hashlib.sha256(b"").hexdigest()


class Scope(StrEnum):
    """What an API key may be used for."""

    #: Send images, and cancel your own jobs.
    SUBMIT = "submit"
    #: Read your own jobs.
    READ = "read"
    #: Read the dead letters of all owners, and the dashboard; with `submit`, purge and label the jobs of all owners;
    #: with `read`, read all images that are kept for review.
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored API key, without its secret."""

    id: str
    #: For display.
    name: str
    scopes: tuple[str, ...]
    #: SHA-256 of the secret, in hexadecimal.
    digest: str
    created_ms: int
    #: For example `100 per minute`; empty for the default in the settings.
    rate_limit: str = ""
    revoked_ms: int | None = None
    #: The webhook of jobs and submissions that name none; empty for none.
    webhook: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. By default, they may see nothing."""

    #: Id of the API key; empty if no key is required.
    owner: str = ""
    rate_limit: str = ""
    #: The webhook of jobs and submissions that name none; empty for none.
    webhook: str = ""
    #: Whether the API key has the scope `admin`.
    is_admin: bool = False
    sees_all: bool = False

    def may_see(self, record: Job | Submission) -> bool:
        """Whether this caller may read a record."""
        return self.sees_all or (bool(self.owner) and self.owner == record.owner)

    def may_manage(self, record: Job | Submission) -> bool:
        """Whether this caller may purge or label a record: its owner, or an admin."""
        return self.is_admin or self.may_see(record)


#: The caller if no API key is required.
ANYONE = Caller(sees_all=True)


def make_key(name: str, scopes: tuple[Scope, ...], rate_limit: str = "") -> tuple[ApiKey, str]:
    """Make an API key; returns the record to store, and the key itself, which is not stored."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    stored = ApiKey(key_id, name, tuple(map(str, scopes)), _digest(secret), now_ms(), rate_limit)
    return stored, f"{_PREFIX}_{key_id}_{secret}"


class KeyStore:
    """Stores API keys in the ledger's Redis; methods raise `UnavailableError` if Redis is not responding."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client

    @redis_errors_as_unavailable
    def put(self, key: ApiKey) -> None:
        """Store a key, or replace it."""
        values = asdict(key)
        if not key.webhook:
            del values["webhook"]  # gateways of version 0.1 reject a field that they do not know
        self._redis.hset(keys.API_KEYS, key.id, json.dumps(values))

    @redis_errors_as_unavailable
    def get(self, key_id: str) -> ApiKey | None:
        """Read a key; None for an unknown id."""
        text = self._redis.hget(keys.API_KEYS, key_id)
        return _key_from_json(str(text)) if text else None

    @redis_errors_as_unavailable
    def all(self) -> list[ApiKey]:
        """Read all keys, including revoked ones, oldest first."""
        texts: list[str] = self._redis.hvals(keys.API_KEYS)  # type: ignore[assignment]  # the client is synchronous
        return sorted(map(_key_from_json, texts), key=lambda key: (key.created_ms, key.id))


def revoke(store: KeyStore, key_id: str) -> ApiKey | None:
    """Revoke an API key permanently; returns the key, or None for an unknown id."""
    key = store.get(key_id)
    if key is not None and key.revoked_ms is None:
        key = replace(key, revoked_ms=now_ms())
        store.put(key)
    return key


class Access:
    """Checks API keys; safe to share between threads."""

    def __init__(self, store: KeyStore, *, required: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.required = required
        self._store = store
        self._clock = clock
        #: Key and expiry time by id.
        self._cache: dict[str, tuple[ApiKey, float]] = {}

    def check(self, text: str, scope: Scope) -> Caller:
        """Return the caller that an API key identifies, or `ANYONE` if no key is required.

        Raises:
            UnauthorizedError: the key is missing, unknown or revoked.
            ForbiddenError: the key lacks the scope.
            UnavailableError: Redis is not responding.
        """
        if not self.required:
            return ANYONE
        key = self._authenticate(text)
        if str(scope) not in key.scopes:
            raise ForbiddenError(
                f"This request requires an API key with the scope `{scope}`. Your key has: {', '.join(key.scopes)}."
            )
        return Caller(key.id, key.rate_limit, key.webhook, Scope.ADMIN in key.scopes)

    def has_keys(self) -> bool:
        """Whether at least one valid key exists.

        Raises:
            UnavailableError: Redis is not responding.
        """
        return any(key.revoked_ms is None for key in self._store.all())

    def _authenticate(self, text: str) -> ApiKey:
        if not text:
            raise UnauthorizedError(
                "This request requires an API key. Send `Authorization: Bearer <key>` or `X-API-Key: <key>`; "
                "create a key with `pawqueue keys create`."
            )
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        key = self._find(key_id) if prefix == _PREFIX else None
        matches = hmac.compare_digest(_digest(secret), key.digest if key else _NO_DIGEST)
        if key is None or not matches or key.revoked_ms is not None:
            raise UnauthorizedError("Unknown or revoked API key. List the valid keys with `pawqueue keys list`.")
        return key

    def _find(self, key_id: str) -> ApiKey | None:
        key, expires_s = self._cache.get(key_id, (None, 0.0))
        if key is None or self._clock() >= expires_s:
            key = self._store.get(key_id)
            if key is None:
                self._cache.pop(key_id, None)
            else:
                self._cache[key_id] = (key, self._clock() + KEY_CACHE_S)
        return key


def _key_from_json(text: str) -> ApiKey:
    values = known_fields(ApiKey, json.loads(text))
    return ApiKey(**{**values, "scopes": tuple(values["scopes"])})


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
