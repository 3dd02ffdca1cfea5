"""The environment of supervisord and the ports of the services, for different settings."""

import http.server
import shlex
import threading
from pathlib import Path

import pytest

from contract.ledger.ledger import Ledger
from contract.ledger.types import Heartbeat
from contract.settings import load_settings, usable_cores
from deploy.local.errors import UsageError
from deploy.local.ports import pick_ports
from deploy.local.services import check_external_redis, is_serving, ports_of, service_environ, stop_limit_s


def never(_seconds: float) -> bool:
    return False


def values(**settings: object) -> dict[str, str]:
    environ = {f"PAWQUEUE_{name}": str(value) for name, value in settings.items()}
    return service_environ(load_settings(environ), environ)


def ports(**settings: object) -> dict[int, str]:
    environ = {f"PAWQUEUE_{name}": str(value) for name, value in settings.items()}
    return {port.number: port.variable for port in ports_of(load_settings(environ))}


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_the_setting_for_appendfsync_is_passed_to_redis(policy: str) -> None:
    command = shlex.split(values(REDIS_APPENDFSYNC=policy)["UP_REDIS"])

    assert command[command.index("--appendfsync") + 1] == policy


def test_redis_has_a_memory_limit_above_that_of_the_ledger() -> None:
    command = shlex.split(values(LEDGER_MAX_BYTES=1_000_000_000)["UP_REDIS"])

    assert command[command.index("--maxmemory") + 1] == "1250000000"


def test_redis_has_a_socket_in_the_state_folder_and_no_port(tmp_path: Path) -> None:
    command = shlex.split(values(STATE_DIR=tmp_path)["UP_REDIS"])

    assert command[command.index("--port") + 1] == "0"
    assert Path(command[command.index("--unixsocket") + 1]).is_relative_to(tmp_path)


def test_a_state_folder_whose_path_is_too_long_for_a_socket_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"too long for the path of a socket.* Set PAWQUEUE_STATE_DIR"):
        values(STATE_DIR=tmp_path / ("long" * 30))


def test_no_redis_is_started_if_a_redis_url_is_set() -> None:
    assert values()["UP_STARTS_REDIS"] == "true"
    assert values(REDIS_URL="redis://elsewhere:6379/0")["UP_STARTS_REDIS"] == "false"


def test_an_unreachable_external_redis_is_reported_without_its_password() -> None:
    settings = load_settings({"PAWQUEUE_REDIS_URL": f"redis://:secret@127.0.0.1:{pick_ports(1)}/0"})

    with pytest.raises(UsageError, match="The Redis at PAWQUEUE_REDIS_URL does not respond") as caught:
        check_external_redis(settings, stop=never)
    assert "secret" not in str(caught.value)


def test_a_stack_with_a_full_ledger_counts_as_serving(clean_redis: str, ledger: Ledger) -> None:
    handler = http.server.BaseHTTPRequestHandler
    with http.server.HTTPServer(("127.0.0.1", 0), type("Ready", (handler,), {"do_GET": respond})) as gateway:
        threading.Thread(target=gateway.serve_forever, args=(0.01,)).start()
        settings = load_settings(
            {
                "PAWQUEUE_REDIS_URL": clean_redis,
                "PAWQUEUE_GATEWAY_PORT": str(gateway.server_address[1]),
                "PAWQUEUE_LEDGER_MAX_BYTES": "1",
            }
        )
        without_a_worker = is_serving(settings)
        ledger.beat(Heartbeat("w", "h", "cats-dogs", "1", ["cat", "dog"], "fake", "float32", 0, "", 0, 0), 60_000)
        with_a_worker = is_serving(settings)
        gateway.shutdown()
    assert (without_a_worker, with_a_worker) == (False, True)


def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()


def test_each_worker_has_its_own_metrics_port() -> None:
    used = ports(WORKERS=3, WORKER_METRICS_PORT=9200)

    assert [number for number, name in used.items() if name == "PAWQUEUE_WORKER_METRICS_PORT"] == [9200, 9201, 9202]


def test_a_metrics_port_of_0_is_not_checked() -> None:
    used = ports(WORKERS=2, WORKER_METRICS_PORT=0, GATEWAY_METRICS_PORT=0, NOTIFIER_METRICS_PORT=0)

    assert set(used.values()) == {"PAWQUEUE_GATEWAY_PORT", "PAWQUEUE_DASHBOARD_PORT"}


@pytest.mark.parametrize(
    ("settings", "cores"),
    [
        ({"WORKERS": 1}, usable_cores()),
        ({"WORKERS": 2}, max(1, usable_cores() // 2)),
        ({"WORKERS": 64}, max(1, usable_cores() // 64)),
        ({"WORKERS": 3, "WORKER_CORES": 5}, 5),
    ],
)
def test_workers_share_the_cores_unless_a_number_is_set(settings: dict[str, int], cores: int) -> None:
    assert values(**settings)["PAWQUEUE_WORKER_CORES"] == str(cores)


def test_services_have_more_time_to_stop_than_to_drain() -> None:
    assert int(values(DRAIN_S=60.5)["UP_STOP_S"]) > 60.5
    assert stop_limit_s(load_settings({"PAWQUEUE_DRAIN_S": "60"})) > 3 * 60


def test_relative_paths_become_absolute() -> None:
    assert values(STATE_DIR="state", MODEL="models/cats-dogs")["PAWQUEUE_STATE_DIR"].startswith("/")
    assert values(STATE_DIR="state", MODEL="models/cats-dogs")["PAWQUEUE_MODEL"].startswith("/")
