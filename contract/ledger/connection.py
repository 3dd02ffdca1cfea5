"""The connection to Redis: the client, the errors that mean "unavailable", and the Lua scripts."""

from collections.abc import Callable
from functools import wraps
from importlib import resources
from typing import ParamSpec, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract.errors import UnavailableError
from contract.ledger import keys

P = ParamSpec("P")
R = TypeVar("R")

#: If Redis takes longer to reply, the ledger counts as unavailable.
_SOCKET_TIMEOUT_S = 1.5

#: Why Redis cannot be used at the moment: by error class, or by a part of the message, which may come from a script.
_REASONS: tuple[tuple[tuple[type[redis.RedisError], ...], tuple[str, ...], str], ...] = (
    ((redis.BusyLoadingError,), (), "is loading its data"),
    ((redis.AuthenticationError,), (), "rejects the password of this service"),
    ((redis.ConnectionError, redis.TimeoutError, redis.InvalidResponse), (), "is not responding"),
    ((redis.ReadOnlyError, redis.exceptions.MasterDownError), ("READONLY",), "is a read-only replica"),
    (
        (redis.exceptions.NoPermissionError,),
        ("NOPERM", "user executing the script", "ACL failure in script"),
        "does not allow a needed command",
    ),
    (
        (redis.exceptions.ClusterError, redis.exceptions.AskError, redis.exceptions.ClusterCrossSlotError),
        (),
        "is in cluster mode",
    ),
    ((redis.exceptions.OutOfMemoryError,), ("OOM ",), "is full"),
    # The disk is full or broken, there are too few replicas, or a script does not return.
    ((), ("MISCONF", "NOREPLICAS", "BUSY "), "is not writable"),
)


def connect(url: str) -> "redis.Redis":
    """Return a client that does not retry: its callers decide when to retry."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=_SOCKET_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


def redis_errors_as_unavailable(method: Callable[P, R]) -> Callable[P, R]:
    """Raise `UnavailableError` if Redis cannot be used at the moment; other errors are bugs and pass through."""

    @wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except redis.RedisError as error:
            if reason := unavailable_reason(error):
                raise UnavailableError(f"The job ledger (Redis) {reason}. Try again shortly.") from error
            raise

    return wrapper


def unavailable_reason(error: redis.RedisError) -> str:
    """Why Redis cannot be used at the moment, as the end of a sentence; empty for an error that is a bug."""
    for classes, codes, reason in _REASONS:
        if isinstance(error, classes) or any(code in str(error) for code in codes):
            return reason
    return ""


def read_scripts() -> dict[str, str]:
    """All Lua scripts by name, each preceded by the table of keys and `common.lua`."""
    files = {path.name: path.read_text() for path in resources.files("contract.ledger").joinpath("lua").iterdir()}
    head = keys.lua_table() + files.pop("common.lua")
    return {name.removesuffix(".lua"): head + text for name, text in files.items() if name.endswith(".lua")}
