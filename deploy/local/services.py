"""The services of one machine: what is started for given settings, and which ports that takes."""

import importlib.util
import sys
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract.settings import Settings, usable_cores, variable_of
from deploy.local.errors import UsageError
from deploy.local.ports import Port
from deploy.local.redis_server import find_redis_server, redis_command
from deploy.local.supervisor_config import Program

#: What a process gets on top of the time it may spend on what it holds.
_STOP_MARGIN_S = 5
_REDIS_STOP_S = 15


def programs_of(settings: Settings) -> list[Program]:
    """Everything to start; what comes first is stopped last."""
    stop_s = settings.drain_s + _STOP_MARGIN_S
    programs = [] if settings.redis_url else [_redis(settings)]
    programs += [_worker(settings, index) for index in range(settings.workers)]
    programs.append(Program("gateway", (sys.executable, "-m", "gateway"), stage=3, stop_s=stop_s))
    if has_dashboard():
        programs.append(Program("dashboard", (sys.executable, "-m", "dashboard"), stage=4, stop_s=stop_s))
    return programs


def ports_of(settings: Settings) -> list[Port]:
    """Every port that the programs will listen on."""
    host = settings.gateway_host
    ports = [Port("the gateway", variable_of("gateway_port"), host, settings.gateway_port)]
    if not settings.redis_url:
        ports.append(Port("Redis", variable_of("redis_port"), "127.0.0.1", settings.redis_port))
    if has_dashboard():
        ports.append(Port("the dashboard", variable_of("dashboard_port"), "127.0.0.1", settings.dashboard_port))
    variable = variable_of("worker_metrics_port")
    numbers = [metrics_port(settings, index) for index in range(settings.workers)]
    return ports + [
        Port(f"metrics of worker {i}", variable, "127.0.0.1", port) for i, port in enumerate(numbers) if port
    ]


def check_given_redis(settings: Settings) -> None:
    """Pass if the Redis named by its address answers, or none is named.

    Raises:
        UsageError: it does not answer.
    """
    if not settings.redis_url:
        return
    try:
        with redis.Redis.from_url(settings.redis_address(), retry=Retry(NoBackoff(), 0)) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise UsageError(
            f"The Redis of {variable_of('redis_url')} does not answer ({error}): start it, mend the address, "
            "or unset the variable and one is started here."
        ) from None


def metrics_port(settings: Settings, index: int) -> int:
    """Port of a worker's metrics; 0 means none is served."""
    return settings.worker_metrics_port and settings.worker_metrics_port + index


def has_dashboard() -> bool:
    """Whether this checkout holds a dashboard that can be started."""
    try:
        return importlib.util.find_spec("dashboard.__main__") is not None
    except ModuleNotFoundError:
        return False


def _redis(settings: Settings) -> Program:
    command = redis_command(
        find_redis_server(), settings.redis_port, redis_folder(settings), settings.redis_appendfsync
    )
    return Program("redis", tuple(command), stage=1, stop_s=_REDIS_STOP_S)


def redis_folder(settings: Settings) -> Path:
    """Where Redis keeps its append-only file."""
    return settings.state_dir / "redis"


def _worker(settings: Settings, index: int) -> Program:
    return Program(
        f"worker-{index}",
        (sys.executable, "-m", "worker"),
        stage=2,
        stop_s=settings.drain_s + _STOP_MARGIN_S,
        group="workers",  # a group is stopped at once, so that the workers drain side by side
        environment={
            variable_of("worker_metrics_port"): str(metrics_port(settings, index)),
            variable_of("worker_cores"): str(settings.worker_cores or max(1, usable_cores() // settings.workers)),
        },
    )
