"""The services of one machine: the values that supervisord.conf needs, the ports, and whether they are serving."""

import math
import os
import shlex
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.ledger.requirements import RedisReport, check_redis
from contract.settings import Settings, usable_cores, variable_of
from contract.status import read_status, server_bytes
from deploy.local.errors import LocalError, UsageError
from deploy.local.ports import Port
from deploy.local.redis_server import find_redis_server, redis_command

#: Added to the time that a service has to finish its jobs when it stops.
_STOP_MARGIN_S = 5
#: `stopwaitsecs` of Redis in supervisord.conf.
_REDIS_STOP_S = 15
#: A limit of macOS; Linux allows 107 bytes.
_SOCKET_PATH_MAX = 103
#: Workers, gateway with notifier, and dashboard stop one after the other.
_STAGES = 3
_ANSWER_S = 5.0
#: Redis exits when it cannot write. Started on a full disk it would exit again at the first write, several times a
#: second, so it waits until a file of 1 MiB can be written: $0 is that file, "$@" the command of Redis.
_START_WHEN_DISK_HAS_SPACE = (
    'until head -c 1048576 /dev/zero >"$0" 2>/dev/null; do rm -f "$0"; '
    '[ "$waits" ] || echo "The disk of ${0%/*} is full: Redis starts when 1 MiB is free."; waits=1; sleep 1; done; '
    'rm -f "$0"; exec "$@"'
)
_LOADING_POLL_S = 1.0


def service_environ(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of supervisord and of every service; supervisord.conf refers to these variables."""
    workers, cores = settings.workers, settings.worker_cores
    chosen = {
        "state_dir": settings.state_dir.absolute(),
        "workers": workers,
        "worker_metrics_port": settings.worker_metrics_port,
        "worker_cores": cores or max(1, usable_cores() // workers),
    }
    if settings.model:
        chosen["model"] = settings.model.absolute()  # services do not run in the folder of this command
    starts_redis = settings.redis_url is None
    return {
        **environ,
        **{variable_of(name): str(value) for name, value in chosen.items()},
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), environ.get("PATH", os.defpath))),
        "UP_REDIS": shlex.join(_redis(settings)) if starts_redis else "redis-server",
        "UP_STARTS_REDIS": str(starts_redis).lower(),
        "UP_STOP_S": str(_stop_s(settings)),
    }


def stop_limit_s(settings: Settings) -> float:
    """How long all services together may take to stop."""
    return _REDIS_STOP_S + _STAGES * _stop_s(settings) + _STOP_MARGIN_S


def ports_of(settings: Settings) -> list[Port]:
    """Every port that the services will listen on."""
    ports = [
        Port("the gateway", variable_of("gateway_port"), settings.gateway_host, settings.gateway_port),
        Port("the dashboard", variable_of("dashboard_port"), "127.0.0.1", settings.dashboard_port),
    ]
    if settings.gateway_metrics_port:
        host, number = settings.gateway_metrics_host, settings.gateway_metrics_port
        ports.append(Port("metrics of the gateway", variable_of("gateway_metrics_port"), host, number))
    if settings.notifier_metrics_port:
        host, number = settings.notifier_metrics_host, settings.notifier_metrics_port
        ports.append(Port("metrics of the notifier", variable_of("notifier_metrics_port"), host, number))
    first, variable = settings.worker_metrics_port, variable_of("worker_metrics_port")
    if first:
        ports += [
            Port(f"metrics of worker {index}", variable, "127.0.0.1", first + index)
            for index in range(settings.workers)
        ]
    return ports


def check_external_redis(settings: Settings, stop: Callable[[float], bool]) -> None:
    """Check each Redis in the settings that `make up` does not start; wait while the ledger's is loading its data.

    `stop` waits for a number of seconds and returns whether to stop waiting.

    Raises:
        UsageError: one must not be used, or the ledger's does not respond.
        LocalError: it was time to stop.
    """
    reports = _loaded_redis(settings, stop) if settings.redis_url else check_redis(settings)[1:]
    for report in reports:
        if report.problems:
            raise UsageError("\n".join(map(report.message, report.problems)))
        for fault in (*report.warnings, *filter(None, [report.unavailable])):
            print(f"Warning: {report.message(fault)}", file=sys.stderr, flush=True)


def _loaded_redis(settings: Settings, stop: Callable[[float], bool]) -> list[RedisReport]:
    is_said = False
    while (reports := check_redis(settings))[0].is_loading:
        if not is_said:
            print(f"{reports[0].name} is loading its data. Waiting ...", flush=True)
            is_said = True
        if stop(_LOADING_POLL_S):
            raise LocalError("Stopped while Redis was loading its data.")
    if fault := reports[0].unavailable:
        unset = f"Unset {variable_of('redis_url')} to start a Redis on this machine."
        raise UsageError(f"{reports[0].message(fault)} {unset}")
    return reports


def gateway_url(settings: Settings) -> str:
    """URL of the gateway as seen from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.gateway_host, settings.gateway_host)  # noqa: S104
    return f"http://{host}:{settings.gateway_port}"


def is_serving(settings: Settings) -> bool:
    """Whether the gateway responds and a worker serves a model.

    The status is read from Redis: `GET /v1/status` may need an API key. A full ledger does not count as a failure: its
    jobs can still finish, and their results can be read.
    """
    # Requests to this machine must not go through a proxy set in the environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(f"{gateway_url(settings)}/readyz", timeout=_ANSWER_S).close()
    except (OSError, ValueError):
        return False
    with connect(settings.redis_address()) as client:
        return bool(read_status(Ledger(client), settings.ledger_max_bytes).workers)


def _stop_s(settings: Settings) -> int:
    return math.ceil(settings.drain_s) + _STOP_MARGIN_S


def _socket(settings: Settings) -> Path:
    socket = settings.redis_socket()
    if len(os.fsencode(socket)) > _SOCKET_PATH_MAX:
        raise UsageError(
            f"{socket} is too long for the path of a socket, which may have {_SOCKET_PATH_MAX} bytes. "
            f"Set {variable_of('state_dir')} to a shorter path."
        )
    return socket


def _redis(settings: Settings) -> list[str]:
    folder = settings.state_dir.absolute() / "redis"
    max_bytes = server_bytes(settings.ledger_max_bytes)
    command = redis_command(find_redis_server(), _socket(settings), folder, settings.redis_appendfsync, max_bytes)
    return ["sh", "-c", _START_WHEN_DISK_HAS_SPACE, str(folder / "space-check"), *command]
