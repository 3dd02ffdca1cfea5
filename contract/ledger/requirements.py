"""What Pawqueue requires of Redis. `check_redis` detects at startup what would otherwise fail or lose jobs.

The gateway, the workers, `make up` and `pawqueue doctor` run the same checks. `python -m contract.ledger.requirements
SERVICE` runs them in a separate process, for the gateway: it must not import redis-py before gevent has patched the
standard library.
"""

import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import redis

from contract.ledger import keys
from contract.ledger.connection import connect, read_scripts, unavailable_reason
from contract.ledger.connection_faults import connection_fault
from contract.ledger.types import OLDEST_REDIS, Fault, RedisServer
from contract.ledger.users import USERS_FILE, pattern_of, user_of
from contract.log import configure_logging, get_logger
from contract.queues import QUEUES
from contract.settings import Settings, SettingsError, load_settings, variable_of

_log = get_logger(__name__)

#: Redis 6.0 added HELLO, which starts every connection.
_OLDEST_IMAGE_STORE = (6, 0)

_IMAGE_COMMANDS = ("MGET", "PING", "SET", "UNLINK")
#: Commands that Redis does not queue in a transaction. They are executed, but change nothing.
_EXECUTED: tuple[tuple[str, ...], ...] = (("PING",), ("WATCH", keys.UNUSED), ("MULTI",), ("EXEC",))
#: Arguments of the commands whose first argument is not a key.
_ARGUMENTS = {
    "EVALSHA": ("0" * 40, "0"),
    "PUBLISH": (keys.DONE, ""),
    "SCRIPT": ("LOAD", "return 1"),
    "SUBSCRIBE": (keys.DONE,),
}
#: No command takes more arguments than this.
_MAX_ARGUMENTS = 5
_NAMES_SHOWN = 8
_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class RedisReport:
    """What the checks of one Redis found."""

    #: For messages, for example "The Redis at PAWQUEUE_REDIS_URL".
    name: str
    #: For example `7.2.4` or `Valkey 8.1.0`; empty if unknown.
    version: str = ""
    #: Why Redis must not be used.
    problems: Sequence[Fault] = ()
    #: Risks, and checks that were not possible.
    warnings: Sequence[Fault] = ()
    #: Why Redis does not respond at the moment; None if it does. It may respond later.
    unavailable: Fault | None = None
    #: Whether it does not respond because it is loading its data.
    is_loading: bool = False

    def message(self, fault: Fault) -> str:
        """A fault as one line of text."""
        return f"{self.name} {fault}"


def require_redis(settings: Settings, service: str, *, wait: bool = False) -> bool:
    """Check every Redis in the settings for a service and log warnings; with `wait`, wait until the ledger's responds.

    Returns:
        Whether the ledger's Redis responds.

    Raises:
        SettingsError: a Redis must not be used. The message has one line for each reason.
    """
    logged: set[str] = set()
    while True:
        reports = check_redis(settings, service)
        if problems := [report.message(problem) for report in reports for problem in report.problems]:
            raise SettingsError("\n".join(problems))
        for report in reports:
            for fault in (*report.warnings, *filter(None, [report.unavailable])):
                if (message := report.message(fault)) not in logged:
                    logged.add(message)
                    _log.warning(message)
        responds = reports[0].unavailable is None
        if responds or not wait:
            return responds
        time.sleep(_WAIT_S)


def check_redis(settings: Settings, service: str = "") -> list[RedisReport]:
    """Check the Redis of the ledger and the queues, then that of the image store if there is one. Changes no data.

    The checked rights are those that `service` needs. Without it, they are those of the service whose user is in the
    URL, or of all services if there is no such user.
    """
    return [_check(use) for use in _uses(settings, service)]


def server_fault(server: RedisServer, stored: str = "jobs") -> Fault | None:
    """Why a server in this state does not keep what it stores; None if it does."""
    if server.mode == "cluster":
        return Fault(
            "is in cluster mode, which spreads keys over several servers, but the queues and the ledger's scripts need "
            "all keys on one server",
            "Use a Redis with `cluster-enabled no`.",
        )
    if server.mode == "sentinel":
        return Fault("is a Sentinel, which stores no data", "Use the address of the Redis that it monitors.")
    if server.is_replica:
        return Fault("is a read-only replica", "Use the address of its primary.")
    if server.evicts:
        return Fault(
            f"is configured to evict keys when it is full (`maxmemory-policy {server.policy}`), which could lose "
            f"accepted {stored}",
            "Set `maxmemory-policy noeviction` in Redis.",
        )
    return None


@dataclass(frozen=True, slots=True)
class _Use:
    """A Redis in the settings, and what it must be able to do."""

    name: str
    url: str
    #: The variable to correct if the address is wrong.
    variable: str
    #: What to do if it does not respond.
    start: str
    stored: str
    commands: Sequence[str]
    keys: Sequence[str]
    read_keys: Sequence[str]
    oldest_version: tuple[int, int]
    #: The expected `appendfsync`; empty if its data need not survive a restart.
    appendfsync: str = ""


def _uses(settings: Settings, service: str) -> Iterator[_Use]:
    user = user_of(service or urlsplit(settings.redis_address()).username or "")
    is_given = settings.redis_url is not None
    variable = variable_of("redis_url" if is_given else "state_dir")
    yield _Use(
        name=f"The Redis at {variable}" if is_given else f"The Redis of {settings.state_dir}",
        url=settings.redis_address(),
        variable=variable,
        start=f"Start it, or correct {variable}." if is_given else f"Start it with `make up`, or correct {variable}.",
        stored="jobs",
        commands=user.commands,
        keys=user.changed_keys,
        read_keys=user.read_keys,
        oldest_version=OLDEST_REDIS,
        appendfsync=settings.redis_appendfsync,
    )
    url, variable = settings.image_store_address(), variable_of("image_store_url")
    if url.startswith(("redis://", "rediss://", "unix://")):
        yield _Use(
            name=f"The Redis at {variable}",
            url=url,
            variable=variable,
            start=f"Start it, or correct {variable}.",
            stored="images",
            commands=_IMAGE_COMMANDS,
            keys=(keys.IMAGE,),
            read_keys=(),
            oldest_version=_OLDEST_IMAGE_STORE,
        )


def _check(use: _Use) -> RedisReport:
    try:
        client = connect(use.url)
        with client, _connection(client) as connection:
            return _check_server(use, client, connection)
    except (redis.RedisError, OSError, TypeError, ValueError) as error:  # the last two: invalid parts of the URL
        return _without_connection(use, error)


@contextmanager
def _connection(client: "redis.Redis") -> Iterator[Any]:
    """A connection that is closed afterwards, whatever its state."""
    connection: Any = client.connection_pool.get_connection()
    try:
        yield connection
    finally:
        connection.disconnect()
        client.connection_pool.release(connection)


def _without_connection(use: _Use, error: Exception) -> RedisReport:
    if isinstance(error, redis.BusyLoadingError):
        loading = Fault("is loading its data", "Wait until it has finished.")
        return RedisReport(use.name, unavailable=loading, is_loading=True)
    if "HELLO" in str(error) and "unknown command" in str(error):
        fault = _version_fault(use, _version_without_hello(use.url))
    elif "SELECT is not allowed in cluster mode" in str(error):
        fault = server_fault(RedisServer(mode="cluster"))
    else:
        fault = connection_fault(use.url, use.variable, error)
    if fault:
        return RedisReport(use.name, problems=[fault])
    reason = str(error).rstrip(".")
    return RedisReport(use.name, unavailable=Fault(f"does not respond ({reason})", use.start))


def _version_without_hello(url: str) -> str:
    try:
        with redis.Redis.from_url(url, decode_responses=True, protocol=2, socket_timeout=_WAIT_S) as client:
            info: Any = client.info("server")
            return str(info["redis_version"])
    except redis.RedisError:
        return "5 or older"


def _check_server(use: _Use, client: "redis.Redis", connection: Any) -> RedisReport:
    hello: Mapping[str, Any] = connection.handshake_metadata
    number, product = str(hello["version"]), str(hello["server"])
    version = number if product == "redis" else f"{product.capitalize()} {number}"
    server = RedisServer(mode=str(hello.get("mode")), is_replica=hello.get("role") == "replica")
    if fault := _version_fault(use, number) or server_fault(server):
        return RedisReport(use.name, version, [fault])
    user = str(client.connection_pool.connection_kwargs.get("username") or "default")
    problems = [*_rights_faults(use, connection, user)] or [*_script_faults(use, client)]
    warnings = []
    try:
        info: Any = client.info()
    except redis.ResponseError:
        unknown = "it may evict keys, how full it is and whether it has an append-only file"
        text = f"does not allow INFO, so whether {unknown if use.appendfsync else 'it may evict keys'} was not checked"
        warnings.append(Fault(text, f"Allow it with `ACL SETUSER {user} +info`."))
    else:
        if fault := server_fault(RedisServer.from_info(info), use.stored):
            (problems if use.appendfsync else warnings).append(fault)
        warnings += _durability_faults(use, client, user, has_file=bool(info.get("aof_enabled")))
    return RedisReport(use.name, version, problems, warnings)


def _version_fault(use: _Use, number: str) -> Fault | None:
    if tuple(map(int, re.findall(r"\d+", number)[:2])) >= use.oldest_version:
        return None
    oldest = ".".join(map(str, use.oldest_version))
    return Fault(f"is version {number}, but version {oldest} or newer is needed", "Upgrade it.")


def _rights_faults(use: _Use, connection: Any, user: str) -> Iterator[Fault]:
    """Which commands, keys and channels the user may not use.

    Redis checks the rights to a command when it queues it in a transaction, so the commands are queued and never
    executed: the transaction ends when the connection is closed.
    """
    commands = [command for command in _EXECUTED if command[0] in use.commands]
    replies = _send(connection, commands)
    if _send(connection, [("MULTI",)]) == [None]:
        queued = [*_probes(use.commands), *_key_probes(use)]
        commands, replies = [*commands, *queued], [*replies, *_send(connection, queued)]
    denied: dict[str, set[str]] = {"run": set(), "access the keys": set(), "use the channel": set()}
    unknown = set()
    for command, reply in zip(commands, replies, strict=True):
        if reply and "unknown command" in str(reply):
            unknown.add(command[0])
        if reply and "no permissions" in str(reply).lower():  # also in the ExecAbortError of EXEC
            kind = _kind_of(reply)
            denied[kind].add(command[0 if kind == "run" else 1])
    denied["access the keys"].discard(keys.UNUSED)  # stands for the key of a command; other probes check real keys
    if unknown:
        yield Fault(f"does not offer {_list(unknown)}", "Use a Redis that offers all commands.")
    if any(denied.values()):
        what = " or ".join(f"{kind} {_list(names)}" for kind, names in denied.items() if names)
        is_rest_unknown = "MULTI" in denied["run"]  # then name all rights that are needed
        rights = [f"+{name.lower()}" for name in sorted(use.commands if is_rest_unknown else denied["run"])]
        rights += [f"~{keys.PREFIX}*"] if denied["access the keys"] or is_rest_unknown else []
        rights += ["resetchannels"] if is_rest_unknown else []  # Redis 6.2 rejects a channel for a user who has all
        rights += [f"&{keys.PREFIX}*"] if denied["use the channel"] or is_rest_unknown else []
        remedy = f"Allow it with `ACL SETUSER {user} {' '.join(rights)}`."
        if user_of(user).name == user:  # the remedy above would give it access to all keys
            remedy = f"Give it the rights in {USERS_FILE}: run make-secrets again, and restart Redis."
        yield Fault(f"does not allow the user `{user}` to {what}", remedy)


def _probes(commands: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Each command with any number of arguments: Redis rejects those with a wrong number, whatever the rights."""
    executed = {command[0] for command in _EXECUTED}
    for name in commands:
        if name in _ARGUMENTS:
            yield (name, *_ARGUMENTS[name])
        elif name not in executed:
            yield from ((name, *[keys.UNUSED] * count) for count in range(_MAX_ARGUMENTS + 1))


def _key_probes(use: _Use) -> Iterator[tuple[str, ...]]:
    read = "GET" if "GET" in use.commands else "HGET"
    change = "SET" if "SET" in use.commands else "HSET" if "HSET" in use.commands else "INCRBY"
    for name in (*use.keys, *use.read_keys):
        yield (read, pattern_of(name), *([""] if read == "HGET" else []))
    for name in use.keys:
        yield (change, pattern_of(name), *(["", ""] if change == "HSET" else [""]))


def _send(connection: Any, commands: Sequence[tuple[str, ...]]) -> list[redis.ResponseError | None]:
    """Send commands in one round trip; returns the error that each one raised, or None."""
    connection.send_packed_command(connection.pack_commands(commands))
    replies: list[redis.ResponseError | None] = []
    for _ in commands:
        try:
            connection.read_response()
            replies.append(None)
        except redis.ResponseError as error:
            replies.append(error)
    return replies


def _kind_of(error: redis.ResponseError) -> str:
    if "to run the" in str(error):
        return "run"
    return "use the channel" if "channel" in str(error) else "access the keys"


def _list(names: Iterable[str]) -> str:
    ordered = sorted(names)
    rest = len(ordered) - _NAMES_SHOWN
    return ", ".join(ordered[:_NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _script_faults(use: _Use, client: "redis.Redis") -> Iterator[Fault]:
    """Why a script of the ledger that changes nothing fails, for example because scripts may not use every key."""
    if use.appendfsync and keys.QUEUED in (*use.keys, *use.read_keys):
        try:
            client.register_script(read_scripts()["stats"])(args=[0, *QUEUES])
        except redis.ResponseError as error:
            if not unavailable_reason(error):
                yield Fault(f"cannot run the ledger's Lua scripts ({error})", "Use a Redis that can run them.")


def _durability_faults(use: _Use, client: "redis.Redis", user: str, *, has_file: bool) -> Iterator[Fault]:
    if not use.appendfsync:
        return
    if not has_file:
        text = "has no append-only file, so accepted jobs are lost when it restarts"
        yield Fault(text, "Set `appendonly yes` and `appendfsync always` in Redis.")
        return
    try:
        found: Any = client.config_get("appendfsync")
    except redis.ResponseError:
        text = f"does not allow CONFIG GET, so whether it has `appendfsync {use.appendfsync}` was not checked"
        yield Fault(text, f"Allow it with `ACL SETUSER {user} +config|get`.")
        return
    policy = found["appendfsync"]
    if policy not in (use.appendfsync, "always"):
        text = f"has `appendfsync {policy}`, so jobs accepted shortly before a crash are lost"
        variable = variable_of("redis_appendfsync")
        accept = f", or {variable}=everysec to accept this" if policy == "everysec" else ""
        yield Fault(text, f"Set `appendfsync always` in Redis{accept}.")


def main(service: str) -> int:
    """Check Redis for a service; returns 2 and prints the reasons if it must not be used."""
    try:
        settings = load_settings(os.environ)
        configure_logging(settings.log_level, service)
        require_redis(settings, service)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
