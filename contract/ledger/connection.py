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

_UNAVAILABLE = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.ReadOnlyError,
)
#: Error codes that Redis returns while it cannot write: the disk is full or broken, there are too few replicas, a
#: script does not return, or memory is full. A script may wrap the code, so it can appear anywhere in the message.
_NOT_WRITABLE = ("MISCONF", "NOREPLICAS", "BUSY ", "OOM ")


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
    """Raise `UnavailableError` if Redis is unreachable, full or read-only; other errors are bugs and pass through."""

    @wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except _UNAVAILABLE as error:
            raise UnavailableError("The job ledger (Redis) is not responding. Try again shortly.") from error
        except redis.ResponseError as error:
            if any(code in str(error) for code in _NOT_WRITABLE):
                raise UnavailableError("The job ledger (Redis) is not writable. Try again shortly.") from error
            raise

    return wrapper


def read_scripts() -> dict[str, str]:
    """All Lua scripts by name, each preceded by the table of keys and `common.lua`."""
    files = {path.name: path.read_text() for path in resources.files("contract.ledger").joinpath("lua").iterdir()}
    head = keys.lua_table() + files.pop("common.lua")
    return {name.removesuffix(".lua"): head + text for name, text in files.items() if name.endswith(".lua")}
