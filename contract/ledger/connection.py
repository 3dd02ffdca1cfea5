"""How Redis is reached: the client, what counts as gone, and the Lua scripts."""

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

#: Longest wait for an answer; a ledger that is slower counts as gone.
_SOCKET_TIMEOUT_S = 1.5


_GONE = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.ReadOnlyError,
)
#: Stand in what Redis says when it cannot write for now: a disk that is full or broken, too few replicas, a script of
#: somebody else's that does not end, no memory left.
_NOT_NOW = ("MISCONF", "NOREPLICAS", "BUSY ", "OOM ")


def connect(url: str) -> "redis.Redis":
    """Open a client that fails at once instead of retrying: the caller says 503 and is asked again."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=_SOCKET_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


def unavailable_when_gone(method: Callable[P, R]) -> Callable[P, R]:
    """Turn the ways in which Redis may be gone or full into `UnavailableError`; anything else is a fault of ours."""

    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except _GONE as error:
            raise UnavailableError("The job ledger (Redis) does not answer; try again shortly.") from error
        except redis.ResponseError as error:
            if any(word in str(error) for word in _NOT_NOW):
                raise UnavailableError("The job ledger (Redis) cannot be written; try again shortly.") from error
            raise

    return guarded


def read_scripts() -> dict[str, str]:
    """Every Lua script by name, each with the keys and `common.lua` before it."""
    files = {path.name: path.read_text() for path in resources.files("contract.ledger").joinpath("lua").iterdir()}
    head = keys.lua_table() + files.pop("common.lua")
    return {name.removesuffix(".lua"): head + text for name, text in files.items() if name.endswith(".lua")}
