"""Who may do what: API keys, their scopes, and the check that gateway and dashboard share.

An API key is `pq_<id>_<secret>`. Only the SHA-256 of the secret is stored: it has 256 random bits, so that a slow hash
would add nothing. The id is no secret; it names the key in lists and logs, and the owner of the jobs that were sent
with it.
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
from contract.job import Job, now_ms
from contract.ledger import keys
from contract.ledger.connection import unavailable_when_gone
from contract.submission import Submission

_MARK = "pq"
#: How long a key that was found is trusted without looking again: a revoked one works no longer than that.
TRUSTED_S = 2.0
#: Compared with where there is no such key, so that an unknown id takes as long as a wrong secret.
_NOBODY = hashlib.sha256(b"").hexdigest()


class Scope(StrEnum):
    """What an API key may be used for."""

    #: Send images, cancel one's own jobs.
    SUBMIT = "submit"
    #: Read one's own jobs.
    READ = "read"
    #: Look at everybody's dead letters, and at the dashboard.
    ADMIN = "admin"


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


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request comes from."""

    #: Id of the API key; empty where none is asked for.
    owner: str = ""
    rate_limit: str = ""

    def may_see(self, record: Job | Submission) -> bool:
        """Whether a record is this caller's; where no API keys are asked for, every one is everybody's."""
        return not self.owner or self.owner == record.owner


#: Where no API keys are asked for.
ANYONE = Caller()


def make_key(name: str, scopes: tuple[Scope, ...], rate_limit: str = "") -> tuple[ApiKey, str]:
    """A new API key: what is to be stored, and the text that its owner gets and nobody else."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    stored = ApiKey(key_id, name, tuple(map(str, scopes)), _digest(secret), now_ms(), rate_limit)
    return stored, f"{_MARK}_{key_id}_{secret}"


class KeyStore:
    """API keys in one hash of the ledger's Redis; methods raise `UnavailableError` when Redis does not answer."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client

    @unavailable_when_gone
    def put(self, key: ApiKey) -> None:
        """Store a key, or a change to it."""
        self._redis.hset(keys.API_KEYS, key.id, json.dumps(asdict(key)))

    @unavailable_when_gone
    def get(self, key_id: str) -> ApiKey | None:
        """Read one key; None for an unknown id."""
        text = self._redis.hget(keys.API_KEYS, key_id)
        return _read(str(text)) if text else None

    @unavailable_when_gone
    def all(self) -> list[ApiKey]:
        """Read all keys, revoked ones included, oldest first."""
        texts: list[str] = self._redis.hvals(keys.API_KEYS)  # type: ignore[assignment]  # the client is synchronous
        return sorted(map(_read, texts), key=_age)


def _read(text: str) -> ApiKey:
    values = json.loads(text)
    return ApiKey(**{**values, "scopes": tuple(values["scopes"])})


def _age(key: ApiKey) -> tuple[int, str]:
    return key.created_ms, key.id


class Access:
    """The check of API keys; safe to share between threads."""

    def __init__(self, store: KeyStore, *, required: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.required = required
        self._store = store
        self._clock = clock
        #: Id -> key and the time until which it is trusted.
        self._found: dict[str, tuple[ApiKey, float]] = {}

    def check(self, text: str, scope: Scope) -> Caller:
        """Whose API key `text` is; anybody's where none is asked for.

        Raises:
            UnauthorizedError: it is missing, unknown or revoked.
            ForbiddenError: it is good, but not for this.
            UnavailableError: the store does not answer.
        """
        if not self.required:
            return ANYONE
        key = self._known(text)
        if str(scope) not in key.scopes:
            raise ForbiddenError(f"This needs an API key with the scope `{scope}`; yours has: {', '.join(key.scopes)}.")
        return Caller(key.id, key.rate_limit)

    def has_keys(self) -> bool:
        """Whether anybody can get in.

        Raises:
            UnavailableError: the store does not answer.
        """
        return any(key.revoked_ms is None for key in self._store.all())

    def _known(self, text: str) -> ApiKey:
        if not text:
            raise UnauthorizedError(
                "This needs an API key: send `Authorization: Bearer <key>` or `X-API-Key: <key>`. "
                "`pawqueue keys create` makes one."
            )
        mark, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        key = self._find(key_id) if mark == _MARK else None
        is_right = hmac.compare_digest(_digest(secret), key.digest if key else _NOBODY)
        if key is None or not is_right or key.revoked_ms is not None:
            raise UnauthorizedError("This API key is not known, or was revoked. `pawqueue keys list` shows which are.")
        return key

    def _find(self, key_id: str) -> ApiKey | None:
        found, until_s = self._found.get(key_id, (None, 0.0))
        if found is None or self._clock() >= until_s:
            found = self._store.get(key_id)
            if found is None:
                self._found.pop(key_id, None)
            else:
                self._found[key_id] = (found, self._clock() + TRUSTED_S)
        return found


def revoke(store: KeyStore, key_id: str) -> ApiKey | None:
    """Revoke an API key for good; None where there is no such key."""
    key = store.get(key_id)
    if key is not None and key.revoked_ms is None:
        key = replace(key, revoked_ms=now_ms())
        store.put(key)
    return key


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
